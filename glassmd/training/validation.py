"""How good the current weights are on held-out lineages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.learners.part import Taken, Tensors, evenly
from glassmd.metrics import SpeciesScores
from glassmd.stream.samples import Sample, SampleKey, score_samples

__all__ = ["Validation"]

FloatArray = NDArray[np.float64]

MOST = 200
"""Samples that a score is taken from, evenly over all lineages: more cost time and say nothing else."""


class Validation:
    """The last scores on samples that were heard of, or out of fold on those that were learned from.

    Args:
        species: Names of the mixture's species.
        taken: What the learner has.

    Attributes:
        scores: By species, of the last :meth:`score`; empty without samples.
        residual: By species, (n_times,) standard deviation of the truth around the prediction, σ_AA, or None.
        n_samples: Samples behind them, and samples that there are.
        cross_validated: The samples are those of the training, each predicted by a part of the learner that never
            saw its lineage.
    """

    def __init__(self, species: list[str], taken: Taken) -> None:
        self.species, self._taken = species, taken
        self.scores: dict[str, SpeciesScores] = {}
        self.residual: dict[str, list[float]] | None = None
        self._losses: dict[str, list[float]] = {}
        self.n_samples = (0, 0)
        self.cross_validated = False

    @property
    def basis(self) -> str:
        """What a score now would be measured on: scores on other samples do not compare. Empty without samples."""
        keys = self._chosen(self._taken.heard)
        told = [f"{key}:{self._taken.heard[key]}" for key in keys]
        return hashlib.sha256("\n".join(told).encode()).hexdigest() if told else ""

    def score(self, predict: Callable[[Sample], FloatArray]) -> None:
        """Measure a predictor that gives (n_times, n_particles) propensities, σ_AA, on held-out lineages."""
        keys = self._chosen(self._taken.heard)
        found = self._predicted(keys, predict)
        self._measure([found[key] for key in keys], keys, len(self._taken.heard))
        self.cross_validated = False

    def cross_validate(self, predict: Callable[[Sample], FloatArray | None]) -> None:
        """The same on what was learned from, by a predictor that gives None where it has seen the sample's lineage."""
        keys = self._chosen(self._taken.blocks)
        found = self._predicted(keys, predict)
        if len(found) == len(keys) > 0:
            self._measure([found[key] for key in keys], keys, len(self._taken.blocks))
            self.cross_validated = True

    def _predicted(
        self, keys: Sequence[SampleKey], predict: Callable[[Sample], FloatArray | None]
    ) -> dict[SampleKey, FloatArray]:
        """What there is to predict, each process its share."""
        processes, own = self._taken.processes, Tensors()
        for number in range(processes.rank, len(keys), processes.size):
            found = predict(self._taken.sample(keys[number]))
            if found is not None:
                own[str(number)] = torch.from_numpy(found)
        every = [*processes.each(own)]
        return {keys[int(number)]: of.numpy() for tensors in every for number, of in tensors.items()}

    @staticmethod
    def _chosen(keys: dict[SampleKey, tuple[int, ...]]) -> list[SampleKey]:
        return evenly(sorted(keys), MOST)

    def _measure(self, predictions: Sequence[FloatArray], keys: Sequence[SampleKey], there: int) -> None:
        """The first of several processes measures."""
        if not self._taken.processes.first:
            return
        samples = [self._taken.sample(key) for key in keys]
        self.scores, residual, self._losses = {}, {}, {}
        self.n_samples = len(samples), there
        noise = [self._taken.noise(sample) for sample in samples]
        for name in self.species if samples else []:
            self.scores[name] = score_samples(predictions, samples, name)
            masks = [one.parent.of_species(name) for one in samples]
            residual[name] = _residual(predictions, samples, noise, masks)
            self._losses[name] = _loss(predictions, samples, masks)
        self.residual = residual or None

    def loss(self, species: Sequence[str]) -> float | None:
        """Mean squared error in units of the labels' variance at each time, averaged over times and species.

        1 is what the mean of all particles would have; None where there is nothing to compare.
        """
        known = [value for name in species for value in self._losses.get(name, ()) if np.isfinite(value)]
        return float(np.mean(known)) if known else None


def _loss(
    predictions: Sequence[FloatArray], samples: Sequence[Sample], masks: Sequence[NDArray[np.bool_]]
) -> list[float]:
    """(n_times,) ⟨(prediction − label)²⟩ over the labels' variance; NaN where a time was not measured."""
    found = []
    for t in range(predictions[0].shape[0]):
        label = np.concatenate([sample.propensity[t, mask] for sample, mask in zip(samples, masks, strict=True)])
        guess = np.concatenate([guess[t, mask] for guess, mask in zip(predictions, masks, strict=True)])
        label, guess = label[np.isfinite(label)], guess[np.isfinite(label)]
        variance = float(label.var()) if label.size else 0.0
        found.append(float(((guess - label) ** 2).mean()) / variance if variance > 0 else float("nan"))
    return found


def _residual(
    predictions: Sequence[FloatArray],
    samples: Sequence[Sample],
    noise: Sequence[FloatArray],
    masks: Sequence[NDArray[np.bool_]],
) -> list[float]:
    """Standard deviation of the prediction around the true propensity: the label's own noise is subtracted."""
    result = []
    for t in range(predictions[0].shape[0]):
        square = np.concatenate(
            [
                (guess[t, mask] - sample.propensity[t, mask]) ** 2 - np.nan_to_num(own[t, mask])
                for guess, sample, own, mask in zip(predictions, samples, noise, masks, strict=True)
            ]
        )
        square = square[np.isfinite(square)]  # others were not measured
        result.append(float(np.sqrt(max(0.0, square.mean()))) if square.size else float("nan"))
    return result
