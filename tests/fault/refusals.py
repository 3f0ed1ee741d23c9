"""What the tests of bad input share: exit code 2, one line with what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np

from tests.conftest import TINY, Outcome

Command = Callable[..., Outcome]


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one line on standard error that holds every one of `words`; never a traceback."""
    assert outcome.code == 2, outcome.err
    line = outcome.err.strip().splitlines()[-1]
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def frame(**changes: Any) -> gsd.hoomd.Frame:
    """A good snapshot of 64 particles on a lattice, with changes."""
    n = changes.pop("n", 64)
    raw = gsd.hoomd.Frame()
    side = 4
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n] - 1.5
    raw.particles.N = n
    raw.particles.types = ["A", "B"]
    raw.particles.typeid = (np.arange(n) % 5 == 0).astype(np.uint32)
    raw.particles.position = grid.astype(np.float32)
    raw.configuration.box = [4, 4, 4, 0, 0, 0]
    for name, value in changes.items():
        group, _, field = name.partition("_")
        setattr(getattr(raw, group), field, value)
    return raw


def write(path: Path, *frames: gsd.hoomd.Frame) -> Path:
    with gsd.hoomd.open(str(path), "w") as file:
        file.extend(frames)
    return path


def tiny_flags(**changes: Any) -> dict[str, Any]:
    """Flags that describe the tiny run."""
    flags = {
        "particles": TINY.particles,
        "temperature": TINY.temperature,
        "lineages": TINY.lineages,
        "parents": TINY.parents,
        "replicas": TINY.replicas,
        "times": "0.1,0.5",
        "engine": "lammps",
        "workers": 1,
        "seed": TINY.seed,
        "set": f"held_out_replicas={TINY.held_out_replicas}",
    }
    return {**flags, **changes}


TRAIN_FLAGS = {
    "learning_rate": 1e-3,
    "validate_every": 3,
    "checkpoint_every": 2,
    "train_threads": 1,
}
