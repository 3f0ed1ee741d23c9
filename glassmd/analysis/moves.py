r"""How a liquid moves, summed up pair of frames after pair of frames: memory does not grow with what is given.

==========================================================  =======================================================
symbol                                                      here
==========================================================  =======================================================
F_s(q,t) = ⟨cos q·Δr⟩                                       `self_scattering`, over the allowed wave vectors
⟨Δr²(t)⟩                                                    `squared`
α₂(t) = d ⟨Δr⁴⟩ / ((d + 2) ⟨Δr²⟩²) − 1                      :meth:`Dynamics.non_gaussian`; 0 for a Gaussian
Q(t) = N_a⁻¹ Σ_i θ(a − abs(Δr_i)), a = 0.3 σ_AA             `overlap`
χ₄(t) = N_a (⟨Q²⟩ − ⟨Q⟩²)                                   :meth:`Dynamics.susceptibility`
==========================================================  =======================================================

α₂: Rahman, Phys. Rev. 136, A405 (1964). Q and χ₄: Lačević, Starr, Schrøder & Glotzer, J. Chem. Phys. 119, 7372 (2003),
their self part; fluctuations between beginnings (and replicas), in the ensemble that was simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import allowed_wave_vectors
from glassmd.analysis.groups import ENOUGH

__all__ = ["OVERLAP_LENGTH", "Dynamics", "MoveSums"]

FloatArray = NDArray[np.float64]

OVERLAP_LENGTH = 0.3
"""a of Q(t), σ_AA (Lačević et al. 2003)."""

WAVE_VECTORS = 24
"""Of which F_s is the mean: those whose modulus is nearest to q, and all others of the same moduli."""

_QUANTITIES = ("count", "distance", "squared", "fourth", "self_scattering", "overlap", "overlap_squared")


def _nearest(vectors: FloatArray, q: float) -> FloatArray:
    miss = np.abs(np.linalg.norm(vectors, axis=1) - q).round(5)
    return np.asarray(vectors[miss <= np.sort(miss)[min(WAVE_VECTORS, len(miss)) - 1]])


class MoveSums:
    """Sums over displacements, by group (a lineage, or a part of a trajectory), species and lag.

    Args:
        n_groups: Groups.
        n_lags: Lags.
        counts: Particles of each species.
        names: Of the species.
        box: (d,) edges, σ_AA.
        wave_numbers: By name of a species: q of F_s, 1/σ_AA.

    Attributes:
        wave_vectors: By name of a species, (n_vectors, d) allowed ones nearest to that modulus, 1/σ_AA.
    """

    def __init__(
        self,
        n_groups: int,
        n_lags: int,
        counts: Sequence[int],
        names: Sequence[str],
        box: FloatArray,
        wave_numbers: Mapping[str, float],
    ) -> None:
        self._particles = {name: count for name, count in zip(names, counts, strict=True) if count}
        self._index = {name: list(names).index(name) for name in self._particles}
        self.wave_vectors = {
            name: _nearest(allowed_wave_vectors(box, wave_numbers[name]), wave_numbers[name])
            for name in self._particles
        }
        self._sums = {name: np.zeros((len(_QUANTITIES), n_groups, n_lags)) for name in self._particles}
        self._d = len(box)

    def add(self, group: int, lag: int, displacement: FloatArray, species: NDArray[np.int32]) -> None:
        """One pair of frames.

        Args:
            group: Number of its group.
            lag: Number of its lag.
            displacement: (n_particles, d) without drift, σ_AA.
            species: (n_particles,) index of each particle's.
        """
        for name, index in self._index.items():
            moved = displacement[species == index]
            square = (moved**2).sum(axis=1)
            inside = float((square < OVERLAP_LENGTH**2).mean())
            phases = moved.astype(np.float32) @ self.wave_vectors[name].T.astype(np.float32)
            self._sums[name][:, group, lag] += (
                1.0,
                np.sqrt(square).mean(),
                square.mean(),
                (square**2).mean(),
                np.cos(phases).mean(dtype=np.float64),
                inside,
                inside**2,
            )

    def result(self, lags: FloatArray, understated: FloatArray | None = None) -> Dynamics:
        """What the sums say; see :class:`Dynamics`."""
        return Dynamics(
            lags,
            np.ones(len(lags)) if understated is None else understated,
            self._d,
            {name: dict(zip(_QUANTITIES, sums, strict=True)) for name, sums in self._sums.items()},
            self._particles,
            {name: float(np.linalg.norm(of, axis=1).mean()) for name, of in self.wave_vectors.items()},
        )


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Averages of displacements over particles of a species, beginnings and groups.

    Attributes:
        lags: (n_lags,) in √(mσ²/ε) or steps.
        understated: (n_lags,) by how much the scatter of groups understates errors, as they share motion
            (:func:`glassmd.analysis.groups.understatement`); 1 where they do not.
        dimensions: d.
        sums: By species and quantity, (n_groups, n_lags).
        particles: By species.
        wave_numbers: By species, mean modulus of the wave vectors of F_s, 1/σ_AA.
    """

    lags: FloatArray
    understated: FloatArray
    dimensions: int
    sums: Mapping[str, Mapping[str, FloatArray]]
    particles: Mapping[str, int]
    wave_numbers: Mapping[str, float]

    @property
    def species(self) -> tuple[str, ...]:
        """Those that have particles."""
        return tuple(self.sums)

    @property
    def n_groups(self) -> int:
        """Groups, some of which may hold nothing."""
        return len(next(iter(self.sums.values()))["count"])

    def beginnings(self) -> FloatArray:
        """(n_lags,) pairs of frames behind each lag."""
        return np.asarray(next(iter(self.sums.values()))["count"].sum(axis=0))

    def of_groups(self, groups: Sequence[int]) -> Dynamics:
        """The same over some of the groups."""
        chosen = list(groups)
        sums = {name: {what: of[chosen] for what, of in by.items()} for name, by in self.sums.items()}
        return replace(self, sums=sums)

    def mean(self, species: str, quantity: str) -> FloatArray:
        """(n_lags,) mean of a quantity, such as `distance`, `squared` or `self_scattering`; NaN where there is none."""
        sums = self.sums[species]
        count = sums["count"].sum(axis=0)
        return np.where(count > 0, sums[quantity].sum(axis=0) / np.maximum(count, 1), np.nan)

    def error(self, species: str, quantity: str) -> FloatArray:
        """(n_lags,) standard error of :meth:`mean` from the scatter of groups; NaN below three of them."""
        sums = self.sums[species]
        count = sums["count"]
        means = np.where(count > 0, sums[quantity] / np.maximum(count, 1), np.nan)
        known = np.isfinite(means).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = np.nanmean(np.where(known >= ENOUGH, means, 0.0), axis=0)
            scatter = np.nansum((means - centre) ** 2, axis=0) / np.maximum(known - 1, 1)
            return np.where(known >= ENOUGH, self.understated * np.sqrt(scatter / np.maximum(known, 1)), np.nan)

    def jackknife(
        self, quantity: Callable[[Dynamics], float | None], lag: Callable[[float], float] | None = None
    ) -> tuple[float | None, float | None]:
        """A number made of these averages and its standard error, from leaving out each group in turn.

        Args:
            quantity: The number.
            lag: The longest lag that a number is made of; by default the longest there is.

        Returns:
            Both, or None: the number where it cannot be told, the error below three groups or where it cannot be told
            without one of them.
        """
        value = quantity(self)
        counts = next(iter(self.sums.values()))["count"].sum(axis=1)
        filled = np.flatnonzero(counts > 0).tolist()
        if value is None or len(filled) < ENOUGH:
            return value, None
        without = [quantity(self.of_groups([g for g in filled if g != left_out])) for left_out in filled]
        if any(one is None for one in without):
            return value, None
        spread = np.array(without, np.float64)
        n = len(spread)
        longest = float(self.lags[-1]) if lag is None else lag(value)
        error = float(np.interp(longest, self.lags, self.understated) * np.sqrt((n - 1) * spread.var()))
        return value, error if np.isfinite(error) else None

    def non_gaussian(self, species: str) -> FloatArray:
        """(n_lags,) α₂."""
        d, square = self.dimensions, self.mean(species, "squared")
        return np.asarray(d * self.mean(species, "fourth") / ((d + 2) * square**2) - 1)

    def susceptibility(self, species: str) -> FloatArray:
        """(n_lags,) χ₄, unbiased for independent beginnings; NaN below two."""
        count = self.sums[species]["count"].sum(axis=0)
        variance = self.mean(species, "overlap_squared") - self.mean(species, "overlap") ** 2
        known = count >= 2
        return np.where(known, self.particles[species] * variance * count / np.where(known, count - 1, 1), np.nan)
