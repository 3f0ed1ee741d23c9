"""Which pairs of frames of a trajectory are compared: lag times evenly spaced in log t, and where each begins.

Frames may lie at equal intervals, in repeated logarithmic blocks, or anywhere: a lag is a difference of two frames'
times that occurs, and in each of ten intervals a decade the one that occurs most often is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import InputError

__all__ = ["LagPlan", "plan_lags"]

PER_DECADE = 10
LONGEST = 0.5
"""Share of a trajectory that a lag may take, except where its frames begin at one origin only."""

MOST_ORIGINS = 400
"""Beginnings per lag; more of one trajectory are hardly independent where lags matter."""

_LOOKED_AT = 3000  # frames whose differences are counted where they lie at no equal intervals
_REPEATED = 0.1  # share of differences that occur twice, below which all lags are from one beginning
_SAME = 1e-4  # relative difference of lags that are one

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LagPlan:
    """Pairs of frames.

    Attributes:
        lags: (n_lags,) float64 increasing, in the unit of the times.
        pairs: (n_pairs, 3) int64: frame of the beginning, frame of the end, number of the lag; by the end, increasing.
    """

    lags: FloatArray
    pairs: IntArray

    @property
    def frames(self) -> IntArray:
        """Every frame that is in a pair, increasing."""
        return np.unique(self.pairs[:, :2])

    def most_alive(self) -> int:
        """Beginnings that have to be kept at once."""
        if not len(self.pairs):
            return 0
        begun, last = np.unique(self.pairs[:, 0]), np.zeros(int(self.pairs[:, :2].max()) + 2, int)
        end = np.zeros(len(last), int)
        np.maximum.at(end, self.pairs[:, 0], self.pairs[:, 1])
        np.add.at(last, begun, 1)
        np.add.at(last, end[begun] + 1, -1)
        return int(np.cumsum(last).max())


def plan_lags(
    times: ArrayLike,
    *,
    lags: FloatArray | None = None,
    most_origins: int = MOST_ORIGINS,
    most_alive: int | None = None,
) -> LagPlan:
    """Choose lags and the frames that they begin and end at.

    Args:
        times: (n_frames,) increasing.
        lags: Those of another trajectory, to be compared with it; chosen by default.
        most_origins: Beginnings per lag at most, spread evenly.
        most_alive: Beginnings that there is memory for at once; fewer per lag are taken where that needs it.

    Raises:
        InputError: Times that do not increase.

    Example:
        >>> plan = plan_lags(np.arange(101) * 0.5)
        >>> plan.lags[[0, 1, 2, -1]].tolist(), len(plan.pairs[plan.pairs[:, 2] == 0])
        ([0.5, 1.0, 1.5, 25.0], 100)
        >>> blocks = np.add.outer([0, 100, 200], [0, 1, 10, 50]).ravel()
        >>> plan_lags(blocks).lags.tolist()
        [1.0, 9.0, 10.0, 50.0, 60.0, 99.0, 100.0]
    """
    t = np.asarray(times, np.float64)
    if t.ndim != 1 or np.any(np.diff(t) <= 0):
        raise InputError("found times that do not increase", "frames in the order of their times")
    if len(t) < 2:
        return LagPlan(np.zeros(0) if lags is None else lags, np.zeros((0, 3), np.int64))
    lags = _lags(t) if lags is None else lags
    while True:
        chosen = [_pairs(t, lag, k, most_origins) for k, lag in enumerate(lags)]
        pairs = np.concatenate(chosen)
        plan = LagPlan(lags, pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))])
        if most_alive is None or most_origins <= 2 or plan.most_alive() <= most_alive:
            return plan
        most_origins //= 2


def _lags(t: FloatArray) -> FloatArray:
    longest = LONGEST * (t[-1] - t[0])
    steps = np.diff(t)
    if np.ptp(steps) <= _SAME * steps.mean():
        most = max(1, int(longest / steps.mean() + 1e-6))
        count = max(2, round(PER_DECADE * np.log10(most)) + 1)
        return np.unique(np.rint(np.geomspace(1, most, count))).astype(np.float64) * float(steps.mean())
    few = t[:_LOOKED_AT]
    differences = np.subtract.outer(few, few)[np.tril_indices(len(few), -1)]
    found, counts = _gathered(differences)
    if (counts > 1).mean() < _REPEATED:
        found, counts = _gathered(few[1:] - few[0])
    else:
        found, counts = found[found <= longest], counts[found <= longest]
    interval = np.floor(PER_DECADE * np.log10(found / found[0]) + 1e-9).astype(int)
    chosen = [np.flatnonzero(interval == k) for k in np.unique(interval)]
    return np.array([found[of[::-1][np.argmax(counts[of[::-1]])]] for of in chosen])  # of several the longest


def _gathered(differences: FloatArray) -> tuple[FloatArray, IntArray]:
    """Differences that are not the same up to rounding, increasing, and how often each occurs."""
    ordered = np.sort(differences)
    first = np.concatenate([[True], np.diff(ordered) > _SAME * ordered[1:]])
    edges = np.append(np.flatnonzero(first), len(ordered))
    return ordered[edges[:-1]], np.diff(edges)


def _pairs(t: FloatArray, lag: float, number: int, most: int) -> IntArray:
    """Up to `most` beginnings of a lag, evenly, and their ends."""
    end = np.searchsorted(t, t + lag * (1 - _SAME))
    inside = np.flatnonzero(end < len(t))
    begin = inside[np.abs(t[end[inside]] - t[inside] - lag) <= _SAME * lag]
    stride = -(-len(t) // most)
    common = begin[begin % stride == 0]  # the same for every lag, as far as possible: they have to be kept
    if 2 * len(common) < min(most, len(begin)):
        common = begin[np.unique(np.linspace(0, len(begin) - 1, min(most, len(begin))).round().astype(int))]
    return np.stack([common, end[common], np.full(len(common), number)], axis=1)
