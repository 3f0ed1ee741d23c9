"""Settings of a run and of a training, checked strictly: an unknown key is an error with its nearest match.

A TOML file holds the run's keys at the top and the training's under `[train]`; a command-line flag of the
same name wins over the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from glassmd.errors import SettingsError
from glassmd.mixtures import Mixture, MixtureTables, get_mixture, is_mixture_file, mixture_setting
from glassmd.storage import read_toml
from glassmd.structure import INPUTS
from glassmd.target import Target
from glassmd.time_unit import TimeUnit

__all__ = [
    "RunSettings",
    "Settings",
    "TrainSettings",
    "build_settings",
    "continued",
    "inputs_of",
    "load_settings",
    "parse_times",
    "steps_of_times",
    "template",
    "times_of",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


_MOST_REPLICAS = 10**7
"""In a run: its ledger is a list in memory, and every block of replicas a file."""

_MOST_TIMES = 10**4


def parse_times(text: Any) -> Any:
    """Output times from `0.1,1,10`, `log:FIRST:LAST:COUNT` or a list of numbers.

    Example:
        >>> parse_times("0.1, 1,10")
        [0.1, 1.0, 10.0]
        >>> [round(t, 6) for t in parse_times("log:0.1:10:3")]
        [0.1, 1.0, 10.0]
    """
    if not isinstance(text, str):
        return text
    try:
        if text.startswith("log:"):
            first, last, count = text[4:].split(":")
            bounds = float(first), float(last)
            if not (0 < bounds[0] < bounds[1] < float("inf")):
                raise ValueError
            number = int(count)
            if number < 1:
                raise ValueError
            if number <= _MOST_TIMES:
                return [float(t) for t in np.geomspace(*bounds, number)]
        else:
            return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"times {text!r} are neither '0.1,1,10' nor 'log:FIRST:LAST:COUNT'") from error
    raise ValueError(f"times {text!r} are too many: at most {_MOST_TIMES:,} times")


def times_of(text: str) -> list[float]:
    """Times from a command-line option; see :func:`parse_times`.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        return list(parse_times(text))
    except ValueError as error:
        raise SettingsError(f"found times {text!r}", "'0.1,1,10' or 'log:FIRST:LAST:COUNT'") from error


def inputs_of(text: str) -> list[str]:
    """Kinds of positions from a command-line option, with commas between them.

    Raises:
        SettingsError: One that there is not.

    Example:
        >>> inputs_of("thermal, inherent")
        ['thermal', 'inherent']
    """
    return _known_inputs(_words(text))


def _known_inputs(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in INPUTS]
    if unknown:
        raise SettingsError(f"found input {unknown[0]!r}", f"some of {', '.join(INPUTS)}", "try --input thermal")
    return names


def steps_of_times(times: list[float], time_step: float) -> list[int]:
    """Step numbers of output times.

    Raises:
        SettingsError: Times not increasing, not positive or not multiples of the step.

    Example:
        >>> steps_of_times([0.1, 1.0], 0.005)
        [20, 200]
    """
    if not all(np.isfinite(times)) or not times or min(times) <= 0 or any(b <= a for a, b in pairwise(times)):
        raise SettingsError(
            f"found times {times}", "positive times in increasing order", "for example --times 0.1,1,10"
        )
    steps = [round(t / time_step) for t in times]
    names = [f"{time:g}" for time in times]
    if len(set(names)) < len(names):
        raise SettingsError(
            f"found times {times}", "times that differ in their first six digits, which name the labels"
        )
    for time, step in zip(times, steps, strict=True):
        if step < 1 or abs(step * time_step - time) > 1e-6 * time_step * max(1, step):
            raise SettingsError(
                f"found time {time:g}, which is not a multiple of time_step = {time_step:g}",
                f"for example {max(1, step) * time_step:g}",
                "change --times or --set time_step=...",
            )
    return steps


def _resolved(paths: Any) -> Any:
    """Paths that stay the same wherever the next command is typed."""
    paths = [paths] if isinstance(paths, str) else paths
    if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
        return [str(Path(path).resolve()) for path in paths]
    return paths


def _numbers(values: Any) -> Any:
    """A list from one number, or from numbers with commas between them."""
    values = [float(part) for part in values.split(",")] if isinstance(values, str) else values
    return [values] if isinstance(values, int | float) else values


def _words(text: Any) -> Any:
    """A list from words with commas between them."""
    return [word.strip() for word in text.split(",")] if isinstance(text, str) else text


