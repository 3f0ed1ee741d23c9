"""Options that several commands share, in one place."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from glassmd.errors import InputError, SettingsError
from glassmd.mixtures import Mixture, get_mixture
from glassmd.storage import plain

__all__ = [
    "DeviceName",
    "DeviceOption",
    "EngineName",
    "EngineOption",
    "JsonFlag",
    "MixtureOption",
    "PatienceOption",
    "RanksOption",
    "StrideOption",
    "TargetName",
    "TargetOption",
    "TimeStepOption",
    "TruncationOption",
    "TypesOption",
    "console",
    "emit",
    "liquid_of",
    "overrides_of",
    "run_options",
]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]

_PANEL = "Simulation"


class EngineName(StrEnum):
    """What computes."""

    auto = "auto"
    hoomd = "hoomd"
    lammps = "lammps"


class TargetName(StrEnum):
    """What is learned."""

    propensity = "propensity"
    squared_displacement = "squared-displacement"
    bond_breaking = "bond-breaking"
    cage_relative = "cage-relative"


class DeviceName(StrEnum):
    """Where it computes."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


TypesOption = Annotated[
    str | None, typer.Option("--types", help="Species by the name of a type of the file: 1=A,2=B.", show_default=False)
]
TimeStepOption = Annotated[
    float | None,
    typer.Option("--time-step", help="Of one step of a file that has steps and no times.", show_default=False),
]
StrideOption = Annotated[
    int | None,
    typer.Option("--stride", help="Frames of a trajectory from one parent to the next.", show_default=False),
]
PatienceOption = Annotated[
    float,
    typer.Option("--patience", help="Seconds without a new frame after which a trajectory's writer is done."),
]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="What computes the inputs that the model sees.")]
MixtureOption = Annotated[
    str | None,
    typer.Option("--mixture", help="What files hold that do not say it: a name, or a TOML file.", show_default=False),
]
TruncationOption = Annotated[
    str | None,
    typer.Option("--truncation", help="shifted, force-shifted, truncated or xplor.", show_default=False),
]
DeviceOption = Annotated[DeviceName, typer.Option("--device", help="Where it does.")]
RanksOption = Annotated[
    int | None,
    typer.Option(
        "--ranks",
        help="MPI ranks that a snapshot is cut among for it. Default: from 100,000 particles on one per core.",
        show_default=False,
    ),
]

TargetOption = Annotated[
    TargetName | None,
    typer.Option("--target", help="What is learned; default: propensity. See docs/targets.md.", show_default=False),
]


def _option(kind: Any, flag: str, text: str) -> Any:
    return Annotated[kind, typer.Option(flag, help=text, rich_help_panel=_PANEL, show_default=False)]


_RUN_OPTIONS: dict[str, Any] = {
    "mixture": _option(
        str | None, "--mixture", "Name of the mixture, or a TOML file that describes one (docs/mixtures.md)."
    ),
    "truncation": _option(str | None, "--truncation", "shifted, force-shifted, truncated or xplor."),
    "start": _option(
        list[str] | None,
        "--start",
        "Run directory or file (GSD, LAMMPS, XYZ) whose configurations are the parents, instead of equilibrating; "
        "a file that does not say its liquid needs --temperature. Repeatable.",
    ),
    "particles": _option(int | None, "--particles", "Particles in the box."),
    "temperature": _option(float | None, "--temperature", "Temperature, ε_AA."),
    "density": _option(float | None, "--density", "Number density, σ_AA^-d."),
    "lineages": _option(
        int | None,
        "--lineages",
        "Independently equilibrated liquids: one for validation, one for testing, the others for training.",
    ),
    "parents": _option(int | None, "--parents", "Parents per lineage."),
    "replicas": _option(int | None, "--replicas", "Replicas per parent of a training lineage."),
    "held_out_replicas": _option(
        int | None, "--held-out-replicas", "Replicas per parent of a held-out lineage: they set the ceiling."
    ),
    "times": _option(str | None, "--times", "Output times: 0.1,1,10 or log:0.1:1000:12."),
    "engine": _option(str | None, "--engine", "auto, hoomd or lammps."),
    "device": _option(str | None, "--device", "auto, cpu or gpu."),
    "packed": _option(int | None, "--packed", "Systems in one HOOMD simulation; default: measured."),
    "workers": _option(int | None, "--workers", "Simulating processes."),
    "cluster": _option(str | None, "--cluster", "Ray cluster: local, auto or HOST:PORT (docs/cluster.md)."),
    "ranks": _option(int | None, "--ranks", "MPI ranks that a big parent is cut among for its structures."),
    "seed": _option(int | None, "--seed", "Every random number follows from it."),
    "walltime": _option(float | None, "--walltime", "Stop with exit code 75 after this many seconds."),
    "accept_unequilibrated": _option(
        bool, "--accept-unequilibrated", "Use lineages that were not shown to be equilibrated."
    ),
    "set": _option(list[str] | None, "--set", "Any key of the settings: key=value. Repeatable."),
}


def _value(text: str) -> Any:
    """A TOML-like value: number, truth value, list or text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def overrides_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Flag values by settings key; `--set key=value` pairs are spread out, and flags win over the file."""
    found = {key: value for key, value in flags.items() if key != "set" and value is not None and value is not False}
    for pair in flags.get("set") or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise SettingsError(f"found --set {pair}", "key=value", "for example --set time_step=0.003")
        found[key.strip()] = _value(value)
    return found


def liquid_of(mixture: str | None, truncation: str | None) -> Mixture | None:
    """The mixture of both options; None where neither is given.

    Raises:
        InputError: A truncation of nobody knows what, or a mixture that is none.
    """
    if mixture is None and truncation is not None:
        raise InputError("found --truncation without --mixture", "both", "for example --mixture kob-andersen")
    return None if mixture is None else get_mixture(mixture, truncation)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a run; it receives those that were used as `overrides`."""

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> Any:
        flags = {name: arguments.pop(name) for name in _RUN_OPTIONS}
        return command(**arguments, overrides=overrides_of(flags))

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "overrides"]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=False if name.startswith("accept") else None,
        )
        for name, kind in _RUN_OPTIONS.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return wrapper


def console(json_mode: bool = False) -> Console:
    """Where tables go: standard output, or standard error when that belongs to the JSON object."""
    return Console(stderr=json_mode, highlight=False)


def messages() -> Console:
    """Where progress and notices go."""
    return Console(stderr=True, highlight=False)


def emit(result: dict[str, Any]) -> None:
    """Print one JSON object; NaN becomes null."""
    sys.stdout.write(json.dumps(plain(result), allow_nan=False) + "\n")
