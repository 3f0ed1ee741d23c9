"""Is the liquid the same at the end of a trajectory as at its beginning?

A liquid that has been quenched slows down quickly at first, then ever more slowly: a trajectory may end in what looks
like equilibrium. Its parts are therefore looked at in two ways: whether they are in an order (Kendall's τ), and whether
the first differs from those of the second half (Student's t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau
from scipy.stats import t as student

from glassmd.analysis.moves import Dynamics

__all__ = ["Ageing", "Drift", "ageing_of", "drift_of"]

SIGNIFICANT = 0.003
"""Chance that a series without a trend is ordered as much, below which it is said to have one."""

MATTERS = 0.15
"""|ln| of the ratio of the halves' ⟨Δr²⟩ that is called ageing: no smaller one hurts."""

LONGEST = 0.1
"""Share of a trajectory of the longest lag that is compared."""

_DECADE = 10.0


@dataclass(frozen=True)
class Drift:
    """A trend of a series.

    Attributes:
        change: Along a straight line through it, from its beginning to its end.
        chance: That a series without a trend is ordered as much, by Kendall's τ: whatever its shape.
    """

    change: float
    chance: float

    @property
    def significant(self) -> bool:
        """Whether that chance is below :data:`SIGNIFICANT`."""
        return self.chance < SIGNIFICANT


def drift_of(times: ArrayLike, values: ArrayLike) -> Drift | None:
    """How far a series drifts; None for fewer than four values.

    Example:
        >>> drift = drift_of(range(8), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
        >>> round(drift.change, 6), drift.significant
        (0.7, True)
    """
    t, y = np.asarray(times, np.float64), np.asarray(values, np.float64)
    t, y = t[np.isfinite(y)], y[np.isfinite(y)]
    if len(t) < 4 or np.ptp(t) == 0:
        return None
    centred = t - t.mean()
    slope = float((centred * y).sum() / (centred**2).sum())
    chance = float(kendalltau(t, y).pvalue)
    return Drift(slope * float(np.ptp(t)), 1.0 if np.isnan(chance) else chance)


@dataclass(frozen=True)
class Ageing:
    """How relaxation changes along a trajectory.

    Attributes:
        second_over_first: Mean squared displacement of the second half over that of the first at the lags compared,
            geometric mean; 1 in equilibrium, below 1 where the liquid slows down.
        drift: Of ln ⟨Δr²⟩ over the parts.
        chance_of_first: That the first part would be as far from the second half if all were alike, by Student's t.
        lags: Shortest and longest lag compared.
    """

    second_over_first: float
    drift: Drift
    chance_of_first: float
    lags: tuple[float, float]

    @property
    def chance(self) -> float:
        """That either is as it is in a liquid that does not age."""
        return min(1.0, 2 * min(self.drift.chance, self.chance_of_first))

    @property
    def ageing(self) -> bool:
        """Whether the liquid relaxes ever more slowly, or ever faster: it is in no equilibrium."""
        return self.chance < SIGNIFICANT and abs(float(np.log(self.second_over_first))) > MATTERS


def ageing_of(dynamics: Dynamics, species: str, duration: float, parts: int) -> Ageing | None:
    """Compare parts of trajectories, each cut into as many.

    Args:
        dynamics: Whose groups are the parts of the first trajectory, then those of the second, …
        species: Of the particles that are looked at.
        duration: Of a trajectory, in the unit of the lags.
        parts: Of each trajectory.

    Returns:
        None where fewer than four parts are there, or no lag is short enough to begin in all of them.
    """
    sums = dynamics.sums[species]
    count, square = (sums[name].reshape(-1, parts, len(dynamics.lags)).sum(axis=0) for name in ("count", "squared"))
    usable = (dynamics.lags <= LONGEST * duration) & (square > 0).all(axis=0)
    if parts < 4 or not usable.any():
        return None
    longest = dynamics.lags[usable].max()
    usable &= dynamics.lags >= longest / _DECADE * (1 - 1e-6)
    level: NDArray[np.float64] = np.log(square[:, usable] / count[:, usable]).mean(axis=1)
    drift = drift_of(np.arange(parts), level)
    assert drift is not None, "four parts or more"
    half = parts // 2
    late = level[parts - half :]
    ratio = float(np.exp(late.mean() - level[:half].mean()))
    return Ageing(ratio, drift, _chance_of(float(level[0]), late), (float(dynamics.lags[usable].min()), float(longest)))


def _chance_of(value: float, others: NDArray[np.float64]) -> float:
    """That one more of some values lies as far from their mean."""
    n = len(others)
    scatter = float(others.std(ddof=1)) * np.sqrt(1 + 1 / n)
    return float(2 * student.sf(abs(value - others.mean()) / scatter, n - 1)) if scatter > 0 else 1.0
