"""SIGTERM and SIGINT at any moment of a command that has no checkpoints: exit code 75, and nobody left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.errors import Interrupted
from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported
from glassmd.interrupt import StoppedAtOnce, StopRequest, stop_at_once
from glassmd.learners import make_model, model_class
from glassmd.learners.base import PropensityModel
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.settings import Settings
from glassmd.simulation.structures import CageProtocol
from glassmd.stream.dataset import Run
from glassmd.training.journal import read_metrics
from glassmd.training.session import train
from tests.conftest import TINY, TINY_TRAIN, needs_lammps
from tests.unit.test_importers import deepmind_file

MIXTURE = get_mixture("kob-andersen")
LONG = CageProtocol(replicas=32, time=5.0, after=1.0, spacing=0.05)
"""A minute of work, even for a small liquid."""

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sees cages that take long to measure."""
    torch.manual_seed(1)
    network = make_model("bapst", width=4, n_steps=1, inputs=["cage"])
    card = ModelCard(
        model="bapst", mixture=MIXTURE.identity(), temperatures=[1.0], density=1.2, times=[1.0], trained_species=["A"],
        cage_protocols={"1.0": LONG.to_dict()},
    )  # fmt: skip
    return save_model(tmp_path_factory.mktemp("model") / "m", network, card)