def _check_counts(mixture: Mixture, particles: int) -> None:
    """Refuse so few particles that a species has none."""
    lacking = [name for name, n in zip(mixture.species, mixture.counts(particles), strict=True) if n == 0]
    if lacking:
        needed = sum(mixture.composition) / min(mixture.composition)
        raise SettingsError(
            f"found {particles} particles of {mixture.name}, none of them {lacking[0]}",
            "some of each species",
            f"try --particles {math.ceil(needed)}",
        )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class RunSettings(_Strict):
    """What is simulated: the liquid, its lineages, parents, replicas and times.

    Lengths in σ_AA, energies and temperatures in ε_AA, times in √(mσ²/ε).
    """

    mixture: str | MixtureTables = Field(
        "kob-andersen", description="name of the mixture, or a TOML file that describes it (glassmd init --mixture)"
    )
    truncation: str = Field(
        "shifted",
        description="shifted, force-shifted, truncated or xplor; part of the mixture's identity; its file may say",
    )
    start: Annotated[list[str], BeforeValidator(_resolved)] | None = Field(
        None, description="run directories or files whose configurations are the parents; default: equilibrate"
    )
    particles: Annotated[int, Field(ge=10)] = Field(1000, description="particles in the box")
    temperature: Positive = Field(0.64, description="temperature of the liquid")
    density: Positive | None = Field(None, description="number density; default: the mixture's")
    lineages: Count = Field(6, description="independently equilibrated liquids, held-out ones included")
    validation_lineages: Annotated[int, Field(ge=0)] = Field(1, description="lineages that choose the checkpoint")
    test_lineages: Annotated[int, Field(ge=0)] = Field(1, description="lineages that no training ever sees")
    parents: Count = Field(4, description="parent configurations per lineage")
    replicas: Count = Field(4, description="replicas per parent of a training lineage")
    held_out_replicas: Count = Field(32, description="replicas per parent of a held-out lineage: they set the ceiling")
    times: Annotated[list[float], BeforeValidator(parse_times)] = Field(
        [0.1, 1.0, 10.0], description="output times: a list, '0.1,1,10' or 'log:0.1:1000:12'"
    )
    keep: Literal["positions", "propensities"] = Field(
        "positions",
        description="what segments hold: positions of every replica, or propensities, reduced on the device "
        "and smaller by the number of replicas",
    )
    time_step: Positive = Field(0.005, description="integration step")
    ensemble: Literal["nvt", "nve"] = Field("nvt", description="replicas at constant temperature or energy")
    thermostat_time: Positive = Field(2.0, description="coupling time of the replicas' thermostat (nvt)")
    parent_spacing: NonNegative = Field(
        0.0, description="time between parents of a lineage; at least the last output time, whatever is given"
    )
    block: Count | None = Field(None, description="replicas committed together; default: the engine's choice")
    melt_temperature: Positive | None = Field(None, description="temperature of the melt; default: max(2, 2 T)")
    melt_time: Positive = Field(10.0, description="duration of the melt")
    tau_alphas: Positive = Field(20.0, description="equilibrate for this many relaxation times at least")
    max_equilibration_time: Positive = Field(1.0e6, description="give up equilibrating a lineage after this time")
    accept_unequilibrated: bool = Field(False, description="use lineages that were not shown to be equilibrated")
    engine: Literal["auto", "hoomd", "lammps"] = Field("auto", description="simulation engine")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where the engine runs")
    packed: Count | None = Field(None, description="systems in one HOOMD simulation; default: measured")
    neighbor_buffer: Positive | None = Field(None, description="buffer of HOOMD's neighbour list; default: measured")
    workers: Count | None = Field(
        None,
        description="simulating processes; default: one per GPU, else one per core, one core less when training; on a "
        "cluster as many as it has room for",
    )
    cluster: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Ray cluster to work on: local (one of this machine alone), auto (the one that this machine "
        "belongs to) or HOST:PORT; of one call; default: processes of this machine",
    )
    worker_cpus: Count = Field(1, description="cores of a worker on a cluster")
    worker_gpus: NonNegative | None = Field(
        None, description="GPUs of a worker on a cluster, or a share of one; default: one where there are any for it"
    )
    ranks: Count | None = Field(
        None,
        description="MPI ranks that one system is cut among where inherent structures or cages are made of it; "
        "default: 1, and from 100,000 particles on as many as a worker has cores",
    )
    budget: Count | None = Field(
        None,
        description="replica-steps, equilibration and structures included, after which nothing is begun any more; "
        "default: everything that was asked for",
    )
    walltime: Positive | None = Field(None, description="stop (exit code 75) after this many seconds")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="every random number follows from it")

    @model_validator(mode="before")
    @classmethod
    def _described(cls, values: Any) -> Any:
        """What the file of a mixture says is taken over: it may change, or not be there, when the run goes on."""
        if not isinstance(values, dict) or "mixture" not in values:
            return values
        mixture, truncation = mixture_setting(values["mixture"])
        said = {} if truncation is None else {"truncation": truncation}
        return {**said, **values, "mixture": mixture}

    @model_validator(mode="after")
    def _consistent(self) -> RunSettings:
        steps_of_times(self.times, self.time_step)
        _check_counts(self.liquid(), self.particles)
        if self.cluster is not None and self.ranks is not None and self.ranks > self.worker_cpus:
            raise SettingsError(
                f"found {self.ranks} ranks and worker_cpus = {self.worker_cpus}", "a core of a worker for each",
                f"try --set worker_cpus={self.ranks}",
            )  # fmt: skip
        held_out = min(self.lineages, self.validation_lineages + self.test_lineages)
        per_parent = (self.lineages - held_out) * self.replicas + held_out * self.held_out_replicas
        if per_parent * self.parents > _MOST_REPLICAS:
            raise SettingsError(
                f"found {self.lineages} lineages of {self.parents} parents with {self.replicas} replicas, "
                f"{self.held_out_replicas} for held-out lineages: {per_parent * self.parents:,} replicas in all",
                f"at most {_MOST_REPLICAS:,}",
                "make several runs, which train and evaluate take together",
            )
        # Given configurations say how many lineages there are.
        if self.start is None and self.validation_lineages + self.test_lineages >= self.lineages:
            raise SettingsError(
                f"found {self.lineages} lineages of which {self.validation_lineages} are for validation and "
                f"{self.test_lineages} for testing",
                "at least one left for training",
                f"try --lineages {self.validation_lineages + self.test_lineages + 1}",
            )
        return self

    def liquid(self) -> Mixture:
        """The mixture with its truncation."""
        return get_mixture(self.mixture, self.truncation)

    def melt(self) -> float:
        """The temperature that lineages are melted at, ε_AA: what was asked for, else twice their own, 2 at least."""
        return self.melt_temperature or max(2.0, 2.0 * self.temperature)

    def number_density(self) -> float:
        """The density asked for, or the mixture's own, σ_AA^-d."""
        return self.density if self.density is not None else self.liquid().density

    def role(self, lineage: int) -> Literal["train", "validation", "test"]:
        """What lineage number `lineage` is for. Held-out ones come first, so that a run can grow."""
        if lineage < self.validation_lineages:
            return "validation"
        return "test" if lineage < self.validation_lineages + self.test_lineages else "train"

    def n_replicas(self, lineage: int) -> int:
        """Replicas per parent of a lineage."""
        return self.replicas if self.role(lineage) == "train" else self.held_out_replicas

    def steps(self) -> list[int]:
        """Step numbers of the output times."""
        return steps_of_times(self.times, self.time_step)


