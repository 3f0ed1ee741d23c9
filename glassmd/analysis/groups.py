"""Averages over configurations in groups that are independent, whose scatter gives the errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_and_error"]

FloatArray = NDArray[np.float64]

ENOUGH = 3
"""Groups below which nothing is said of an error."""


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
