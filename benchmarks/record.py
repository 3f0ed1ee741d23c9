"""Writes what a benchmark measured beside the machine it was measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from glassmd.engines.hoomd_device import hoomd_version, load_hoomd
from glassmd.engines.lammps import lammps_version
from glassmd.errors import EngineError

RESULTS = Path(__file__).parent / "results"


def record(name: str, figures: dict[str, Any], folder: Path = RESULTS, *, show: bool = True) -> Path:
    """Write `<name>.json` into `folder` and print it."""
    content = {
        **figures,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": f"{platform.system()} {platform.machine()}",
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "torch_geometric", "vesin", "glassmd")},
            "hoomd": _if_installed(_hoomd_build),
            "lammps": _if_installed(lammps_version),
        },
        "torch_threads": torch.get_num_threads(),
    }
    text = json.dumps(content, indent=1) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(text, encoding="utf-8")
    print(text if show else f"wrote {path}", end="" if show else "\n")
    return path


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def title_of(result: dict[str, Any]) -> str:
    """What a figure says it was measured on: HOOMD's release and the processor's or the GPU's name."""
    where = result["device_name"] if result["device"] == "gpu" else f"one core of {cpu_name()}"
    return f"HOOMD-blue {hoomd_version()} on {where}"


def _hoomd_build() -> str:
    """Release, and the bits of LongReal and ShortReal where it says them."""
    precision = getattr(load_hoomd().version, "floating_point_precision", None)
    bits = f" (LongReal {precision[0]}, ShortReal {precision[1]} bits)" if precision else ""
    return hoomd_version() + bits


def _if_installed(version_of: Callable[[], str]) -> str | None:
    try:
        return version_of()
    except EngineError:
        return None
