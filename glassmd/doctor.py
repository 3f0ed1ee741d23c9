"""What this machine can do, and what to type for what it cannot."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from glassmd.engines import EngineChoice, available_engines, choose_engine, get_engine
from glassmd.engines.mpi import mpiexec
from glassmd.engines.ranks import start_problem
from glassmd.errors import EngineError
from glassmd.mixtures import get_mixture

__all__ = ["diagnose"]

_ENGINES: tuple[EngineChoice, ...] = ("lammps", "hoomd")

_PACKAGES = (
    "glassmd",
    "numpy",
    "torch",
    "torch-geometric",
    "gsd",
    "vesin",
    "safetensors",
    "typer",
    "pydantic",
)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _ranks(name: EngineChoice) -> str:
    """Whether an engine can cut a big system among MPI ranks here, which is tried with two."""
    try:
        engine = get_engine(name, "cpu")
        described, command = engine.in_ranks(get_mixture("kob-andersen")), mpiexec()
    except EngineError as error:
        return str(error)
    return start_problem(described, 2) or f"up to {described.most}, with {shlex.join(command)}"


def diagnose() -> dict[str, Any]:
    """Cores, devices, engines, versions and room on the disk (JSON types only)."""
    try:
        engine = get_engine("auto", "auto")
        chosen = f"{engine.name} {engine.version} on {engine.device} ({choose_engine('auto', 'auto')[1]})"
    except EngineError as error:
        chosen = str(error)
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "engines": available_engines(),
        "engine_auto": chosen,
        "ranks": {name: _ranks(name) for name in _ENGINES},
        "packages": {name: _version(name) for name in _PACKAGES},
        "free_disk_here_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "temporary_directory": tempfile.gettempdir(),
    }
