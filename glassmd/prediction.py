"""Predicted propensity of every particle of a snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.engines import DeviceChoice, EngineChoice, get_engine
from glassmd.errors import EngineError, ModelError
from glassmd.graphs import batch_graphs
from glassmd.learners.device import torch_device
from glassmd.mixtures import mixture_of
from glassmd.models.clock import asked_times, tau_alpha_at
from glassmd.models.guard import Guarded, TemperatureFrom, guard
from glassmd.models.store import LoadedModel, load_model
from glassmd.settings import RunSettings
from glassmd.simulation.structures import (
    CAGE,
    CageProtocol,
    Request,
    is_published,
    requests_for,
    structure_of_configuration,
)
from glassmd.stream.dataset import Run
from glassmd.stream.samples import Sample
from glassmd.stream.structures import Structures, add_cost
from glassmd.structure import Structure
from glassmd.target import PROPENSITY, Target

__all__ = ["Prediction", "predict", "predict_samples"]


_SAME_TEMPERATURE = 1e-3  # relative


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
        input_cost: By input: what computing it took; see :attr:`glassmd.stream.structures.Structures.cost`.
        seconds: What the prediction took besides.
        tau_alpha: √(mσ²/ε), of the liquid, where the model has times in units of it.
        target: What is predicted, the model's.
    """

    times: list[float]
    propensity: NDArray[np.float64]
    std: NDArray[np.float64]
    temperature: float = float("nan")
    temperature_from: TemperatureFrom = "model"
    warnings: list[str] = field(default_factory=list)
    input_cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    tau_alpha: float | None = None
    target: Target = PROPENSITY


