"""Differences between learners, configuration by configuration.

Configurations differ more from one another than learners do: what one liquid makes hard is hard for all. The mean
of ρ_a − ρ_b over the same configurations has a much smaller error than the two means have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.comparison.candidates import Accuracy

__all__ = ["PairedDifferences", "paired_differences"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PairedDifferences:
    """ρ of one candidate minus ρ of another, for all pairs.

    Attributes:
        mean: (n, n, n_times) mean over the configurations that both predicted; row minus column.
        error: (n, n, n_times) its standard error over configurations; NaN for fewer than two.
        count: (n, n) configurations.
    """

    mean: FloatArray
    error: FloatArray
    count: NDArray[np.int64]


def paired_differences(accuracies: Sequence[Accuracy]) -> PairedDifferences:
    """Compare all candidates with one another.

    Args:
        accuracies: Of each, of one species at the same times.

    Example:
        >>> one = Accuracy(["c1", "c2", "c3"], np.array([[[0.7], [0.5], [0.6]]]), np.zeros((1, 1)), np.ones((3, 1)))
        >>> two = Accuracy(["c1", "c2", "c3"], np.array([[[0.6], [0.4], [0.5]]]), np.zeros((1, 1)), np.ones((3, 1)))
        >>> found = paired_differences([one, two])
        >>> found.mean[0, 1].round(3).tolist(), found.error[0, 1].round(3).tolist()
        ([0.1], [0.0])
    """
    n, n_times = len(accuracies), accuracies[0].per_seed.shape[2]
    mean, error = np.full((2, n, n, n_times), np.nan)
    count = np.zeros((n, n), np.int64)
    rows = [dict(zip(found.keys, found.per_configuration, strict=True)) for found in accuracies]
    labelled = [dict(zip(found.keys, found.there, strict=True)) for found in accuracies]
    for a, of_a in enumerate(rows):
        for b, of_b in enumerate(rows):
            common = [key for key in of_a if key in of_b]
            count[a, b] = len(common)
            if common:
                difference, there = np.stack([of_a[key] - of_b[key] for key in common]), labelled[a]
                for t, column in enumerate(difference.T):
                    known = column[[there[key][t] for key in common]]
                    mean[a, b, t] = known.mean() if len(known) else np.nan
                    error[a, b, t] = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.nan
    return PairedDifferences(mean, error, count)
