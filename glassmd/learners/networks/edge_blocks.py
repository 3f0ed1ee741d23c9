"""The message passing of Bapst's network as one differentiable function, written for memory that is slow.

Symbols of the source (V. Bapst et al., Nature Physics 16, 448 (2020), supplement) and names here:
e, n the latent edges and nodes, e⁰, n⁰ the encoded ones; φ = ReLU. One step is

    hᵏ   = φ(eᵏ⁻¹ Wᵉ + [e⁰ Wᵉ⁰] + b + (nᵏ⁻¹ Wʳ + n⁰ Wʳ⁰)[receiver] + (nᵏ⁻¹ Wˢ + n⁰ Wˢ⁰)[sender])
    eᵏ   = φ(hᵏ V + c)
    aᵏ_i = Σ_(j→i) eᵏ_ji
    nᵏ   = φ(φ(aᵏ Wᵃ + nᵏ⁻¹ Wⁿ + n⁰ Wⁿ⁰ + b') V' + c')

The first layer is linear, so that its node parts are computed per node and gathered, and the bracket once for all
steps. What remains per edge goes through in blocks that stay in the cache, every intermediate is written in place, and
the derivative is written out by hand to keep that so. Sums over a node's edges are segment sums over sorted edges: the
same bits every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from glassmd.learners.device import in_single_precision

__all__ = [
    "EdgeLayout",
    "Weights",
    "columns",
    "edge_layout",
    "edge_step",
    "empty",
    "encode",
    "node_step",
    "pass_messages",
]

_BLOCK = 2048
"""Edges of a block and thread: three blocks of 64 float32 fit into the second-level cache."""


class EdgeLayout(NamedTuple):
    """Edges sorted by receiver, and how to sum over them.

    Attributes:
        sender: (n_edges,) int64.
        receiver: (n_edges,) int64, ascending.
        offsets: (n_nodes + 1,) int64; edges of receiver i are offsets[i]:offsets[i + 1].
        identity: (n_edges,) int64, 0 … n_edges − 1.
        by_sender: (n_edges,) int64 order of the edges by sender.
        sender_offsets: (n_nodes + 1,) int64, as `offsets` in that order.
    """

    sender: Tensor
    receiver: Tensor
    offsets: Tensor
    identity: Tensor
    by_sender: Tensor
    sender_offsets: Tensor


def edge_layout(sender: Tensor, receiver: Tensor, n_nodes: int) -> EdgeLayout:
    """Prepare the sums over edges that are sorted by receiver."""
    return EdgeLayout(
        sender=sender,
        receiver=receiver,
        offsets=_offsets(receiver, n_nodes),
        identity=torch.arange(receiver.numel(), device=receiver.device),
        by_sender=torch.argsort(sender, stable=True),
        sender_offsets=_offsets(sender, n_nodes),
    )


def _offsets(index: Tensor, n_nodes: int) -> Tensor:
    offsets = torch.zeros(n_nodes + 1, dtype=torch.int64, device=index.device)
    torch.cumsum(torch.bincount(index, minlength=n_nodes), 0, out=offsets[1:])
    return offsets


class Weights(NamedTuple):
    """Matrices (inputs, outputs) and biases of the edge encoder, the edge network and the node network."""

    encode_1: Tensor
    encode_1_bias: Tensor
    encode_2: Tensor
    encode_2_bias: Tensor
    edge_latent: Tensor
    edge_encoded: Tensor
    edge_2: Tensor
    edge_2_bias: Tensor
    node_sum: Tensor
    node_2: Tensor
    node_2_bias: Tensor
    node_latent: Tensor  # (n, 3n): to the edge network as receiver, as sender, and to the node network


def _sum(values: Tensor, order: Tensor, offsets: Tensor) -> Tensor:
    """Sum of values[order] within each segment, (n_segments, n)."""
    return embedding_bag(order, values, offsets, mode="sum", include_last_offset=True)


def empty(n_rows: int, like: Tensor) -> Tensor:
    """Uninitialised (n_rows, width) memory for edges, on a CPU from numpy, which asks the system for huge pages."""
    width = like.shape[-1]
    if like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64):
        dtype = np.float32 if like.dtype == torch.float32 else np.float64
        return torch.from_numpy(np.empty((n_rows, width), dtype))
    return like.new_empty((n_rows, width))


def _blocks(n_edges: int, device: torch.device) -> Iterator[slice]:
    size = _block_size(n_edges, device)
    for start in range(0, n_edges, size):
        yield slice(start, min(start + size, n_edges))


def _block_size(n_edges: int, device: torch.device) -> int:
    most = max(n_edges, 1)
    return min(_BLOCK * torch.get_num_threads(), most) if device.type == "cpu" else most


def _scratch(like: Tensor) -> Tensor:
    """Memory for one block of `like`, (block, width)."""
    return like.new_empty((_block_size(like.shape[0], like.device), like.shape[1]))


def columns(joined: Tensor) -> list[Tensor]:
    """(n_nodes, 3n) → three contiguous (n_nodes, n): to the receiver, to the sender, to the node network."""
    return [part.contiguous() for part in joined.chunk(3, dim=1)]


def pass_messages(
    layout: EdgeLayout, n_steps: int, vectors: Tensor, encoded: Tensor, constant: Tensor, weights: Weights
) -> tuple[Tensor, Tensor]:
    """Latent nodes nᵏ, (n_nodes, n), and edges eᵏ, (n_edges, n), after the last step.

    There is no derivative with respect to `vectors`.

    Args:
        layout: The edges.
        n_steps: Number of steps.
        vectors: (n_edges, d), in the order of `layout`.
        encoded: (n_nodes, n) encoded nodes n⁰.
        constant: (n_nodes, 3n), what n⁰ and the biases add to nᵏ⁻¹ `node_latent` at every step.
        weights: Matrices and biases.
    """
    # inside a Function gradients look disabled, and parameters look differentiable even under `no_grad`
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (encoded, constant, *weights))
    latents = in_single_precision(MessagePassing.apply, keep, layout, n_steps, vectors, encoded, constant, *weights)
    return cast("tuple[Tensor, Tensor]", latents)


class MessagePassing(torch.autograd.Function):
    """The arithmetic of :func:`pass_messages`, forth and back."""

    @staticmethod
    def forward(
        ctx: Any,
        keep: bool,
        layout: EdgeLayout,
        n_steps: int,
        vectors: Tensor,
        encoded: Tensor,
        constant: Tensor,
        *w: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See :func:`pass_messages`; `keep` says that a derivative will be asked for."""
        weights = Weights(*w)
        hidden: list[Tensor | None] = [empty(len(vectors), encoded) if keep else None]
        edges, fixed = [empty(len(vectors), encoded)], empty(len(vectors), encoded)
        encode(weights, vectors, hidden[0], edges[0], fixed)
        nodes: list[Tensor] = [encoded]
        sums: list[Tensor] = []
        middles: list[Tensor] = []
        for _ in range(n_steps):
            # without a derivative to come, everything is overwritten in place
            h, e = (empty(len(vectors), encoded), empty(len(vectors), encoded)) if keep else (None, edges[0])
            to_receiver, to_sender, to_node = columns(torch.addmm(constant, nodes[-1], weights.node_latent))
            edge_step(weights, layout.sender, layout.receiver, fixed, edges[-1], to_receiver, to_sender, h, e)
            total, middle, node = node_step(weights, layout.identity, layout.offsets, e, to_node)
            if not keep:
                nodes = [node]
                continue
            nodes.append(node)
            hidden.append(h)
            edges.append(e)
            sums.append(total)
            middles.append(middle)
        if keep:
            ctx.layout, ctx.n_steps = layout, n_steps
            ctx.save_for_backward(vectors, *w, *cast("list[Tensor]", hidden), *edges, *nodes, *sums, *middles)
        ctx.set_materialize_grads(False)
        return nodes[-1], edges[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_latent: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives with respect to `encoded`, `constant` and every weight, last step first."""
        steps, layout = ctx.n_steps, ctx.layout
        vectors, *saved = ctx.saved_tensors
        weights, saved = Weights(*saved[: len(Weights._fields)]), saved[len(Weights._fields) :]
        hidden, edges, nodes = saved[: steps + 1], saved[steps + 1 : 2 * steps + 2], saved[2 * steps + 2 :]
        nodes, sums, middles = nodes[: steps + 1], nodes[steps + 1 : 2 * steps + 1], nodes[2 * steps + 1 :]
        grads = Weights(*(torch.zeros_like(weight, memory_format=torch.contiguous_format) for weight in weights))
        grad_edges, grad_fixed, grad_hidden = (empty(len(vectors), nodes[-1]) for _ in range(3))
        if grad_last is None:
            grad_edges.zero_()
        else:
            grad_edges.copy_(grad_last)
        grad_fixed.zero_()
        grad_constant = nodes[-1].new_zeros((len(nodes[-1]), weights.node_latent.shape[1]))
        grad_nodes = torch.zeros_like(nodes[-1]) if grad_latent is None else grad_latent
        for k in range(steps, 0, -1):
            outer = _through_relu(grad_nodes, nodes[k])
            grads.node_2.addmm_(middles[k - 1].T, outer)
            grads.node_2_bias.add_(outer.sum(0))
            inner = _through_relu(outer @ weights.node_2.T, middles[k - 1])
            grads.node_sum.addmm_(sums[k - 1].T, inner)
            grad_sum = inner @ weights.node_sum.T
            _edge_step_backward(
                weights,
                grads,
                layout,
                edges[k - 1],
                hidden[k],
                edges[k],
                grad_sum,
                grad_edges,
                grad_hidden,
                grad_fixed,
            )
            to_receiver = _sum(grad_hidden, layout.identity, layout.offsets)
            to_sender = _sum(grad_hidden, layout.by_sender, layout.sender_offsets)
            grad_joined = torch.cat([to_receiver, to_sender, inner], dim=1)
            grads.node_latent.addmm_(nodes[k - 1].T, grad_joined)
            grad_constant.add_(grad_joined)
            grad_nodes = grad_joined @ weights.node_latent.T
        _encode_backward(weights, grads, vectors, hidden[0], edges[0], grad_edges, grad_fixed)
        return (None, None, None, None, grad_nodes, grad_constant, *grads)


def _through_relu(grad: Tensor, output: Tensor) -> Tensor:
    """Derivative before a ReLU from that behind it, with the ReLU's output."""
    return torch.ops.aten.threshold_backward(grad, output, 0)  # type: ignore[no-any-return]


def _mask_(grad: Tensor, output: Tensor) -> None:
    """:func:`_through_relu` in place."""
    torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=grad)


