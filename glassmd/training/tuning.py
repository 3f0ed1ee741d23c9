"""`train --from`: which trained model a training goes on from, and how its times are those of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ModelError, RunError
from glassmd.models.card import ModelCard
from glassmd.models.clock import tau_alpha_at
from glassmd.models.family import numbers_that_see
from glassmd.models.known import model_directory
from glassmd.models.store import LoadedModel, load_models
from glassmd.settings import TrainSettings
from glassmd.stream.dataset import Run
from glassmd.stream.samples import union_of_times
from glassmd.time_unit import REDUCED

__all__ = ["begun_from"]

_SAME = 1e-3  # relative


def begun_from(settings: TrainSettings, runs: Sequence[Run]) -> tuple[TrainSettings, LoadedModel | None]:
    """The settings of a training that begins with a trained model, and that model.

    Of several that belong together it is the one that begins latest among those that know the first time of the data,
    then the one that sees most. Times before its first are left out, and its cages are those of the training.

    Args:
        settings: With `from_model`; without, nothing happens.
        runs: The data, in the unit of the settings, with the times that they ask for.

    Raises:
        ModelError: There is no such model, it predicts another target, or it is of another dimension or other species.
        RunError: Its times are in units of τ_α, and the data in √(mσ²/ε) at several temperatures.
    """
    if settings.from_model is None:
        return settings, None
    models = load_models(model_directory(settings.from_model))
    usable = [models[k] for k in numbers_that_see([loaded.card for loaded in models], settings.input)]
    for loaded in usable:
        _require_alike(loaded.card, runs[0], settings)
    first = union_of_times(run.sample_times for run in runs)[0]
    chosen = _that_begins(usable, runs[0], first)
    begins = _own_times(chosen.card, runs[0])[0]
    for run in runs:
        if begins > first * (1 + _SAME):
            run.use_times_from(begins)
        if chosen.card.provenance.get("settings", {}).get("first_time") is not None:
            run.shortest = begins * (run.tau_alpha or 1.0)  # cages are as short as the model's
    times = union_of_times(run.sample_times for run in runs)
    if settings.time_unit == REDUCED and chosen.card.tau_alphas:
        hot, cold = (of(float(run.identity["temperature"]) for run in runs) for of in (max, min))
        if hot > cold * (1 + _SAME):
            raise RunError(
                f"found data of T = {cold:g} to {hot:g} for a model with times in units of τ_α", "the same unit",
                "add --set time_unit=tau_alpha",
            )  # fmt: skip
    told = {
        "start": {
            "model": chosen.card.model,
            "hyperparameters": chosen.card.hyperparameters,
            "mixture": chosen.card.mixture,
        },
        "between": _between(np.log(times), np.log(_own_times(chosen.card, runs[0]))).tolist(),
    }
    begun = settings.model_copy(
        update={"input": list(chosen.model.inputs), "hyperparameters": {**settings.hyperparameters, **told}}
    )
    return begun, chosen


def _require_alike(card: ModelCard, run: Run, settings: TrainSettings) -> None:
    card.check_target(settings.target)
    if settings.time_unit != REDUCED:
        card.check_unit(settings.time_unit)
    mixture = run.identity["mixture"]
    for key in ("dimensions", "species"):
        if mixture[key] != card.mixture[key]:
            raise ModelError(
                f"found data with {key} {mixture[key]}", f"{card.mixture[key]}, the model's", "change --from"
            )


def _own_times(card: ModelCard, run: Run) -> NDArray[np.float64]:
    """The model's times in the unit of a run."""
    tau = tau_alpha_at(card, float(run.identity["temperature"])) if run.time_unit == REDUCED else None
    return np.array(card.times) * (tau or 1.0)


def _that_begins(models: Sequence[LoadedModel], run: Run, first: float) -> LoadedModel:
    """Of those that begin before a time the latest, else the first of all; of several, the one that sees most."""
    begins = [round(math.log(_own_times(loaded.card, run)[0]), 2) for loaded in models]
    known = [at for at in begins if at <= math.log(first) + 0.01]
    wanted = max(known) if known else min(begins)
    there = [loaded for loaded, at in zip(models, begins, strict=True) if at == wanted]
    return max(there, key=lambda loaded: len(loaded.model.inputs))


def _between(at: NDArray[np.float64], where: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n_points) weights of straight lines between ascending points, constant beyond them."""
    return np.array([np.interp(at, where, unit) for unit in np.eye(len(where))]).T
