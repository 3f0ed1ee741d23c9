"""Molecular dynamics engines behind one interface; see :mod:`glassmd.engines.base`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from glassmd.engines.base import Engine, Observation
from glassmd.engines.cutting import require_ranks
from glassmd.engines.hoomd_device import gpu_count
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
    "gpu_count",
]

EngineChoice = Literal["auto", "hoomd", "lammps"]
DeviceChoice = Literal["auto", "cpu", "gpu"]


def choose_engine(name: EngineChoice = "auto", device: DeviceChoice = "auto") -> tuple[str, str]:
    """Choose an engine.

    `auto` takes HOOMD-blue where it has a GPU. On a CPU core LAMMPS is about twice as fast (README), so
    HOOMD-blue is taken there only where LAMMPS is not installed.

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
    if name == "lammps" and device == "gpu":
        raise EngineError("the lammps engine runs on the cpu only", "--device cpu or auto", "try --device cpu")
    if name != "auto":
        return name, f"{name}: asked for"
    return _automatic(device)


def _automatic(device: DeviceChoice) -> tuple[str, str]:
    from glassmd.engines.hoomd_device import gpu_problem, load_hoomd

    if find_spec("hoomd") is None:
        if device == "gpu":
            load_hoomd()  # says what to type
        return "lammps", "lammps: chosen because HOOMD-blue is not installed"
    if device == "gpu":
        return "hoomd", "hoomd: chosen because it is the engine that runs on a GPU"
    try:
        load_hoomd()
        problem = "the cpu was asked for" if device == "cpu" else gpu_problem()
    except EngineError as error:
        return "lammps", f"lammps: chosen because {error.found}"
    if not problem:
        return "hoomd", "hoomd: chosen because it is installed and there is a GPU"
    if find_spec("lammps") is None:
        return "hoomd", f"hoomd: chosen because LAMMPS is not installed; on the cpu: {problem}"
    return "lammps", f"lammps: chosen because it is faster than HOOMD-blue on a CPU core; no GPU: {problem}"


def get_engine(
    name: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    *,
    packed: int | None = None,
    buffer: float | None = None,
    gpu: int | None = None,
    ranks: int | None = None,
    workers: int = 1,
) -> Engine:
    """Return the engine that was asked for, ready to evolve.

    Args:
        name: As in settings.
        device: As in settings.
        packed: Systems in one HOOMD simulation; None has it measured by `prepare`.
        buffer: Of HOOMD's neighbour list, σ_AA; None has it measured by `prepare`.
        gpu: Number of the GPU where there are several.
        ranks: That a single system is cut among where a structure is made of it (:mod:`glassmd.engines.cutting`); None
            leaves it to its size.
        workers: Processes like this one that share the machine's cores.

    Raises:
        EngineError: It is not installed or cannot run on the device; the message says what to type.
    """
    require_ranks(ranks)
    chosen, _ = choose_engine(name, device)
    if name == "lammps" and packed not in (None, 1):
        raise EngineError(
            f"found packed = {packed} for the lammps engine",
            "1: it simulates one system at a time",
            "leave --packed out, or try --engine hoomd",
        )
    if chosen == "hoomd":
        from glassmd.engines.hoomd import HoomdEngine

        engine: Engine = HoomdEngine(device, packed=packed, buffer=buffer, gpu=gpu)
    else:
        from glassmd.engines.lammps import LammpsEngine

        engine = LammpsEngine()
    engine.ranks, engine.workers = ranks, workers
    return engine


def available_engines() -> dict[str, str]:
    """Return, per engine, its version or why it cannot be used and what to type."""
    from glassmd.engines.hoomd_device import gpu_problem, hoomd_version
    from glassmd.engines.lammps import lammps_version

    found = {}
    try:
        found["lammps"] = lammps_version()
    except EngineError as error:
        found["lammps"] = str(error)
    try:
        problem = gpu_problem()
        found["hoomd"] = hoomd_version() + (f" (cpu only: {problem})" if problem else " (gpu)")
    except EngineError as error:
        found["hoomd"] = str(error)
    return found
