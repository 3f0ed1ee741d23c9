"""A Ray cluster whose nodes are killed, come and go: the same entries as on one machine, each once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from glassmd.errors import EngineError, SegmentError, StorageError
from glassmd.models.store import load_model
from glassmd.settings import Settings, TrainSettings
from glassmd.simulation.cluster.connection import connected
from glassmd.stream.dataset import Run, open_run
from glassmd.training.journal import read_metrics
from glassmd.training.session import train
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


@pytest.fixture
def of_the_cluster(nodes):
    """This process belongs to the cluster."""
    with connected(nodes.address):
        yield


def refuse_to_work(error):
    raise error


def refuse_for_want_of(module):
    try:
        raise ModuleNotFoundError(f"No module named '{module}'")
    except ModuleNotFoundError as error:
        raise EngineError(f"{module} is not installed", "it", f"pip install {module}") from error


def end_at_once():
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_raised_on_a_machine_is_raised_here(of_the_cluster):
    import ray

    from glassmd.simulation.cluster.calls import LostError, answer

    raised = {
        SegmentError("found a", "b", "try c"): (SegmentError, r"found a \(on node 7\); expected b; try c"),
        OSError(errno.ENOSPC, "No space left on device", "/tmp/x"): (StorageError, r"No space.*/tmp/x.*\(on node 7\)"),
        ZeroDivisionError("division"): (EngineError, r"found ZeroDivisionError: division \(on node 7\)"),
    }
    call = ray.remote(num_cpus=1)(refuse_to_work)
    for error, (kind, words) in raised.items():
        with pytest.raises(kind, match=words) as found:
            answer(call.remote(error), "node 7")
        assert type(found.value) is kind
    with pytest.raises(EngineError, match=r"lammps is not installed \(on node 7\)"):
        answer(ray.remote(num_cpus=1)(refuse_for_want_of).remote("lammps"), "node 7")
    with pytest.raises(LostError):
        answer(ray.remote(num_cpus=1, max_retries=0)(end_at_once).remote())


def test_workers_make_room_for_trainers_that_wait(nodes, of_the_cluster, tiny_run, tmp_path):
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    from glassmd.simulation.cluster.workers import TRAINERS

    out = tmp_path / "run"
    asked = command("simulate", settings_file(tmp_path), "--cluster", nodes.address, "--out", out, "--json")
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len([*out.glob("workers/*-0-*.json")]) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)  # until both machines have a worker
        group = placement_group([{"CPU": 1.0}], name=f"{TRAINERS}a model")
        ray.get(group.ready(), timeout=60)
        assert process.poll() is None  # it got its machine before they had nothing more to do
        remove_placement_group(group)
        said, complained = process.communicate(timeout=200)
    assert process.returncode == 0, complained
    assert json.loads(said)["segments"] == len(tiny_run.entries("segments"))
    assert checksums(open_run(out)) == checksums(tiny_run)


def test_a_machine_without_an_engine_has_others_look_at_a_run(nodes, tiny_run, tmp_path):
    (tmp_path / "lammps").mkdir()
    (tmp_path / "lammps" / "__init__.py").write_text("raise ImportError('there is none here')")
    alone = {**os.environ, "PYTHONPATH": str(tmp_path)}
    asked = command("simulate", settings_file(tmp_path), "--out", tmp_path / "run", "--json")
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False, env=alone)
    assert said.returncode == 2
    assert "lammps" in said.stderr
    asked += ["--cluster", nodes.address]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=200, check=False, env=alone)
    assert said.returncode == 0, said.stderr
    assert checksums(open_run(tmp_path / "run")) == checksums(tiny_run)


def test_two_trainers_that_follow_a_run_know_what_one_knows_at_its_end(nodes, tiny_run, tmp_path):
    nodes.join()  # for a worker
    out, asked = tmp_path / "model", settings_file(tmp_path)
    with asked.open("a") as file:
        file.write('\n[train]\nmodel = "ridge"\nprocesses = 2\n')
    told = command("train", "--stream", asked, "--cluster", nodes.address, "--out", out, "--json")
    said = subprocess.run(told, capture_output=True, text=True, timeout=280, check=False)
    nodes.leave(0)
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout)
    assert (result["processes"], result["segments"]) == (2, 12)
    settings = Settings(run=TINY, train=TrainSettings(model="ridge"))
    alone = train([tiny_run.path], tmp_path / "alone", settings, show=False)
    for name, scores in alone["validation"].items():
        assert result["validation"][name]["pearson"] == pytest.approx(scores["pearson"], abs=1e-5)


def test_a_machine_with_another_release_is_refused(nodes, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import metadata\nknown = metadata.version\n"
        "metadata.version = lambda name: '9.9' if name == 'glassmd' else known(name)\n"
    )
    nodes.join(2, PYTHONPATH=str(tmp_path))  # no other node has so many cores
    asked = command("simulate", settings_file(tmp_path), "--cluster", nodes.address, "--out", tmp_path / "run")
    asked += ["--set", "worker_cpus=2"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    nodes.leave(-1)
    assert said.returncode == 2
    assert "found glassmd 9.9 on " in said.stderr
    assert "install the same release on every machine" in said.stderr


def test_a_comparison_trains_many_at_a_time(nodes, tiny_run, tmp_path):
    folder = tmp_path / "compared"
    asked = command(
        "evaluate",
        "--compare",
        tiny_run.path,
        "--models",
        "density:thermal,ridge:thermal",
        "--folds",
        "2",
        "--seeds",
        "1",
        "--json",
    )
    said = subprocess.run(
        [*asked, "--out", folder, "--cluster", nodes.address], capture_output=True, text=True, timeout=280, check=False
    )
    assert said.returncode == 0, said.stderr
    here = subprocess.run(
        [*asked, "--out", tmp_path / "here"], capture_output=True, text=True, timeout=200, check=False
    )
    assert here.returncode == 0, here.stderr
    elsewhere, alone = (
        {row["name"]: row["species"]["A"]["pearson"]["mean"] for row in json.loads(one.stdout)["entries"]}
        for one in (said, here)
    )
    assert elsewhere.keys() == {"density:thermal", "ridge:thermal"}
    assert elsewhere == alone


def test_a_stop_while_trainers_wait_for_a_machine_is_heard_at_once(nodes, of_the_cluster, run_copy, tmp_path):
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    out, asked = tmp_path / "model", settings_file(tmp_path)
    out.mkdir()
    run_copy.rename(out / "run")
    taken = placement_group([{"CPU": 1.0}] * len(nodes.nodes), name="somebody else")
    ray.get(taken.ready(), timeout=60)
    told = command("train", "--stream", asked, "--cluster", nodes.address, "--out", out)
    with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not waiting_trainers() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert waiting_trainers()
        process.send_signal(signal.SIGTERM)
        asked_at = time.monotonic()
        _, complained = process.communicate(timeout=100)
        took = time.monotonic() - asked_at
    remove_placement_group(taken)
    assert process.returncode == 75, complained
    assert took < 30  # trainers that are at work have a minute to save what they have
    assert not waiting_trainers()


def waiting_trainers():
    import ray

    from glassmd.simulation.cluster.workers import TRAINERS

    groups = ray.util.placement_group_table().values()
    return [one["name"] for one in groups if one["name"].startswith(TRAINERS) and one["state"] == "PENDING"]