def liquid(seed: int) -> Configuration:
    generator = np.random.default_rng(seed)
    side = (1000 / 1.2) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3), -1).reshape(-1, 3) * (side / 10)
    species = generator.permutation(np.arange(1000) % 5 == 0)
    return Configuration([side] * 3, species, grid + 0.02 * generator.normal(size=grid.shape))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "run"
    items = [Imported(liquid(k), [1.0], f"{k}", 1, propensity=np.ones((1, 1000))) for k in range(3)]
    commit_imported(items, path, MIXTURE, 1.0, "test")
    return path


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    process = subprocess.Popen(
        [sys.executable, "-m", "glassmd_cli.app", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not listens(process.pid):  # until then it is Python that starts, not glassmd
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def listens(pid: int) -> bool:
    """Whether the process handles SIGTERM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def relatives(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they started, wherever they are now."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, look = [], [pid]
    while look:
        look = [child for parent in look for child in parents.get(parent, [])]
        found += look
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_stops(process: subprocess.Popen[str], number: signal.Signals, after: float) -> tuple[float, int]:
    """Seconds that it took, and how many processes it had started."""
    try:
        process.wait(after)
        raise AssertionError(f"it ended before {after:.1f} seconds: {process.communicate()}")
    except subprocess.TimeoutExpired:
        pass
    known = relatives(process.pid)
    asked = time.monotonic()
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    took = time.monotonic() - asked
    assert process.returncode == 75, err
    assert took < 5, f"it took {took:.1f} seconds"
    assert "Traceback" not in err
    assert "internal error" not in err
    assert out == ""
    deadline = time.monotonic() + 5  # what was starting just then looks for its parent first
    while (left := [pid for pid in known if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    return took, len(known)


SIMULATION = """
particles = 1000
temperature = 0.5
lineages = 4
times = [0.5, 100.0]
engine = "lammps"
workers = 2
[train]
model = "bapst"
input = ["cage"]
max_steps = 100000
"""
"""Minutes of work."""

COMMANDS = {
    "simulate": "simulate {settings} --out {out}",
    "train": "train {data} --out {out} --set model=bapst --set max_steps=100000 --set checkpoint_every=20",
    "train --stream": "train --stream {settings} --out {out}",
    "predict": "predict {snapshot} --model {model} --out {out}/predicted.gsd --engine lammps",
    "evaluate": "evaluate {model} {data} --engine lammps",
    "evaluate --compare": "evaluate --compare {data} --models cage,bapst --out {out} --engine lammps",
    "demo": "demo --out {out}",
}
LATEST = 8.0
"""Seconds after a command has begun to listen; by then each is at what takes long."""


@pytest.fixture(scope="module")
def stops(request: pytest.FixtureRequest) -> Iterator[list[float]]:
    """How long stops took, of all commands together."""
    took: list[float] = []
    yield took
    if took:
        print(
            f"\n{len(took)} signals: exit 75 after {np.median(took):.2f} s (median), {np.quantile(took, 0.99):.2f} s "
            f"(99%), {max(took):.2f} s (largest); no process left"
        )


@needs_lammps
@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_a_random_moment(
    model: Path, data: Path, tmp_path: Path, command: str, number: signal.Signals, stops: list[float], repeats: int
) -> None:
    """`--repeats 5` sends seventy signals in all."""
    dice = random.Random(f"{command} {number}")
    settings = tmp_path / "settings.toml"
    settings.write_text(SIMULATION)
    snapshot = next((data / "parents").glob("*.gsd"))
    seen = []
    for moment in (0.0, *(dice.uniform(0, LATEST) for _ in range(repeats))):
        out = tmp_path / f"out{len(seen)}"
        words = COMMANDS[command].format(settings=settings, out=out, data=data, model=model, snapshot=snapshot)
        seen.append((round(moment, 1), *assert_stops(start(*words.split()), number, moment)))
        stops.append(seen[-1][1])
        assert not [path for folder in (tmp_path, data) for path in folder.rglob("*.tmp")]
    assert not list(tmp_path.rglob("predicted.gsd"))
    print(f"\n{command}, {number.name}: after s, took s, children: {[(a, round(b, 2), c) for a, b, c in seen]}")


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_import_that_is_stopped_is_taken_up_again(tmp_path: Path, number: signal.Signals) -> None:
    for index in range(400):
        deepmind_file(tmp_path / f"{index:03d}.pickle")
    out = tmp_path / "r"
    process = start("import", *sorted(tmp_path.glob("*.pickle")), "--format", "deepmind", "--out", out)
    deadline = time.monotonic() + 60
    while not list((out / "segments").glob("*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert_stops(process, number, 0.0)
    count = len(list((out / "segments").glob("*.json")))
    assert 0 < count < 400
    from glassmd.importers.deepmind import import_deepmind
    from glassmd.stream.dataset import open_run

    import_deepmind(sorted(tmp_path.glob("*.pickle"))[: count + 1], out)
    assert open_run(out).verify() == 2 * (count + 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr("glassmd.interrupt._AGAIN", (0.2, 0.1))
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("model", ["bapst", "botan"])  # botan counts its steps while it takes them
def test_a_step_too_long_for_a_stop_is_left_out_and_taken_later(
    quick: None, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    small = {"width": 4, "n_steps": 1}
    settings = Settings(
        run=TINY, train=TINY_TRAIN.model_copy(update={"model": model, "max_steps": 8, "hyperparameters": small})
    )
    train([tiny_run.path], tmp_path / "whole", settings)
    objective, calls = model_class(model).objective, 0

    def long(self: PropensityModel, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = objective(self, *arguments)
        if calls == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        return loss

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(model_class(model), "objective", long)
    try:
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            train([tiny_run.path], tmp_path / "parts", settings, stop=StopRequest().install())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    monkeypatch.undo()
    steps = [line["step"] for line in read_metrics(tmp_path / "parts" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4]
    train([tiny_run.path], tmp_path / "parts", settings)
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert whole == parts
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_something_swallows_is_tried_again(quick: None, number: signal.Signals) -> None:
    swallowed = 0

    def work() -> None:
        nonlocal swallowed
        while True:
            try:
                for _ in range(100):
                    time.sleep(0.01)
            except BaseException:
                swallowed += 1
                if swallowed > 2:
                    raise

    def asked() -> None:
        with stop_at_once():
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            work()

    with pytest.raises(StoppedAtOnce):
        asked()
    assert swallowed == 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    os.kill(os.getpid(), number)  # on the last steps of a process that was stopped, another one changes nothing


def test_handlers_are_put_back_where_nothing_stopped() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with stop_at_once():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before


SLOW_TO_IMPORT = """
import os, signal, time
os.kill(os.getpid(), signal.SIGTERM)
time.sleep({seconds})
complete = True
"""

IMPORTS = """
import sys
from glassmd.interrupt import {imported}
sys.path.insert(0, {folder!r})
try:
    {listening}
    import slow_to_import
    while True:
        pass
except StoppedAtOnce as stopped:
    print(slow_to_import.complete, stopped)
"""


@pytest.mark.parametrize(
    ("imported", "listening", "seconds"),
    [
        ("StoppedAtOnce, stop_at_once", "block = stop_at_once(); block.__enter__()", 0.3),
        ("StoppedAtOnce, StopRequest", "StopRequest().install()", 2.3),  # as long as nobody asks, plus some
    ],
)
def test_an_import_is_not_interrupted(tmp_path: Path, imported: str, listening: str, seconds: float) -> None:
    """Compiled modules import others, and an exception in one of those ends the process with SIGABRT."""
    (tmp_path / "slow_to_import.py").write_text(SLOW_TO_IMPORT.format(seconds=seconds))
    code = IMPORTS.format(imported=imported, folder=str(tmp_path), listening=listening)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.returncode) == ("True SIGTERM", 0), found.stderr


def test_a_place_that_swallows_a_stop_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))

    class Swallows:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    with stop_at_once():
        Swallows(StoppedAtOnce("SIGTERM"))
        assert told == []
        Swallows(ValueError())
    Swallows(StoppedAtOnce("SIGTERM"))
    assert told == [ValueError, StoppedAtOnce]
