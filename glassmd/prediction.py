"""Predicted propensity of every particle of a snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.configuration import Configuration
from glassmd.engines import DeviceChoice, Engine, EngineChoice, get_engine
from glassmd.engines.base import require_fit
from glassmd.errors import EngineError, ModelError
from glassmd.learners.device import torch_device
from glassmd.learners.tiles import GIB, MEMORY, Told, in_parts
from glassmd.mixtures import Mixture, mixture_of
from glassmd.models.cages import cages_at
from glassmd.models.card import ModelCard
from glassmd.models.clock import beyond_measured, tau_alpha_at, unmeasured
from glassmd.models.family import Plan, numbers_that_see, plan_of
from glassmd.models.guard import Guarded, TemperatureFrom, guard
from glassmd.models.known import fitting, model_directory
from glassmd.models.store import LoadedModel, load_models
from glassmd.settings import RunSettings
from glassmd.simulation.structures import Made, Request, requests_for, structure_of_configuration
from glassmd.stream.dataset import Run
from glassmd.stream.samples import Sample
from glassmd.stream.structures import Structures, add_cost, merge_cost
from glassmd.structure import INPUTS, Structure
from glassmd.target import PROPENSITY, Target
from glassmd.time_unit import REDUCED, TimeUnit, shown_time

__all__ = ["Prediction", "predict", "predict_samples", "require_model_fit", "widest"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted propensities.

    Attributes:
        times: Output times, √(mσ²/ε).
        propensity: (n_times, n_particles) float64, the mean over replicas of what `target` says, in its unit: σ_AA for
            the propensity proper.
        std: (n_times, n_particles) float64, in the same unit: how far the truth is expected from the prediction,
            particle by particle where the model says so, else by species and time on validation lineages; NaN where it
            was never validated.
        temperature: That it is for, ε_AA.
        temperature_from: Who says so: `told`, `velocities`, `structure` or `model`.
        warnings: What the training had not seen of a liquid like this, in words.
        inputs: What was looked at.
        input_cost: By input: what computing it took; see :attr:`glassmd.stream.structures.Structures.cost`.
        seconds: What the prediction took besides.
        parts: Into how many parts the snapshot was divided for want of memory.
        tau_alpha: √(mσ²/ε), of the liquid, where the model has times in units of it.
        target: What is predicted, the model's.
    """

    times: list[float]
    propensity: NDArray[np.float64]
    std: NDArray[np.float64]
    temperature: float = float("nan")
    temperature_from: TemperatureFrom = "model"
    warnings: list[str] = field(default_factory=list)
    inputs: tuple[str, ...] = ()
    input_cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    parts: int = 1
    tau_alpha: float | None = None
    target: Target = PROPENSITY