_BEGUN = "tuned"
"""The learner that begins with a trained model."""


class TrainSettings(_Strict):
    """How a learner is trained. What is left open is the learner's own choice."""

    model: str = Field("glassnet", description="the learner")
    from_model: str | None = Field(
        None, description="trained model to begin with, a directory or a name that glassmd models tells"
    )
    input: Annotated[list[str], BeforeValidator(_words)] | None = Field(
        None, description="positions that it sees: thermal, inherent, cage; default: the learner's"
    )
    hyperparameters: dict[str, Any] = Field({}, description="arguments of the learner, such as { width = 32 }")
    max_steps: Count | None = Field(None, description="optimiser steps in all, earlier sessions included; see redraw")
    batch_size: Count | None = Field(None, description="configurations per step; default: the learner's, mostly 1")
    learning_rate: Positive | None = Field(None, description="of Adam; default: the learner's")
    weight_decay: NonNegative | None = Field(None, description="of AdamW; default: the learner's, mostly 0")
    schedule: Literal["constant", "cosine"] | None = Field(
        None, description="learning rate over max_steps: constant, or falling to 2% along a cosine"
    )
    message_steps: Count | None = Field(None, description="message-passing steps of bapst and botan (7)")
    clip: Positive = Field(1.0, description="largest norm of the gradient")
    augment: bool = Field(True, description="a random element of the cube group at every step, where it matters")
    noise_weighted: bool | None = Field(None, description="weigh labels by the noise that so many replicas leave")
    species: list[str] | None = Field(None, description="species in the loss; default: all")
    validation_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of the lineages held out where the data do not say; default: the learner's"
    )
    validate_every: Count = Field(200, description="steps between validations")
    checkpoint_every: Count = Field(200, description="steps between checkpoints")
    reservoir: Count = Field(1000, description="samples kept in memory to draw from; others wait on disk")
    memory: Positive = Field(3.0, description="GiB of memory for what the learner eats of samples")
    disk: NonNegative = Field(20.0, description="GiB on disk, beside the checkpoints, for what finds no room there")
    watermark: Count | None = Field(
        None, description="samples to wait for before the first step; default: a tenth of those expected, 10 at most"
    )
    max_reuse: Positive | None = Field(
        None,
        description="steps × batch_size per sample produced before the trainer waits for the simulation; default: so "
        "many that the last step is taken when the last sample is there",
    )
    acquire: Literal["uniform", "uncertainty"] = Field(
        "uniform",
        description="where a simulation that is followed works next: evenly, or where the learner's parts disagree "
        "most for the replica-steps (for a run with a budget or a wall-clock limit)",
    )
    redraw: NonNegative | None = Field(
        None,
        description="steps × batch_size per sample that a trainer takes on top of max_steps instead of waiting for the "
        "simulation; default: 200 where it has a core or a GPU of its own and max_reuse is not given, else 0",
    )
    min_reuse: Positive | None = Field(
        None,
        description="steps × batch_size per sample produced without which the simulation is asked to pause; default: "
        "never",
    )
    cage_replicas: Count = Field(32, description="short replicas behind cage positions")
    cage_time: Positive | None = Field(
        None, description="duration of those replicas; default: a tenth of τ_α where it is known, at most 5"
    )
    train_threads: Count | None = Field(None, description="threads of the trainer; default: the cores left over")
    processes: Count = Field(1, description="training processes on a cluster, each with batch_size samples a step")
    train_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the trainer computes; auto: on CUDA where torch finds it, else on the CPU"
    )
    target: Target = Field(
        "propensity",
        description="what is learned: propensity, squared-displacement, bond-breaking or cage-relative; "
        "but for the first the data need positions of replicas, or labels of that kind",
    )
    time_unit: TimeUnit = Field(
        "reduced",
        description="of the output times: reduced, √(mσ²/ε), or tau_alpha, the relaxation time of each run's liquid, "
        "rounded to ten values a decade",
    )
    tau_alpha: Annotated[list[Positive], BeforeValidator(_numbers), Field(min_length=1)] | None = Field(
        None,
        description="that time for each of DATA, or one for all, √(mσ²/ε); default: as measured when a run's lineages "
        "were equilibrated",
    )
    first_time: Positive | None = Field(
        None,
        description="shortest output time that is learned, in time_unit; cages last a tenth of it at most; default: "
        "all times of the data",
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true",
        description="of the optimiser steps: single, or bfloat16 where torch's autocast takes it; convolutions and "
        "message passing of our own stay in single precision",
    )

    @model_validator(mode="before")
    @classmethod
    def _begun(cls, values: Any) -> Any:
        """What begins with a model is one learner."""
        if not isinstance(values, dict) or values.get("from_model") is None:
            return values
        if values.get("model") not in (None, _BEGUN):
            raise SettingsError(
                f"found --model {values['model']} with --from {values['from_model']}", "one of them", "leave one out"
            )
        return {**values, "model": _BEGUN}

    @model_validator(mode="after")
    def _known(self) -> TrainSettings:
        if self.min_reuse is not None and self.max_reuse is not None and self.min_reuse > self.max_reuse:
            raise SettingsError(
                f"found min_reuse = {self.min_reuse:g} above max_reuse = {self.max_reuse:g}",
                "a band: the smaller first",
            )
        if self.tau_alpha is not None and self.time_unit != "tau_alpha":
            raise SettingsError(
                f"found tau_alpha with time_unit = {self.time_unit}", "them together", "add --set time_unit=tau_alpha"
            )
        _known_inputs(self.input or [])
        return self


