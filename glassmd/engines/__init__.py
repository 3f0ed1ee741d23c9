"""Molecular dynamics engines behind one interface; see :mod:`glassmd.engines.base`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from glassmd.engines.base import Engine, Observation
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError

__all__ = [
    "DeviceChoice",
    "Engine",
    "EngineChoice",
    "Observation",
    "Thermostat",
    "available_engines",
    "choose_engine",
    "get_engine",
]

EngineChoice = Literal["auto", "hoomd", "lammps"]
DeviceChoice = Literal["auto", "cpu", "gpu"]

_HOOMD_INSTALL = "mamba install -c conda-forge hoomd"


def choose_engine(name: EngineChoice = "auto", device: DeviceChoice = "auto") -> tuple[str, str]:
    """Choose an engine; importing nothing of it.

    Args:
        name: As in settings.
        device: As in settings.

    Returns:
        The engine's name and, in one line, why it was chosen.

    Raises:
        EngineError: The engine or the device cannot be had.

    Example:
        >>> choose_engine("lammps", "cpu")
        ('lammps', 'lammps: asked for')
    """
    if name not in ("auto", "hoomd", "lammps"):
        raise EngineError(f"found engine {name!r}", "auto, hoomd or lammps")
    if device not in ("auto", "cpu", "gpu"):
        raise EngineError(f"found device {device!r}", "auto, cpu or gpu")
    hoomd = find_spec("hoomd") is not None
    if name == "hoomd":
        if not hoomd:
            raise EngineError(
                "HOOMD-blue is not installed", "the hoomd package", f"{_HOOMD_INSTALL}, or --engine lammps"
            )
        raise EngineError("this release of glassmd does not drive HOOMD-blue", "another engine", "try --engine lammps")
    if device == "gpu":
        raise EngineError("the lammps engine runs on the cpu only", "--device cpu or auto", "try --device cpu")
    if name == "lammps":
        return "lammps", "lammps: asked for"
    state = "installed, but not driven by this release" if hoomd else "not installed"
    return "lammps", f"lammps: chosen because HOOMD-blue is {state}"


def get_engine(name: EngineChoice = "auto", device: DeviceChoice = "auto") -> Engine:
    """Return the engine that was asked for, ready to evolve.

    Raises:
        EngineError: It is not installed or cannot run on the device; the message says what to type.
    """
    choose_engine(name, device)
    from glassmd.engines.lammps import LammpsEngine

    return LammpsEngine()


def available_engines() -> dict[str, str]:
    """Return, per engine, its version or why it cannot be used and what to type."""
    from glassmd.engines.lammps import lammps_version

    found = {}
    try:
        found["lammps"] = lammps_version()
    except EngineError as error:
        found["lammps"] = str(error)
    try:
        choose_engine("hoomd")
    except EngineError as error:
        found["hoomd"] = str(error)
    return found
