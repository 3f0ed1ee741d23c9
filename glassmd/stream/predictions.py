"""What published methods predict for the parents of a run, kept beside their positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassmd.fields import GSD_PUBLISHED
from glassmd.ledger.run import ParentKey
from glassmd.stream.dataset import Run
from glassmd.stream.samples import Sample
from glassmd.target import PROPENSITY

__all__ = ["published_predictions", "species_predicted"]

FloatArray = NDArray[np.float64]


def published_predictions(runs: Sequence[Run], samples: Sequence[Sample]) -> dict[str, dict[str, FloatArray]]:
    """Predictions that came with the data of some samples: they are of propensities, and of no other target.

    Args:
        runs: Of the samples.
        samples: What is predicted.

    Returns:
        By method and by name of a sample that it predicts: (n_times, n_particles) at the times of the sample, in the
        method's own unit; NaN at times and for species that it leaves out.

    Raises:
        SegmentError: A parent is damaged.
    """
    by_id = {str(run.identity["id"]): run for run in runs}
    found: dict[str, dict[str, FloatArray]] = {}
    for sample in samples:
        run = by_id[sample.key.run]
        entry = run.entry("parents", ParentKey(sample.key.lineage, sample.key.parent).name)
        methods = [] if entry is None else entry.sidecar.get("predictions", [])
        if entry is None or not methods or sample.target != PROPENSITY:
            continue
        log = entry.read([0])[0].log
        times = {f"{shown:g}": time for shown, time in zip(run.in_unit(run.times), run.times, strict=True)}
        nothing = np.full(sample.parent.n_particles, np.nan)
        for method in methods:
            rows = [
                log[GSD_PUBLISHED.format(method=method, time=times[name])] if name in times else nothing
                for name in (f"{time:g}" for time in sample.times)
            ]
            found.setdefault(str(method), {})[str(sample.key)] = np.stack(rows).astype(np.float64)
    return found


def species_predicted(sample: Sample, prediction: FloatArray) -> list[str]:
    """Names of the species that a prediction speaks of."""
    there = np.asarray(np.isfinite(prediction).any(axis=0))
    names = sample.parent.species_names
    return [name for name in names if bool((there & sample.parent.of_species(name)).any())]