class Settings(_Strict):
    """Everything: the run's settings and the training's."""

    run: RunSettings = RunSettings()
    train: TrainSettings = TrainSettings()


_Model = TypeVar("_Model", bound=_Strict)


def build_settings(model: type[_Model], values: Mapping[str, Any], where: str) -> _Model:
    """Check values against a model of settings; `where` stands before a key in the error."""
    for key in values:
        if key not in model.model_fields:
            close = get_close_matches(key, list(model.model_fields), n=1, cutoff=0.5)
            raise SettingsError(
                f"found unknown key '{where}{key}'",
                f"one of {', '.join(model.model_fields)}" if not close else "a key of the settings",
                f"did you mean '{where}{close[0]}'?" if close else "see glassmd init",
            )
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        path = where + ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(
            f"found {path} = {first['input']!r}", message[0].lower() + message[1:], "see glassmd init"
        ) from error


def continued(made_with: RunSettings, said: Mapping[str, Any]) -> RunSettings:
    """The settings of a run that is there, under what is said now.

    A wall-clock limit and a cluster are of one call: they are not taken from the run. A mixture of one's own is known
    by its name.

    Args:
        made_with: The run's.
        said: Values by key, of those that somebody gave.

    Raises:
        SettingsError: An unknown key, a value out of range.

    Example:
        >>> continued(RunSettings(temperature=0.5, seed=1), {"lineages": 9}).temperature
        0.5
    """
    said = {key: value for key, value in said.items() if (key, value) != ("mixture", made_with.liquid().name)}
    if "mixture" in said:
        _, truncation = mixture_setting(said["mixture"])
        said = ({} if truncation is None else {"truncation": truncation}) | said
    return build_settings(RunSettings, {**made_with.model_dump(exclude={"walltime", "cluster"}), **said}, "")


