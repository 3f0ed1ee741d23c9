"""The network of Bapst et al. (2020) ported to torch_geometric layer by layer, to measure ours against.

It is what the description says and nothing else: every step concatenates the 384 inputs of each edge, as
the original's `graph_nets` does, and sums with torch_geometric's own aggregation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MLP, MessagePassing


class Step(MessagePassing):
    """One message-passing step: update the edges, then the nodes."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr="add")
        self.edge_network = MLP([6 * width, width, width], norm=None, plain_last=False)
        self.node_network = MLP([3 * width, width, width], norm=None, plain_last=False)

    def forward(self, x: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        sender, receiver = edge_index
        edges = self.edge_network(torch.cat([edges, x[receiver], x[sender]], dim=-1))
        total = self.propagate(edge_index, edges=edges, size=(len(x), len(x)))
        return self.node_network(torch.cat([total, x], dim=-1)), edges

    def message(self, edges: Tensor) -> Tensor:
        return edges


class StraightforwardBapst(nn.Module):
    """Encoder, shared steps, decoder."""

    def __init__(self, n_times: int = 1, dimensions: int = 3, width: int = 64, n_steps: int = 7) -> None:
        super().__init__()
        self.node_encoder = MLP([1, width, width], norm=None, plain_last=False)
        self.edge_encoder = MLP([dimensions, width, width], norm=None, plain_last=False)
        self.step = Step(width)
        self.decoder = MLP([width, width, width, n_times], norm=None)
        self.n_steps = n_steps

    def forward(self, data: Data) -> Tensor:
        encoded_nodes, encoded_edges = self.node_encoder(data.x), self.edge_encoder(data.edge_attr)
        nodes, edges = encoded_nodes, encoded_edges
        for _ in range(self.n_steps):
            nodes, edges = self.step(
                torch.cat([nodes, encoded_nodes], dim=-1),
                torch.cat([edges, encoded_edges], dim=-1),
                data.edge_index,
            )
        return self.decoder(nodes)


def copy_weights(ours: nn.Module, theirs: StraightforwardBapst) -> None:
    """Give `theirs` the weights of our network."""
    pairs = {
        "node_encoder": theirs.node_encoder,
        "edge_encoder": theirs.edge_encoder,
        "edge_network": theirs.step.edge_network,
        "node_network": theirs.step.node_network,
        "decoder": theirs.decoder,
    }
    with torch.no_grad():
        for name, mlp in pairs.items():
            for source, target in zip(getattr(ours, name), mlp.lins, strict=True):
                target.weight.copy_(source.weight)
                target.bias.copy_(source.bias)
