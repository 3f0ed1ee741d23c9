"""`predict` for people's files: frames of any format in, the same frames with what a model says of them out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines import DeviceChoice, EngineChoice
from glassmd.errors import RunError, SettingsError, TrajectoryError
from glassmd.fields import label_chunk
from glassmd.learners.tiles import MEMORY
from glassmd.ledger.keys import KINDS, key_of
from glassmd.ledger.run import RunDirectory
from glassmd.mixtures import Mixture, mixture_of
from glassmd.models.choice import model_for
from glassmd.models.clock import asked_times
from glassmd.models.guard import Temperature, temperature_of_frames
from glassmd.models.known import about, model_directory
from glassmd.models.store import LoadedModel, load_models
from glassmd.prediction import Prediction, predict, require_model_fit, widest
from glassmd.show import Counted
from glassmd.stream.structures import merge_cost
from glassmd.target import quantity
from glassmd.time_unit import REDUCED
from glassmd.trajectory import Frame, check_overlaps
from glassmd.trajectory.trajectory import Trajectory, open_trajectory
from glassmd.trajectory.writing import FrameWriter, writable_format

__all__ = ["frame_numbers", "predict_file", "refuse_ledger"]

_LEDGER = ("parents", "structures", "segments", "index", "requests", "engines", "claims", "workers")
"""Folders of a run that hold what glassmd commits, and nothing else."""


_SAME_TEMPERATURE = 0.02  # relative
_TELLING = 2.0  # seconds from which on a time that is left can be told
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(\d*))?")


def frame_numbers(text: str, count: int) -> list[int]:
    """Numbers of frames from `all`, `-1`, `0,5,-1` or a slice as Python has it, such as `::10`.

    Args:
        text: Which.
        count: Frames that there are.

    Raises:
        TrajectoryError: A frame that is not there, or none.
        SettingsError: It cannot be read.

    Example:
        >>> frame_numbers("all", 3), frame_numbers("-1", 3), frame_numbers("1::2", 6)
        ([0, 1, 2], [2], [1, 3, 5])
    """
    found = _SLICE.fullmatch(text.strip())
    if text == "all":
        numbers = list(range(count))
    elif found is not None and found[3] != "0":
        numbers = list(range(count)[slice(*(int(part) if part else None for part in found.groups()))])
    else:
        try:
            numbers = [int(part) for part in text.split(",")]
        except ValueError as error:
            raise SettingsError(
                f"found --frames {text}", "all, -1, 0,5 or a slice", "for example --frames ::10"
            ) from error
    wrong = [number for number in numbers if not -count <= number < count]
    if wrong or not numbers:
        found_ = f"no frame {wrong[0]}" if wrong else f"no frame in {text}"
        raise TrajectoryError(f"found {found_} of {count}", f"a frame below {count}", "change --frames")
    return [number % count for number in numbers]


def predict_file(
    snapshot: Path,
    model: Path | str | None = None,
    out: Path | None = None,
    *,
    frames: str = "-1",
    times: list[float] | None = None,
    inputs: Sequence[str] | None = None,
    temperature: float | None = None,
    mixture: Mixture | None = None,
    types: Mapping[str, str] | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    ranks: int | None = None,
    memory: float = MEMORY,
    force: bool = False,
    show: Callable[[Counted], None] = lambda counted: None,
) -> tuple[dict[str, Any], Configuration, Prediction]:
    """Write frames with `log/particles/propensity_t<time>` (and `_std`) of every particle, ready to colour by.

    Args:
        snapshot: GSD file, LAMMPS dump or data, extended XYZ. Velocities and what else is known of particles is kept.
        model: Model directory, or the name of a model that comes with glassmd; the one that knows the snapshot's
            liquid by default.
        out: File to write, GSD, extended XYZ or LAMMPS dump by its ending; `<snapshot>.predicted.gsd` by default,
            beside the snapshot, or in the current directory where that lies in a run.
        frames: Which frames of the snapshot; see :func:`frame_numbers`.
        times: √(mσ²/ε): of the model's, or others between those that lie close together; all by default.
        inputs: Of several models, only those that see nothing but these.
        temperature: k_B T / ε_AA; what the snapshot says by default, or what its frames tell together, or the model's.
        mixture: What the snapshot is made of; what it says by default.
        types: Species by the name of a type of the snapshot.
        engine: What computes the inputs that the model sees, as in settings.
        device: Where it does, and where a network computes.
        ranks: That it cuts a frame among, as in settings.
        memory: GiB that a prediction may hold at a time; see :func:`glassmd.prediction.predict`.
        force: Predict liquids, too, that are unlike all of the model's training.
        show: Told how far it is, about once a second.

    Returns:
        What `glassmd predict --json` prints, and the configuration and prediction of the last frame.

    Raises:
        RunError: `out` lies among the files of a run, or the snapshot is not the one that its sidecar describes.
        TrajectoryError: The snapshot cannot be used.
        ModelError: The model does not fit the snapshot, or does not know the times.
    """
    started = time.monotonic()
    out = out or _beside(snapshot)
    if out.exists() and snapshot.exists() and out.samefile(snapshot):
        raise TrajectoryError(f"found --out {out}, the snapshot itself", "another file", "choose another --out")
    refuse_ledger(out)
    writable_format(out)
    directory = model_for(snapshot, mixture, types) if model is None else model_directory(model)
    models = load_models(directory)
    loaded = models[0]
    if times is not None and len(models) == 1 and loaded.card.time_unit == REDUCED:
        asked_times(loaded.card, loaded.card.temperatures[0], times)
    _verify(snapshot)
    if mixture is not None:
        loaded.card.check_mixture(mixture.identity())
    liquid = mixture_of(loaded.card.mixture)
    with open_trajectory(snapshot, mixture=liquid, types=types, snapshots=True) as trajectory:
        told_temperature, contradicted = _require_liquid(trajectory, loaded, temperature)
        numbers = frame_numbers(frames, len(trajectory))
        only = trajectory[numbers[0]] if len(numbers) == 1 else None  # read once: what is found of it is kept

        def frame_of(number: int) -> Frame:
            return trajectory[number] if only is None else only

        known = _temperature(frame_of, numbers, models, told_temperature)
        clock = _Clock(len(numbers), show)

        def predicted(frame: Frame) -> Prediction:
            check_overlaps(snapshot, frame.configuration)
            found = predict(
                frame.configuration,
                models if len(models) > 1 else loaded,
                temperature=known.value,
                times=times,
                inputs=inputs,
                engine=engine,
                device=device,
                ranks=ranks,
                memory=memory,
                force=force,
                show=clock.doing,
            )
            return replace(found, temperature_from=known.told_by, warnings=[*found.warnings, *known.warnings()])

        with FrameWriter(out) as writer:
            done = _Done()
            for number in numbers:
                frame = frame_of(number)
                prediction = predicted(frame)
                log = {**frame.log, **_log_of(prediction)}
                shown = None if trajectory.time_unit == "steps" else frame.time
                writer.append(Frame(frame.configuration, frame.step, log, shown), trajectory.original(number))
                done.add(frame.configuration, prediction)
                clock.frame_done()
    notes = [note for note in trajectory.notes if "no step numbers" not in note]
    facts = {
        "output": str(out),
        "n_particles": trajectory.n_particles,
        "frames": numbers,
        "times": prediction.times,
        "time_unit": REDUCED,
        "tau_alpha": prediction.tau_alpha,
        "target": prediction.target,
        "unit": quantity(prediction.target).unit,
        "propensity_mean": done.mean(),
        "trained_species": list(loaded.card.trained_species),
        "mixture_checked": bool(trajectory.identity) or mixture is not None,
        "inputs": list(prediction.inputs),
        "model": str(directory if model is None else model) if (told := about(directory)) is None else directory.name,
        "model_version": None if told is None else told.version,
        "input_cost": done.cost,
        "prediction_seconds": done.seconds,
        "parts": prediction.parts,
        "temperature": prediction.temperature,
        "temperature_from": prediction.temperature_from,
        "warnings": [*_warnings(loaded), *contradicted, *done.warnings, *notes],
        "seconds": time.monotonic() - started,
    }
    return facts, frame.configuration, prediction


class _Clock:
    """Tells how far a prediction of frames is.

    Args:
        total: How many.
        show: Whom it tells.
    """

    def __init__(self, total: int, show: Callable[[Counted], None]) -> None:
        self._total, self._show, self._done = total, show, 0
        self._began = self._ended = time.monotonic()
        self._what, self._share = "", 0.0
        self._since = self._began, 0.0

    def doing(self, what: str, share: float) -> None:
        """What is being done with a frame, and the share of the frame that is done."""
        now = time.monotonic()
        if what != self._what or share < self._share:
            self._since = now, share
        self._what, self._share = what, share
        self._show(Counted(self._done, self._total, now - self._began, what, share, self._left(now)))

    def _left(self, now: float) -> float | None:
        """Seconds: as long as this has been done so far for every share, or as long as a frame took so far for each."""
        if self._total == 1:
            began, share = self._since
            done = self._share - share
            return (now - began) * (1 - self._share) / done if done > 0 and now - began > _TELLING else None
        if not self._done or now - self._began < _TELLING:
            return None
        each = (self._ended - self._began) / self._done
        return max(0.0, each * (self._total - self._done) - (now - self._ended))

    def frame_done(self) -> None:
        """One more frame is done."""
        self._ended = time.monotonic()
        self._done, self._what, self._share = self._done + 1, "", 0.0
        self._show(Counted(self._done, self._total, self._ended - self._began))


@dataclass(eq=False)
class _Done:
    """What predicting some frames came to."""

    means: list[dict[str, list[float]]] = field(default_factory=list)
    cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def mean(self) -> dict[str, list[float]]:
        """Over the frames, by species."""
        return {name: np.mean([one[name] for one in self.means], axis=0).tolist() for name in self.means[0]}

    def add(self, configuration: Configuration, prediction: Prediction) -> None:
        """One more frame."""
        self.means.append(_means(configuration, prediction, configuration.species_names))
        of_frame = {name: {"share_of_label": None, **one} for name, one in prediction.input_cost.items()}
        merge_cost(self.cost, of_frame)
        self.seconds += prediction.seconds
        self.warnings += [one for one in prediction.warnings if one not in self.warnings]


def _require_liquid(
    trajectory: Trajectory, loaded: LoadedModel, temperature: float | None
) -> tuple[float | None, list[str]]:
    """The temperature, after the liquid was found to be the model's, and in words that the file says another."""
    identity = trajectory.identity
    if identity:
        loaded.card.check_mixture(identity["mixture"])
    own = identity.get("temperature")
    if temperature is None or own is None or abs(temperature / own - 1) <= _SAME_TEMPERATURE:
        return temperature if temperature is not None else own, []
    return temperature, [f"T = {temperature:g} was told of a file that says T = {own:g}"]


