"""kill -9 at random moments, then the same command again: nothing is lost, doubled or different."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassmd.ledger.keys import KINDS
from glassmd.settings import Settings
from glassmd.stream.dataset import Run, open_run
from glassmd.training.journal import read_metrics
from glassmd.training.session import train
from tests.conftest import TINY, TINY_TRAIN, needs_lammps
from tests.fault.test_signals import listens

KILLS = 4  # of each kind; --repeats 25 makes it a hundred
UNTRACED = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
"""Coverage doubles the time that a process takes to start, and a killed one has nothing to report."""
STEPS = 60
PARENTS = 8

SETTINGS = Settings(
    run=TINY.model_copy(
        update={"lineages": 4, "parents": 2, "replicas": 2, "held_out_replicas": 4, "block": 1, "workers": 2}
    ),
    train=TINY_TRAIN.model_copy(
        update={
            "max_steps": STEPS,
            "checkpoint_every": 5,
            "validate_every": 20,
            "input": ["cage"],
            "cage_replicas": 2,
        }
    ),
)


def checksums(run: Run) -> dict[str, str]:
    return {entry.key.name: entry.sidecar["sha256"] for kind in KINDS for entry in run.entries(kind)}


def start(model: Path) -> subprocess.Popen[bytes]:
    toml = model.with_suffix(".toml")
    if not toml.exists():
        run, train_ = SETTINGS.run.model_dump(exclude_none=True), SETTINGS.train.model_dump(exclude_none=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in run.items()]
        lines += ["[train]", *(f"{key} = {json.dumps(value)}" for key, value in train_.items())]
        toml.write_text("\n".join(lines))
    command = [
        sys.executable,
        "-m",
        "glassmd_cli.app",
        "train",
        "--stream",
        str(toml),
        "--out",
        str(model),
        "--json",
    ]
    with model.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=UNTRACED)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksums of the entries of the same run when nobody disturbs it."""
    model = tmp_path_factory.mktemp("undisturbed") / "model"
    assert start(model).wait(timeout=300) == 0, model.with_suffix(".log").read_text()[-2000:]
    found = checksums(open_run(model / "run"))
    assert sum("cage" in name for name in found) == PARENTS
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_a_worker(process: subprocess.Popen[bytes], dice: random.Random) -> bool:
    workers = children(process.pid)
    return bool(workers) and kill(dice.choice(workers))


def kill_the_trainer(process: subprocess.Popen[bytes], dice: random.Random) -> bool:
    return kill(process.pid)


EXITS: list[float] = []
"""Seconds from SIGTERM to the end of a trainer."""


def stop_the_trainer(process: subprocess.Popen[bytes], dice: random.Random) -> bool:
    """SIGTERM is heard, and answered by exit code 75, as soon as the command listens."""
    if not listens(process.pid):
        return False
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=60)
    if code == 0:  # it was at its very end
        return False
    EXITS.append(time.monotonic() - asked)
    assert code == 75
    return True


def kill_everything(process: subprocess.Popen[bytes], dice: random.Random) -> bool:
    struck = [kill(pid) for pid in [*children(process.pid), process.pid]]
    return all(struck)


@needs_lammps
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds worker processes in /proc")
@pytest.mark.parametrize("strike", [kill_a_worker, kill_the_trainer, kill_everything, stop_the_trainer])
def test_a_streaming_run_survives_kills(
    strike: Callable[[subprocess.Popen[bytes], random.Random], bool],
    undisturbed: dict[str, str],
    tmp_path: Path,
    repeats: int,
) -> None:
    EXITS.clear()
    wanted = KILLS * repeats
    dice, kills, starts, runs = random.Random(strike.__name__), 0, 0, 1
    model = tmp_path / "model1"
    while True:
        process = start(model)
        starts += 1
        while kills < wanted and process.poll() is None:
            # uniform over the first seconds, in which imports, simulation, training and checkpoints take place
            deadline = time.monotonic() + dice.uniform(0.5, 6.0)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            kills += process.poll() is None and strike(process, dice)
            if strike is not kill_a_worker:
                break
        if process.wait(timeout=120) == 0:
            assert_complete(model, undisturbed)
            if kills >= wanted:
                break
            runs += 1  # it finished between two kills: go on killing a new one
            model = tmp_path / f"model{runs}"
        assert starts < 4 * wanted, model.with_suffix(".log").read_text()[-2000:]
    print(f"\n{strike.__name__}: {kills} kills, {starts} starts, {runs} runs, all complete: "
          f"{len(undisturbed)} entries each, none lost or doubled, bit for bit as undisturbed")  # fmt: skip
    assert kills == wanted
    if strike is stop_the_trainer:
        print(f"SIGTERM to exit: {np.median(EXITS):.2f} s (median), {np.quantile(EXITS, 0.99):.2f} s (99%)")
        assert np.quantile(EXITS, 0.99) < 5


def assert_complete(model: Path, undisturbed: dict[str, str]) -> None:
    run = open_run(model / "run")
    assert run.complete
    assert run.verify() == len(undisturbed)
    assert checksums(run) == undisturbed, "every file is bit for bit that of the undisturbed run"
    replicas = [(e.key.of, replica) for e in run.entries("segments") for replica in e.sidecar["replicas"]]
    assert len(replicas) == len(set(replicas)), "no replica twice"
    steps = [line["step"] for line in read_metrics(model / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1)), "every step once"
    assert not list((model / "run").rglob("*.tmp")), "no leftovers"
    data = {path.name for kind in KINDS for path in (model / "run" / kind).glob("*.gsd")}
    assert data == {entry.path.name for kind in KINDS for entry in run.entries(kind)}, "nor data that nobody committed"


@pytest.mark.slow
def test_a_training_killed_at_random_steps_has_the_same_losses_bit_for_bit(tiny_run: Run, tmp_path: Path) -> None:
    settings = Settings(run=TINY, train=TINY_TRAIN.model_copy(update={"max_steps": STEPS, "checkpoint_every": 4}))
    train([tiny_run.path], tmp_path / "whole", settings)
    whole = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    script = textwrap.dedent("""
        import os, signal, sys
        from glassmd.settings import Settings
        from glassmd.training.session import train
        run, out, settings, last = sys.argv[1:]
        def show(progress, simulation):
            if progress.step == int(last):
                os.kill(os.getpid(), signal.SIGKILL)
        train([run], out, Settings.model_validate_json(settings), show=show)
    """)
    steps = sorted(random.Random(3).sample(range(1, STEPS), KILLS))
    codes = []
    for last in [*steps, -1]:
        command = [
            sys.executable,
            "-c",
            script,
            tiny_run.path,
            tmp_path / "killed",
            settings.model_dump_json(),
            str(last),
        ]
        codes.append(subprocess.run(command, capture_output=True, check=False, env=UNTRACED).returncode)
    assert codes == [-signal.SIGKILL] * KILLS + [0]
    killed = read_metrics(tmp_path / "killed" / "metrics.jsonl")
    print(f"\nkilled after steps {steps}: {len(killed)} lines equal to those of the uninterrupted training")
    assert killed == whole
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
