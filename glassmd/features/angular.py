r"""Angular structure functions: sums over pairs of neighbours and the angle that they make.

    Ψ(i; ξ, λ, ζ; s, s') = Σ_{j<k} e^{−(r_ij² + r_ik² + r_jk²) / ξ²} (1 + λ cos θ_jik)^ζ

over the pairs of a neighbour j of species s and a neighbour k of species s' (E. D. Cubuk et al., PRL 114, 108001
(2015); S. S. Schoenholz et al., Nature Physics 12, 469 (2016)).

The published sum is over j and k in either order: twice as much for two neighbours of one species. Where it ends,
:attr:`AngularFunctions.cutoff`, is our choice. Triples are formed in blocks, in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import InputError
from glassmd.features.neighbours import Neighbours

__all__ = ["SCHOENHOLZ_ANGULAR", "AngularFunctions"]

Float32 = NDArray[np.float32]

_TRIPLES = 30_000
"""Triples at work at a time: their dozen intermediates fit a core's cache."""


@dataclass(frozen=True)
class AngularFunctions:
    """Angular structure functions for every pair of neighbour species.

    Attributes:
        parameters: (ξ in σ_AA, λ = ±1, ζ a positive integer) of each function.
        cutoff: Neighbours this far or farther do not count, σ_AA.

    Raises:
        InputError: Parameters that mean nothing.
    """

    parameters: tuple[tuple[float, int, int], ...]
    cutoff: float

    def __post_init__(self) -> None:
        for xi, sign, power in self.parameters:
            if not (xi > 0 and abs(sign) == 1 and power >= 1 and power == int(power)):
                raise InputError(f"found angular parameters {(xi, sign, power)}", "ξ > 0, λ = ±1, ζ = 1, 2, …")
        if not (self.parameters and self.cutoff > 0):
            raise InputError(f"found {len(self.parameters)} functions within {self.cutoff}", "one, a positive cutoff")

    def n_columns(self, n_species: int) -> int:
        """Columns of :meth:`compute`."""
        return n_species * (n_species + 1) // 2 * len(self.parameters)

    def compute(self, neighbours: Neighbours) -> Float32:
        """Structure functions of every particle.

        Args:
            neighbours: Searched at least as far as :attr:`cutoff`.

        Returns:
            (n_particles, n_species (n_species + 1) / 2 · n_functions) float32.

        Raises:
            InputError: The neighbours were not searched far enough.
        """
        pairs = neighbours.within(self.cutoff)
        n, s = pairs.n_particles, pairs.n_species
        r = pairs.distances.astype(np.float32)
        unit = (pairs.vectors / pairs.distances[:, None]).astype(np.float32)
        per_pair = np.zeros((len(self.parameters), len(r) * s), np.float32)
        for rows, first, second, starts in _triples(pairs):
            cosine = np.einsum("td,td->t", unit[first], unit[second])
            values = self._terms(r[first], r[second], np.clip(cosine, -1, 1))
            per_pair[:, rows] = np.add.reduceat(values, starts, axis=1)
        summed = pairs.sum_per_species(per_pair.T.reshape(len(r), s * len(self.parameters))).reshape(n, s, s, -1)
        kinds = list(combinations_with_replacement(range(s), 2))
        return np.concatenate([summed[:, a, b] for a, b in kinds], axis=1).astype(np.float32)

    def _terms(self, rj: Float32, rk: Float32, cosine: Float32) -> Float32:
        """(n_functions, n_triples)."""
        side2 = np.maximum(rj**2 + rk**2 - 2 * rj * rk * cosine, 0)
        squares = rj**2 + rk**2 + side2
        values = np.empty((len(self.parameters), len(rj)), np.float32)
        radial = {xi: np.exp(squares * np.float32(-1 / xi**2)) for xi, _, _ in self.parameters}
        angle = {sign: 1 + np.float32(sign) * cosine for _, sign, _ in self.parameters}
        powers = {key: _power(angle[key[0]], key[1]) for key in {(sign, power) for _, sign, power in self.parameters}}
        for row, (xi, sign, power) in enumerate(self.parameters):
            np.multiply(radial[xi], powers[sign, power], out=values[row])
        return values


def _power(base: Float32, exponent: int) -> Float32:
    """`base` to a positive integer by repeated squaring."""
    result: Float32 | None = None
    while exponent:
        if exponent & 1:
            result = base if result is None else result * base
        base, exponent = base * base, exponent >> 1
    assert result is not None
    return result


def _triples(
    pairs: Neighbours,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Every two neighbours of every particle once, block by block.

    Yields:
        rows: which pair times species (of the second neighbour) a run of triples belongs to; first, second: the two
        pairs of each triple; starts: where each run begins.
    """
    s = pairs.n_species
    ends = pairs.starts[s::s][pairs.centre]  # where the neighbours of the pair's centre end
    index = np.arange(len(ends))
    counts = ends - index - 1
    # The later neighbours of the same centre, by species: runs from `edges[p, b]` to `edges[p, b + 1]`.
    edges = np.stack([pairs.starts[b::s][: pairs.n_particles][pairs.centre] for b in range(s)] + [ends], axis=1)
    edges = np.maximum(edges, (index + 1)[:, None])
    lengths = np.diff(edges, axis=1)
    total = np.concatenate([[0], np.cumsum(counts)])
    begin = 0
    while begin < len(counts):
        end = int(np.searchsorted(total, total[begin] + _TRIPLES, side="right")) - 1
        end = max(end, begin + 1)
        here = counts[begin:end]
        first = np.repeat(index[begin:end], here)
        within = np.arange(len(first)) - np.repeat(total[begin:end] - total[begin], here)
        runs = lengths[begin:end].ravel()
        rows = np.flatnonzero(runs)
        if len(rows):
            yield rows + begin * s, first, first + 1 + within, np.cumsum(runs)[rows] - runs[rows]
        begin = end


SCHOENHOLZ_ANGULAR = AngularFunctions(
    tuple(
        (xi, sign, power)
        for xi, signs, powers in (
            (14.638, (-1, 1), (1, 2)),
            (2.554, (-1, 1), (1, 2)),
            (1.648, (1,), (1, 2)),
            (1.204, (1,), (1, 2, 4, 16)),
            (0.933, (1,), (1, 2, 4, 16)),
            (0.695, (1,), (1, 2, 4, 16)),
        )
        for sign in signs
        for power in powers
    ),
    cutoff=2.5,
)
"""The 22 functions of Cubuk et al.'s table, as public codes that cite it have them; the cutoff is ours."""
