"""Status files that are damaged, of dead processes or of another release are no reason not to see the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassmd.report.observe import observe
from glassmd.simulation.activity import Activity
from glassmd.status import at_work
from tests.conftest import Outcome
from tests.unit.test_watch import ENGINE, a_run

DAMAGED = [b"", b"{", b"[]", b"\xff\xfe", b'{"task": "x"}', b'{"pid": 1e400}', b"[" * 100_000, b'{"state": 3}']


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def without_reason(path: Path, **changes: Any) -> None:
    """The same status a minute ago, of somebody else."""
    path.write_text(json.dumps({**json.loads(path.read_text()), "updated": time.time() - 60, **changes}))


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_status_of_a_worker_is_one_line_beside_the_others(
    glassmd: Callable[..., Outcome], tmp_path: Path, content: bytes
) -> None:
    run = a_run(tmp_path / "r")
    Activity(run, "here-1-0", ENGINE).begin("L0000-P0000", "equilibration")
    (run.path / "workers" / "here-1-1.json").write_bytes(content)
    found = observe(run.path)
    assert found["state"] == "working"
    assert [worker["name"] for worker in found["runs"][0]["workers"]] == ["here-1-0"]
    (problem,) = found["problems"]
    assert "here-1-1.json is no status of a worker" in problem
    assert "\n" not in problem
    assert glassmd("watch", run.path, "--json").code == 0
    assert "here-1-1.json" in glassmd("info", run.path).out


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_status_of_a_training_is_one_line(
    glassmd: Callable[..., Outcome], model_copy: Path, content: bytes
) -> None:
    (model_copy / "status.json").write_bytes(content)
    found = observe(model_copy)
    (problem,) = found["problems"]
    assert "status.json cannot be read" in problem
    assert (found["state"], found["training"]["step"]) == ("done", 6), "as the other files say"
    assert glassmd("watch", model_copy).code == 0
    assert glassmd("info", model_copy, "--json").json["kind"] == "model"


def test_a_damaged_entry_or_identity_is_one_line(run_copy: Path) -> None:
    sidecar = next(iter(sorted((run_copy / "segments").glob("*.json"))))
    for log in (run_copy / "index").glob("*.log"):
        log.unlink()
    sidecar.write_text("{")
    found = observe(run_copy)
    assert found["runs"][0]["segments"] == [11, 12]
    assert len(found["problems"]) == 1
    (run_copy / "run.json").write_text("{")
    found = observe(run_copy)
    assert (found["state"], found["runs"], len(found["problems"])) == ("idle", [], 1)


def test_a_worker_that_died_is_lost_and_no_longer_at_work(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    for number, changes in enumerate(({}, {"pid": a_dead_process()}, {"host": "elsewhere", "updated": 0.0})):
        Activity(run, f"here-1-{number}", ENGINE).begin("L0000-P0000", "equilibration")
        without_reason(run.path / "workers" / f"here-1-{number}.json", **changes)
    (seen,) = observe(run.path)["runs"]
    assert [worker["name"] for worker in seen["workers"]] == ["here-1-0"]
    assert seen["lost"] == ["here-1-1", "here-1-2"]


def test_a_training_that_was_killed_ended_without_a_word(model_copy: Path) -> None:
    without_reason(model_copy / "status.json", state="working", pid=a_dead_process())
    assert observe(model_copy)["state"] == "ended without a word"


@pytest.mark.parametrize(
    ("age", "host", "pid", "there"),
    [
        (0, "elsewhere", 1, True),
        (60, "elsewhere", 1, True),  # clocks differ, and a write may take long
        (300, "elsewhere", 1, False),
        (300, None, None, True),  # it may measure for long without a word
        (3600, None, None, False),  # its number is another process's by now
        (60, None, 0, False),
    ],
)
def test_who_is_at_work(age: float, host: str | None, pid: int | None, there: bool) -> None:
    own = os.getpid() if pid is None else pid or a_dead_process()
    status = {"updated": time.time() - age, "host": host or os.uname().nodename, "pid": own}
    assert at_work(status) is there
