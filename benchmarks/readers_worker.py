"""What `readers.py` runs in a process of its own: one library reads one file and is compared with what is true of it.

python benchmarks/readers_worker.py check LIBRARY CASE PATH PARTICLES FRAMES
python benchmarks/readers_worker.py time LIBRARY KIND PATH
python benchmarks/readers_worker.py import LIBRARY
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from readers_data import CASES, ORIGIN, TIME_STEP, Truth, frames
from readers_with import LIBRARIES, Frame

FLOAT32 = 2e-5  # of lengths of ten


def positions_of(found: Frame, truth: Truth) -> str:
    """Whether positions are the unwrapped ones, those in the box, or neither."""
    positions, images, cell = found["positions"], found.get("images"), found["cell"]
    if positions.shape != truth.unwrapped.shape:
        return f"shape {positions.shape}"
    if images is not None:
        positions = positions + images @ cell
    away = positions - truth.unwrapped
    if np.abs(away).max() < FLOAT32:
        return "right"
    if np.abs(away - away[0]).max() < FLOAT32:
        return "right, moved by the origin" if np.abs(away[0] + ORIGIN).max() < FLOAT32 else "right, moved"
    for shift, name in ((0 * ORIGIN, ""), (-ORIGIN, ", moved by the origin")):
        whole = (away - shift) @ np.linalg.inv(truth.cell)
        if np.abs(whole - np.round(whole)).max() < FLOAT32:
            return "in the box" + name
    return "wrong"


def verdicts(found: Frame, truth: Truth) -> dict[str, str]:
    """Each quantity: right, absent, or what is wrong with it."""

    def same(value: Any, expected: Any) -> str:
        if value is None:
            return "absent"
        value = np.asarray(value)
        if value.shape != np.shape(expected):
            return "wrong"
        return "right" if np.abs(value - expected).max() < FLOAT32 else "wrong"

    names, numbers = np.array(["A", "B"])[truth.species], (truth.species + 1).astype(str)
    species = "absent" if found["species"] is None else "wrong"
    if species == "wrong":
        given = np.array(found["species"])
        species = "right" if np.array_equal(given, names) or np.array_equal(given, numbers) else "wrong"
    return {
        "positions": positions_of(found, truth) if found["cell"] is not None else "no box",
        "cell": same(found["cell"], truth.cell),
        "origin": same(found.get("origin"), ORIGIN),
        "species": species,
        "ids": same(found.get("ids"), truth.ids),
        "images": same(found.get("images"), truth.images),
        "velocities": same(found.get("velocities"), truth.velocities),
        "step": same(found.get("step"), truth.step),
        "time": same(found.get("time"), truth.step * TIME_STEP),
        "propensity": same(found["other"].get("propensity"), truth.propensity),
    }


def _rank(verdict: str) -> int:
    order = (
        "right",
        "right, moved by the origin",
        "right, moved",
        "absent",
        "in the box",
        "in the box, moved by the origin",
    )
    return -order.index(verdict) if verdict in order else -len(order)


def check(library: str, name: str, path: str, n_particles: str, n_frames: str) -> dict[str, Any]:
    """All frames of a file; a quantity is what it is in the worst frame."""
    case = next(case for case in CASES if case.name == name)
    seen: list[dict[str, str]] = []
    problem = None
    true = frames(case, int(n_particles), int(n_frames))
    try:
        for found in LIBRARIES[library](Path(path), case.kind, True):
            seen.append(verdicts(found, next(true)))  # noqa: PERF401 (what was read before an error counts)
    except Exception as error:  # whatever a library raises is a figure here
        problem = f"{type(error).__name__}: {error}"[:300]
    worst = {key: min((of[key] for of in seen), key=_rank) for key in seen[0]} if seen else {}
    return {"frames": len(seen), "error": problem, **worst}


def timed(library: str, kind: str, path: str) -> dict[str, Any]:
    """Seconds and memory of reading a file through, positions, types, box, step and velocities of every frame."""
    started, count, total = time.perf_counter(), 0, 0.0
    first = 0.0
    for found in LIBRARIES[library](Path(path), kind, False):
        first = first or time.perf_counter() - started
        count, total = count + 1, total + float(found["positions"].sum())
    seconds = time.perf_counter() - started
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"frames": count, "seconds": seconds, "first_frame": first, "peak_mb": int(peak.split()[1]) / 1024}


def imported(library: str) -> dict[str, Any]:
    """How long the import takes, in seconds, and the release; numpy is loaded already."""
    parts = {"ase": ["ase.io"], "ovito": ["ovito.io"]}.get(library, [library])
    started = time.perf_counter()
    for part in parts:
        importlib.import_module(part)
    return {"seconds": time.perf_counter() - started, "version": version(library)}


if __name__ == "__main__":
    told = {"check": check, "time": timed, "import": imported}[sys.argv[1]](*sys.argv[2:])
    print("\n" + json.dumps(told))
