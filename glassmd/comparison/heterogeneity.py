"""Dynamic heterogeneity of predicted fields beside that of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.spatial import PairSums, jackknife, pair_sums
from glassmd.comparison.candidates import BySample
from glassmd.stream.samples import Sample

__all__ = ["heterogeneity", "one_state_point"]

FloatArray = NDArray[np.float64]


def one_state_point(samples: Sequence[Sample]) -> bool:
    """Whether all samples are one liquid at one temperature and density, measured at the same times.

    Only then can fluctuations be compared.
    """
    states = {
        (
            round(sample.temperature, 6),
            round(sample.parent.density, 6),
            sample.parent.n_particles,
            str(np.isfinite(sample.propensity[:, 0])),
        )
        for sample in samples
    }
    return len(states) == 1


def heterogeneity(predictions: Sequence[BySample], samples: Sequence[Sample], species: str) -> dict[str, Any]:
    """χ, the part of χ4 that structure decides, and the correlation length ξ, of labels and predictions.

    Each seed's field is measured, not their mean, which is smoother; the figures are means over seeds. Models of
    different folds predict different means, which adds to the χ of a cross-validated prediction.

    Args:
        predictions: One mapping per seed; none to measure the labels alone.
        samples: Of one state point, all of them predicted.
        species: Name of the species.

    Returns:
        `label` and `predicted`, each with `susceptibility`, `susceptibility_error` (σ_AA²), `length` and
        `length_error` (σ_AA), all (n_times,); errors are over configurations. See :mod:`glassmd.analysis.spatial`.
    """
    n_times, n_seeds = len(samples[0].times), len(predictions)
    fields = [np.concatenate([sample.propensity, *(of[str(sample.key)] for of in predictions)]) for sample in samples]
    noise = [
        np.concatenate([sample.variance / sample.n_replicas, np.zeros((n_seeds * n_times, sample.parent.n_particles))])
        for sample in samples
    ]
    masks = [sample.parent.of_species(species) for sample in samples]
    sums = pair_sums([sample.parent for sample in samples], fields, masks, noise=noise)
    found: dict[str, dict[str, FloatArray]] = {"label": {}, "predicted": {}}
    for name, quantity in (("susceptibility", PairSums.susceptibility), ("length", PairSums.lengths)):
        for suffix, values in zip(("", "_error"), jackknife(sums, quantity), strict=True):
            by_field = values.reshape(1 + n_seeds, n_times)
            found["label"][name + suffix] = by_field[0]
            if n_seeds:
                found["predicted"][name + suffix] = by_field[1:].mean(axis=0)
    return found
