"""How well a model predicts runs that it has not seen, beside the ceiling of their labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassmd.engines import DeviceChoice, EngineChoice
from glassmd.errors import InputError, ModelError, RunError
from glassmd.metrics import SpeciesScores, intraclass_correlation
from glassmd.models.card import ModelCard
from glassmd.models.clock import asked_times, knows_time
from glassmd.models.family import known_spans
from glassmd.models.known import model_directory
from glassmd.models.store import LoadedModel, load_models
from glassmd.prediction import predict_samples
from glassmd.published import PUBLISHED_DENSITY, published_scores
from glassmd.settings import RunSettings
from glassmd.simulation.structures import inside_cages
from glassmd.storage import plain
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.predictions import published_predictions, species_predicted
from glassmd.stream.samples import Sample, at_times, replica_counts, score_samples, union_of_times, within_std_of
from glassmd.stream.structures import merge_cost
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.structure import INPUTS
from glassmd.target import PROPENSITY
from glassmd.time_unit import REDUCED, TAU_ALPHA, TimeUnit

__all__ = ["evaluate", "published_beside"]

Subset = Literal["auto", "all", "train", "validation", "test"]


def evaluate(
    model: Path | str,
    data: Sequence[Path | str],
    *,
    subset: Subset = "auto",
    tau_alpha: Sequence[float] | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    check: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Score a model on run directories, at the times that it shares with any of them.

    Args:
        model: Model directory, or one of several models that belong together, or the name of one that comes with
            glassmd. Several are scored at times in √(mσ²/ε), which they interpolate where they have to.
        data: Run directories of the model's mixture, which can have labels of its target.
        subset: Which lineages: `auto` takes the test lineages where the run has some, else all of them.
        tau_alpha: For a model with times in units of τ_α: that of each of `data`, or one of all, √(mσ²/ε); by default
            as measured when their lineages were equilibrated.
        engine: What computes the inputs that are not kept beside the runs, as in settings.
        device: Where it does.
        check: Called a few times a second while something is computed; what it raises ends it.

    Returns:
        What `glassmd evaluate --json` prints.

    Raises:
        ModelError: The model does not fit the data, or shares no time with them.
        RunError: No data, or none with labels of the model's target.
        InputError: Nobody knows τ_α, or it is told for a model that needs none.
    """
    started = time.monotonic()
    models = load_models(model_directory(model))
    loaded, unit = models[0], models[0].card.time_unit if len(models) == 1 else REDUCED
    species = loaded.card.mixture["species"]
    runs = _opened(loaded.card, unit, data, tau_alpha)
    tested = _tested(models, runs, subset, engine, device, check)
    samples = tested.samples
    if not samples:
        raise RunError(f"found no samples of the {subset} lineages in the data", "at least one", "try --subset all")
    times = np.asarray(tested.times)
    result = {
        name: _as_json(score_samples(tested.predictions, samples, name), samples)
        | {"within_std": plain(within_std_of(tested.predictions, tested.spreads, samples, name))}
        for name in species
        if any(sample.parent.of_species(name).any() for sample in samples)
    }
    return {
        "model": str(model),
        "n_configurations": len(samples),
        "n_lineages": len({(sample.key.run, sample.key.lineage) for sample in samples}),
        "seen_in_training": tested.seen_in_training,
        "replicas": replica_counts(samples),
        "times": times.tolist(),
        "time_unit": unit,
        "target": loaded.card.target,
        "times_left_out": tested.times_left_out,
        "species": result,
        "published": published_beside(loaded.card.mixture, samples, unit),
        "published_predictions": _predicted_by_others(runs, samples),
        "inputs": [name for name in INPUTS if any(name in one.model.inputs for one in models)],
        "inside_cage": [False] * len(times)  # of several models each begins where its cages have ended
        if len(models) > 1
        else inside_cages(loaded.card.cage_protocols, times.tolist(), loaded.card.tau_alphas),
        "input_cost": tested.cost,
        "warnings": tested.warnings,
        "seconds_per_configuration": float(np.median(tested.seconds)),
        "seconds": time.monotonic() - started,
    }


def _predicted_by_others(runs: Sequence[Run], samples: list[Sample]) -> dict[str, Any]:
    """Scores of the predictions that came with the data, on those of the samples that each of them predicts."""
    found = {}
    for method, predictions in published_predictions(runs, samples).items():
        own = [sample for sample in samples if str(sample.key) in predictions]
        values = [predictions[str(sample.key)] for sample in own]
        found[method] = {
            "n_configurations": len(own),
            "species": {
                name: _as_json(score_samples(values, own, name), own) for name in species_predicted(own[0], values[0])
            },
        }
    return found


