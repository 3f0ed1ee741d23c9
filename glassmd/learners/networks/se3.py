"""A rotation-equivariant network after F. S. Pezzicoli, G. Charpiat & F. P. Landes, SciPost Phys. 16, 136 (2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, NODE_SPECIES
from glassmd.graphs import to_graph
from glassmd.learners.fitting.stepped import SteppedModel
from glassmd.learners.networks.equivariant_convolution import (
    Coupling,
    Neighbourhoods,
    convolve,
    neighbourhoods,
    spherical_harmonics,
)
from glassmd.learners.networks.slabs import mean_edges
from glassmd.mixtures import Mixture
from glassmd.pair_potential import pair_potential
from glassmd.structure import Structure

__all__ = ["SE3Model"]

NODE_SCALARS = "node_scalars"
"""Field of a graph, (n_particles, n_scalars) float32: what a particle brings besides its species."""
NODE_VECTORS = "node_vectors"
"""Field of a graph, (n_particles, n_vectors, d) float32: displacements from the graph's positions, σ_AA."""
NEAREST = 0.6
"""Centre of the first radial function, σ_AA: nothing is nearer in these liquids."""
N_GAUSSIANS = 14
"""Gaussians from there to the cutoff: one every 0.11 σ_AA."""
SMALL = 1e-6
"""Added to squared lengths, so that their roots have a derivative at zero."""


