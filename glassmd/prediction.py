"""Predicted propensity of every particle of a snapshot."""

from __future__ import annotations

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
from glassmd.errors import EngineError, ModelError, RunError, TrajectoryError
from glassmd.fields import (
    GSD_PROPENSITY,
    GSD_PROPENSITY_STD,
    GSD_PROPENSITY_TAU_ALPHA,
    GSD_PROPENSITY_TAU_ALPHA_STD,
)
from glassmd.graphs import batch_graphs
from glassmd.learners.device import torch_device
from glassmd.ledger.keys import KINDS, key_of
from glassmd.ledger.run import RunDirectory
from glassmd.mixtures import mixture_of
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
from glassmd.time_unit import REDUCED, TAU_ALPHA, TimeUnit
from glassmd.trajectory import Frame, check_overlaps, read_frames, write_frames

__all__ = ["Prediction", "predict", "predict_file", "predict_samples"]


_LEDGER = ("parents", "structures", "segments", "index", "requests", "engines", "claims", "workers")
"""Folders of a run that hold what glassmd commits, and nothing else."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted propensities.

    Attributes:
        times: Output times, in `time_unit`.
        propensity: (n_times, n_particles) float64, σ_AA.
        std: (n_times, n_particles) float64, σ_AA: how far the truth is expected from the prediction, particle by
            particle where the model says so, else by species and time on validation lineages; NaN where it was
            never validated.
        input_cost: By input: what computing it took; see :attr:`glassmd.stream.structures.Structures.cost`.
        seconds: What the prediction took besides.
        time_unit: Of the times, the model's.
    """

    times: list[float]
    propensity: NDArray[np.float64]
    std: NDArray[np.float64]
    input_cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    time_unit: TimeUnit = REDUCED


def predict(
    configuration: Configuration,
    model: LoadedModel | Path | str,
    *,
    structure: Structure | None = None,
    temperature: float | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    check: Callable[[], None] | None = None,
) -> Prediction:
    """Predict the propensity of every particle.

    Args:
        configuration: Of the model's mixture and dimension.
        model: A loaded model, which stays on the device that it computes on, or its directory.
        structure: The configuration with the inputs that the model sees; computed with the engine by default.
        temperature: k_B T / ε_AA; that of the model's training by default.
        engine: What computes the inputs, as in settings.
        device: Where it does, and where a network computes; `auto` takes the CPU where a GPU has no room.
        check: Called about once a second while they are computed; what it raises ends it.

    Raises:
        ModelError: The model does not fit the configuration, or the temperature is needed.
        EngineError: Inputs are needed and there is no engine, or it failed.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(Path(model))
    _require_fit(configuration, loaded)
    where = torch_device(device, loaded.model)
    cost: dict[str, dict[str, Any]] = {}
    if structure is None:
        known = temperature if temperature is not None else _only_temperature(loaded)
        requests = requests_for(loaded.model.inputs, _cage(loaded, known))
        if any(request.published for request in requests):
            raise ModelError(
                "found a model that was trained on cage positions that came with its data",
                "positions of the same kind, which nobody can compute without their protocol",
                "predict a run that has them, or train with --set cage_time=5 on cages that glassmd makes",
            )
        opened = get_engine(engine, device) if requests else None
        mixture = mixture_of(loaded.card.mixture)
        structure, made = structure_of_configuration(opened, requests, configuration, mixture, known, check)
        for name, one in made.items():
            add_cost(cost, name, one.facts)
    started = time.monotonic()
    data = batch_graphs([loaded.model.encode(structure)])
    try:
        values, spread = _computed(loaded, data, where)
    except torch.OutOfMemoryError as error:
        if device != "auto":
            raise EngineError(
                f"found no room on the GPU for {configuration.n_particles:,} particles", "some", "try --device cpu"
            ) from error
        values, spread = _computed(loaded, data, torch.device("cpu"))
    std = _residual(configuration, loaded) if spread is None else spread
    seconds = time.monotonic() - started
    return Prediction(list(loaded.card.times), values, std, cost, seconds, loaded.card.time_unit)


@torch.no_grad()
def _computed(
    loaded: LoadedModel, data: Data, where: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Propensity and, where the model knows it, its spread, (n_times, n_particles) each, σ_AA."""
    loaded.model.eval().to(where)
    data = copy(data).to(where)
    values, spread = loaded.model(data), loaded.model.spread(data)
    return _by_time(values), None if spread is None else _by_time(spread)


