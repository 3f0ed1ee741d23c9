"""From predictions to the numbers of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassmd.comparison.candidates import Accuracy, Candidate, accuracy_of, calibration_of, label_scores
from glassmd.comparison.heterogeneity import heterogeneity, one_state_point
from glassmd.comparison.paired import paired_differences
from glassmd.storage import plain
from glassmd.stream.samples import Sample

__all__ = ["leaderboard"]


def leaderboard(
    candidates: Sequence[Candidate], samples: Sequence[Sample], species: Sequence[str], summary: int
) -> dict[str, Any]:
    """Scores of all candidates, best first, and their paired differences.

    Args:
        candidates: At least one.
        samples: What they are scored on.
        species: Names of the species; the first one that anybody predicts decides who is best.
        summary: Index of the time that decides.

    Returns:
        `labels`, `entries` and `differences`, in JSON types.
    """
    there = [name for name in species if any(sample.parent.of_species(name).any() for sample in samples)]
    rows = [_row(candidate, samples, there) for candidate in candidates]
    decisive = next((name for name in there if any(name in found for _, found in rows)), there[0])
    order = sorted(range(len(rows)), key=lambda index: -_value(rows[index][1], decisive, summary))
    compared = [(rows[i][0]["name"], rows[i][1][decisive]) for i in order if decisive in rows[i][1]]
    return {
        "labels": {name: _labels(samples, name) for name in there},
        "entries": [plain(rows[index][0]) for index in order],
        "differences": _differences(compared, decisive),
    }


def _value(found: dict[str, Accuracy], species: str, summary: int) -> float:
    if species not in found:
        return -np.inf
    value = float(found[species].mean()[summary])
    return value if np.isfinite(value) else -np.inf


def _labels(samples: Sequence[Sample], species: str) -> dict[str, Any]:
    reliability, ceiling = label_scores(samples, species)
    spatial = heterogeneity([], samples, species)["label"] if one_state_point(samples) else {}
    return dict(plain({"reliability": reliability, "ceiling": ceiling, **spatial}))


def _row(
    candidate: Candidate, samples: Sequence[Sample], species: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Accuracy]]:
    own = candidate.of(samples)
    trained = candidate.facts[0]["trained_species"]
    known = [name for name in species if name in trained]
    accuracies = {name: accuracy_of(candidate.propensity, own, name) for name in known}
    row = {
        "name": candidate.name,
        **_costs(candidate),
        "seeds": [seed for seed in candidate.seeds if seed is not None],
        "n_configurations": len(own),
        "species": {name: _scores(candidate, own, name, found) for name, found in accuracies.items()},
    }
    return row, accuracies


def _costs(candidate: Candidate) -> dict[str, Any]:
    facts = candidate.facts
    seconds = [float(one["training_seconds"]) for one in facts if one["training_seconds"] is not None]
    inference = [one["seconds_per_configuration"] for one in facts if one["seconds_per_configuration"] is not None]
    return {
        "model": facts[0]["model"],
        "inputs": facts[0]["inputs"],
        "input_cost": facts[0]["input_cost"],
        "published": bool(facts[0].get("published", False)),
        "parameters": max((int(one["parameters"]) for one in facts if one["parameters"] is not None), default=None),
        "n_trainings": sum(one["steps"] is not None for one in facts),
        "training_seconds": float(np.mean(seconds)) if seconds else None,
        "inference_seconds": float(np.median(inference)) if inference else None,
    }


def _scores(candidate: Candidate, samples: Sequence[Sample], species: str, found: Accuracy) -> dict[str, Any]:
    _, ceiling = label_scores(samples, species)
    several = len(candidate.propensity) > 1
    ensemble = accuracy_of([candidate.ensemble()], samples, species) if several else None
    comparable = one_state_point(samples) and not candidate.facts[0].get("published", False)  # in σ_AA
    return {
        "ceiling": ceiling,
        "pearson": found.summary(),
        "mean_over_times": found.over_times(),
        "over_seeds": found.over_seeds() if several else None,
        "ensemble": None if ensemble is None else ensemble.summary(),
        "per_configuration": dict(zip(found.keys, found.per_configuration, strict=True)),
        "calibration": calibration_of(candidate, samples, species),
        "heterogeneity": heterogeneity(candidate.propensity, samples, species) if comparable else None,
    }


def _differences(compared: Sequence[tuple[str, Accuracy]], species: str) -> dict[str, Any]:
    found = paired_differences([accuracy for _, accuracy in compared])
    return dict(
        plain(
            {
                "species": species,
                "entries": [name for name, _ in compared],
                "mean": found.mean,
                "error": found.error,
                "n_configurations": found.count,
            }
        )
    )