@dataclass
class _Tested:
    """Samples with what a model predicts for them, in the same order, and what that took."""

    samples: list[Sample] = field(default_factory=list)
    predictions: list[NDArray[np.float64]] = field(default_factory=list)
    spreads: list[NDArray[np.float64]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seen_in_training: bool = False
    times: list[float] = field(default_factory=list)
    times_left_out: list[float] = field(default_factory=list)


def _opened(
    card: ModelCard, unit: TimeUnit, data: Sequence[Path | str], tau_alpha: Sequence[float] | None
) -> list[Run]:
    """The runs, with labels of the model's target and the unit of its times."""
    runs = [open_run(path, card.target) for path in data]
    if unit == TAU_ALPHA:
        use_tau_alphas(runs, tau_alpha, option="--tau-alpha")
    elif tau_alpha is not None:
        raise InputError("found τ_α for a model that is asked for times in √(mσ²/ε)", "none", "leave out --tau-alpha")
    return runs


def _tested(
    models: list[LoadedModel],
    runs: Sequence[Run],
    subset: Subset,
    engine: EngineChoice,
    device: DeviceChoice,
    check: Callable[[], None] | None,
) -> _Tested:
    """The models' predictions for the chosen lineages of every run."""
    tested = _Tested()
    liquids = {name for loaded in models for name in loaded.card.provenance.get("liquids", [])}
    tested.times, tested.times_left_out = _shared(models, runs)
    for run in runs:
        own = [time for time in tested.times if _known_by(models, run, time)]
        if not own:
            continue
        chosen = [at_times(sample, np.asarray(own)) for sample in _select(run, subset)]
        settings = RunSettings(engine=engine, device=device)
        of = models[0] if len(models) == 1 else models
        found, cost = predict_samples(of, run, chosen, settings, check, own)
        columns = [tested.times.index(time) for time in own]
        tested.predictions += [_at_columns(prediction.propensity, columns, len(tested.times)) for prediction in found]
        tested.spreads += [_at_columns(prediction.std, columns, len(tested.times)) for prediction in found]
        for warning in (warning for prediction in found for warning in prediction.warnings):
            if warning not in tested.warnings:
                tested.warnings.append(warning)
        tested.seconds += [prediction.seconds for prediction in found]
        merge_cost(tested.cost, cost)
        tested.seen_in_training |= any(run.fingerprint(sample.key.lineage) in liquids for sample in chosen)
        tested.samples += [at_times(sample, np.asarray(tested.times)) for sample in chosen]
    return tested


def _at_columns(values: NDArray[np.float64], columns: list[int], count: int) -> NDArray[np.float64]:
    """(count, n_particles) with rows of `values` at some of them, NaN elsewhere."""
    found = np.full((count, values.shape[1]), np.nan)
    found[columns] = values
    return found


def _known_by(models: list[LoadedModel], run: Run, time: float) -> bool:
    """Whether the models know a time of a run: one model in its unit, several in √(mσ²/ε) at the run's temperature."""
    if len(models) == 1:
        return models[0].card.knows(time)
    temperature = float(run.identity["temperature"])
    return any(knows_time(time, asked_times(loaded.card, temperature).own) for loaded in models)


def _shared(models: list[LoadedModel], runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Times of the runs that the models know, and those that they do not.

    Raises:
        ModelError: They know none.
    """
    found = union_of_times(run.sample_times for run in runs)
    known = [time for time in found if any(_known_by(models, run, time) for run in runs if time in run.sample_times)]
    if not known:
        _refuse_times(models, runs, found)
    return known, [time for time in found if time not in known]


def _refuse_times(models: list[LoadedModel], runs: Sequence[Run], found: list[float]) -> None:
    """Say which times a model knows, in its own unit, or several in √(mσ²/ε), at the temperatures of the runs."""
    if len(models) == 1:
        models[0].card.check_times(found)
    cards = [loaded.card for loaded in models]
    spans = dict.fromkeys(known_spans(cards, float(run.identity["temperature"])) for run in runs)
    raise ModelError(
        f"found times {', '.join(format(time, 'g') for time in found)}",
        f"one from {'; '.join(spans)}",
        "evaluate runs with such times",
    )


def published_beside(mixture: dict[str, Any], samples: Sequence[Sample], unit: TimeUnit = REDUCED) -> dict[str, Any]:
    """Published figures of propensities for the same state point and times in √(mσ²/ε), as far as there are any."""
    if samples[0].target != PROPENSITY or unit != REDUCED:
        return {}
    if any(abs(sample.parent.density / PUBLISHED_DENSITY - 1) > 0.01 for sample in samples):
        return {}
    return published_scores(mixture, {sample.temperature for sample in samples}, samples[0].times.tolist())


def _select(run: Run, subset: Subset) -> list[Sample]:
    samples = run.samples()
    if subset == "all":
        return samples
    if subset == "auto":
        return [sample for sample in samples if sample.role == "test"] or samples
    return [sample for sample in samples if sample.role == subset]


def _as_json(found: SpeciesScores, samples: list[Sample]) -> dict[str, Any]:
    counts = {sample.n_replicas for sample in samples}
    kappa = (
        [intraclass_correlation(r, next(iter(counts))) for r in found.reliability]
        if len(counts) == 1
        else [float("nan")] * len(found.reliability)
    )
    share = found.ceiling_share()
    told = {
        "pearson_per_configuration": {"mean": found.mean, "sd": found.sd},
        "pearson_over_ceiling": {"mean": share.mean, "sd": share.sd, "n_left_out": share.n_left_out},
        "pearson_pooled": found.pooled,
        "reliability": found.reliability,
        "ceiling": found.ceiling,
        "n_alike": found.n_alike,
        "intraclass_correlation": kappa,
    }
    return dict(plain(told))