def predict(
    configuration: Configuration,
    model: LoadedModel | Sequence[LoadedModel] | Path | str | None = None,
    *,
    structure: Structure | None = None,
    temperature: float | None = None,
    times: Sequence[float] | None = None,
    inputs: Collection[str] | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    ranks: int | None = None,
    memory: float = MEMORY,
    force: bool = False,
    check: Callable[[], None] | None = None,
    show: Callable[[str, float], None] | None = None,
) -> Prediction:
    """Predict the propensity of every particle, or what else the model was trained on.

    Args:
        configuration: Of the model's mixture and dimension.
        model: A loaded model, which stays on the device that it computes on, or its directory, or several models or the
            directory of several, of which each time is predicted by the one that suits it best
            (:mod:`glassmd.models.family`), or the name of one that comes with glassmd. By default the one that comes
            with glassmd for such species.
        structure: The configuration with the inputs that the model sees; computed with the engine by default. It is
            taken to be at `temperature`, where that is told.
        temperature: k_B T / ε_AA; by default what the velocities or the structure tell, or that of the model's
            training where it knows one only.
        times: √(mσ²/ε): the model's, or others between those that lie close together; all of the model's by default.
        inputs: Of several models, only those that see nothing but these.
        engine: What computes the inputs, as in settings.
        device: Where it does, and where a network computes; `auto` takes the CPU where a GPU has no room.
        ranks: That it cuts the configuration among; by default 1, and from 100,000 particles on one for each core.
        memory: GiB that the prediction may hold at a time; a snapshot that takes more goes through in parts, by as many
            threads as torch has.
        force: Predict liquids, too, that are unlike all of the model's training.
        check: Called about once a second, but not within what is computed at once; what it raises ends it.
        show: Called as often with what is being done, in words, and the share of the prediction that is done.

    Raises:
        ModelError: The model does not fit the configuration, has seen nothing like it or does not know a time, or the
            temperature is needed, or the memory is too little.
        EngineError: Inputs are needed and there is no engine, or it failed.
    """
    if model is None:
        model = fitting(lambda card: require_model_fit(configuration, card))
    if isinstance(model, LoadedModel):
        models = [model]
    else:
        models = load_models(model_directory(model)) if isinstance(model, str | Path) else list(model)
    models = [models[k] for k in numbers_that_see([loaded.card for loaded in models], inputs)]
    for loaded in models:
        require_model_fit(configuration, loaded.card)
        torch_device(device, loaded.model)  # one that is not there is refused before anything is computed
        if structure is not None:
            loaded.card.check_mixture(structure.mixture.identity())

    def progress(what: str, share: float) -> None:
        if check is not None:
            check()
        if show is not None:
            show(what, share)

    told = structure.temperature if structure is not None and temperature is None else temperature
    progress("comparing with the training", 0.0)
    card = widest([loaded.card for loaded in models])
    guarded = guard(card, configuration, told)
    if guarded.outside and not force:
        raise ModelError(
            f"found {guarded.outside[0].found}",
            f"{guarded.outside[0].expected}, which the model has seen",
            "train a model on such liquids; --force predicts all the same",
        )
    making = _Making(configuration, guarded.temperature, structure, engine, device, ranks, progress)
    usable, warnings = making.usable(models)
    seen = [loaded.model.inputs for loaded in usable]
    plan = plan_of([loaded.card for loaded in usable], seen, guarded.temperature, times)
    found: dict[int, Prediction] = {}
    for k in plan.parts:
        making.share = len(found) / len(plan.parts)
        part = _share_of(progress, "predicting", len(found), len(plan.parts))
        found[k] = _at_own_times(making.of(usable[k]), usable[k], guarded, device, memory, part)
    return Prediction(
        times=plan.times,
        propensity=plan.together({k: one.propensity for k, one in found.items()}),
        std=plan.together({k: one.std for k, one in found.items()}),
        temperature=guarded.temperature,
        temperature_from=guarded.temperature_from,
        warnings=[
            *guarded.warnings(),
            *warnings,
            *_beyond([loaded.card for loaded in usable], plan, guarded.temperature),
        ],
        inputs=tuple(name for name in INPUTS if any(name in seen[k] for k in plan.parts)),
        input_cost=making.cost,
        seconds=sum(one.seconds for one in found.values()),
        parts=max(one.parts for one in found.values()),
        tau_alpha=tau_alpha_at(card, guarded.temperature),
        target=card.target,
    )


def _share_of(progress: Callable[[str, float], None], what: str, number: int, total: int) -> Callable[[float], None]:
    """What is told of one of several pieces of work, as of all of them."""
    return lambda share: progress(what, (number + share) / total)


def _beyond(cards: Sequence[ModelCard], plan: Plan, temperature: float) -> list[str]:
    """In words, the times that go on from other temperatures."""
    found = set[float]()
    for k, (_, weight) in plan.parts.items():
        own = [time for time, share in zip(plan.times, weight, strict=True) if share > 0]
        found.update(beyond_measured(cards[k], temperature, own))
    return _extrapolated(sorted(found), temperature)


def _extrapolated(times: Sequence[float], temperature: float, unit: TimeUnit = REDUCED) -> list[str]:
    told = ", ".join(shown_time(time, unit) for time in times)
    said = f"t = {told} was measured at other temperatures than T = {temperature:.3g} only: extrapolated"
    return [said] if told else []


