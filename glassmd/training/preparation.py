"""What is settled before a training begins: times, structures, what it goes on from, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glassmd.errors import RunError, SettingsError
from glassmd.learners import model_class
from glassmd.learners.base import PropensityModel
from glassmd.processes import Processes
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.stream.structures import Structures, cage_asked
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.structure import INPUTS
from glassmd.target import PROPENSITY
from glassmd.time_unit import TAU_ALPHA
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.tuning import begun_from

__all__ = [
    "begun_with", "choose_times", "inputs_of", "refuse_run", "require_known_unit", "require_positions", "structures_of",
]  # fmt: skip


def choose_times(runs: Sequence[Run], settings: TrainSettings, directory: Path, processes: Processes) -> None:
    """The output times and their unit, which stays that of the training that goes on."""
    if settings.time_unit == TAU_ALPHA:
        path = latest_checkpoint(directory) if processes.first else None
        known = {} if path is None else load_checkpoint(path)[1]["identity"].get("tau_alphas", {})
        use_tau_alphas(runs, settings.tau_alpha, processes.tell(known))
    if settings.first_time is not None:
        for run in runs:
            run.use_times_from(settings.first_time)


def require_known_unit(settings: TrainSettings, place: Path) -> None:
    """Refuse a unit that nobody can know before a liquid is simulated."""
    if settings.time_unit == TAU_ALPHA and settings.tau_alpha is None and not (place / "run.json").exists():
        raise RunError(
            "found time_unit = tau_alpha for a liquid that has not been simulated yet", "to be told its τ_α",
            "try --set tau_alpha=…, in √(mσ²/ε)",
        )  # fmt: skip


def require_positions(settings: Settings) -> None:
    """Refuse a target that a simulation with these settings keeps nothing to compute from.

    Raises:
        SettingsError: It keeps propensities, and another target is asked for.
    """
    if settings.run.keep == "propensities" and settings.train.target != PROPENSITY:
        raise SettingsError(
            f"found target = {settings.train.target} for a simulation with keep = propensities",
            "positions of replicas, from which it is computed",
            "try --set keep=positions, or --target propensity",
        )


def refuse_run(out: Path) -> None:
    """Refuse to write a model into a run directory.

    Raises:
        RunError: `out` is one.
    """
    if (out / "run.json").exists():
        raise RunError(f"{out} is a run", "a model directory, or a new one", "choose another --out")


def begun_with(settings: Settings, runs: Sequence[Run]) -> tuple[Settings, PropensityModel | None]:
    """The settings, and the trained model that they begin with."""
    train, loaded = begun_from(settings.train, runs)
    return settings.model_copy(update={"train": train}), None if loaded is None else loaded.model


def inputs_of(settings: Settings) -> tuple[str, ...]:
    """What the learner of the settings sees, as far as that is known before the data."""
    if settings.train.from_model is not None:
        return tuple(settings.train.input or INPUTS)
    return tuple(settings.train.input or model_class(settings.train.model).default_inputs)


def structures_of(runs: Sequence[Run], settings: Settings) -> Structures:
    """What the learner of the settings sees of the runs."""
    learner = model_class(settings.train.model)
    cage = cage_asked(settings, rattling=learner.needs_rattling)
    return Structures(runs, settings.train.input or learner.default_inputs, cage)
