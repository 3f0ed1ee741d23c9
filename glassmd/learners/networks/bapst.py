"""The graph network of V. Bapst et al., Nature Physics 16, 448 (2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, NODE_INPUT
from glassmd.graphs import random_cube_symmetry, to_graph
from glassmd.learners.fitting.stepped import SteppedModel
from glassmd.learners.networks.edge_blocks import Weights, edge_layout, pass_messages
from glassmd.learners.networks.initialisation import initialise
from glassmd.learners.networks.slabs import mean_edges
from glassmd.learners.networks.sweep import Wave, sweep, sweep_plan
from glassmd.learners.tiles import GIB, Passed, Told, require_memory
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["BapstModel", "apply_layers", "linear_layers"]


class BapstModel(SteppedModel):
    """Encoder, `n_steps` message-passing steps with shared weights, decoder.

    | published                                          | here                                   |
    |----------------------------------------------------|----------------------------------------|
    | encoder of nodes, type → n → n                     | `node_encoder`                         |
    | encoder of edges, r_receiver − r_sender → n → n    | `edge_encoder`                         |
    | edge network, 6n → n → n                           | `edge_network`                         |
    | node network, 3n → n → n                           | `node_network`                         |
    | decoder of nodes, n → n → n → n_times              | `decoder`                              |

    Edge network inputs are, in this order, an edge, its receiver and its sender, node network inputs are the
    sum of the received edges and the node, where "edge" and "node" stand for the latent vector followed by
    the encoder's. A ReLU follows every layer but the decoder's last. Node types and positions enter as they
    are; mirror images and rotations are learned from :func:`glassmd.graphs.random_cube_symmetry`.

    Args:
        width: n, size of every layer (64).
        n_steps: Message-passing steps (7).
        inputs: The one kind of positions that makes the graph (thermal).

    Example:
        >>> from glassmd.configuration import Configuration
        >>> from glassmd.graphs import to_graph
        >>> pair = Configuration(box=[9, 9, 9], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
        >>> tuple(BapstModel(n_times=5)(to_graph(pair)).shape)
        (2, 5)
    """

    name: ClassVar[str] = "bapst"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    one_input: ClassVar[bool] = True
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 10_000, "learning_rate": 1e-4})
    cutoff: ClassVar[float] = 2.0
    self_edges: ClassVar[bool] = True
    at_once: ClassVar[float] = 1.5 * GIB

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        width: int = 64,
        n_steps: int = 7,
        inputs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        if width < 1 or n_steps < 1:
            raise ModelError(f"found width={width}, n_steps={n_steps}", "at least 1 of each")
        self.width, self.n_steps = width, n_steps
        self.node_encoder = linear_layers(1, width, width)
        self.edge_encoder = linear_layers(dimensions, width, width)
        self.edge_network = linear_layers(6 * width, width, width)
        self.node_network = linear_layers(3 * width, width, width)
        self.decoder = linear_layers(width, width, width, n_times)

    def encode(self, structure: Structure) -> Data:
        """The graph of all pairs within `cutoff`."""
        self.check_structure(structure)
        return to_graph(structure.configuration(self.inputs[0]), self.cutoff, self.self_edges)

    def augment(self, data: Data, generator: np.random.Generator) -> Data:
        """The graph turned by a random element of the cube's group."""
        return random_cube_symmetry(data, generator)

    def normalised(self, data: Data) -> Tensor:
        """Raw output, (n_particles, n_times); the published network's prediction."""
        return apply_layers(self.decoder, self.latent(data))

    def initialise(self, graph: Data, *others: Data) -> None:
        """Start from :func:`glassmd.learners.networks.initialisation.initialise`."""
        initialise(self, graph)

    def latent(self, data: Data) -> Tensor:
        """What the decoder sees of every particle after the last step, (n_particles, width)."""
        return self.latents(data)[0]

    def latents(self, data: Data) -> tuple[Tensor, Tensor]:
        """Particles, (n_particles, width), and edges, (n_edges, width), after the last step.

        Edges that are not sorted by receiver are sorted first, and handed back in the graph's order.
        """
        sender, receiver = data[EDGE_INDEX]
        vectors, order = data[EDGE_VECTOR].to(self.scale.dtype), None
        if bool((receiver[1:] < receiver[:-1]).any()):
            order = torch.argsort(receiver, stable=True)
            sender, receiver, vectors = sender[order], receiver[order], vectors[order]
        inputs = data[NODE_INPUT].to(self.scale.dtype)
        encoded = apply_layers(self.node_encoder, inputs).relu()
        constant, weights = self._weights(encoded)
        layout = edge_layout(sender, receiver, len(inputs))
        nodes, edges = pass_messages(layout, self.n_steps, vectors, encoded, constant, weights)
        return nodes, edges if order is None else edges[torch.argsort(order)]

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return self.n_steps * self.cutoff

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        edges = mean_edges(density, self.dimensions, self.cutoff, self_edges=self.self_edges)
        return edges * (2 * 4 * self.width + 96) + 8 * 4 * self.width

    @torch.no_grad()
    def in_passing(self, structure: Structure, memory: float, told: Told) -> Passed:
        """Sweep; see :mod:`glassmd.learners.networks.sweep`."""
        self.check_structure(structure)
        configuration = structure.configuration(self.inputs[0])
        wave = self._wave()
        plan = sweep_plan(wave, configuration.box, configuration.n_particles, memory)
        require_memory(memory, plan.bytes, configuration.n_particles)
        values = self.scale.new_empty((configuration.n_particles, self.n_times), device="cpu")
        species = torch.from_numpy(configuration.species.astype(np.int64))
        for number, column in enumerate(plan.columns):

            def of_all(share: float, number: int = number) -> None:
                if told is not None:
                    told((number + share) / len(plan.columns))

            for who, latent in sweep(wave, configuration, column, of_all):
                at = torch.from_numpy(who).long()
                own = species[at].to(latent.device)
                decoded = apply_layers(self.decoder, latent)
                values[at] = torch.addcmul(self.shift[own], self.scale[own], decoded).cpu()
        return Passed(values, None, len(plan.columns))

    def _wave(self) -> Wave:
        kinds = torch.arange(self.n_species, device=self.scale.device, dtype=self.scale.dtype)[:, None]
        encoded = apply_layers(self.node_encoder, kinds).relu()
        constant, weights = self._weights(encoded)
        return Wave(self.cutoff, self.n_steps, self.self_edges, weights, constant, encoded)

    def _weights(self, encoded: Tensor) -> tuple[Tensor, Weights]:
        """What encoded nodes and biases add at every step, (n_particles, 3 width), and the weights by part."""
        edge_1, node_1 = cast("nn.Linear", self.edge_network[0]), cast("nn.Linear", self.node_network[0])
        edge, edge_encoded, receiver, receiver_encoded, sender, sender_encoded = edge_1.weight.T.chunk(6)
        node_encoded = node_1.weight.T.chunk(3)[2]
        from_encoded = torch.cat([receiver_encoded, sender_encoded, node_encoded], dim=1)
        bias = torch.cat([edge_1.bias, torch.zeros_like(edge_1.bias), node_1.bias])
        return torch.addmm(bias, encoded, from_encoded), self._by_part(edge, edge_encoded, receiver, sender)

    def _by_part(self, edge: Tensor, edge_encoded: Tensor, receiver: Tensor, sender: Tensor) -> Weights:
        """All weights by part, from what the edge network's first layer makes of these four, (width, width) each."""
        edge_2, node_2 = cast("nn.Linear", self.edge_network[1]), cast("nn.Linear", self.node_network[1])
        encode_1, encode_2 = cast("list[nn.Linear]", list(self.edge_encoder))
        node_sum, node, _ = cast("nn.Linear", self.node_network[0]).weight.T.chunk(3)
        return Weights(
            encode_1=encode_1.weight.T,
            encode_1_bias=encode_1.bias,
            encode_2=encode_2.weight.T,
            encode_2_bias=encode_2.bias,
            edge_latent=edge,
            edge_encoded=edge_encoded,
            edge_2=edge_2.weight.T,
            edge_2_bias=edge_2.bias,
            node_sum=node_sum,
            node_2=node_2.weight.T,
            node_2_bias=node_2.bias,
            node_latent=torch.cat([receiver, sender, node], dim=1),
        )


def linear_layers(*sizes: int) -> nn.ModuleList:
    """Linear layers with the start of Sonnet, which the paper used.

    Weights are normal with standard deviation 1/√inputs, cut at two standard deviations; biases are zero.
    """
    layers = nn.ModuleList()
    for n_inputs, n_outputs in pairwise(sizes):
        layer = nn.Linear(n_inputs, n_outputs)
        deviation = 1 / math.sqrt(n_inputs)
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(layer.bias)
        layers.append(layer)
    return layers


def apply_layers(layers: nn.ModuleList, values: Tensor) -> Tensor:
    """The layers with a ReLU between them."""
    for i, layer in enumerate(layers):
        values = layer(values if i == 0 else values.relu())
    return values
