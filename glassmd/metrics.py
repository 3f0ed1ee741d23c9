"""How good a prediction is, and how good it could be.

Pearson's ρ is reported in two aggregations: per configuration (mean ± sd over configurations) and pooled over
all particles. Beside it stand the reliability of the labels, the ceiling that their noise puts on ρ, and ρ divided by
the ceiling of its own configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CeilingShare", "SpeciesScores", "intraclass_correlation", "pearson", "reliability", "score", "within_std"]

FloatArray = NDArray[np.float64]


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation coefficient of (n,) numbers each; NaN if either side does not vary.

    Example:
        >>> round(pearson([1, 2, 3], [2, 4, 6.5]), 3)
        0.998
    """
    a, b = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def reliability(label: ArrayLike, variance: ArrayLike, n_replicas: int) -> float:
    """Share of a label's variance between particles that is not noise, r_R.

    `r_R = 1 − ⟨var_i / R⟩ / Var_i(label)`, the one-way analysis of variance's estimate of
    `Rκ / (1 + (R−1)κ)` (Shrout & Fleiss, Psychol. Bull. 86, 420 (1979)). The largest ρ that any predictor can
    show is √r_R.

    Args:
        label: (n,) means over replicas.
        variance: (n,) unbiased variances between replicas.
        n_replicas: R.

    Returns:
        r_R, at most 1; NaN where the variance is unknown.

    Example:
        >>> reliability([1.0, 2.0, 3.0], [0.4, 0.4, 0.4], 4)
        0.9
    """
    label, variance = np.asarray(label, np.float64), np.asarray(variance, np.float64)
    between = float(label.var(ddof=1)) if label.size > 1 else 0.0
    if between == 0.0:
        return float("nan")
    return float(1.0 - variance.mean() / n_replicas / between)


def intraclass_correlation(r: float, n_replicas: int) -> float:
    """κ, the reliability of one replica, from that of `n_replicas` (Spearman–Brown, inverted).

    Example:
        >>> round(intraclass_correlation(0.84, 32), 3)
        0.141
    """
    return r / (n_replicas - (n_replicas - 1) * r)


class CeilingShare(NamedTuple):
    """ρ divided by the ceiling of its own configuration, over the configurations that have one.

    Attributes:
        mean: (n_times,); NaN where no configuration has a ceiling.
        sd: (n_times,) unbiased; NaN for fewer than two configurations.
        n_left_out: (n_times,) configurations whose reliability is unknown or not above 0.
    """

    mean: FloatArray
    sd: FloatArray
    n_left_out: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpeciesScores:
    """Scores of one species at every time.

    Attributes:
        per_configuration: (n_configurations, n_times) ρ.
        pooled: (n_times,) ρ over all particles of all configurations.
        reliabilities: (n_configurations, n_times) reliability of the labels; NaN where it is unknown.
        labelled: (n_configurations, n_times) where there are labels that differ; averages are over these
            configurations.
        alike: (n_configurations, n_times) where all particles have the same label, as fractions of neighbours kept do
            before any is lost: no ρ.
    """

    per_configuration: FloatArray
    pooled: FloatArray
    reliabilities: FloatArray
    labelled: NDArray[np.bool_]
    alike: NDArray[np.bool_]

    @property
    def n_alike(self) -> NDArray[np.int64]:
        """(n_times,) configurations whose particles all have the same label."""
        return np.asarray(self.alike.sum(axis=0))

    @property
    def reliability(self) -> FloatArray:
        """(n_times,) mean over configurations."""
        return self._over(self.reliabilities, np.mean, 1)

    @property
    def mean(self) -> FloatArray:
        """(n_times,) mean of ρ over configurations; NaN where none has labels."""
        return self._over(self.per_configuration, np.mean, 1)

    @property
    def sd(self) -> FloatArray:
        """(n_times,) standard deviation of ρ over configurations; NaN for a single one."""
        return self._over(self.per_configuration, partial(np.std, ddof=1), 2)

    def _over(self, values: FloatArray, average: Callable[[FloatArray], Any], least: int) -> FloatArray:
        """(n_times,) average over the configurations with labels; NaN for fewer than `least`."""
        columns = [column[there] for column, there in zip(values.T, self.labelled.T, strict=True)]
        return np.array([average(column) if len(column) >= least else np.nan for column in columns])

    @property
    def ceiling(self) -> FloatArray:
        """(n_times,) largest ρ that any predictor can show against these labels.

        √reliability; NaN where that is unknown or not positive.
        """
        return _root(self.reliability)

    @property
    def ceilings(self) -> FloatArray:
        """(n_configurations, n_times) √reliability of each configuration; NaN where that is unknown or not positive."""
        return _root(self.reliabilities)

    @property
    def over_ceiling(self) -> FloatArray:
        """(n_configurations, n_times) ρ by the configuration's own √reliability; NaN where that is not positive."""
        return self.per_configuration / self.ceilings

    def ceiling_share(self) -> CeilingShare:
        """Mean ± sd of :attr:`over_ceiling` over the configurations whose reliability is above 0."""
        known = self.reliabilities > 0
        columns = [values[there] for values, there in zip(self.over_ceiling.T, known.T, strict=True)]
        return CeilingShare(
            mean=np.array([column.mean() if len(column) else np.nan for column in columns]),
            sd=np.array([column.std(ddof=1) if len(column) > 1 else np.nan for column in columns]),
            n_left_out=np.asarray((self.labelled & ~known).sum(axis=0)),
        )


