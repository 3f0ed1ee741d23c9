r"""Bond-orientational invariants of Gaussian shells: how the neighbours at a distance are arranged.

With the weight w_j = exp(−(r_ij − r)² / 2δ²) of every neighbour in a shell of radius r,

    q_lm(i) = Σ_j w_j Y_lm(r_ij) / (Z₀ + Σ_j w_j),    q_l(i)² = 4π/(2l+1) Σ_m |q_lm(i)|²

(E. Boattini, F. Smallenburg and L. Filion, PRL 127, 088007 (2021); R. M. Alkemade et al., J. Chem. Phys. 156, 204503
(2022), where Z₀ = 0). In the plane Y_lm becomes exp(imθ) and q_m = |ψ_m|. A small Z₀ leaves a shell that holds
nobody at zero, where the bare ratio would be that of the neighbours' far tails. sphericart computes the harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sphericart import SphericalHarmonics

from glassmd.errors import InputError
from glassmd.features.neighbours import FloatArray, Neighbours

__all__ = ["BOATTINI_BOND_ORDER", "BondOrder", "harmonics"]

_REACH = 5.0  # widths: 4e-6 of a neighbour
_BLOCK = 64  # particles whose harmonics (some 7 MB) are at work at a time: they fit a core's cache


@dataclass(frozen=True)
class BondOrder:
    """q_1 … q_max of Gaussian shells.

    Attributes:
        start: Radius of the first shell, σ_AA.
        stop: No shell is larger, σ_AA.
        step: Between two shells, σ_AA.
        width: δ, σ_AA.
        max_degree: Largest l (in the plane m).
        together: All species count alike: one set of shells.
        per_species: A set of shells for the neighbours of each species.
        empty: Z₀, number of neighbours.

    Example:
        >>> BondOrder(1.0, 1.1, 0.1, 0.1, max_degree=2).names(("A", "B"))
        ['q1(all, 1)', 'q2(all, 1)', 'q1(all, 1.1)', 'q2(all, 1.1)']
    """

    start: float
    stop: float
    step: float
    width: float
    max_degree: int = 12
    together: bool = True
    per_species: bool = False
    empty: float = 0.01

    def __post_init__(self) -> None:
        lengths = 0 < self.start <= self.stop and self.step > 0 and self.width > 0
        if not (lengths and self.max_degree >= 1 and self.empty >= 0 and (self.together or self.per_species)):
            raise InputError(
                f"found bond order {self}",
                "0 < start <= stop, a positive step and width, max_degree of at least 1, together or per_species",
            )

    @property
    def radii(self) -> FloatArray:
        """(n_shells,) σ_AA."""
        count = math.floor((self.stop - self.start) / self.step + 1e-9) + 1
        return np.asarray(self.start + self.step * np.arange(count), np.float64)

    @property
    def cutoff(self) -> float:
        """How far neighbours matter, σ_AA."""
        return float(self.radii[-1]) + _REACH * self.width

    def names(self, species: Sequence[str]) -> list[str]:
        """One name a column."""
        sets = [*(["all"] if self.together else []), *(species if self.per_species else ())]
        degrees = range(1, self.max_degree + 1)
        return [f"q{degree}({who}, {radius:.4g})" for who in sets for radius in self.radii for degree in degrees]

    def compute(self, neighbours: Neighbours) -> NDArray[np.float32]:
        """Invariants of every particle.

        Args:
            neighbours: Searched at least as far as :attr:`cutoff`.

        Returns:
            (n_particles, n_sets · n_shells · max_degree) float32, in [0, 1].

        Raises:
            InputError: The neighbours were not searched far enough.
        """
        pairs = neighbours if neighbours.cutoff == self.cutoff else neighbours.within(self.cutoff)
        n = pairs.n_particles
        result = [self._of_block(pairs, first, min(first + _BLOCK, n)) for first in range(0, n, _BLOCK)]
        return np.concatenate(result)

    def _of_block(self, pairs: Neighbours, first: int, last: int) -> NDArray[np.float32]:
        """(last - first, columns)."""
        s = pairs.n_species
        begin, end = int(pairs.starts[first * s]), int(pairs.starts[last * s])
        y = harmonics(pairs.vectors[begin:end], self.max_degree)
        x = (pairs.distances[begin:end, None] - self.radii) / self.width
        w = np.exp(-0.5 * x**2).astype(np.float32)
        starts = (pairs.starts[first * s : last * s + 1] - begin).reshape(-1)
        sums, totals = zip(*(_moments(y, w, starts[k:-1:s], starts[k + 1 :: s]) for k in range(s)), strict=True)
        sets = [*([(sum(sums), sum(totals))] if self.together else [])]
        sets += list(zip(sums, totals, strict=True)) if self.per_species else []
        return np.concatenate([self._invariants(*one, pairs.dimensions) for one in sets], axis=1)

    def _invariants(
        self, moments: NDArray[np.float32], weights: NDArray[np.float32], dimensions: int
    ) -> NDArray[np.float32]:
        """(n, n_shells, n_harmonics) and (n, n_shells) to (n, n_shells · max_degree)."""
        degrees = np.arange(1, self.max_degree + 1)
        first = degrees**2 - 1 if dimensions == 3 else 2 * (degrees - 1)  # l = 0 is not among the harmonics
        squares = np.add.reduceat(moments**2, first, axis=2)
        if dimensions == 3:
            squares *= (4 * math.pi / (2 * degrees + 1)).astype(np.float32)
        norm = weights + np.float32(max(self.empty, 1e-30))
        return np.asarray(np.sqrt(squares) / norm[:, :, None], np.float32).reshape(len(weights), -1)


def harmonics(vectors: FloatArray, max_degree: int) -> NDArray[np.float32]:
    """Real spherical harmonics of degree 1 to `max_degree`, or cos mθ and sin mθ in the plane.

    Args:
        vectors: (n_pairs, d), any length but zero.
        max_degree: Largest l or m.

    Returns:
        (n_pairs, (max_degree + 1)² - 1) or in the plane (n_pairs, 2 max_degree) float32.

    Example:
        >>> harmonics(np.array([[0.0, 2.0]]), 2).round(6).tolist()  # cos θ, sin θ, cos 2θ, sin 2θ of θ = 90°
        [[0.0, 1.0, -1.0, 0.0]]
    """
    if vectors.shape[1] == 3:
        return np.asarray(SphericalHarmonics(max_degree).compute(vectors.astype(np.float32))[:, 1:])
    z = vectors[:, 0] + 1j * vectors[:, 1]
    powers = np.cumprod(np.repeat((z / np.abs(z))[:, None], max_degree, axis=1), axis=1)
    return np.stack([powers.real, powers.imag], axis=2).reshape(len(vectors), -1).astype(np.float32)


def _moments(
    y: NDArray[np.float32], w: NDArray[np.float32], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Σ_j w_j Y_j and Σ_j w_j over the pairs from `starts` to `ends`: (n, n_shells, n_harmonics), (n, n_shells)."""
    sums = np.zeros((len(starts), w.shape[1], y.shape[1]), np.float32)
    totals = np.zeros((len(starts), w.shape[1]), np.float32)
    for row, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        np.matmul(w[a:b].T, y[a:b], out=sums[row])
        totals[row] = w[a:b].sum(axis=0)
    return sums, totals


BOATTINI_BOND_ORDER = BondOrder(1.0, 2.5, 0.1, 0.1)
"""l = 1 … 12 of shells from 1.0 to 2.5 σ_AA, all species alike."""