def encode(weights: Weights, vectors: Tensor, hidden: Tensor | None, edges: Tensor, fixed: Tensor) -> None:
    """Fill `hidden`, where it is wanted, e⁰ and e⁰ Wᵉ⁰, each (n_edges, n)."""
    scratch = _scratch(edges)
    for block in _blocks(len(vectors), vectors.device):
        h = scratch[: block.stop - block.start] if hidden is None else hidden[block]
        torch.addmm(weights.encode_1_bias, vectors[block], weights.encode_1, out=h).relu_()
        torch.addmm(weights.encode_2_bias, h, weights.encode_2, out=edges[block]).relu_()
        torch.mm(edges[block], weights.edge_encoded, out=fixed[block])


def _encode_backward(
    weights: Weights,
    grads: Weights,
    vectors: Tensor,
    hidden: Tensor,
    edges: Tensor,
    grad_edges: Tensor,
    grad_fixed: Tensor,
) -> None:
    """Derivatives of :func:`encode`; uses up `grad_edges`."""
    scratch = _scratch(hidden)
    for block in _blocks(len(vectors), vectors.device):
        outer, inner = grad_edges[block], scratch[: block.stop - block.start]
        grads.edge_encoded.addmm_(edges[block].T, grad_fixed[block])
        outer.addmm_(grad_fixed[block], weights.edge_encoded.T)
        _mask_(outer, edges[block])
        grads.encode_2.addmm_(hidden[block].T, outer)
        grads.encode_2_bias.add_(outer.sum(0))
        torch.mm(outer, weights.encode_2.T, out=inner)
        _mask_(inner, hidden[block])
        grads.encode_1.addmm_(vectors[block].T, inner)
        grads.encode_1_bias.add_(inner.sum(0))