@dataclass
class _Making:
    """The inputs that models see of one configuration, each made once.

    Attributes:
        configuration: Of which.
        temperature: ε_AA.
        structure: What is there already, and all that there will be; None: an engine makes it.
        engine: As in settings.
        device: As in settings.
        ranks: As in settings.
        progress: See :func:`predict`, `show`.
        cost: By input: what making it took.
        share: Of the prediction, done.
    """

    configuration: Configuration
    temperature: float
    structure: Structure | None
    engine: EngineChoice
    device: DeviceChoice
    ranks: int | None
    progress: Callable[[str, float], None]
    cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    share: float = 0.0
    _opened: Engine | None = None
    _known: dict[str, Made] = field(default_factory=dict)

    def usable(self, models: Sequence[LoadedModel]) -> tuple[list[LoadedModel], list[str]]:
        """The models whose inputs can be had, and what is missing for the others, in words.

        Raises:
            EngineError: None of them, for want of an engine.
            ModelError: One sees what came with its data, and nobody can make.
        """
        if self.structure is not None:
            there = set(self.structure.available())
            return [loaded for loaded in models if set(loaded.model.inputs) <= there] or list(models), []
        wanted = [self._requests(loaded) for loaded in models]
        if any(request.published for requests in wanted for request in requests):
            raise ModelError(
                "found a model that was trained on cage positions that came with its data",
                "positions of the same kind, which nobody can compute without their protocol",
                "predict a run that has them, or train with --set cage_time=5 on cages that glassmd makes",
            )
        if not any(wanted):
            return list(models), []
        left = [loaded for loaded, requests in zip(models, wanted, strict=True) if not requests]
        try:
            self._opened = get_engine(self.engine, self.device, ranks=self.ranks)
            self._require_room(mixture_of(models[0].card.mixture))
        except EngineError as error:
            if not left or self.engine != "auto" or self.ranks is not None:
                raise
            return left, [f"{error}; predicted from what needs no engine"]
        return list(models), []

    def _require_room(self, mixture: Mixture) -> None:
        """Refuse a box that is too small for an engine."""
        try:
            require_fit(float(self.configuration.box.min()), mixture, self.configuration.density)
        except EngineError as error:
            raise EngineError(error.found, error.expected, "try a model that sees thermal positions only") from error

    def of(self, loaded: LoadedModel) -> Structure:
        """What a model sees."""
        if self.structure is not None:
            there = replace(self.structure, temperature=self.temperature)
            return there.cut_off_as(mixture_of(loaded.card.mixture))
        requests, mixture = self._requests(loaded), mixture_of(loaded.card.mixture)
        before = set(self._known)
        what = " and ".join(request.structure for request in requests if request.name not in before) + " positions"

        def check() -> None:
            self.progress(what, self.share)

        structure, made = structure_of_configuration(
            self._opened, requests, self.configuration, mixture, self.temperature, check, self._known
        )
        for request in requests:
            if request.name not in before:
                add_cost(self.cost, request.structure, made[request.structure].facts)
        return structure

    def _requests(self, loaded: LoadedModel) -> tuple[Request, ...]:
        return requests_for(loaded.model.inputs, cages_at(loaded.card, self.temperature))


def _at_own_times(
    structure: Structure,
    loaded: LoadedModel,
    guarded: Guarded,
    device: DeviceChoice,
    memory: float = MEMORY,
    told: Told = None,
) -> Prediction:
    """What a model says at the times of its card."""
    where, started = torch_device(device, loaded.model), time.monotonic()
    try:
        found = in_parts(loaded.model.eval().to(where), structure, memory * GIB, told)
    except torch.OutOfMemoryError as error:
        if device != "auto":
            raise EngineError(
                f"found no room on the GPU for {structure.thermal.n_particles:,} particles", "some", "try --device cpu"
            ) from error
        found = in_parts(loaded.model.to("cpu"), structure, memory * GIB, told)
    values, spread = _by_time(found.values), None if found.spread is None else _by_time(found.spread)
    std = _residual(structure.thermal, loaded) if spread is None else spread
    return Prediction(
        times=list(loaded.card.times),
        propensity=values,
        std=_widened(std, values, guarded, unmeasured(loaded.card, guarded.temperature)),
        temperature=guarded.temperature,
        temperature_from=guarded.temperature_from,
        warnings=guarded.warnings(),
        seconds=time.monotonic() - started,
        parts=found.parts,
        target=loaded.card.target,
    )