def _temperature(
    frame_of: Callable[[int], Frame], numbers: Sequence[int], models: Sequence[LoadedModel], told: float | None
) -> Temperature:
    """One of all frames, so that they are predicted at the same times."""
    if told is not None:
        return Temperature(told, "told")
    card = widest([loaded.card for loaded in models])
    require_model_fit(frame_of(numbers[0]).configuration, card)
    return temperature_of_frames(card, (frame_of(number).configuration for number in numbers))


def _log_of(prediction: Prediction) -> dict[str, NDArray[np.float32]]:
    """GSD log chunks of a prediction."""
    log: dict[str, NDArray[np.float32]] = {}
    target = prediction.target
    for t, values, std in zip(prediction.times, prediction.propensity, prediction.std, strict=True):
        log[label_chunk(target, t)] = values.astype(np.float32)
        log[label_chunk(target, t, "std")] = std.astype(np.float32)
    return log


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


def refuse_ledger(out: Path, option: str = "--out") -> None:
    """Refuse to write among the files of a run.

    Raises:
        RunError: `out`, which `option` names, lies there.
    """
    run = _run_around(out)
    part = None if run is None else out.resolve().relative_to(run).parts[0]
    if run is not None and part in _LEDGER:
        raise RunError(
            f"found {option} {out} in {run}/{part}", "a place outside of the run's files", f"choose another {option}"
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


def _means(configuration: Configuration, prediction: Prediction, species: Sequence[str]) -> dict[str, list[float]]:
    """Mean of what is predicted at every time of the species that are there."""
    return {
        name: [float(row[mask].mean()) for row in prediction.propensity]
        for name in species
        if (mask := configuration.of_species(name)).any()
    }
