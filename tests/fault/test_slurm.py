"""The scripts of examples/slurm, run by a stand-in for Slurm on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from glassmd.models.store import load_model
from glassmd.stream.dataset import Run, open_run
from tests.conftest import TINY, needs_lammps
from tests.slurm.stand_in import install

SCRIPTS = Path(__file__).parents[2] / "examples" / "slurm"

pytestmark = [needs_lammps, pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")]


def checksums(run: Run) -> dict[str, str]:
    """Of what was simulated; the run that all tests share may have structures by now."""
    return {entry.key.name: entry.sidecar["sha256"] for kind in ("parents", "segments") for entry in run.entries(kind)}


def submit(environment, *arguments) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sbatch", *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def settings_file(folder):
    path = folder / "run.toml"
    told = TINY.model_dump(exclude_none=True, exclude={"workers"})
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in told.items()))
    return path


def test_an_array_that_is_stopped_and_queued_again_simulates_while_a_trainer_follows(tiny_run, tmp_path):
    environment, run, model = install(tmp_path / "slurm"), tmp_path / "run", tmp_path / "model"
    made = ["glassmd", "simulate", settings_file(tmp_path), "--out", run, "--walltime", "0.1"]
    assert subprocess.run(made, env=environment, capture_output=True, check=False).returncode == 75
    preempted = {**environment, "SLURM_STAND_IN_PREEMPTS": f"{run}/workers/*.json"}
    workers = submit(preempted, "--array=1-2", "--cpus-per-task=1", SCRIPTS / "simulate.sh", run)
    trainer = submit(
        environment, "--time=0:10:00", SCRIPTS / "train.sh", run, model, "--model", "ridge", "--input", "thermal"
    )
    for job in (workers, trainer):
        said, complained = job.communicate(timeout=240)
        logs = "\n".join(path.read_text() for path in (tmp_path / "slurm").glob("*.log"))
        assert job.returncode == 0, said + complained + logs
    assert checksums(open_run(run)) == checksums(tiny_run)
    assert load_model(model).card.model == "ridge"
    logs = [path.read_text() for path in (tmp_path / "slurm").glob("simulate-*.log")]
    assert len(logs) == 2
    assert all("stopped by SIGTERM" in log for log in logs)


def test_one_model_is_trained_on_two_nodes(tiny_run, tmp_path):
    environment, model = install(tmp_path / "slurm"), tmp_path / "model"
    job = submit(
        environment, "--nodes=2", "--time=0:10:00", SCRIPTS / "train_on_nodes.sh", tiny_run.path, model,
        "--model", "ridge", "--input", "thermal",
    )  # fmt: skip
    job.communicate(timeout=240)
    (log,) = (tmp_path / "slurm").glob("*.log")
    assert job.returncode == 0, log.read_text()
    assert '"processes": 2' in log.read_text()
    assert load_model(model).card.model == "ridge"


def test_a_worker_that_does_not_see_the_run_says_so(tmp_path):
    environment = install(tmp_path / "slurm")
    job = submit(environment, "--array=1-1", "--time=0:10:00", SCRIPTS / "simulate.sh", tmp_path / "elsewhere")
    job.communicate(timeout=60)
    (log,) = (tmp_path / "slurm").glob("*.log")
    assert job.returncode == 2
    assert f"found no run in {tmp_path / 'elsewhere'}" in log.read_text()
    assert not (tmp_path / "elsewhere").exists()
