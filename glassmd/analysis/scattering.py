"""Partial and total static structure factors at wave vectors that the periodic box allows.

S_ab(q) = N⁻¹ ⟨ρ_a(q) ρ_b(−q)⟩ with ρ_a(q) = Σ_{i of a} exp(i q·r_i); their sum over a and b is the total one. So
S_aa(q → ∞) = N_a/N and S_ab(q → ∞) = 0 (Ashcroft & Langreth, Phys. Rev. 156, 685 (1967), up to √(x_a x_b)).

Exact for orthorhombic boxes in two and three dimensions; freud's is for three, and agrees (tests).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import allowed_wave_vectors
from glassmd.analysis.groups import mean_and_error
from glassmd.configuration import Configuration

__all__ = ["StructureFactor", "StructureSums"]

FloatArray = NDArray[np.float64]

HIGHEST = 20.0
"""Largest q, 1/σ_AA."""

BIN = 0.2
"""Width of a bin of |q|, 1/σ_AA, or the spacing of wave vectors of a small box."""

VECTORS = 30
"""Wave vectors in a bin, at most: those nearest to its middle."""

_AT_ONCE = 2**22  # phases in memory


@dataclass(frozen=True, eq=False)
class StructureFactor:
    """S(q).

    Attributes:
        wave_numbers: (n_bins,) mean modulus of the wave vectors of a bin, 1/σ_AA.
        partial: By pair of species such as `AB`, and `total`: (n_bins,).
        error: The same keys, standard error from the scatter of groups; NaN below three.
    """

    wave_numbers: FloatArray
    partial: dict[str, FloatArray]
    error: dict[str, FloatArray]

    def main_peak(self, pair: str) -> float:
        """Q of the highest maximum beyond the wave vectors of the box itself, 1/σ_AA."""
        beyond = self.wave_numbers > 2.0
        return float(self.wave_numbers[beyond][np.argmax(self.partial[pair][beyond])])


class StructureSums:
    """ρ_a(q) ρ_b(−q), by group.

    Args:
        n_groups: Groups.
        names: Of the species.
        box: (d,) edges, σ_AA.

    Example:
        >>> gas = Configuration([9] * 3, np.arange(3000) % 2, np.random.default_rng(1).uniform(-4.5, 4.5, (3000, 3)))
        >>> sums = StructureSums(1, ("A", "B"), gas.box)
        >>> sums.add(0, gas)
        >>> found = sums.result().partial
        >>> bool(abs(found["total"].mean() - 1) < 0.1), bool(abs(found["AA"].mean() - 0.5) < 0.05)
        (True, True)
    """

    def __init__(self, n_groups: int, names: tuple[str, ...], box: FloatArray) -> None:
        unit = float(2 * np.pi / box.max())
        width = max(BIN, unit / 2)
        bins = np.arange(unit, HIGHEST, width) + width / 2
        shells = [allowed_wave_vectors(box, q, width=width / 2, most=VECTORS) for q in bins]
        self._names, self._box = names, box
        multiples = np.rint(np.concatenate(shells) * box / (2 * np.pi)).astype(int)
        self._bin = np.repeat(np.arange(len(bins)), [len(shell) for shell in shells])
        self._multiples, which = np.unique(multiples, axis=0, return_index=True)
        self._bin = self._bin[which]
        moduli = np.linalg.norm(2 * np.pi * self._multiples / box, axis=1)
        self._vectors = np.maximum(np.bincount(self._bin, minlength=len(bins)), 1)
        self._moduli = np.bincount(self._bin, moduli, len(bins)) / self._vectors
        self._there = np.bincount(self._bin, minlength=len(bins)) > 0
        self._pairs = list(combinations_with_replacement(range(len(names)), 2))
        self._sums = {pair: np.zeros((n_groups, len(bins))) for pair in self._pairs}
        self._counts = np.zeros(n_groups)

    def add(self, group: int, configuration: Configuration) -> None:
        """One configuration."""
        density = [self._density(configuration.positions[configuration.species == k]) for k in range(len(self._names))]
        for a, b in self._pairs:
            product = (density[a] * density[b].conj()).real / configuration.n_particles
            self._sums[a, b][group] += np.bincount(self._bin, product, len(self._vectors)) / self._vectors
        self._counts[group] += 1

    def _density(self, positions: FloatArray) -> NDArray[np.complex128]:
        """ρ(q) of some particles: a product of powers of one phase per direction."""
        total = np.zeros(len(self._multiples), np.complex128)
        highest = np.abs(self._multiples).max(axis=0)
        for start in range(0, len(positions), max(1, _AT_ONCE // len(self._multiples))):
            some = positions[start : start + max(1, _AT_ONCE // len(self._multiples))]
            factors = np.ones((len(some), len(self._multiples)), np.complex128)
            for k, most in enumerate(highest):
                powers = np.exp(2j * np.pi / self._box[k] * np.outer(some[:, k], np.arange(-most, most + 1)))
                factors *= powers[:, self._multiples[:, k] + most]
            total += factors.sum(axis=0)
        return total

    def result(self) -> StructureFactor:
        """What has been summed up."""
        partial, error = {}, {}
        total = np.zeros_like(next(iter(self._sums.values())))
        for (a, b), sums in self._sums.items():
            total += sums if a == b else 2 * sums
        named = {self._names[a] + self._names[b]: sums for (a, b), sums in self._sums.items()}
        for name, sums in {**named, "total": total}.items():
            partial[name], error[name] = mean_and_error(sums[:, self._there], self._counts)
        return StructureFactor(self._moduli[self._there], partial, error)
