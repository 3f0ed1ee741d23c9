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

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.importers.commit import Imported, commit_imported
from glassmd.interrupt import StoppedAtOnce, stop_at_once
from glassmd.mixtures import get_mixture
from glassmd.models import make_model
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.simulation.structures import CageProtocol
from tests.conftest import needs_lammps
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


@needs_lammps
@linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_signal_at_a_random_moment(
    model: Path, data: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    dice = random.Random(f"{command} {number}")
    seen = []
    for moment in (0.0, dice.uniform(0.1, 2), dice.uniform(2, 4), dice.uniform(5, 8)):
        out = tmp_path / "out.gsd"
        snapshot = next((data / "parents").glob("*.gsd"))
        arguments = {
            "predict": ("predict", snapshot, "--model", model, "--out", out),
            "evaluate": ("evaluate", model, data),
        }[command]
        seen.append((round(moment, 1), *assert_stops(start(*arguments, "--engine", "lammps"), number, moment)))
        assert not out.exists()
        assert not [*tmp_path.rglob("*.tmp"), *data.rglob("*.tmp")]
    print(f"\n{command}, {number.name}: after s, took s, children: {[(a, round(b, 2), c) for a, b, c in seen]}")
    if command == "evaluate":
        assert max(children for *_, children in seen) > 0, "its workers were never there"


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
