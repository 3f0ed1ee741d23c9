"""`train --stream` of learners that see structures: the workers make them, the trainer opens no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.engines.lammps import LammpsEngine
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import open_run
from glassmd.training.session import train, train_stream
from tests.conftest import TINY, needs_lammps

pytestmark = needs_lammps

SMALL: dict[str, dict[str, Any]] = {"glassnet": {"width": 8, "n_layers": 1, "dropout": 0.0}}


def forbidden(*arguments: object, **options: object) -> None:
    raise AssertionError("an engine was used in the trainer's process")


@pytest.mark.parametrize("name", ["cage", "glassnet"])
def test_the_workers_make_structures_and_replicas_and_both_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(LammpsEngine, "__init__", forbidden)
    length = 0.1 if name == "cage" else None  # None: the first parent tells
    learner = TrainSettings(
        model=name, max_steps=5, hyperparameters=SMALL.get(name, {}), train_threads=1, cage_replicas=2, cage_time=length
    )
    streamed = train_stream(Settings(run=TINY, train=learner), tmp_path / "m")
    run = open_run(tmp_path / "m" / "run")
    structures = 1 if name == "cage" else 2
    assert run.complete
    assert run.index.count("structures") == structures * TINY.lineages * TINY.parents
    assert set(streamed["input_cost"]) == {of for of in streamed["inputs"] if of != "thermal"}
    assert run.verify() == 8 + 12 + 8 * structures
    # Offline, the same run has everything that the same learner needs.
    before = {path: path.stat().st_mtime_ns for path in run.path.glob("structures/*")}
    again = train([run.path], tmp_path / "again", Settings(run=TINY, train=learner))
    assert {path: path.stat().st_mtime_ns for path in run.path.glob("structures/*")} == before
    if name == "cage":  # solved: it does not matter how samples arrived
        found, expected = (of["validation"]["A"]["pearson"] for of in (streamed, again))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
