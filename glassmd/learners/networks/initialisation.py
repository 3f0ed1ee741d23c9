"""A start from which the network of Bapst et al. learns within minutes.

With normal weights and zero biases the network is a homogeneous function of the edge vectors: far neighbours, which
are many, drown the near ones, and seven sums over neighbours make outputs of order 10 to 100.

The edge encoder starts with features of near neighbours, hinges s(c − |r|) and s(c − |r|) + s u·r, which two
layers of rectifiers can write down: with directions d_k spread evenly over the sphere the averages of max(0, d_k·r)
and of max(0, d_k·r) d_k are |r|/4 and r/6. Every later layer is then shifted and scaled so that its inputs from one
graph leave it with zero mean per unit and unit spread (Salimans & Kingma, NeurIPS 2016).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, NODE_INPUT

__all__ = ["initialise"]

SHARPNESS = 3.0
"""s: a hinge rises from 0 to 1 over a third of σ."""
NEAREST, FARTHEST = 0.95, 2.0
"""Range of c, σ: from the first peak of g(r) to the cutoff."""
SAMPLED = 512
"""Particles whose edges are looked at."""
SPREAD = 0.3
"""Standard deviation of the first outputs, in units of the labels'."""


class Bapst(Protocol):
    """What is looked at of :class:`~glassmd.learners.networks.bapst.BapstModel`."""

    width: int
    n_steps: int
    scale: Tensor
    node_encoder: nn.ModuleList
    edge_encoder: nn.ModuleList
    edge_network: nn.ModuleList
    node_network: nn.ModuleList
    decoder: nn.ModuleList

    def latent(self, data: Data) -> Tensor:
        """What the decoder sees of every particle, (n_particles, width)."""


@torch.no_grad()
def initialise(model: Bapst, graph: Data) -> None:
    """Give the network a start that suits graphs like `graph`; see the module's text.

    Args:
        model: With fresh weights; they are changed in place.
        graph: Of a training configuration. Random numbers come from torch's global generator.
    """
    encode_1, encode_2 = _linear(model.edge_encoder)
    _geometric(encode_1, encode_2)
    damp = 1.0 / max(1, model.n_steps - 1)
    n = model.width
    edge_1, edge_2 = _linear(model.edge_network)
    node_1, node_2 = _linear(model.node_network)
    for part in (0, 2, 4):  # the latent halves of edge, receiver and sender: what is fed back at every step
        edge_1.weight[:, part * n : (part + 1) * n] *= damp
    node_1.weight[:, n : 2 * n] *= damp
    nodes = graph[NODE_INPUT].to(model.scale.dtype)
    for layer in _linear(model.node_encoder):
        nodes = layer(nodes).relu()
    sender, receiver, vectors = _sampled(graph)
    edges = encode_2(encode_1(vectors.to(model.scale.dtype)).relu()).relu()
    inputs = torch.cat([edges, edges, nodes[receiver], nodes[receiver], nodes[sender], nodes[sender]], dim=1)
    edges = _settle(edge_2, _settle(edge_1, inputs).relu()).relu()
    chosen, position = torch.unique(receiver, return_inverse=True)
    summed = torch.zeros(len(chosen), n, dtype=edges.dtype).index_add_(0, position, edges)
    _settle(node_2, _settle(node_1, torch.cat([summed, nodes[chosen], nodes[chosen]], dim=1)).relu())
    decode = _linear(model.decoder)
    values = model.latent(graph)
    for layer in decode[:-1]:
        values = _settle(layer, values).relu()
    _settle(decode[-1], values, SPREAD)


def _linear(layers: nn.ModuleList) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def _geometric(first: nn.Linear, second: nn.Linear) -> None:
    """Hinges of the distance, half of them tilted along a random direction."""
    n, d = first.weight.shape
    directions = _even_directions(n, d).to(first.weight)
    mean_cosine = 1 / math.pi if d == 2 else 1 / 4  # of max(0, cos) over the circle, the sphere
    tilt = torch.randn(n, d).to(first.weight)
    tilt /= tilt.norm(dim=1, keepdim=True)
    tilt[: n // 2] = 0
    reach = torch.linspace(NEAREST, FARTHEST, (n + 1) // 2).repeat(2)[:n]
    first.weight.copy_(directions)
    first.bias.zero_()
    second.weight.copy_(SHARPNESS * (2 * d / n * tilt @ directions.T - 1 / (n * mean_cosine)))
    second.bias.copy_(SHARPNESS * reach)


def _even_directions(n: int, d: int) -> Tensor:
    """(n, d) unit vectors spread evenly: a Fibonacci lattice on the sphere, equal angles on the circle."""
    k = np.arange(n) + 0.5
    if d == 2:
        return torch.from_numpy(_on_circle(2 * np.pi * k / n).astype(np.float32))
    height = 1 - 2 * k[:, None] / n
    around = np.sqrt(1 - height**2) * _on_circle(np.pi * (1 + 5**0.5) * k)
    return torch.from_numpy(np.hstack([around, height]).astype(np.float32))


def _on_circle(angles: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float64)


def _sampled(graph: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Sender, receiver and vector of the edges that end in some of the particles."""
    sender, receiver = graph[EDGE_INDEX]
    n_particles = int(graph[NODE_INPUT].shape[0])
    wanted = torch.zeros(n_particles, dtype=torch.bool)
    wanted[torch.linspace(0, n_particles - 1, min(SAMPLED, n_particles)).long()] = True
    kept = wanted[receiver]
    return sender[kept], receiver[kept], graph[EDGE_VECTOR][kept]


def _settle(layer: nn.Linear, inputs: Tensor, spread: float = 1.0) -> Tensor:
    """Shift every unit to zero mean and scale the layer to the given spread; returns the new outputs."""
    outputs: Tensor = layer(inputs).double()
    mean, deviation = outputs.mean(dim=0), outputs.std(dim=0).mean()
    factor = spread / deviation.clamp_min(1e-6)
    layer.weight.mul_(factor.to(layer.weight.dtype))
    layer.bias.copy_((layer.bias.double() - mean) * factor)
    return layer(inputs)  # type: ignore[no-any-return]
