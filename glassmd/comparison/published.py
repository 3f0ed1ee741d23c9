"""Predictions that came with the data, as entries of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassmd.comparison.candidates import Candidate
from glassmd.stream.dataset import Run
from glassmd.stream.predictions import published_predictions, species_predicted
from glassmd.stream.samples import Sample

__all__ = ["published_candidates"]


def published_candidates(runs: Sequence[Run], samples: Sequence[Sample]) -> list[Candidate]:
    """One entry for each method, named `BOTAN (published)`, over the samples that it predicts.

    Nobody here knows what they took, what they saw, or the unit of their numbers: the correlation alone is compared.

    Args:
        runs: The data.
        samples: What is scored.
    """
    by_name = {str(sample.key): sample for sample in samples}
    found = []
    for method, propensity in published_predictions(runs, samples).items():
        first = next(iter(propensity))
        unknown = {key: np.full_like(values, np.nan) for key, values in propensity.items()}
        facts = {
            "model": method,
            "published": True,
            "inputs": [],
            "input_cost": {},
            "trained_species": species_predicted(by_name[first], propensity[first]),
            "parameters": None,
            "steps": None,
            "training_seconds": None,
            "seconds_per_configuration": None,
        }
        found.append(Candidate(f"{method} (published)", [propensity], [unknown], [None], [facts]))
    return found
