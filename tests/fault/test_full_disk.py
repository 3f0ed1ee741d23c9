"""A disk that is full loses nothing that was committed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassmd.stream.dataset import Run, open_run
from tests.conftest import TINY, Outcome, needs_lammps
from tests.fault.refusals import TRAIN_FLAGS, Command, assert_refused, frame, tiny_flags, write

SMALL_FILES = """
import resource, sys
from glassmd.engines.lammps import load_lammps
from glassmd_cli.app import main
load_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"]).close()  # MPI writes files of its own
*arguments, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
code = main(arguments)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sys.exit(code)
"""


@needs_lammps
def test_a_full_disk_while_simulating_loses_nothing(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk: the operating system refuses the same calls."""
    flags = [f"--{key}={value}" for key, value in tiny_flags(lineages=3, parents=1).items()]
    command = [sys.executable, "-c", SMALL_FILES, "simulate", "--out", str(tmp_path / "r"), *flags, "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    full = subprocess.run([*command, "12000"], capture_output=True, text=True, env=environment, check=False)
    outcome = Outcome(full.returncode, full.stdout, full.stderr)
    assert_refused(outcome, "could not write", "a file may not grow", "same command")
    kept = {path: path.read_bytes() for path in (tmp_path / "r" / "parents").glob("*")}
    assert any(path.suffix == ".json" for path in kept), "the equilibrated parent was small enough to be committed"
    assert not list((tmp_path / "r").rglob("*.tmp"))
    after = subprocess.run([*command, "-1"], capture_output=True, text=True, env=environment, check=False)
    assert after.returncode == 0, after.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_full_disk_while_predicting(
    glassmd: Command, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    snapshot = write(tmp_path / "good.gsd", frame())
    monkeypatch.setattr(os, "fsync", full)
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--force", "--out", tmp_path / "out.gsd")
    assert_refused(outcome, "no space left on the device", "free some space")
    assert not (tmp_path / "out.gsd").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_while_training_keeps_the_checkpoint(
    glassmd: Command, model_copy: Path, tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted((model_copy / "checkpoints").iterdir())
    before = [path.read_bytes() for path in kept]

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    outcome = glassmd(
        "train", tiny_run.path, "--model", "bapst", "--out", model_copy, "--seed", TINY.seed, "--max-steps", "9", *flags
    )
    assert_refused(outcome, "no space left on the device", "same command")
    assert [path.read_bytes() for path in kept] == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few files."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs privileges")
    yield path
    subprocess.run(["umount", path], check=True)


@needs_lammps
def test_workers_on_a_full_disk_say_so(glassmd: Command, small_disk: Path) -> None:
    flags = [f"--{key}={value}" for key, value in tiny_flags(lineages=3, workers=2).items()]
    outcome = glassmd("simulate", "--out", small_disk / "r", *flags, "--json")
    assert_refused(outcome, "could not write", "no space left on the device", "free some space")
    run = open_run(small_disk / "r")
    assert run.verify() == len(run.entries("parents")) + len(run.entries("segments"))
