"""Predictions of all folds and seeds of an entry, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.stream.samples import Sample, score_samples

__all__ = ["Accuracy", "Candidate", "accuracy_of", "calibration_of", "label_scores"]

FloatArray = NDArray[np.float64]
BySample = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is compared: the predictions of one entry.

    Attributes:
        name: Of the entry.
        propensity: One mapping per seed: by sample, (n_times, n_particles), σ_AA.
        std: The same shapes: expected distance from the truth, σ_AA; NaN where unknown.
        seeds: One per mapping; None for a finished model.
        facts: Of each of its trainings.
    """

    name: str
    propensity: Sequence[BySample]
    std: Sequence[BySample]
    seeds: Sequence[int | None] = (0,)
    facts: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def of(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those of some samples that it predicts."""
        return [sample for sample in samples if str(sample.key) in self.propensity[0]]

    def ensemble(self) -> BySample:
        """The mean prediction of all seeds."""
        return {key: np.mean([of[key] for of in self.propensity], axis=0) for key in self.propensity[0]}


@dataclass(frozen=True, eq=False)
class Accuracy:
    """ρ of one species.

    Attributes:
        keys: (n_configurations,) names of the configurations.
        per_seed: (n_seeds, n_configurations, n_times) ρ.
        pooled: (n_seeds, n_times) ρ over all particles of all configurations.
        ceilings: (n_configurations, n_times) √reliability of the labels; NaN where that is unknown or not above 0.
        labelled: See :attr:`there`, which averages are over; everywhere by default.
    """

    keys: list[str]
    per_seed: FloatArray
    pooled: FloatArray
    ceilings: FloatArray
    labelled: NDArray[np.bool_] | None = None

    @property
    def per_configuration(self) -> FloatArray:
        """(n_configurations, n_times) mean of ρ over the seeds."""
        return np.asarray(self.per_seed.mean(axis=0))

    @property
    def there(self) -> NDArray[np.bool_]:
        """(n_configurations, n_times) where there are labels."""
        return np.ones(self.ceilings.shape, bool) if self.labelled is None else self.labelled

    def mean(self) -> FloatArray:
        """(n_times,) mean over the configurations with labels; NaN where there is none."""
        return _mean_where(self.per_configuration, self.there)

    def summary(self) -> dict[str, FloatArray]:
        """Mean, spread and error over configurations, pooled, and the share of the ceiling, all (n_times,).

        Every configuration has a ceiling of its own, and its ρ follows it: their ratio scatters much less than ρ does.
        Configurations without a ceiling are left out of it.
        """
        values = self.per_configuration
        columns = [column[there][:, None] for column, there in zip(values.T, self.there.T, strict=True)]
        sd = np.array([_spread(of)[0] for of in columns])
        shares = [of[np.isfinite(of)][:, None] for of in (values / self.ceilings).T]
        return {
            "mean": self.mean(),
            "sd": sd,
            "error": sd / np.sqrt([max(len(of), 1) for of in columns]),
            "pooled": self.pooled.mean(axis=0),
            "over_ceiling": np.array([of.mean() if len(of) else np.nan for of in shares]),
            "over_ceiling_error": np.array([_spread(of)[0] / np.sqrt(max(len(of), 1)) for of in shares]),
        }

    def over_times(self) -> dict[str, float]:
        """The mean of ρ over the times of each configuration: its mean, spread and error over configurations."""
        there = self.there
        values = np.where(there, self.per_configuration, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        values = values[there.any(axis=1)][:, None]
        sd = float(_spread(values)[0])
        return {"mean": float(values.mean()), "sd": sd, "error": sd / float(np.sqrt(len(values)))}

    def over_seeds(self) -> dict[str, Any]:
        """(n_seeds, n_times) mean ρ of every seed and (n_times,) its standard deviation over the seeds."""
        means = np.stack([_mean_where(values, self.there) for values in self.per_seed])
        return {"mean": means, "sd": _spread(means)}


def _mean_where(values: FloatArray, there: NDArray[np.bool_]) -> FloatArray:
    """Mean along the first axis of what is there; NaN where nothing is."""
    count = there.sum(axis=0)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _spread(values: FloatArray) -> FloatArray:
    """Unbiased standard deviation along the first axis; NaN for a single row."""
    return np.full(values.shape[1], np.nan) if len(values) < 2 else np.asarray(values.std(axis=0, ddof=1))


def accuracy_of(predictions: Sequence[BySample], samples: Sequence[Sample], species: str) -> Accuracy:
    """ρ of each seed's predictions.

    Args:
        predictions: One mapping per seed.
        samples: At least one, all of them predicted.
        species: Name of the species.
    """
    found = [score_samples([of[str(sample.key)] for sample in samples], samples, species) for of in predictions]
    return Accuracy(
        keys=[str(sample.key) for sample in samples],
        per_seed=np.stack([of.per_configuration for of in found]),
        pooled=np.stack([of.pooled for of in found]),
        ceilings=found[0].ceilings,
        labelled=found[0].labelled,
    )


def label_scores(samples: Sequence[Sample], species: str) -> tuple[FloatArray, FloatArray]:
    """(n_times,) reliability of the labels and the ceiling that it puts on ρ."""
    found = score_samples([np.zeros_like(sample.propensity) for sample in samples], samples, species)
    return found.reliability, found.ceiling


def calibration_of(candidate: Candidate, samples: Sequence[Sample], species: str) -> dict[str, FloatArray] | None:
    """Whether the predicted standard deviations are those of the errors.

    A label differs from the truth by its own noise, so that z = (label − prediction) / √(std² + var/R) should have
    unit variance, and 68.3% of all |z| < 1 if the errors are Gaussian. Where var is unknown it is left out.

    Args:
        candidate: With its stds; the figures are means over its seeds.
        samples: All of them predicted.
        species: Name of the species.

    Returns:
        `within_one_std` and `mean_square`, ⟨z²⟩, both (n_times,); None where nothing is said about errors.
    """
    within, squares = [], []
    for propensity, std in zip(candidate.propensity, candidate.std, strict=True):
        z2 = []
        for sample in samples:
            mask, key = sample.parent.of_species(species), str(sample.key)
            noise = np.nan_to_num(sample.variance[:, mask] / sample.n_replicas)
            expected = std[key][:, mask] ** 2 + noise
            with np.errstate(divide="ignore", invalid="ignore"):
                z2.append((sample.propensity[:, mask] - propensity[key][:, mask]) ** 2 / expected)
        labelled = np.concatenate(
            [np.isfinite(of.propensity[:, of.parent.of_species(species)]) for of in samples], axis=1
        )
        together = np.concatenate(z2, axis=1)
        known = (np.isfinite(together) | ~labelled).all(axis=1) & labelled.any(axis=1)
        within.append(np.where(known, _mean_where((together < 1).T.astype(float), labelled.T), np.nan))
        squares.append(np.where(known, _mean_where(together.T, labelled.T), np.nan))
    found = {"within_one_std": np.mean(within, axis=0), "mean_square": np.mean(squares, axis=0)}
    return None if np.isnan(found["mean_square"]).all() else found