class SE3Model(SteppedModel):
    """Layers of equivariant convolutions, then one decoder per species for all times.

    | published                                            | here                                            |
    |------------------------------------------------------|-------------------------------------------------|
    | positions: thermal or inherent                       | `inputs[0]` makes the graph, see below          |
    | node features: type, potential energy at the minimum | the same, energy in the graph's positions       |
    | radial basis, two-layer network, spherical harmonics | a layer on Gaussians, then `Coupling`           |
    | tensor product of neighbours' features, sum          | :func:`~.equivariant_convolution.convolve`      |
    | self-interaction, batch normalisation, nonlinearity  | `_Layer`: linear per species, spread fixed at   |
    |                                                      | the start, gates made of lengths                |
    | all products of rotations, SO(3)                     | those that keep parity, O(3): mirror images too |
    | one decoder per type and time                        | one per species, all times                      |

    Basis, self-interaction, normalisation and nonlinearity on the left could not be verified. Number of layers,
    channels, l_max, radial functions, cutoff and training settings are our choice.

    Every layer turns features (l, m, channel) into new ones; what rotations leave alone, the scalars and the
    lengths of the others, goes to the decoder from every layer. With several inputs the first of `inherent`, `cage`,
    `thermal` among them makes the graph; from its positions to each of the others leads a vector per particle,
    which enters with its length. A plane is a layer at z = 0.

    Args:
        inputs: Some of thermal, inherent, cage.
        width: Channels of every l.
        n_layers: Convolutions.
        l_max: Largest l of harmonics and features.
        n_radial: Radial functions of a convolution; the first has twice as many.
        cutoff: Largest distance of neighbours, σ_AA.
        dropout: Share of the decoder's inputs that is dropped in training.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> pair = Configuration(box=[9, 9, 9], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
        >>> model = SE3Model(n_times=5, inputs=["thermal"])
        >>> tuple(model(model.encode(Structure(pair, get_mixture("kob-andersen"), 0.5))).shape)
        (2, 5)
    """

    name: ClassVar[str] = "se3"
    accepts: ClassVar[tuple[str, ...]] = ("thermal", "inherent", "cage")
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"max_steps": 1000, "learning_rate": 3e-3, "schedule": "cosine"}
    )

    scalar_mean: Tensor
    scalar_spread: Tensor
    vector_spread: Tensor

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        inputs: Sequence[str] | None = None,
        width: int = 8,
        n_layers: int = 4,
        l_max: int = 2,
        n_radial: int = 8,
        cutoff: float = 2.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        if min(width, n_layers, n_radial) < 1 or not 1 <= l_max <= 6 or not cutoff > NEAREST or not 0 <= dropout < 1:
            raise ModelError(
                f"found width={width}, n_layers={n_layers}, n_radial={n_radial}, l_max={l_max}, cutoff={cutoff:g}, "
                f"dropout={dropout:g}",
                f"at least 1 of each, l_max from 1 to 6, a cutoff above {NEAREST} and a dropout below 1",
            )
        self.width, self.n_layers, self.l_max, self.n_radial = width, n_layers, l_max, n_radial
        self.cutoff, self.dropout = cutoff, dropout
        self.n_vectors = len(self.inputs) - 1
        n_scalars = 1 + self.n_vectors
        self.register_buffer("scalar_mean", torch.zeros(n_species, n_scalars))
        self.register_buffer("scalar_spread", torch.ones(n_species, n_scalars))
        self.register_buffer("vector_spread", torch.ones(n_species, self.n_vectors))
        channels = n_species + n_scalars
        self.basis = _RadialBasis(cutoff)
        self.vectors = nn.Linear(self.n_vectors, channels, bias=False) if self.n_vectors else None
        sizes = [_Size(1 if self.n_vectors else 0, channels)] + [_Size(l_max, width)] * n_layers
        self.layers = nn.ModuleList(
            _Layer(sizes[i], sizes[i + 1], l_max, n_radial * (2 if i == 0 else 1), n_species) for i in range(n_layers)
        )
        n_invariants = channels + n_layers * width * (l_max + 1)
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Dropout(dropout), nn.Linear(n_invariants, 64), nn.SiLU(), nn.Linear(64, n_times))
            for _ in range(n_species)
        )

    def encode(self, structure: Structure) -> Data:
        """Graph of the first input with the energy of every particle and the vectors to the other inputs."""
        self.check_structure(structure)
        first, *others = [name for name in ("inherent", "cage", "thermal") if name in self.inputs]
        configuration = structure.configuration(first)
        data = to_graph(configuration, self.cutoff, self_edges=False)
        here = structure.positions(first)
        vectors = [structure.positions(name) - here for name in others]
        lengths = [np.linalg.norm(vector, axis=1) for vector in vectors]
        scalars = np.stack([_energies(configuration, structure.mixture), *lengths], axis=1)
        data[NODE_SCALARS] = torch.from_numpy(scalars.astype(np.float32))
        if vectors:
            data[NODE_VECTORS] = torch.from_numpy(np.stack(vectors, axis=1).astype(np.float32))
        return data

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return self.n_layers * self.cutoff + float(mixture.r_cut.max())

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        edges = mean_edges(density, self.dimensions, self.cutoff, self_edges=False)
        return (
            edges * (160.0 + 16 * (self.l_max + 1) ** 2)
            + 16.0 * self.width * (self.l_max + 1) ** 2 * self.n_layers
            + 6000
        )

    def normalised(self, data: Data) -> Tensor:
        """Raw output, (n_particles, n_times)."""
        seen, features = self._start(data)
        invariants = [features[:, 0]]
        for layer in self._in_order():
            features, found = layer(features, seen)
            invariants.append(found)
        return self.decode(torch.cat(invariants, dim=1), seen.species)

    @torch.no_grad()
    def initialise(self, graph: Data, *others: Data) -> None:
        """Standardise scalars and vectors, and every layer's messages, over the particles of one graph."""
        species = graph[NODE_SPECIES]
        for kind in range(self.n_species):
            mine = species == kind
            if int(mine.sum()) > 1:
                scalars = graph[NODE_SCALARS][mine].to(self.scale)
                self.scalar_mean[kind] = scalars.mean(0)
                self.scalar_spread[kind] = scalars.std(0).clamp_min(SMALL)
                if self.vectors is not None:
                    squares = graph[NODE_VECTORS][mine].to(self.scale).square().sum(2).mean(0) / self.dimensions
                    self.vector_spread[kind] = squares.sqrt().clamp_min(SMALL)
        seen, features = self._start(graph)
        for layer in self._in_order():
            layer.standardise(features, seen)
            features, _ = layer(features, seen)

    def _in_order(self) -> list[_Layer]:
        return cast("list[_Layer]", list(self.layers))

    def first_features(self, data: Data) -> tuple[Tensor, Tensor]:
        """Species (n_particles,) and what the first layer sees, (n_particles, 1 or 4, channels)."""
        species = data[NODE_SPECIES]
        scalars = (data[NODE_SCALARS].to(self.scale.dtype) - self.scalar_mean[species]) / self.scalar_spread[species]
        kinds = nn.functional.one_hot(species, self.n_species).to(scalars)
        features = torch.cat([kinds, scalars], dim=1)[:, None]
        if self.vectors is not None:
            moved = data[NODE_VECTORS].to(self.scale.dtype) / self.vector_spread[species][..., None]
            moved = nn.functional.pad(moved, (0, 3 - moved.shape[2])).transpose(1, 2)  # l = 1 is x, y, z in e3nn
            features = torch.cat([features, self.vectors(moved)], dim=1)
        return species, features

    def decode(self, invariants: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times), by the decoder of each particle's species."""
        every = torch.stack([decoder(invariants) for decoder in self.decoders])
        return every[species, torch.arange(len(species), device=species.device)]

    def _start(self, data: Data) -> tuple[_Surroundings, Tensor]:
        """What every layer needs, and the features that the first one sees."""
        species, features = self.first_features(data)
        around = neighbourhoods(data[EDGE_INDEX], data[EDGE_VECTOR].to(self.scale.dtype), len(species))
        bumps, envelope = self.basis.of_distance(around.vectors.norm(dim=1, keepdim=True))
        harmonics = spherical_harmonics(self.l_max, around.vectors)
        return _Surroundings(
            species, around, harmonics, bumps, torch.where(around.used[:, None], envelope, 0.0)
        ), features


