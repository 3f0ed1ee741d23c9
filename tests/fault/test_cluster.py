"""A Ray cluster whose nodes are killed, come and go: the same entries as on one machine, each once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from glassmd.models.store import load_model
from glassmd.stream.dataset import Run, open_run
from glassmd.training.journal import read_metrics
from tests.conftest import TINY, needs_lammps
from tests.ray_nodes import Nodes, descendants

pytestmark = [
    needs_lammps,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'glassmd[cluster]'"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster takes seconds to start: the tests of this file share one."""
    with Nodes(2) as found:
        yield found


def checksums(run: Run) -> dict[str, str]:
    """Of what was simulated; the run that all tests share may have structures by now."""
    return {entry.key.name: entry.sidecar["sha256"] for kind in ("parents", "segments") for entry in run.entries(kind)}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "glassmd_cli.app", *map(str, arguments)]


def settings_file(folder):
    told = TINY.model_dump(exclude_none=True, exclude={"workers"})
    path = folder / "run.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in told.items()))
    return path


def test_nodes_that_are_killed_and_join_change_nothing(nodes, tiny_run, tmp_path, repeats):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("simulate", settings_file(tmp_path), "--cluster", nodes.address, "--out", out, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for kill in range(2 * repeats):
        deadline = time.monotonic() + 60
        while not any(out.glob("workers/*-0-*.json")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)  # until somebody is at work
        time.sleep(0.5)
        nodes.join()
        assert nodes.kill(kill % 2) > 0
    said, complained = process.communicate(timeout=200)
    assert process.returncode == 0, complained
    assert json.loads(said)["segments"] == len(tiny_run.entries("segments"))
    assert checksums(open_run(out)) == checksums(tiny_run)
    assert not any(out.glob("workers/*"))


def test_a_stop_leaves_nothing_half_done_and_the_run_goes_on(nodes, tiny_run, tmp_path):
    out = tmp_path / "run"
    asked = command("simulate", settings_file(tmp_path), "--cluster", nodes.address, "--out", out)
    stopped = subprocess.run([*asked, "--walltime", "6"], capture_output=True, text=True, timeout=120, check=False)
    assert stopped.returncode in (0, 75), stopped.stderr
    done = command("simulate", "--out", out, "--cluster", nodes.address, "--json")
    again = subprocess.run(done, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert checksums(open_run(out)) == checksums(tiny_run)


def test_a_trainer_whose_machine_dies_goes_on_elsewhere(nodes, tmp_path):
    out, asked = tmp_path / "model", settings_file(tmp_path)
    with asked.open("a") as file:
        file.write(
            '\n[train]\nmodel = "bapst"\nmax_steps = 60\nvalidate_every = 20\ncheckpoint_every = 4\nredraw = 0\n'
        )
    process = subprocess.Popen(
        command("train", "--stream", asked, "--cluster", nodes.address, "--out", out, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 150
    while not any(out.glob("checkpoints/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)  # until something is saved
    nodes.join()
    at_work = descendants([pid for node in nodes.nodes for pid in nodes.processes(node)])
    trainer = next(pid for pid in at_work if "glassmd.training.apart" in Path(f"/proc/{pid}/cmdline").read_text())
    nodes.kill(next(n for n, node in enumerate(nodes.nodes) if trainer in descendants(nodes.processes(node))))
    said, complained = process.communicate(timeout=280)
    assert process.returncode == 0, complained
    result = json.loads(said)
    assert (result["steps"], result["segments"]) == (60, 12)
    steps = [line["step"] for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    assert steps == list(range(1, 61))  # what was lost was done again, and nothing is told twice
    assert result["model_dir"] == str(out)
    assert load_model(out).card.provenance["steps"] > 0


def test_more_gpus_than_there_are_are_refused(nodes, tmp_path):
    asked = command("simulate", settings_file(tmp_path), "--cluster", nodes.address, "--set", "worker_gpus=1")
    said = subprocess.run([*asked, "--out", tmp_path / "run"], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert "with 0 GPUs at most; expected 1 for a worker" in said.stderr
