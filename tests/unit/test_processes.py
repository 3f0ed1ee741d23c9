"""Several processes train as one does with the batch of all."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.errors import InputError, ModelError, SettingsError
from glassmd.learners.labels import LabelSums
from glassmd.learners.linear.extreme_rows import Rows
from glassmd.models.store import load_model
from glassmd.processes import Processes, started
from glassmd.settings import Settings
from glassmd.stream.dataset import Run
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.choices import training_device
from glassmd.training.journal import read_metrics
from glassmd.training.session import train
from tests.conftest import TINY, TINY_TRAIN
from tests.fault.refusals import Command, assert_refused
from tests.unit.two_processes import do

PLAIN = {key: value for key, value in os.environ.items() if not key.startswith("COV")} | {"OMP_NUM_THREADS": "1"}
OFTEN: dict[str, Any] = {
    "max_steps": 6, "validate_every": 3, "checkpoint_every": 2, "train_threads": 1, "train_device": "cpu",
    "input": ["thermal"], "validation_share": 0.2,
}  # fmt: skip
SMALL = {"width": 16, "n_steps": 3}
STILL = {"hyperparameters": {"dropout": 0.0, "width": 8, "n_layers": 1}}  # what chance decides differs by process
LEARNERS: dict[str, dict[str, Any]] = {
    "bapst": {"noise_weighted": True, "learning_rate": 1e-3, "hyperparameters": SMALL},
    "botan": {"hyperparameters": {**SMALL, "pretrain_steps": 2}},
    "glassmlp": {"species": ["A"]},
    "glassnet": {**STILL, "species": ["A", "B"]},
    "ridge": {},
    "softness": {"hyperparameters": {"capacity": 30}},
}
"""Settings by learner. Some of the rows of softness are dropped in every process."""


def job(run: Run, out: Path, model: str, **changes: Any) -> dict[str, Any]:
    settings = {**OFTEN, "model": model, **LEARNERS[model], **changes}
    return {"run": str(run.path), "out": str(out), "train": settings}


def environments(count: int = 2) -> list[dict[str, str]]:
    """What `torchrun` tells each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    of_all = {**PLAIN, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    local = {"LOCAL_WORLD_SIZE": str(count)}
    return [of_all | local | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "glassmd_cli", *map(str, arguments)]


def start(command: list[str], places: list[Path]) -> list[subprocess.Popen[str]]:
    """One process in each place."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command, env=env, cwd=place, **pipes)
        for env, place in zip(environments(len(places)), places, strict=True)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and standard errors."""
    told = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def together(jobs: list[dict[str, Any]], folder: Path) -> list[Any]:
    """What two processes return of trainings, one after the other."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = [sys.executable, "-m", "tests.unit.two_processes", str(folder / "jobs.json"), str(folder / "results")]
    root = Path(__file__).parents[2]
    codes = ended(start(script, [root, root]))
    assert [code for code, _ in codes] == [0, 0], codes
    mine, others = (json.loads((folder / f"results.{rank}").read_text()) for rank in (0, 1))
    assert mine == others or json.dumps(mine) == json.dumps(others)  # NaN is unlike itself
    return list(mine)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def results(tiny_run: Run, shared_folder: Path) -> dict[str, Any]:
    """Of two processes, by learner, and of a training that the second one stops."""
    jobs = [job(tiny_run, shared_folder / "two" / name, name) for name in LEARNERS]
    jobs.append({**job(tiny_run, shared_folder / "resumed", "glassnet"), "stop": 5})
    return dict(zip([*LEARNERS, "stopped"], together(jobs, shared_folder), strict=True))


def lines(model: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(model / "metrics.jsonl") if line["kind"] == kind]


@pytest.mark.parametrize("name", LEARNERS)
def test_two_processes_train_as_one_with_twice_the_batch(
    name: str, results: dict[str, Any], tiny_run: Run, shared_folder: Path, tmp_path: Path
) -> None:
    """To rounding, in double precision: every mean of the loss is that of the whole batch."""
    alone = do(job(tiny_run, tmp_path / "one", name, batch_size=2), Processes())
    assert isinstance(alone, dict)
    found = results[name]
    assert (found["processes"], alone["processes"]) == (2, 1)
    assert found["samples_seen"] == alone["samples_seen"]
    assert found["validation_samples"] == [2, 2]
    for species, scores in alone["validation"].items():
        np.testing.assert_allclose(found["validation"][species]["pearson"], scores["pearson"], atol=1e-6)
    two, one = (lines(path, "train") for path in (shared_folder / "two" / name, tmp_path / "one"))
    assert len(two) == (0 if name in ("ridge", "softness") else OFTEN["max_steps"])
    assert [line["samples"] for line in two] == [line["samples"] for line in one]
    np.testing.assert_allclose([line["loss"] for line in two], [line["loss"] for line in one], rtol=1e-6)
    (result,), (expected,) = (lines(path, "result") for path in (shared_folder / "two" / name, tmp_path / "one"))
    assert result["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-5)
    card = json.loads((shared_folder / "two" / name / "model.json").read_text())
    assert card["provenance"]["processes"] == 2


def test_a_stop_of_one_is_one_of_all_and_any_number_goes_on(
    results: dict[str, Any], tiny_run: Run, shared_folder: Path, tmp_path: Path
) -> None:
    """Two processes, one, two: what is solved is what one process solves that was never stopped."""
    assert "stopped by a test" in results["stopped"]
    stored = latest_checkpoint(shared_folder / "resumed")
    assert stored is not None
    before = load_checkpoint(stored)[1]["fit"]["parts"][1]["step"]
    assert 0 < before < 6
    alone = do(job(tiny_run, shared_folder / "resumed", "glassnet", max_steps=before + 3), Processes())
    assert isinstance(alone, dict)
    assert (alone["steps"], alone["processes"]) == (before + 3, 1)
    (again,) = together([job(tiny_run, shared_folder / "resumed", "glassnet", max_steps=before + 5)], tmp_path)
    assert (again["steps"], again["processes"]) == (before + 5, 2)
    steps = lines(shared_folder / "resumed", "train")
    assert [line["step"] for line in steps] == list(range(1, before + 6))
    assert again["samples_seen"] == 2 * before + 3 + 2 * 2
    whole = do(job(tiny_run, tmp_path / "whole", "glassnet"), Processes())
    assert isinstance(whole, dict)
    solved, expected = (load_model(path).model.state_dict() for path in (shared_folder / "resumed", tmp_path / "whole"))
    for key in ("linear.weight", "linear.fold_weight", "linear.bias"):
        torch.testing.assert_close(solved[key], expected[key], rtol=1e-6, atol=1e-8)


# ---- ends -----------------------------------------------------------------------------------------------


LONG = ["--model", "bapst", "--max-steps", 10_000, "--set", "checkpoint_every=2", "--set", "train_threads=1"]


def wait_for_checkpoint(model: Path) -> None:
    until = time.monotonic() + 60
    while latest_checkpoint(model) is None and time.monotonic() < until:
        time.sleep(0.05)


def test_sigterm_to_one_process_ends_all_with_75_and_a_checkpoint(tiny_run: Run, tmp_path: Path) -> None:
    processes = start(command("train", tiny_run.path, "--out", tmp_path / "m", *LONG), [tmp_path, tmp_path])
    wait_for_checkpoint(tmp_path / "m")
    processes[1].send_signal(signal.SIGTERM)
    (code, text), (other, silent) = ended(processes)
    assert (code, other) == (75, 75), (text, silent)
    assert "glassmd: stopped by SIGTERM" in text
    assert silent == ""
    stored = latest_checkpoint(tmp_path / "m")
    assert stored is not None
    last = lines(tmp_path / "m", "train")[-1]["step"]
    assert load_checkpoint(stored)[1]["fit"]["parts"][0]["step"] == last


def test_what_a_killed_process_of_torchrun_leaves_goes_on_with_one(tiny_run: Run, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*launcher, *command("train", tiny_run.path, "--out", tmp_path / "m", *LONG)[2:]],
            env=PLAIN, stdout=output, stderr=output,
        )  # fmt: skip
    wait_for_checkpoint(tmp_path / "m")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = [pid for pid in map(int, children) if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(second, signal.SIGKILL)
    assert process.wait(timeout=120) == 1  # whatever its processes end with
    stored = latest_checkpoint(tmp_path / "m")
    assert stored is not None
    before = load_checkpoint(stored)[1]["fit"]["parts"][0]["step"]
    settings = TINY_TRAIN.model_copy(update={"max_steps": before + 2, "learning_rate": None, "validate_every": 200})
    told = train([tiny_run.path], tmp_path / "m", Settings(train=settings))
    assert told["steps"] == before + 2


def test_what_only_one_process_cannot_see_is_refused_by_all_and_said_by_the_first(
    tiny_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    processes = start(
        command("train", tiny_run.path.name, "--out", tmp_path / "m"), [tiny_run.path.parent, tmp_path / "elsewhere"]
    )
    (code, text), (other, silent) = ended(processes)
    assert (code, other, silent) == (2, 2, "")
    assert re.fullmatch(
        rf"glassmd: process 1 on {os.uname().nodename}: found no run in {tiny_run.path.name};.*", text.strip()
    )
    assert not (tmp_path / "m" / "checkpoints").exists()


def test_other_commands_are_for_one_process(glassmd: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert_refused(glassmd("evaluate", tmp_path, "--compare"), "found 2 processes for glassmd evaluate", "torchrun")
    monkeypatch.setenv("RANK", "1")
    silent = glassmd("evaluate", tmp_path, "--compare")
    assert (silent.code, silent.err) == (2, "")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, ["WORLD_SIZE=2", "no RANK"]),
        ({"WORLD_SIZE": "many"}, ["WORLD_SIZE=many"]),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, ["RANK=2"]),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(
    glassmd: Command, monkeypatch: pytest.MonkeyPatch, tiny_run: Run, tmp_path: Path, variables: dict[str, str],
    words: list[str],
) -> None:  # fmt: skip
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught, started():
        pass
    for word in words:
        assert word in str(caught.value)
    monkeypatch.setenv("RANK", variables.get("RANK", "0"))


# ---- parts ----------------------------------------------------------------------------------------------


def test_one_process_alone_says_what_it_is_given() -> None:
    alone, numbers = Processes(), torch.ones(3)
    assert alone.tell((1, 2)) == (1, 2)
    assert alone.gather(None) == [None]
    assert alone.add_up(numbers) is alone.mean(numbers) is numbers
    assert [*alone.each({"a": numbers})] == [{"a": numbers}]
    assert alone.by_first(lambda check: 3, lambda: None) == 3
    assert LabelSums.none(1, 1).added_up(alone).count.tolist() == [[0.0]]


def test_rows_of_two_processes_are_those_of_one() -> None:
    """The lowest ranks of all of them, and nothing above what either has dropped."""
    generator = np.random.default_rng(0)
    batches = [
        (generator.normal(size=(20, 2)).astype(np.float32), generator.random(20), fold, number)
        for number, fold in enumerate((0, 1, 2, 3))
    ]
    whole, parts = Rows.none(2), [Rows.none(2), Rows.none(2)]
    for number, batch in enumerate(batches):
        whole = whole.added(*batch, capacity=25)
        parts[number % 2] = parts[number % 2].added(*batch, capacity=25)
    joined = parts[0].plus(parts[1], 25)
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(joined, name), value)
    assert joined.plus(Rows.none(2), 25).bound == whole.bound


def test_two_processes_on_one_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassmd.training.choices.torch_device", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"uuid": "one"}))
    processes = Processes(1, 2, 1, 2)
    monkeypatch.setattr(processes, "gather", lambda told: [told, told])
    with pytest.raises(SettingsError, match="a GPU of its own for each"):
        training_device(TINY_TRAIN, processes)


def test_another_number_of_processes_is_no_other_training(tiny_run: Run, tmp_path: Path) -> None:
    """But another batch of each is."""
    train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=TINY_TRAIN))
    path = latest_checkpoint(tmp_path / "m")
    assert path is not None
    assert "processes" not in json.dumps(load_checkpoint(path)[1]["identity"])
    with pytest.raises(ModelError, match="batch_size"):
        train(
            [tiny_run.path], tmp_path / "m", Settings(run=TINY, train=TINY_TRAIN.model_copy(update={"batch_size": 2}))
        )
