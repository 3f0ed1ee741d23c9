"""Where labels would teach most: what a learner does not know, against what a replica tells."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch

from glassmd.errors import SettingsError
from glassmd.learners import LEARNERS, model_class
from glassmd.learners.base import PropensityModel
from glassmd.learners.part import Taken
from glassmd.settings import TrainSettings
from glassmd.stream.samples import SampleKey
from glassmd.training.source import SampleSource

__all__ = ["check_acquisition", "tell_worth", "worth_of"]

_JUDGED = 100
"""Parents that are looked at, evenly over all lineages; the others are judged by their lineage."""


def check_acquisition(settings: TrainSettings, *, follow: bool) -> None:
    """Refuse to steer a simulation where there is none, or by a learner that cannot say what it does not know.

    Raises:
        ModelError: There is no such learner.
        SettingsError: Nobody simulates, or the learner's parts cannot disagree.
    """
    if settings.acquire == "uniform":
        return
    if not follow:
        raise SettingsError("found acquire = uncertainty for data that nobody simulates", "a stream", "add --stream")
    if model_class(settings.model).disagreement is not PropensityModel.disagreement:
        return
    able = [name for name in LEARNERS if model_class(name).disagreement is not PropensityModel.disagreement]
    raise SettingsError(
        f"found acquire = uncertainty for model {settings.model}",
        f"a learner whose parts can disagree: {', '.join(able)}",
        f"try --model {able[0]}, or leave --acquire out",
    )


@torch.no_grad()
def worth_of(model: PropensityModel, taken: Taken) -> dict[SampleKey, float]:
    """By parent: variance between the learner's parts over that between replicas, mean over particles and times.

    Empty while the learner's parts have learned nothing, or nobody knows how replicas differ.
    """
    variance = taken.labels.variance
    variance = np.where(variance > 0, variance, np.nan)  # where no two replicas differ, another one tells nothing
    if not np.isfinite(variance).any():
        return {}
    model.eval()
    found = {}
    for key in taken.some(_JUDGED):
        taken.check()
        sample = taken.sample(key)
        apart = model.disagreement(copy(taken.encode(sample)).to(model.scale.device))
        if apart is None:
            return {}
        mask = taken.mask(sample)
        ratio = apart.cpu().double().numpy()[mask] / variance[sample.parent.species[mask]]
        if np.isfinite(ratio).any():
            found[key] = float(np.nanmean(ratio))
    return found


def tell_worth(source: SampleSource, worth: dict[SampleKey, float]) -> None:
    """Leave it in the runs, for whoever simulates them."""
    for run in source.runs:
        of_run = {key: value for key, value in worth.items() if key.run == run.identity["id"]}
        by_lineage: dict[int, list[float]] = {}
        for key, value in of_run.items():
            by_lineage.setdefault(key.lineage, []).append(value)
        if of_run:
            names = {str(key).partition(":")[2]: value for key, value in of_run.items()}
            run.tell_worth(names, {str(lineage): float(np.mean(of)) for lineage, of in by_lineage.items()})