def _widened(
    std: NDArray[np.float64], values: NDArray[np.float64], guarded: Guarded, ahead: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_times, n_particles) spreads where the training had nothing like it.

    In proportion to how much farther a particle's surroundings are than any; and, beyond the temperatures of the
    training, or of what it had of a time (n_times,), by as much of the prediction as ln T is beyond them.
    """
    beyond = np.maximum(guarded.extrapolated, ahead)[:, None]
    return np.hypot(std * np.maximum(guarded.distance, 1.0), beyond * values)


def _by_time(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.numpy().astype(np.float64).T


def predict_samples(
    models: LoadedModel | Sequence[LoadedModel],
    run: Run,
    samples: Sequence[Sample],
    settings: RunSettings,
    check: Callable[[], None] | None = None,
    times: Sequence[float] | None = None,
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """What a model says of samples of a run, in their order, and what their structures cost.

    Args:
        models: The model, or several that belong together, whose times are in √(mσ²/ε). Cages are measured as at the
            nearest temperature of the training.
        run: Of all the samples.
        samples: What to predict.
        settings: Engine and device of whoever makes structures that are missing; networks compute on the device, too.
        check: Called a few times a second; what it raises ends it.
        times: At which; those of the run's samples by default.

    Raises:
        ModelError: The model does not fit the run, has times in another unit, does not know one, or predicts another
            target than the run's labels are of.
    """
    if isinstance(models, LoadedModel):
        return _by_one(models, run, samples, settings, check, times)
    cards, temperature = [loaded.card for loaded in models], float(run.identity["temperature"])
    for card in cards:
        _require_run(card, run)
    plan = plan_of(cards, [loaded.model.inputs for loaded in models], temperature, times or run.sample_times)
    cost: dict[str, dict[str, Any]] = {}
    found: dict[int, list[Prediction]] = {}
    for k in plan.parts:
        found[k], of_one = _at_all_times(models[k], run, samples, settings, check)
        merge_cost(cost, {name: of for name, of in of_one.items() if name == "cage" or name not in cost})
    beyond = _beyond(cards, plan, temperature)
    return [
        replace(
            first := next(iter(of.values())),
            times=plan.times,
            warnings=[*first.warnings, *beyond],
            propensity=plan.together({k: one.propensity for k, one in of.items()}),
            std=plan.together({k: one.std for k, one in of.items()}),
            seconds=sum(one.seconds for one in of.values()),
        )
        for of in ({k: found[k][number] for k in plan.parts} for number in range(len(samples)))
    ], cost


def _by_one(
    loaded: LoadedModel,
    run: Run,
    samples: Sequence[Sample],
    settings: RunSettings,
    check: Callable[[], None] | None,
    times: Sequence[float] | None,
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """:func:`predict_samples` by one model, at times in its unit."""
    card, temperature = loaded.card, float(run.identity["temperature"])
    _require_run(card, run)
    card.check_unit(run.time_unit)
    times = run.sample_times if times is None else list(times)
    columns = card.check_times(times)
    unit = tau_alpha_at(card, temperature) or 1.0
    own = {time * unit: time for time in times}
    beyond = [own[time] for time in beyond_measured(card, temperature, list(own))]
    told = _extrapolated(beyond, temperature, card.time_unit)
    found, cost = _at_all_times(loaded, run, samples, settings, check)
    return [
        replace(
            one,
            times=times,
            warnings=[*one.warnings, *told],
            propensity=one.propensity[columns],
            std=one.std[columns],
        )
        for one in found
    ], cost


def _require_run(card: ModelCard, run: Run) -> None:
    card.check_mixture(run.identity["mixture"])
    card.check_target(run.target)


def _at_all_times(
    loaded: LoadedModel,
    run: Run,
    samples: Sequence[Sample],
    settings: RunSettings,
    check: Callable[[], None] | None,
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """What a model says of samples at the times of its card."""
    structures = Structures([run], loaded.model.inputs, cages_at(loaded.card, float(run.identity["temperature"])))
    structures.make([sample.key for sample in samples], settings, check=check)

    def told(_: float) -> None:
        if check is not None:
            check()

    found = []
    for sample in samples:
        told(0.0)
        structure = structures.of(sample).cut_off_as(mixture_of(loaded.card.mixture))
        require_model_fit(structure.thermal, loaded.card)
        guarded = guard(loaded.card, structure.thermal, structure.temperature)
        found.append(_at_own_times(structure, loaded, guarded, settings.device, told=told))
    return found, structures.cost


def widest(cards: Sequence[ModelCard]) -> ModelCard:
    """Of several models that belong together: the one that liquids are compared with."""
    return max(cards, key=lambda card: max(card.temperatures) / min(card.temperatures))


def require_model_fit(configuration: Configuration, card: ModelCard) -> None:
    """Refuse a configuration of other species or another dimension than a model's.

    Raises:
        ModelError: It is one.
    """
    if configuration.dimensions != card.mixture["dimensions"]:
        raise ModelError(
            f"found a configuration in {configuration.dimensions}D",
            f"{card.mixture['dimensions']}D as the model",
            "train a model of such liquids",
        )
    if tuple(configuration.species_names) != tuple(card.mixture["species"]):
        raise ModelError(
            f"found species {list(configuration.species_names)}",
            f"{card.mixture['species']} as the model",
            "name them alike, or train a model of such liquids",
        )


def _residual(configuration: Configuration, loaded: LoadedModel) -> NDArray[np.float64]:
    """(n_times, n_particles) residual on validation lineages by species and time; NaN where nobody measured it."""
    card = loaded.card
    std = np.full((len(card.times), configuration.n_particles), np.nan)
    for index, name in enumerate(card.mixture["species"]):
        if card.residual_std is not None and name in card.residual_std:
            column = np.asarray(card.residual_std[name], np.float64)[:, None]
            std[:, configuration.species == index] = column
    return std