_CLASSES = 10
"""Of the prediction, equally populated, over each of which the noise of the labels is averaged: that of one particle is
known to a factor of two from a handful of replicas."""


def within_std(
    predicted: Sequence[FloatArray],
    spreads: Sequence[FloatArray],
    labels: Sequence[FloatArray],
    variances: Sequence[FloatArray],
    n_replicas: Sequence[int],
    masks: Sequence[NDArray[np.bool_]],
) -> FloatArray:
    """(2, n_times) share of the particles of one species whose label lies within ±1 and ±2 of what is expected of it.

    That is `√(std² + var/R)`: the spread of the truth around the prediction, and the noise of a label. It is 0.683 and
    0.954 where both are right and normal. NaN where either is unknown.

    Args:
        predicted: One (n_times, n_particles) array per configuration.
        spreads: The same shapes and unit: the predictions' own standard deviations.
        labels: As in :func:`score`.
        variances: As in :func:`score`.
        n_replicas: As in :func:`score`.
        masks: As in :func:`score`.
    """
    n_times = labels[0].shape[0]
    inside: list[tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]] = [([], []) for _ in range(n_times)]
    for guess, std, label, variance, count, mask in zip(
        predicted, spreads, labels, variances, n_replicas, masks, strict=True
    ):
        for t in range(n_times):
            noise = np.empty(int(mask.sum()))
            for part in np.array_split(np.argsort(guess[t, mask]), _CLASSES):
                noise[part] = variance[t, mask][part].mean() / count if len(part) else 0.0
            away, expected = np.abs(label[t, mask] - guess[t, mask]), np.sqrt(std[t, mask] ** 2 + noise)
            known = np.isfinite(away) & np.isfinite(expected)
            for one, limit in zip(inside[t], (1.0, 2.0), strict=True):
                one.append((away <= limit * expected)[known])
    shares = [[np.concatenate(one) for one in both] for both in inside]
    return np.array([[of.mean() if of.size else np.nan for of in both] for both in shares]).T


def _root(values: FloatArray) -> FloatArray:
    return np.sqrt(np.where(values > 0, values, np.nan))


def score(
    predicted: Sequence[FloatArray],
    labels: Sequence[FloatArray],
    variances: Sequence[FloatArray],
    n_replicas: Sequence[int],
    masks: Sequence[NDArray[np.bool_]],
) -> SpeciesScores:
    """Compare predictions with labels for the particles of one species.

    Args:
        predicted: One (n_times, n_particles) array per configuration.
        labels: The same shapes and unit; NaN at a time that was not measured for a configuration.
        variances: The same shapes, in its square; NaN where unknown.
        n_replicas: One per configuration.
        masks: One (n_particles,) array per configuration.
    """
    n_times = labels[0].shape[0]
    chosen = [
        (guess[:, mask], label[:, mask], variance[:, mask], count)
        for guess, label, variance, count, mask in zip(predicted, labels, variances, n_replicas, masks, strict=True)
    ]
    per_configuration = np.array(
        [[pearson(guess[t], label[t]) for t in range(n_times)] for guess, label, _, _ in chosen]
    )
    there = np.array([[not np.isnan(label[t]).all() for t in range(n_times)] for _, label, _, _ in chosen])
    alike = np.array([[bool((label[t] == label[t, :1]).all()) for t in range(n_times)] for _, label, _, _ in chosen])
    pooled = []
    for t in range(n_times):
        pairs = [(guess[t], label[t]) for (guess, label, _, _), known in zip(chosen, there[:, t], strict=True) if known]
        pooled.append(pearson(*map(np.concatenate, zip(*pairs, strict=True))) if pairs else float("nan"))
    reliable = np.array(
        [[reliability(label[t], variance[t], count) for t in range(n_times)] for _, label, variance, count in chosen]
    )
    return SpeciesScores(per_configuration, np.array(pooled), reliable, there & ~alike, there & alike)