class _Size(NamedTuple):
    """Features of a particle: `channels` of every l up to `l_max`."""

    l_max: int
    channels: int


class _Surroundings(NamedTuple):
    """What all layers see of a graph: species (n_particles,), edges, and per slot Y, Gaussians and envelope."""

    species: Tensor
    around: Neighbourhoods
    harmonics: Tensor
    bumps: Tensor
    envelope: Tensor


class _RadialBasis(nn.Module):
    """Gaussians of the distance, and an envelope that vanishes smoothly at the cutoff."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff, self.spacing = cutoff, (cutoff - NEAREST) / (N_GAUSSIANS - 1)
        self.register_buffer("centres", torch.linspace(NEAREST, cutoff, N_GAUSSIANS), persistent=False)

    def of_distance(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussians (n_pairs, n) and envelope (n_pairs, 1) of distances (n_pairs, 1), σ_AA."""
        bumps = torch.exp(-0.5 * ((r - self.get_buffer("centres")) / self.spacing) ** 2)
        x = (r / self.cutoff).clamp(max=1.0)
        # J. Gasteiger, J. Groß & S. Günnemann, ICLR 2020, p = 6
        return bumps, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8


class _Layer(nn.Module):
    """Messages of the neighbours and a linear map of the particle's own features, through gates."""

    message_spread: Tensor

    def __init__(self, before: _Size, after: _Size, l_edge: int, n_radial: int, n_species: int) -> None:
        super().__init__()
        self.shared = min(before.l_max, after.l_max) + 1
        width, degrees = after.channels, after.l_max + 1
        self.radial = nn.Sequential(nn.Linear(N_GAUSSIANS, n_radial), nn.SiLU())
        self.coupling = Coupling(before.l_max, l_edge, after.l_max, before.channels, n_radial, width)
        self.own = nn.Parameter(torch.randn(self.shared, n_species, before.channels, width) / before.channels**0.5)
        self.register_buffer("message_spread", torch.ones(degrees))
        self.gates = nn.Sequential(
            nn.Linear(width * degrees, 2 * width), nn.SiLU(), nn.Linear(2 * width, width * degrees)
        )

    def forward(self, features: Tensor, seen: _Surroundings) -> tuple[Tensor, Tensor]:
        """New features (n, (l_max + 1)², width), and their lengths (n, (l_max + 1) width)."""
        return self.update(features, self._message(features, seen), seen.species)

    def update(self, features: Tensor, message: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, with the messages given."""
        kinds = nn.functional.one_hot(species, self.own.shape[1]).to(features)
        joined = []
        for degree, spread in enumerate(self.message_spread):
            rows = slice(degree**2, (degree + 1) ** 2)
            part = message[:, rows] / spread
            if degree < self.shared:
                sorted_by_species = torch.einsum("nmc,nk->nmkc", features[:, rows], kinds).flatten(2)
                part = part + sorted_by_species @ self.own[degree].flatten(0, 1)
            joined.append(part)
        changes = self.gates(_invariants(joined)).chunk(len(joined), dim=1)
        gated = [part * (2 * change.sigmoid()[:, None]) for part, change in zip(joined[1:], changes[1:], strict=True)]
        parts = [joined[0] + changes[0][:, None], *gated]
        return torch.cat(parts, dim=1), _invariants(parts)

    @torch.no_grad()
    def standardise(self, features: Tensor, seen: _Surroundings) -> None:
        """Fix the unit of the messages, so that each l varies by 1 at the start."""
        message = self._message(features, seen)
        for degree in range(len(self.message_spread)):
            part = message[:, degree**2 : (degree + 1) ** 2]
            varying = part - part.mean(0) if degree == 0 else part
            self.message_spread[degree] = varying.square().mean().sqrt().clamp_min(SMALL)

    def _message(self, features: Tensor, seen: _Surroundings) -> Tensor:
        return convolve(features, seen.harmonics, self.radial(seen.bumps) * seen.envelope, seen.around, self.coupling)


def _invariants(parts: Sequence[Tensor]) -> Tensor:
    """Scalars and root mean squares over m of every l and channel, (n, Σ c)."""
    lengths = [(part.square().mean(1) + SMALL).sqrt() for part in parts[1:]]
    return torch.cat([parts[0][:, 0], *lengths], dim=1)


def _energies(configuration: Configuration, mixture: Mixture) -> NDArray[np.float64]:
    """Potential energy of every particle, half of each pair's, ε_AA."""
    graph = to_graph(configuration, float(mixture.r_cut.max()), self_edges=False)
    sender, receiver = graph[EDGE_INDEX].numpy()
    species = configuration.species
    r = np.linalg.norm(graph[EDGE_VECTOR].numpy().astype(np.float64), axis=1)
    energy = pair_potential(r, species[sender], species[receiver], mixture).energy
    energies: NDArray[np.float64] = np.zeros(configuration.n_particles)
    np.add.at(energies, receiver, 0.5 * energy)
    return energies
