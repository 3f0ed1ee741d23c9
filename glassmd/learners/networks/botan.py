"""BOTAN, the bond-targeting network of H. Shiba et al., J. Chem. Phys. 158, 084503 (2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR
from glassmd.learners.losses import weighted_square_error
from glassmd.learners.networks.bapst import BapstModel, apply_layers, linear_layers
from glassmd.learners.networks.edge_blocks import Weights
from glassmd.learners.networks.initialisation import initialise
from glassmd.stream.pairs import PairChanges

__all__ = ["PAIR_TARGET", "BotanModel"]

PAIR_TARGET = "pair_target"
"""Field of a graph, (n_edges, n_times) float32: replica mean of the change of the distance, σ_AA; NaN unknown."""


class BotanModel(BapstModel):
    """Bapst's network that also learns how far neighbours part.

    | published                                                | here                                          |
    |----------------------------------------------------------|-----------------------------------------------|
    | encoders, 7 steps with shared weights, decoder of Bapst  | :class:`~.bapst.BapstModel`                    |
    | edge network, 4n: sender, receiver, edge, encoded edge   | `edge_network`, in the order edge, encoded    |
    |                                                          | edge, receiver, sender                        |
    | no self-edges                                            | `self_edges`                                  |
    | one decoder for nodes and edges                          | `decoder`                                     |
    | loss p · nodes + (1 − p) · edges, p = 0.4                | `edge_weight` = 1 − p                         |
    | start from weights trained on edges alone                | `pretrain_steps`, as many as we chose         |
    | Adam, 1e-4, one structure a step, 1000 epochs of 400     | 10,000 steps, a fortieth                      |
    | errors in σ_AA² of all particles and edges               | in units of their spread, see below           |

    Graphs without the edge labels of :meth:`attach_labels` train the nodes alone. Labels of edges are learned in units
    of their own spread, which :meth:`initialise` takes from the first graph, those of nodes in units of each species'.
    The left column is that of h3-Open-BDEC/pyg_botan.

    Args:
        width: n, size of every layer (64).
        n_steps: Message-passing steps (7).
        inputs: The one kind of positions that makes the graph (thermal).
        edge_weight: Share of the edges in the loss, below 1.
        pretrain_steps: Optimiser steps on edges alone at the beginning, where there are edge labels; `train` takes a
            tenth of all steps.

    Example:
        >>> from glassmd.configuration import Configuration
        >>> from glassmd.graphs import to_graph
        >>> pair = Configuration(box=[9, 9, 9], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
        >>> graph, model = to_graph(pair, self_edges=False), BotanModel(n_times=5)
        >>> tuple(model(graph).shape), tuple(model.pair_change(graph).shape)
        ((2, 5), (2, 5))
    """

    name: ClassVar[str] = "botan"
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 10_000, "learning_rate": 1e-4})
    self_edges: ClassVar[bool] = False
    pair_scale: Tensor
    pair_shift: Tensor
    steps_on_edges: Tensor

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        width: int = 64,
        n_steps: int = 7,
        inputs: Sequence[str] | None = None,
        edge_weight: float = 0.6,
        pretrain_steps: int = 1000,
    ) -> None:
        super().__init__(
            n_times=n_times, n_species=n_species, dimensions=dimensions, width=width, n_steps=n_steps, inputs=inputs
        )
        if not 0 <= edge_weight < 1 or pretrain_steps < 0:
            raise ModelError(
                f"found edge_weight={edge_weight:g}, pretrain_steps={pretrain_steps}",
                "from 0 to below 1, and at least 0",
            )
        self.edge_weight, self.pretrain_steps = edge_weight, pretrain_steps
        self.edge_network = linear_layers(4 * width, width, width)
        self.register_buffer("pair_scale", torch.ones(n_times))
        self.register_buffer("pair_shift", torch.zeros(n_times))
        self.register_buffer("steps_on_edges", torch.zeros((), dtype=torch.int64))

    def attach_labels(self, data: Data, changes: PairChanges) -> Data:
        """Put the labels of edges into an encoded structure, as the field `pair_target`.

        Edges that are no pair of the parent, as some between inherent positions, stay unknown.

        Args:
            data: What :meth:`encode` made of the parent, or of positions derived from it; changed, and returned.
            changes: :func:`glassmd.stream.pairs.pair_changes` of the parent with this network's `cutoff`.

        Raises:
            ModelError: Labels at another number of times.
        """
        if len(changes.mean) != self.n_times:
            raise ModelError(f"found pair labels at {len(changes.mean)} times", f"{self.n_times}, as the model")
        sender, receiver = data[EDGE_INDEX].numpy()
        data[PAIR_TARGET] = torch.from_numpy(changes.of_edges(sender, receiver))
        return data

    def pair_change(self, data: Data) -> Tensor:
        """Predicted change of the distance of every edge's ends, (n_edges, n_times), σ_AA, in the graph's order."""
        return self.pair_shift + self.pair_scale * apply_layers(self.decoder, self.latents(data)[1])

    def objective(self, data: Data, target: Tensor, noise: Tensor | None, mask: Tensor) -> Tensor:
        """(1 − edge_weight) × nodes + edge_weight × edges; edges alone during the first `pretrain_steps`.

        Without a known label on any edge it is the nodes' error alone. Counts the steps on edges.
        """
        pair_target = data.get(PAIR_TARGET)
        if pair_target is None:
            pair_target = data[EDGE_VECTOR].new_full((data[EDGE_INDEX].shape[1], self.n_times), torch.nan)
        known = torch.isfinite(pair_target)
        n_known = self.balance(known.sum().to(self.scale.dtype))
        if not bool(n_known > 0):
            return weighted_square_error(self.normalised(data), target, mask, noise, self.balance)
        nodes, edges = self.latents(data)
        wanted = (pair_target - self.pair_shift) / self.pair_scale
        edge_loss: Tensor = (apply_layers(self.decoder, edges) - wanted)[known].square().sum() / n_known
        pretraining = int(self.steps_on_edges) < self.pretrain_steps
        if torch.is_grad_enabled() and self.training:
            self.steps_on_edges += 1
        if pretraining:
            return edge_loss
        node_loss = weighted_square_error(apply_layers(self.decoder, nodes), target, mask, noise, self.balance)
        return (1 - self.edge_weight) * node_loss + self.edge_weight * edge_loss

    @torch.no_grad()
    def initialise(self, graph: Data, *others: Data) -> None:
        """The start of Bapst's network (:mod:`~.networks.initialisation`); the unit of edge labels."""
        twin = BapstModel(
            n_times=self.n_times, n_species=self.n_species, dimensions=self.dimensions, width=self.width,
            n_steps=self.n_steps,
        ).to(self.scale)  # fmt: skip
        n, first = self.width, cast("nn.Linear", self.edge_network[0])
        own = torch.cat([torch.arange(part * n, (part + 1) * n) for part in (0, 1, 2, 4)])
        weights = {key: value for key, value in self.state_dict().items() if key in twin.state_dict()}
        wide = torch.zeros(n, 6 * n, dtype=first.weight.dtype, device=first.weight.device)
        wide[:, own] = first.weight
        twin.load_state_dict({**weights, "edge_network.0.weight": wide})
        initialise(twin, graph)
        start = twin.state_dict()
        start["edge_network.0.weight"] = start["edge_network.0.weight"][:, own]
        self.load_state_dict(start, strict=False)
        labels = graph.get(PAIR_TARGET)
        for t in range(self.n_times if labels is not None else 0):
            known = labels[:, t][torch.isfinite(labels[:, t])]
            if len(known) > 1 and float(known.std()) > 0:
                self.pair_shift[t], self.pair_scale[t] = known.mean(), known.std()

    def _weights(self, encoded: Tensor) -> tuple[Tensor, Weights]:
        """As Bapst's, but encoded nodes reach the node network alone."""
        edge_1, node_1 = cast("nn.Linear", self.edge_network[0]), cast("nn.Linear", self.node_network[0])
        edge, edge_encoded, receiver, sender = edge_1.weight.T.chunk(4)
        node_encoded = node_1.weight.T.chunk(3)[2]
        to_edges = torch.cat([edge_1.bias, torch.zeros_like(edge_1.bias)]).expand(len(encoded), -1)
        constant = torch.cat([to_edges, torch.addmm(node_1.bias, encoded, node_encoded)], dim=1)
        return constant, self._by_part(edge, edge_encoded, receiver, sender)
