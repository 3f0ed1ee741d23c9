"""How good the current weights are on held-out lineages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.metrics import SpeciesScores
from glassmd.stream.samples import Sample, SampleKey, score_samples

__all__ = ["Validation"]

FloatArray = NDArray[np.float64]


class Validation:
    """The samples of the validation lineages that are there so far, and the last scores on them.

    Args:
        species: Names of the mixture's species.
        cross_validated: The samples are those of the training, each predicted by a part of the learner that never
            saw its lineage.

    Attributes:
        scores: By species, of the last :meth:`score`; empty without samples.
        residual: By species, (n_times,) standard deviation of the truth around the prediction, σ_AA, or None.
    """

    def __init__(self, species: list[str], *, cross_validated: bool = False) -> None:
        self.species, self.cross_validated = species, cross_validated
        self.scores: dict[str, SpeciesScores] = {}
        self.residual: dict[str, list[float]] | None = None
        self._samples: dict[SampleKey, Sample] = {}

    def add(self, sample: Sample) -> None:
        """Take in a sample, or its grown version."""
        self._samples[sample.key] = sample

    @property
    def basis(self) -> list[list[Any]]:
        """What a score now would be measured on (JSON types only): scores on other samples do not compare."""
        return [[str(key), self._samples[key].n_replicas] for key in sorted(self._samples)]

    def score(self, predict: Callable[[Sample], FloatArray]) -> None:
        """Measure a predictor that gives (n_times, n_particles) propensities, σ_AA."""
        samples = [self._samples[key] for key in sorted(self._samples)]
        predictions = [predict(sample) for sample in samples]
        self.scores, residual = {}, {}
        for name in self.species if samples else []:
            self.scores[name] = score_samples(predictions, samples, name)
            residual[name] = _residual(predictions, samples, [sample.parent.of_species(name) for sample in samples])
        self.residual = residual or None


def _residual(
    predictions: list[FloatArray],
    samples: list[Sample],
    masks: list[NDArray[np.bool_]],
) -> list[float]:
    """Standard deviation of the prediction around the true propensity: the label's own noise is subtracted."""
    result = []
    for t in range(predictions[0].shape[0]):
        square = np.concatenate(
            [
                (guess[t, mask] - s.propensity[t, mask]) ** 2 - np.nan_to_num(s.variance[t, mask] / s.n_replicas)
                for guess, s, mask in zip(predictions, samples, masks, strict=True)
            ]
        )
        result.append(float(np.sqrt(max(0.0, square.mean()))) if square.size else float("nan"))
    return result