def _spread(values: dict[str, Any], key: str, value: Any) -> None:
    """Put one `--set key=value` where it belongs; a bare key of the training settings finds its table."""
    if key.startswith("train."):
        values.setdefault("train", {})[key.removeprefix("train.")] = value
    elif key in TrainSettings.model_fields and key not in RunSettings.model_fields:
        values.setdefault("train", {})[key] = value
    else:
        close = get_close_matches(key, [*RunSettings.model_fields, *TrainSettings.model_fields], n=1, cutoff=0.5)
        if key not in RunSettings.model_fields and close and close[0] in TrainSettings.model_fields:
            values.setdefault("train", {})[key] = value
        else:
            values[key] = value


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    made_with: RunSettings | None = None,
) -> Settings:
    """Settings from a TOML file with overrides on top.

    Args:
        path: TOML file, or None for the defaults.
        overrides: Flag values by key; `None` values are ignored. Training keys need no `train.` in front.
        made_with: Of the run that goes on, which says what nobody says now; None where a new one is made. Only what
            is said is in the `model_fields_set` of a new one's settings.

    Raises:
        SettingsError: A missing or malformed file, an unknown key, a value out of range.

    Example:
        >>> load_settings(None, {"temperature": 0.8, "max_steps": 30}).train.max_steps
        30
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _beside(path, read_toml(path, "settings file", "see glassmd init"))
        if {"sigma", "epsilon"} <= values.keys():
            raise SettingsError(f"{path} describes a mixture", "the settings of a run", f"try --mixture {path}")
    if not isinstance(values.get("train", {}), dict):
        raise SettingsError(f"found train = {values['train']!r}", "a table [train]", "see glassmd init")
    for key, value in (overrides or {}).items():
        if value is not None:
            _spread(values, key, value)
    train = values.pop("train", {})
    if made_with is None:
        run = build_settings(RunSettings, _snap_times(values, RunSettings.model_fields["time_step"].default), "")
    else:
        run = continued(made_with, _snap_times(values, made_with.time_step))
    return Settings(run=run, train=build_settings(TrainSettings, train, "train."))


def _beside(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a file, with the file of a mixture that it names: beside it, else in the current directory."""
    mixture = values.get("mixture")
    if not isinstance(mixture, str) or not is_mixture_file(mixture):
        return values
    beside = path.parent / mixture
    return {**values, "mixture": str(Path(mixture) if Path(mixture).exists() and not beside.exists() else beside)}


def _snap_times(values: dict[str, Any], time_step: float) -> dict[str, Any]:
    """Move logarithmic times, which nobody means to the last digit, to the nearest step."""
    times = values.get("times")
    if isinstance(times, str) and times.startswith("log:"):
        try:
            step = float(values.get("time_step", time_step))
            snapped = sorted({max(1, round(t / step)) for t in parse_times(times)})
        except (ValueError, TypeError, OverflowError, ZeroDivisionError):
            return values  # reported by the validation that follows
        return {**values, "times": [round(n * step, 12) for n in snapped]}
    return values


def template() -> str:
    """A commented TOML file with every key at its default."""
    lines = ["# Settings of a glassmd run. Units: σ_AA, ε_AA, √(mσ²/ε). A flag of the same name wins.", ""]
    for model, header in ((RunSettings, None), (TrainSettings, "[train]")):
        if header:
            lines += ["", header]
        for name, field in model.model_fields.items():
            default = field.default
            value = "" if default is None else _toml(default)
            comment = f"  # {field.description}"
            lines.append(f"# {name} ={comment}" if default is None else f"{name} = {value}{comment}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)