def _by_time(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.cpu().numpy().astype(np.float64).T


def _log_of(prediction: Prediction) -> dict[str, NDArray[np.float32]]:
    """GSD log chunks of a prediction."""
    log: dict[str, NDArray[np.float32]] = {}
    names = GSD_PROPENSITY, GSD_PROPENSITY_STD
    if prediction.time_unit == TAU_ALPHA:
        names = GSD_PROPENSITY_TAU_ALPHA, GSD_PROPENSITY_TAU_ALPHA_STD
    for t, values, std in zip(prediction.times, prediction.propensity, prediction.std, strict=True):
        log[names[0].format(time=t)] = values.astype(np.float32)
        log[names[1].format(time=t)] = std.astype(np.float32)
    return log


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
        ModelError: The model does not fit the run, has times in another unit, or does not know one.
    """
    loaded.card.check_mixture(run.identity["mixture"])
    loaded.card.check_unit(run.time_unit)
    times = run.sample_times if times is None else list(times)
    columns = loaded.card.check_times(times)
    cage = _cage(loaded, float(run.identity["temperature"]))
    structures = Structures([run], loaded.model.inputs, cage)
    structures.make([sample.key for sample in samples], settings, check=check)
    found = []
    for sample in samples:
        if check is not None:
            check()
        one = predict(sample.parent, loaded, structure=structures.of(sample), device=settings.device)
        found.append(replace(_at_times(one, columns), times=times))
    return found, structures.cost


def _cage(loaded: LoadedModel, temperature: float) -> Request:
    known = loaded.card.cage_protocols
    if not known:
        return CAGE
    nearest = min(known, key=lambda name: abs(float(name) - temperature))
    if is_published(known[nearest]):
        return Request("cage", published=True)
    return Request("cage", CageProtocol.from_dict(known[nearest]))


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


def _only_temperature(loaded: LoadedModel) -> float:
    known = loaded.card.temperatures
    if len(known) != 1:
        raise ModelError(
            f"found no temperature of the snapshot, and a model trained at {', '.join(f'{t:g}' for t in known)}",
            "the temperature of the liquid",
            f"try --temperature {known[0]:g}",
        )
    return known[0]


def _residual(configuration: Configuration, loaded: LoadedModel) -> NDArray[np.float64]:
    """(n_times, n_particles) residual on validation lineages by species and time; NaN where nobody measured it."""
    card = loaded.card
    std = np.full((len(card.times), configuration.n_particles), np.nan)
    for index, name in enumerate(card.mixture["species"]):
        if card.residual_std is not None and name in card.residual_std:
            column = np.asarray(card.residual_std[name], np.float64)[:, None]
            std[:, configuration.species == index] = column
    return std


def predict_file(
    snapshot: Path,
    model: Path,
    out: Path | None = None,
    *,
    frame: int = -1,
    times: list[float] | None = None,
    temperature: float | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
) -> tuple[dict[str, Any], Configuration, Prediction]:
    """Write a snapshot with `log/particles/propensity_t<time>` (and `_std`), ready to colour by.

    Args:
        snapshot: GSD file.
        model: Model directory.
        out: GSD file to write; `<snapshot>.predicted.gsd` by default, beside the snapshot, or in the current directory
            where that lies in a run.
        frame: Which frame of the snapshot, from the end if negative.
        times: Some of the model's times; all by default.
        temperature: k_B T / ε_AA; what the snapshot says by default, or the model's.
        engine: What computes the inputs that the model sees, as in settings.
        device: Where it does, and where a network computes.

    Returns:
        What `glassmd predict --json` prints, the configuration, and the prediction.

    Raises:
        RunError: `out` lies among the files of a run, or the snapshot is not the one that its sidecar describes.
        TrajectoryError: The snapshot cannot be used.
        ModelError: The model does not fit the snapshot, or does not know the times.
    """
    started = time.monotonic()
    out = out or _beside(snapshot)
    if out.exists() and snapshot.exists() and out.samefile(snapshot):
        raise TrajectoryError(f"found --out {out}, the snapshot itself", "another file", "choose another --out")
    _refuse_ledger(out)
    loaded = load_model(model)
    _verify(snapshot)
    found = read_frames(snapshot, loaded.card.mixture["species"], [frame])[0]
    configuration = found.configuration
    check_overlaps(snapshot, configuration)
    if found.identity is not None:
        loaded.card.check_mixture(found.identity["mixture"])
        temperature = temperature if temperature is not None else found.identity.get("temperature")
    prediction = predict(configuration, loaded, temperature=temperature, engine=engine, device=device)
    if times is not None:
        prediction = _at_times(prediction, loaded.card.check_times(times))
    write_frames(out, [Frame(configuration, found.step, {**found.log, **_log_of(prediction)})])
    facts = {
        "output": str(out),
        "n_particles": configuration.n_particles,
        "times": prediction.times,
        "time_unit": prediction.time_unit,
        "propensity_mean": _means(configuration, prediction, loaded.card.mixture["species"]),
        "trained_species": list(loaded.card.trained_species),
        "mixture_checked": found.identity is not None,
        "inputs": list(loaded.model.inputs),
        "input_cost": prediction.input_cost,
        "prediction_seconds": prediction.seconds,
        "warnings": _warnings(loaded),
        "seconds": time.monotonic() - started,
    }
    return facts, configuration, prediction


def _warnings(loaded: LoadedModel) -> list[str]:
    """What should be known of the numbers."""
    if loaded.card.provenance.get("noise_known", True):
        return []
    return ["no parent of the training had two replicas: _std counts the noise of the labels as an error of the model"]


def _run_around(path: Path) -> Path | None:
    """The run directory that a path lies in, links followed; None where it lies in none."""
    return next((folder for folder in path.resolve().parents if (folder / "run.json").exists()), None)


def _beside(snapshot: Path) -> Path:
    """Where a prediction goes if nobody says: never into a run."""
    out = snapshot.with_suffix(".predicted.gsd")
    return out if _run_around(snapshot) is None else Path(out.name)


def _refuse_ledger(out: Path) -> None:
    run = _run_around(out)
    part = None if run is None else out.resolve().relative_to(run).parts[0]
    if run is not None and part in _LEDGER:
        raise RunError(
            f"found --out {out} in {run}/{part}", "a place outside of the run's files", "choose another --out"
        )


def _verify(snapshot: Path) -> None:
    """Check a committed file of a run against its sidecar; other snapshots have none."""
    root = snapshot.resolve().parent.parent
    if snapshot.resolve().parent.name not in KINDS or not (root / "run.json").is_file():
        return
    key = key_of(snapshot.name.split(".")[0])
    entry = RunDirectory.open(root).entry(key.kind, key.name)
    if entry is not None:
        entry.verify()


def _at_times(prediction: Prediction, columns: Sequence[int]) -> Prediction:
    """Some of the times, in this order."""
    chosen = list(columns)
    return replace(
        prediction,
        times=[prediction.times[column] for column in chosen],
        propensity=prediction.propensity[chosen],
        std=prediction.std[chosen],
    )


def _means(configuration: Configuration, prediction: Prediction, species: Sequence[str]) -> dict[str, list[float]]:
    """Mean propensity at every time of the species that are there, σ_AA."""
    return {
        name: [float(row[mask].mean()) for row in prediction.propensity]
        for name in species
        if (mask := configuration.of_species(name)).any()
    }
