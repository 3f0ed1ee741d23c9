"""HOOMD-blue as it is installed here: the package, its release and the devices it can use."""

from __future__ import annotations

import importlib
import os
import re
import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glassmd.engines.mpi import forget_other_ranks
from glassmd.errors import DeviceLostError, EngineError

__all__ = [
    "INSTALL", "device_name", "failed", "gpu_count", "gpu_problem", "hoomd_version", "load_hoomd", "open_device",
]  # fmt: skip

INSTALL = "mamba install -c conda-forge hoomd"
"""What to type when HOOMD-blue is missing."""

OLDEST = (4, 8)
"""Oldest release that is supported."""


def load_hoomd() -> Any:
    """Import HOOMD-blue.

    Raises:
        EngineError: It is missing, too old or cannot be loaded; the message holds the install line.
    """
    if find_spec("hoomd") is None:
        raise EngineError("HOOMD-blue is not installed", "the hoomd package", f"{INSTALL}, or --engine lammps")
    before = signal.getsignal(signal.SIGTERM)
    forget_other_ranks()
    try:
        hoomd = importlib.import_module("hoomd")
        importlib.import_module("hoomd.md")
    except (ImportError, OSError) as error:
        raise EngineError(f"HOOMD-blue could not be imported ({error})", "the hoomd package", INSTALL) from error
    finally:
        # At its import HOOMD has SIGTERM end the process at once, committed or not.
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
    version = str(hoomd.version.version)
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise EngineError(f"found HOOMD-blue {version}", f"at least {'.'.join(map(str, OLDEST))}", INSTALL)
    return hoomd


def hoomd_version() -> str:
    """Return the release of HOOMD-blue.

    Raises:
        EngineError: It is missing; the message holds the install line.
    """
    return str(load_hoomd().version.version)


def gpu_problem() -> str:
    """Why HOOMD-blue can use no GPU here; nothing where it can.

    Raises:
        EngineError: HOOMD-blue is missing.
    """
    hoomd = load_hoomd()
    if not hoomd.version.gpu_enabled:
        return "this HOOMD-blue was built without GPU support"
    if not hoomd.device.GPU.get_available_devices():  # its is_available tells how HOOMD was built, and no more
        return "; ".join(hoomd.device.GPU.get_unavailable_device_reasons()) or "no GPU was found"
    import torch  # reads HOOMD's arrays on the GPU

    return "" if torch.cuda.is_available() else "this torch was built without CUDA or finds no GPU"


def gpu_count(engine: str, device: str) -> int:
    """How many GPUs an engine would use: all that there are, or none."""
    if engine != "hoomd" or device == "cpu" or gpu_problem():
        return 0
    return len(load_hoomd().device.GPU.get_available_devices())


def open_device(hoomd: Any, device: str, gpu: int | None, messages: Path | str = os.devnull) -> Any:
    """A device to simulate on.

    Args:
        hoomd: The package.
        device: `cpu`, `gpu`, or `auto`, which takes a GPU where there is one.
        gpu: Number of the GPU where there are several.
        messages: Where HOOMD-blue prints; several ranks first delete what has that name, also where it is a device.

    Raises:
        EngineError: There is no such device.
    """
    # What goes wrong is raised; what is left to print is a warning that packing has many types of particles.
    quiet: dict[str, Any] = {"notice_level": 0, "message_filename": str(messages)}
    problem = "" if device == "cpu" else gpu_problem()
    if device == "cpu" or (device == "auto" and problem):
        return hoomd.device.CPU(**quiet)
    if problem:
        raise EngineError(
            f"HOOMD-blue cannot use a GPU: {problem}",
            "a GPU and a HOOMD-blue built for it",
            'try --device cpu, or mamba install -c conda-forge "hoomd=*=*gpu*"',
        )
    return hoomd.device.GPU(gpu_id=gpu, **quiet)


def device_name(device: Any) -> str:
    """The name of a device, without its number, clock and memory: what was measured on one holds for its twin.

    Example:
        >>> from types import SimpleNamespace
        >>> device_name(SimpleNamespace(device="[1]    NVIDIA H200 132 SM_9.0 @ 1.98 GHz, 143155 MiB DRAM"))
        'NVIDIA H200'
    """
    said = " ".join(str(device.device).split())
    named = re.match(r"(?:\[\d+\] )?(.+?) \d+ SM_", said)
    return named[1] if named else said


def failed(device: str, error: RuntimeError, n_systems: int) -> EngineError:
    """What to raise for an error of HOOMD-blue, or of torch on its arrays.

    Args:
        device: What the engine calls it.
        error: The error.
        n_systems: Systems that were in the simulation.
    """
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    if "cuda error" in said.lower() and "memory allocation" not in said and "out of memory" not in said:
        return DeviceLostError(
            f"{device} failed under HOOMD-blue: {said}", "one that works", "give the command again: it goes on"
        )
    return EngineError(
        f"HOOMD-blue failed on {device}: {said}",
        "a device that has room and works",
        f"try a smaller --packed than {n_systems}, or --device cpu",
    )
