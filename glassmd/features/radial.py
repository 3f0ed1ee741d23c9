r"""Radial structure functions: how many neighbours of a species are at a distance.

A shell is a Gaussian, G(i; r, δ, s) = Σ_j exp(−(r_ij − r)² / 2δ²) over the neighbours j of species s
(J. Behler and M. Parrinello, PRL 98, 146401 (2007); E. D. Cubuk et al., PRL 114, 108001 (2015)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import InputError
from glassmd.features.neighbours import FloatArray, Neighbours

__all__ = ["SCHOENHOLZ_RADIAL", "RadialShells"]

_REACH = 5.0
"""A Gaussian is left out beyond this many widths: 4e-6 of a neighbour."""


@dataclass(frozen=True)
class RadialShells:
    """Evenly spaced Gaussian shells around a particle, for the neighbours of each species.

    Attributes:
        start: Radius of the first shell, σ_AA.
        stop: No shell is larger, σ_AA.
        step: Between two shells, σ_AA.
        width: Standard deviation δ of every shell, σ_AA.

    Raises:
        InputError: Numbers that mean nothing.
    """

    start: float
    stop: float
    step: float
    width: float

    def __post_init__(self) -> None:
        if not (0 < self.start <= self.stop and self.step > 0 and self.width > 0):
            raise InputError(f"found radial shells {self}", "0 < start <= stop, a positive step and a positive width")

    @property
    def radii(self) -> FloatArray:
        """(n_shells,) σ_AA."""
        count = math.floor((self.stop - self.start) / self.step + 1e-9) + 1
        return np.asarray(self.start + self.step * np.arange(count), np.float64)

    @property
    def cutoff(self) -> float:
        """How far neighbours matter, σ_AA."""
        return float(self.radii[-1]) + _REACH * self.width

    def n_columns(self, n_species: int) -> int:
        """Columns of :meth:`compute`."""
        return n_species * len(self.radii)

    def compute(self, neighbours: Neighbours) -> NDArray[np.float32]:
        """Structure functions of every particle.

        A pair reaches only the few shells around its distance. The Gaussians of successive shells follow from two
        exponentials a pair.

        Args:
            neighbours: Searched at least as far as :attr:`cutoff`.

        Returns:
            (n_particles, n_species · n_shells) float32, number of neighbours.

        Raises:
            InputError: The neighbours were not searched far enough.
        """
        pairs = neighbours.within(self.cutoff)
        h = self.step / self.width
        reach, n_shells = math.ceil(_REACH / h), len(self.radii)
        padded = n_shells + 4 * reach  # columns beside the grid take what pairs beside it send there
        position = (pairs.distances - self.start) / self.step
        nearest = np.rint(position)
        near = np.flatnonzero((nearest >= -reach) & (nearest < n_shells + reach))
        x = (position[near] - nearest[near]) * h
        bins = pairs.rows[near] * padded + nearest[near].astype(np.int64) + 2 * reach
        weight = np.exp(-0.5 * x**2)
        size = pairs.n_particles * pairs.n_species * padded
        total = np.bincount(bins, weight, size)
        for way in (-1, 1):
            ratio, value = np.exp(way * h * x), weight
            for k in range(reach):
                value = value * ratio * math.exp(-(k + 0.5) * h**2)
                total += np.bincount(bins + way * (k + 1), value, size)
        shells = total.reshape(-1, padded)[:, 2 * reach : 2 * reach + n_shells]
        return shells.reshape(pairs.n_particles, -1).astype(np.float32)


SCHOENHOLZ_RADIAL = (RadialShells(0.1, 5.0, 0.1, 0.1),)
"""Width and spacing 0.1 σ_AA up to 5 σ_AA: with 3 · 22 angular functions the 166 of S. S. Schoenholz et al., Nature
Physics 12, 469 (2016). Public codes that cite the paper agree on spacing, width and number."""
