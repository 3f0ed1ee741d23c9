"""GlassMLP: coarse-grained physical descriptors through a bottleneck of two nodes.

G. Jung, G. Biroli & L. Berthier, Phys. Rev. Lett. 130, 238202 (2023); 3D and transfer: Phys. Rev. B 109, 064205 (2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import elu
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.features.neighbours import neighbour_blocks
from glassmd.features.voronoi import VORONOI_REACH
from glassmd.fields import NODE_INPUT, NODE_SPECIES
from glassmd.learners.fitting.stepped import SteppedModel
from glassmd.learners.losses import weighted_square_error
from glassmd.learners.networks.glassmlp_descriptors import REACH, n_descriptors, physical_descriptors
from glassmd.learners.networks.spatial_loss import (
    PAIR_INDEX,
    PAIR_SHELL,
    SHELLS,
    Groups,
    draw_pairs,
    spatial_error,
    width_error,
)
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["GlassMLPModel"]

_DRAWN_FROM = 8192
"""Particles whose pairs are drawn from at a time."""


class GlassMLPModel(SteppedModel):
    """Descriptors → 2 → 10 → 10 → 1, one network for every species and time.

    | published                                         | here                                            |
    |---------------------------------------------------|-------------------------------------------------|
    | descriptors of inherent structures, standardised  | :mod:`glassmd.learners.networks.glassmlp_descriptors`      |
    | bottleneck of 2 nodes, hidden layers of 10, ELU   | `bottleneck`, `width`; the bottleneck is linear |
    | one network per species and time                  | the same; all of them in one model              |
    | loss: squared error, plus differences of variance | :meth:`objective`                               |
    | and of spatial correlation                        |                                                 |

    Only the descriptors of the left column could be checked against a public implementation. Form and weights of the
    terms of the loss, the linear bottleneck and the training settings are our choice. `members` networks, which differ
    in their first weights only, are averaged. Descriptors of several kinds of positions stand side by side.

    Args:
        inputs: Kinds of positions whose descriptors are seen (inherent).
        bottleneck: Nodes of the first layer (2).
        width: Nodes of the two hidden layers (10).
        members: Networks averaged, of every species and time.
        width_weight: Weight in the loss of the difference of standard deviations.
        spatial_weight: Weight in the loss of the difference of spatial correlations.

    Example:
        >>> model = GlassMLPModel(n_times=3)
        >>> model.hyperparameters()["inputs"], model.n_features
        (['inherent'], 168)
    """

    name: ClassVar[str] = "glassmlp"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"max_steps": 1000, "learning_rate": 3e-3, "batch_size": 1, "schedule": "cosine"}
    )
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        inputs: Sequence[str] | None = None,
        bottleneck: int = 2,
        width: int = 10,
        members: int = 4,
        width_weight: float = 1.0,
        spatial_weight: float = 1.0,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        if min(bottleneck, width, members) < 1 or min(width_weight, spatial_weight) < 0:
            raise ModelError(
                f"found bottleneck={bottleneck}, width={width}, members={members}, "
                f"width_weight={width_weight}, spatial_weight={spatial_weight}",
                "at least 1 node and member, and weights of at least 0",
            )
        self.bottleneck, self.width, self.members = bottleneck, width, members
        self.width_weight, self.spatial_weight = float(width_weight), float(spatial_weight)
        self.n_features = len(self.inputs) * n_descriptors(n_species)
        networks = n_times * members
        sizes = (self.n_features, bottleneck, width, width, 1)
        self.weights = nn.ParameterList(
            torch.randn(n_species, networks, ins, outs) / math.sqrt(ins) for ins, outs in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(n_species, networks, 1, outs) for outs in sizes[1:])
        self.register_buffer("mean", torch.zeros(n_species, self.n_features, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(n_species, self.n_features, dtype=torch.float64))

    def encode(self, structure: Structure) -> Data:
        """Descriptors of every input, and the pairs that the loss compares, at the positions of the first."""
        self.check_structure(structure)
        seen = [structure.configuration(name) for name in self.inputs]
        columns = [physical_descriptors(configuration, structure.mixture) for configuration in seen]
        first = seen[0]
        reach = min(SHELLS[-1], float(first.box.min()) / 2)
        where = first.positions, first.box, first.species, reach, self.n_species
        near = neighbour_blocks(*where, with_vectors=False, size=_DRAWN_FROM)
        pairs, shells = draw_pairs(near, np.random.default_rng(0))
        fields = {
            NODE_INPUT: torch.from_numpy(np.hstack(columns)),
            NODE_SPECIES: torch.from_numpy(first.species.astype(np.int64)),
            PAIR_INDEX: torch.from_numpy(pairs),
            PAIR_SHELL: torch.from_numpy(shells),
        }
        return Data(**fields)

    def initialise(self, graph: Data, *others: Data) -> None:
        """Take each species' mean and standard deviation of every descriptor from `graph`."""
        values = graph[NODE_INPUT].double()
        for kind in range(self.n_species):
            own = values[graph[NODE_SPECIES] == kind]
            if len(own) > 1:
                deviation = own.std(dim=0)
                constant = deviation <= 1e-6 * own.abs().mean(dim=0)
                self.mean[kind] = own.mean(dim=0)
                self.deviation[kind] = torch.where(constant, torch.inf, deviation)

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return REACH + max(float(mixture.r_cut.max()), VORONOI_REACH)

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return 4.0 * 8 * self.n_features + 8.0 * self.n_times * self.members * self.bottleneck * self.n_species

    def normalised(self, data: Data) -> Tensor:
        """Mean over the members, (n_particles, n_times)."""
        return self._members(data).mean(dim=2)

    def objective(self, data: Data, target: Tensor, noise: Tensor | None, mask: Tensor) -> Tensor:
        """Squared error, plus the differences of width and of spatial correlation, of every member.

            L = ⟨(p̂ − p)²⟩ + λ_σ ⟨(σ̂ − σ)²⟩ + λ_c ⟨(Ĉ(r) − C(r))²⟩

        with σ the standard deviation within a configuration and C(r) = ⟨p_i p_j⟩ over the pairs of a shell, both
        per species and time. Each member answers for itself; the mean is over members.
        """
        output = self._members(data).to(target.dtype)  # means of squares need all digits of a single number
        each = output.flatten(1)
        truth = target.repeat_interleave(self.members, dim=1)
        known = None if noise is None else noise.repeat_interleave(self.members, dim=1)
        loss = weighted_square_error(each, truth, mask, known, self.balance)
        groups = Groups.of(data, self.n_species)
        if self.width_weight > 0:
            loss = loss + self.width_weight * width_error(output, target, mask, noise, groups, self.balance)
        if self.spatial_weight > 0:
            loss = loss + self.spatial_weight * spatial_error(output, target, mask, data, groups, self.balance)
        return loss

    def _members(self, data: Data) -> Tensor:
        """(n_particles, n_times, members), in normalised units."""
        self.check_graph(data)
        species, inputs = data[NODE_SPECIES], data[NODE_INPUT]
        first = self._first_layer(inputs)
        output = first.new_zeros(len(inputs), self.n_times * self.members)
        for kind in range(self.n_species):
            own = torch.nonzero(species == kind).squeeze(1)
            if len(own):
                output = output.index_copy(0, own, self._network(first[:, kind].index_select(0, own), kind))
        return output.view(len(inputs), self.n_times, self.members)

    def _first_layer(self, inputs: Tensor) -> Tensor:
        """(n, n_species, networks · bottleneck): what every species' networks make of the descriptors.

        Descriptors differ by a thousandth of their mean: it is taken off in double precision.
        """
        centre = self.mean.mean(dim=0)
        centred = (inputs - centre).to(self.scale.dtype)
        scale = (1 / self.deviation).to(self.scale.dtype)
        weights = self.weights[0].transpose(1, 2).flatten(2) * scale[:, :, None]  # (n_species, n_features, …)
        offset = (self.mean - centre).to(self.scale.dtype)
        bias = self.biases[0].flatten(1) - torch.einsum("sf,sfk->sk", offset, weights)
        joined = torch.addmm(bias.flatten(), centred, weights.transpose(0, 1).flatten(1))
        return joined.view(len(inputs), self.n_species, -1)

    def _network(self, first: Tensor, kind: int) -> Tensor:
        """(n, networks) outputs of one species' networks from their first layer, (n, networks · bottleneck)."""
        values = first.view(len(first), -1, self.bottleneck).transpose(0, 1).contiguous()
        for layer in (1, 2, 3):
            values = torch.baddbmm(self.biases[layer][kind], values, self.weights[layer][kind])
            values = elu(values) if layer < 3 else values
        return values.squeeze(2).T
