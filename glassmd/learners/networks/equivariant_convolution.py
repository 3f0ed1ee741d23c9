r"""Convolution of spherical tensors over neighbours, with the sum over neighbours taken first.

Source of the convolution: N. Thomas et al., arXiv 1802.08219 (2018), as used by F. S. Pezzicoli, G. Charpiat &
F. P. Landes, SciPost Phys. 16, 136 (2024). Symbols there and names here: node features h (`features`), spherical
harmonics Y (`harmonics`) and radial functions R_k (`radial`) of the vector from receiver to sender, Clebsch–Gordan
coefficients C (`Coupling`), trained weights V (`weights`):

    m_i^(l3 m3 c') = Σ_j Σ_(l1 l2) Σ_(m1 m2) C^(l3 m3)_(l1 m1, l2 m2) Σ_(c k) V^(l1 l2 l3)_(c k c')
                     R_k(r_ij) Y_(l2 m2)(r_ij) h_j^(l1 m1 c)

Everything but h, Y and R is the same for all edges, so the sum over neighbours can go inside:

    A_i^(l2 m2 k, l1 m1 c) = Σ_j Y_(l2 m2)(r_ij) R_k(r_ij) h_j^(l1 m1 c)

is one matrix product per particle, and the coupling and the weights act on particles instead of edges. Particles go
through in blocks that stay in the cache; the derivative computes A again instead of keeping it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glassmd.learners.device import in_single_precision

__all__ = ["Coupling", "Neighbourhoods", "convolve", "neighbourhoods", "spherical_harmonics"]

_BLOCK = 64
"""Particles of a block on a CPU: with 16 channels up to l = 2 its A, 72 × 144 numbers a particle, takes 2.6 MB."""
_BLOCK_GPU = 2048


class Neighbourhoods(NamedTuple):
    """Edges as rectangles (particles, slots), a block of particles with about as many neighbours each.

    Attributes:
        sender: (n_slots,) int64; unused slots name particle 0.
        vectors: (n_slots, 3), r_sender − r_receiver, σ_AA; zero in unused slots.
        used: (n_slots,) bool.
        blocks: Receivers (n_block,) int64 of every block, in the order of their slots.
        widths: Slots of each receiver of a block.
    """

    sender: Tensor
    vectors: Tensor
    used: Tensor
    blocks: tuple[Tensor, ...]
    widths: tuple[int, ...]


def neighbourhoods(edge_index: Tensor, vectors: Tensor, n_nodes: int, block: int | None = None) -> Neighbourhoods:
    """Sort edges into rectangles.

    Args:
        edge_index: (2, n_edges) int64, sender and receiver, in any order.
        vectors: (n_edges, d), r_receiver − r_sender, d = 2 or 3; a plane is put at z = 0.
        n_nodes: Number of particles.
        block: Particles in a block; default by device.
    """
    sender, receiver = edge_index
    if bool((receiver[1:] < receiver[:-1]).any()):
        order = torch.argsort(receiver, stable=True)
        sender, receiver, vectors = sender[order], receiver[order], vectors[order]
    degree = torch.bincount(receiver, minlength=n_nodes)
    first = torch.cumsum(degree, 0) - degree
    by_degree = torch.argsort(degree, stable=True)
    size = block or (_BLOCK if vectors.device.type == "cpu" else _BLOCK_GPU)
    blocks = torch.split(by_degree, size) if n_nodes else ()
    widths = tuple(int(degree[nodes[-1]]) for nodes in blocks)
    slots, used = [], []
    for nodes, width in zip(blocks, widths, strict=True):
        column = torch.arange(width, device=vectors.device)
        used.append((column < degree[nodes, None]).reshape(-1))
        slots.append((first[nodes, None] + column).reshape(-1))
    mask = torch.cat(used) if used else torch.zeros(0, dtype=torch.bool)
    edge = torch.where(mask, torch.cat(slots), 0) if slots else torch.zeros(0, dtype=torch.int64)
    points = nn.functional.pad(vectors, (0, 3 - vectors.shape[1]))
    return Neighbourhoods(
        sender=torch.where(mask, sender[edge], 0),
        vectors=torch.where(mask[:, None], -points[edge], 0.0),
        used=mask,
        blocks=blocks,
        widths=widths,
    )


def spherical_harmonics(l_max: int, vectors: Tensor) -> Tensor:
    """Real spherical harmonics of directions, (n, (l_max + 1)²), mean square 1 for every l.

    Example:
        >>> spherical_harmonics(1, torch.tensor([[0.0, 2.0, 0.0]]))
        tensor([[1.0000, 0.0000, 1.7321, 0.0000]])
    """
    from e3nn.o3 import spherical_harmonics as of_e3nn

    degrees = list(range(l_max + 1))
    return of_e3nn(degrees, vectors, normalize=True, normalization="component")  # type: ignore[no-any-return]


class _Pair(NamedTuple):
    """What features of degree l1 and harmonics of degree l2 couple to.

    Attributes:
        l1: Degree of the features.
        l2: Degree of the harmonics.
        table: Name of the buffer (Σ 2 l3 + 1, (2 l1 + 1)(2 l2 + 1)); empty where it is the unit matrix.
        paths: Of each l3, ascending: itself and its place among the paths to l3.
    """

    l1: int
    l2: int
    table: str
    paths: tuple[tuple[int, int], ...]


class Coupling(nn.Module):
    """Clebsch–Gordan coefficients of all paths (l1, l2) → l3 with l1 + l2 + l3 even, and their weights.

    Even sums keep the parity (−1)^l of positions, so that mirror images are treated alike.

    Attributes:
        pairs: What couples to what.
        weights: One parameter (n_paths · n_radial · channels_in, channels_out) per l3, normal with variance 1/inputs.

    Args:
        l_in: Largest l of the features.
        l_edge: Largest l of the harmonics.
        l_out: Largest l of the result.
        channels_in: c, as many for every l.
        n_radial: k.
        channels_out: c'.
    """

    def __init__(self, l_in: int, l_edge: int, l_out: int, channels_in: int, n_radial: int, channels_out: int) -> None:
        from e3nn.o3 import wigner_3j  # e3nn takes a second to import

        super().__init__()
        self.l_in, self.l_edge, self.l_out = l_in, l_edge, l_out
        self.channels_in, self.n_radial, self.channels_out = channels_in, n_radial, channels_out
        self.pairs: list[_Pair] = []
        n_paths = [0] * (l_out + 1)
        for l1, l2 in product(range(l_in + 1), range(l_edge + 1)):
            reached = list(range(abs(l1 - l2), min(l1 + l2, l_out) + 1, 2))
            if not reached:
                continue
            self.pairs.append(
                _Pair(l1, l2, f"table_{l1}_{l2}" if l1 * l2 else "", tuple((x, n_paths[x]) for x in reached))
            )
            for l3 in reached:
                n_paths[l3] += 1
            if l1 * l2:
                tables = [wigner_3j(l1, l2, l3).reshape(-1, 2 * l3 + 1) * (2 * l3 + 1) ** 0.5 for l3 in reached]
                self.register_buffer(f"table_{l1}_{l2}", torch.cat(tables, 1).T.contiguous(), persistent=False)
        self.weights = nn.ParameterList()
        for count in n_paths:
            n_inputs = count * channels_in * n_radial
            self.weights.append(nn.Parameter(torch.randn(n_inputs, channels_out) / max(n_inputs, 1) ** 0.5))

    def mix(self, summed: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """A (n, (l_edge + 1)² k, (l_in + 1)² c) → result (n, (l_out + 1)², c')."""
        n, inputs = len(summed), self.channels_in * self.n_radial
        result = summed.new_zeros(((self.l_out + 1) ** 2, n, self.channels_out))
        for pair in self.pairs:
            _, together = self._couple(summed, pair)
            start = 0
            for l3, place in pair.paths:
                piece = together[start : start + 2 * l3 + 1].view(-1, inputs)
                total = result[l3**2 : (l3 + 1) ** 2].view(-1, self.channels_out)
                total.addmm_(piece, weights[l3][place * inputs : (place + 1) * inputs])
                start += 2 * l3 + 1
        return result.transpose(0, 1)

    def mix_backward(
        self, summed: Tensor, weights: Sequence[Tensor], grad_result: Tensor, grad_weights: Sequence[Tensor]
    ) -> Tensor:
        """Derivative with respect to A; those with respect to the weights are added to `grad_weights`."""
        inputs = self.channels_in * self.n_radial
        grads = grad_result.transpose(0, 1).contiguous()
        grad_summed = torch.zeros_like(summed)
        for pair in self.pairs:
            table, together = self._couple(summed, pair)
            grad_together, start = torch.empty_like(together), 0
            for l3, place in pair.paths:
                rows, path = slice(start, start + 2 * l3 + 1), slice(place * inputs, (place + 1) * inputs)
                grad = grads[l3**2 : (l3 + 1) ** 2].view(-1, self.channels_out)
                grad_weights[l3][path].addmm_(together[rows].view(-1, inputs).T, grad)
                torch.mm(grad, weights[l3][path].T, out=grad_together[rows].view(-1, inputs))
                start = rows.stop
            grad_part = grad_together if table is None else table.T @ grad_together
            part = self._part(grad_summed, pair)
            part.copy_(grad_part.view(part.shape))
        return grad_summed

    def _part(self, summed: Tensor, pair: _Pair) -> Tensor:
        """View of A at one l1 and l2, (2 l1 + 1, 2 l2 + 1, n, k, c)."""
        parts = summed.view(len(summed), (self.l_edge + 1) ** 2, self.n_radial, (self.l_in + 1) ** 2, self.channels_in)
        rows, columns = slice(pair.l2**2, (pair.l2 + 1) ** 2), slice(pair.l1**2, (pair.l1 + 1) ** 2)
        return parts[:, rows, :, columns].permute(3, 1, 0, 2, 4)

    def _couple(self, summed: Tensor, pair: _Pair) -> tuple[Tensor | None, Tensor]:
        """Coefficients, None for 1, and coupled A, (Σ 2 l3 + 1, n k c), of one pair."""
        part = self._part(summed, pair).reshape((2 * pair.l1 + 1) * (2 * pair.l2 + 1), -1)
        table = self.get_buffer(pair.table) if pair.table else None
        return table, part if table is None else table @ part


def convolve(features: Tensor, harmonics: Tensor, radial: Tensor, around: Neighbourhoods, coupling: Coupling) -> Tensor:
    """The message of every particle, (n_nodes, (l_out + 1)², channels_out); see the module's text.

    Args:
        features: (n_nodes, (l_in + 1)², channels_in).
        harmonics: (n_slots, (l_edge + 1)²); no derivative is taken with respect to them.
        radial: (n_slots, n_radial), zero in unused slots.
        around: The edges.
        coupling: Coefficients and weights.
    """
    message = in_single_precision(_Convolution.apply, around, coupling, harmonics, features, radial, *coupling.weights)
    return cast("Tensor", message)


class _Convolution(torch.autograd.Function):
    """The arithmetic of :func:`convolve`, forth and back."""

    @staticmethod
    def forward(
        ctx: Any,
        around: Neighbourhoods,
        coupling: Coupling,
        harmonics: Tensor,
        features: Tensor,
        radial: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        """Forth; see the function that applies it."""
        ctx.around, ctx.coupling = around, coupling
        ctx.save_for_backward(harmonics, features, radial, *weights)
        result = features.new_zeros((len(features), (coupling.l_out + 1) ** 2, coupling.channels_out))
        start = 0
        for nodes, width in zip(around.blocks, around.widths, strict=True):
            slots = slice(start, start + len(nodes) * width)
            start = slots.stop
            sent, kernel = _gather(features, harmonics, radial, around.sender, slots, len(nodes))
            result[nodes] = coupling.mix(torch.bmm(kernel.transpose(1, 2), sent), weights)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_result: Tensor) -> tuple[Tensor | None, ...]:
        """And back."""
        around, coupling = ctx.around, ctx.coupling
        harmonics, features, radial, *weights = ctx.saved_tensors
        grad_features, grad_radial = torch.zeros_like(features), torch.zeros_like(radial)
        grad_weights = [torch.zeros_like(weight) for weight in weights]
        start = 0
        for nodes, width in zip(around.blocks, around.widths, strict=True):
            slots = slice(start, start + len(nodes) * width)
            start = slots.stop
            sent, kernel = _gather(features, harmonics, radial, around.sender, slots, len(nodes))
            summed = torch.bmm(kernel.transpose(1, 2), sent)
            grad_summed = coupling.mix_backward(summed, weights, grad_result[nodes], grad_weights)
            if ctx.needs_input_grad[3]:
                grad_sent = torch.bmm(kernel, grad_summed)
                grad_features.index_add_(0, around.sender[slots], grad_sent.view(-1, *features.shape[1:]))
            grad_kernel = torch.bmm(sent, grad_summed.transpose(1, 2)).view(-1, harmonics.shape[1], radial.shape[1])
            grad_radial[slots] = torch.bmm(harmonics[slots, None], grad_kernel)[:, 0]
        return None, None, None, grad_features, grad_radial, *grad_weights


def _gather(
    features: Tensor, harmonics: Tensor, radial: Tensor, sender: Tensor, slots: slice, n: int
) -> tuple[Tensor, Tensor]:
    """Of a block: features of the senders (n, width, S c), and Y times R (n, width, S k)."""
    width = (slots.stop - slots.start) // max(n, 1)
    sent = features[sender[slots]].view(n, width, -1)
    kernel = (harmonics[slots, :, None] * radial[slots, None]).view(n, width, -1)
    return sent, kernel