def predict(
    configuration: Configuration,
    model: LoadedModel | Path | str,
    *,
    structure: Structure | None = None,
    temperature: float | None = None,
    times: Sequence[float] | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    force: bool = False,
    check: Callable[[], None] | None = None,
) -> Prediction:
    """Predict the propensity of every particle, or what else the model was trained on.

    Args:
        configuration: Of the model's mixture and dimension.
        model: A loaded model, which stays on the device that it computes on, or its directory.
        structure: The configuration with the inputs that the model sees; computed with the engine by default.
        temperature: k_B T / ε_AA; by default what the velocities or the structure tell, or that of the model's
            training where it knows one only.
        times: √(mσ²/ε): the model's, or others between those that lie close together; all of the model's by default.
        engine: What computes the inputs, as in settings.
        device: Where it does, and where a network computes; `auto` takes the CPU where a GPU has no room.
        force: Predict liquids, too, that are unlike all of the model's training.
        check: Called about once a second while they are computed; what it raises ends it.

    Raises:
        ModelError: The model does not fit the configuration, has seen nothing like it or does not know a time, or the
            temperature is needed.
        EngineError: Inputs are needed and there is no engine, or it failed.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(Path(model))
    card = loaded.card
    _require_fit(configuration, loaded)
    told = structure.temperature if structure is not None and temperature is None else temperature
    guarded = guard(card, configuration, told)
    if guarded.outside and not force:
        raise ModelError(
            f"found {guarded.outside[0].found}",
            f"{guarded.outside[0].expected}, which the model has seen",
            "train a model on such liquids; --force predicts all the same",
        )
    asked = asked_times(card, guarded.temperature, times)
    cost: dict[str, dict[str, Any]] = {}
    if structure is None:
        structure = _made(configuration, loaded, guarded.temperature, engine, device, check, cost)
    found = _at_own_times(structure, loaded, guarded, device)
    return replace(
        found,
        times=asked.times,
        propensity=asked.of(found.propensity),
        std=asked.of(found.std),
        tau_alpha=tau_alpha_at(card, guarded.temperature),
        input_cost=cost,
    )


def _made(
    configuration: Configuration,
    loaded: LoadedModel,
    temperature: float,
    engine: EngineChoice,
    device: DeviceChoice,
    check: Callable[[], None] | None,
    cost: dict[str, dict[str, Any]],
) -> Structure:
    """The configuration with the inputs that the model sees, made by an engine; what that took is added to `cost`."""
    requests = requests_for(loaded.model.inputs, _cage(loaded, temperature))
    if any(request.published for request in requests):
        raise ModelError(
            "found a model that was trained on cage positions that came with its data",
            "positions of the same kind, which nobody can compute without their protocol",
            "predict a run that has them, or train with --set cage_time=5 on cages that glassmd makes",
        )
    opened = get_engine(engine, device) if requests else None
    mixture = mixture_of(loaded.card.mixture)
    structure, made = structure_of_configuration(opened, requests, configuration, mixture, temperature, check)
    for name, one in made.items():
        add_cost(cost, name, one.facts)
    return structure


def _at_own_times(structure: Structure, loaded: LoadedModel, guarded: Guarded, device: DeviceChoice) -> Prediction:
    """What a model says at the times of its card."""
    where, started = torch_device(device, loaded.model), time.monotonic()
    data = batch_graphs([loaded.model.encode(structure)])
    try:
        values, spread = _computed(loaded, data, where)
    except torch.OutOfMemoryError as error:
        if device != "auto":
            raise EngineError(
                f"found no room on the GPU for {structure.thermal.n_particles:,} particles", "some", "try --device cpu"
            ) from error
        values, spread = _computed(loaded, data, torch.device("cpu"))
    std = _residual(structure.thermal, loaded) if spread is None else spread
    return Prediction(
        times=list(loaded.card.times),
        propensity=values,
        std=_widened(std, values, guarded),
        temperature=guarded.temperature,
        temperature_from=guarded.temperature_from,
        warnings=guarded.warnings(),
        seconds=time.monotonic() - started,
        target=loaded.card.target,
    )


def _widened(std: NDArray[np.float64], values: NDArray[np.float64], guarded: Guarded) -> NDArray[np.float64]:
    """(n_times, n_particles) spreads where the training had nothing like it.

    In proportion to how much farther a particle's surroundings are than any; and, beyond the temperatures of the
    training, by as much of the prediction as ln T is beyond them.
    """
    return np.hypot(std * np.maximum(guarded.distance, 1.0), guarded.extrapolated * values)


@torch.no_grad()
def _computed(
    loaded: LoadedModel, data: Data, where: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """What is predicted and, where the model knows it, its spread, (n_times, n_particles) each."""
    loaded.model.eval().to(where)
    data = copy(data).to(where)
    values, spread = loaded.model(data), loaded.model.spread(data)
    return _by_time(values), None if spread is None else _by_time(spread)


def _by_time(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.cpu().numpy().astype(np.float64).T


def predict_samples(
    loaded: LoadedModel,
    run: Run,
    samples: Sequence[Sample],
    settings: RunSettings,
    check: Callable[[], None] | None = None,
    times: Sequence[float] | None = None,
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """What a model says of samples of a run, in their order, and what their structures cost.

    Args:
        loaded: The model. Cages are measured as at the nearest temperature of its training.
        run: Of all the samples.
        samples: What to predict.
        settings: Engine and device of whoever makes structures that are missing; networks compute on the device, too.
        check: Called a few times a second; what it raises ends it.
        times: At which; those of the run's samples by default.

    Raises:
        ModelError: The model does not fit the run, has times in another unit, does not know one, or predicts another
            target than the run's labels are of.
    """
    loaded.card.check_mixture(run.identity["mixture"])
    loaded.card.check_unit(run.time_unit)
    loaded.card.check_target(run.target)
    times = run.sample_times if times is None else list(times)
    columns = loaded.card.check_times(times)
    cage = _cage(loaded, float(run.identity["temperature"]))
    structures = Structures([run], loaded.model.inputs, cage)
    structures.make([sample.key for sample in samples], settings, check=check)
    found = []
    for sample in samples:
        if check is not None:
            check()
        structure = structures.of(sample)
        _require_fit(structure.thermal, loaded)
        guarded = guard(loaded.card, structure.thermal, structure.temperature)
        one = _at_own_times(structure, loaded, guarded, settings.device)
        found.append(replace(one, times=times, propensity=one.propensity[columns], std=one.std[columns]))
    return found, structures.cost


def _cage(loaded: LoadedModel, temperature: float) -> Request:
    """How cages are measured at a temperature: as in the training, between whose temperatures they last in proportion
    to τ_α.
    """
    known, card = loaded.card.cage_protocols, loaded.card
    if not known:
        return CAGE
    nearest = min(known, key=lambda name: abs(float(name) - temperature))
    if is_published(known[nearest]):
        return Request("cage", published=True)
    protocol, tau = CageProtocol.from_dict(known[nearest]), tau_alpha_at(card, temperature)
    if tau is None or len(known) == 1 or math.isclose(float(nearest), temperature, rel_tol=_SAME_TEMPERATURE):
        return Request("cage", protocol)
    between = CageProtocol.for_state(tau, shortest=card.times[0] * tau)
    return Request("cage", replace(between, replicas=protocol.replicas))


def _require_fit(configuration: Configuration, loaded: LoadedModel) -> None:
    card = loaded.card
    if configuration.dimensions != card.mixture["dimensions"]:
        raise ModelError(
            f"found a configuration in {configuration.dimensions}D",
            f"{card.mixture['dimensions']}D as the model",
        )
    if tuple(configuration.species_names) != tuple(card.mixture["species"]):
        raise ModelError(
            f"found species {list(configuration.species_names)}", f"{card.mixture['species']} as the model"
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