def edge_step(
    weights: Weights,
    sender: Tensor,
    receiver: Tensor,
    fixed: Tensor,
    before: Tensor,
    to_receiver: Tensor,
    to_sender: Tensor,
    hidden: Tensor | None,
    after: Tensor,
) -> None:
    """Fill hᵏ, where it is wanted, and eᵏ (`after`) from eᵏ⁻¹ (`before`), all (n_edges, n).

    `after` may be `before`. `sender` and `receiver`, (n_edges,), are rows of `to_sender` and `to_receiver`.
    """
    gather, scratch = _scratch(fixed), _scratch(fixed)
    for block in _blocks(len(fixed), fixed.device):
        size = block.stop - block.start
        gathered, h = gather[:size], scratch[:size] if hidden is None else hidden[block]
        torch.addmm(fixed[block], before[block], weights.edge_latent, out=h)
        h.add_(torch.index_select(to_receiver, 0, receiver[block], out=gathered))
        h.add_(torch.index_select(to_sender, 0, sender[block], out=gathered)).relu_()
        torch.addmm(weights.edge_2_bias, h, weights.edge_2, out=after[block]).relu_()


def node_step(
    weights: Weights, identity: Tensor, offsets: Tensor, edges: Tensor, to_node: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """aᵏ, the hidden layer of the node network and nᵏ, (n_nodes, n) each, from eᵏ (`edges`)."""
    total = _sum(edges, identity, offsets)
    middle = torch.addmm(to_node, total, weights.node_sum).relu_()
    return total, middle, torch.addmm(weights.node_2_bias, middle, weights.node_2).relu_()


def _edge_step_backward(
    weights: Weights,
    grads: Weights,
    layout: EdgeLayout,
    before: Tensor,
    hidden: Tensor,
    after: Tensor,
    grad_sum: Tensor,
    grad_edges: Tensor,
    grad_hidden: Tensor,
    grad_fixed: Tensor,
) -> None:
    """Derivatives of :func:`_edge_step`.

    `grad_edges` comes in for eᵏ and leaves for eᵏ⁻¹, `grad_hidden` is filled with the derivative before the
    ReLU of hᵏ, which is added to `grad_fixed`; all (n_edges, n). `grad_sum` is (n_nodes, n).
    """
    scratch = _scratch(hidden)
    for block in _blocks(len(hidden), hidden.device):
        gathered, outer, inner = scratch[: block.stop - block.start], grad_edges[block], grad_hidden[block]
        outer.add_(torch.index_select(grad_sum, 0, layout.receiver[block], out=gathered))
        _mask_(outer, after[block])
        grads.edge_2.addmm_(hidden[block].T, outer)
        grads.edge_2_bias.add_(outer.sum(0))
        torch.mm(outer, weights.edge_2.T, out=inner)
        _mask_(inner, hidden[block])
        grads.edge_latent.addmm_(before[block].T, inner)
        torch.mm(inner, weights.edge_latent.T, out=outer)
        grad_fixed[block].add_(inner)
