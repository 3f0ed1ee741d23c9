"""Averages over configurations in groups that are independent, whose scatter gives the errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENOUGH", "mean_and_error", "understatement"]

FloatArray = NDArray[np.float64]

ENOUGH = 3
"""Groups below which nothing is said of an error."""

_BEGINS = 400


def mean_and_error(sums: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean over all configurations, and its standard error from the means of the groups.

    Args:
        sums: (n_groups, n) over the configurations of each group.
        counts: (n_groups,) configurations; groups without any do not count.

    Returns:
        (n,) both; the error NaN below three groups.

    Example:
        >>> mean, error = mean_and_error(np.array([[1.0], [4.0], [3.0]]), np.array([1.0, 2.0, 1.0]))
        >>> float(mean[0]), round(float(error[0]), 3)
        (2.0, 0.577)
    """
    filled = counts > 0
    means = sums[filled] / counts[filled][:, None]
    mean = np.asarray(sums.sum(axis=0) / max(1.0, float(counts.sum())))
    if len(means) < ENOUGH:
        return mean, np.full(sums.shape[1], np.nan)
    return mean, np.asarray(means.std(axis=0, ddof=1) / np.sqrt(len(means)))


def understatement(lag: float, duration: float, parts: int, trajectories: int = 1) -> float:
    """By how much the scatter of parts of trajectories understates the error of an average over displacements.

    Displacements belong to the part that they begin in, and go on through those that follow: parts that share motion
    scatter less, and count for fewer, than independent ones. Squares of the displacements of two spans of the length of
    the lag are taken to correlate as those of a random walk, by the square of the share that they have in common.

    Args:
        lag: Length of a span.
        duration: Of a trajectory, in the same unit.
        parts: That it is cut into, of equal length.
        trajectories: How many there are.

    Returns:
        The factor, 1 for lags that are short beside a part; NaN where spans begin in fewer than three parts.

    Example:
        >>> [round(understatement(lag, 200.0, 10), 2) for lag in (1.0, 10.0, 50.0, 100.0)]
        [1.0, 1.06, 1.57, 2.31]
    """
    if lag >= duration:
        return float("nan")
    begins = (np.arange(_BEGINS) + 0.5) / _BEGINS * (duration - lag)
    part = (parts * begins / duration).astype(int)
    found = np.unique(part)
    if len(found) < ENOUGH:
        return float("nan")
    shared = np.maximum(0.0, 1 - np.abs(np.subtract.outer(begins, begins)) / lag) ** 2
    weights = np.array([(part == k) / (part == k).sum() for k in found])
    between = weights @ shared @ weights.T
    squared = shared.mean() / trajectories
    expected = (between.trace() / len(found) - between.mean() / trajectories) / (len(found) * trajectories - 1)
    return float(np.sqrt(squared / expected))
