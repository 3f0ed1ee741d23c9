"""Mixture files that describe no mixture: which entry it is, before anything is simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.fault.refusals import assert_refused

Command = Callable[..., Outcome]
GOOD = (Path(__file__).parents[2] / "examples" / "own_mixture.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("density = 0.72", "", ("no mine.toml: density", "own_mixture.toml")),
        ("density = 0.72", "density = -0.72", ("density = -0.72", "above 0")),
        ("density = 0.72", "density = nan", ("density = nan", "above 0")),
        ("density = 0.72", 'density = "a"', ("density = 'a'", "valid number")),
        ("sigma = [[1.0, 1.1], [1.1, 1.2]]", "sigma = [[1.0, 1.1], [1.2, 1.2]]", ("sigma[0][1] = 1.1", "same for AB")),
        ("sigma = [[1.0, 1.1], [1.1, 1.2]]", "sigma = [[1.0, -1.1], [-1.1, 1.2]]", ("sigma[0][1] = -1.1", "above 0")),
        ("sigma = [[1.0, 1.1], [1.1, 1.2]]", "sigma = [[1.0, 1.1]]", ("rows of [2]", "2 rows of 2")),
        ("sigma = [[1.0, 1.1], [1.1, 1.2]]", "sigma = [[2.0, 2.2], [2.2, 2.4]]", ("sigma[0][0] = 2", "divide all of")),
        ("masses = [1.0, 1.0]", "masses = [12.0, 1.0]", ("masses[0] = 12", "divide all of masses by 12")),
        ("composition = [50, 50]", "composition = [50]", ("1 composition", "2, one per species")),
        ("composition = [50, 50]", "composition = [50, 0]", ("composition[1] = 0", "above 0")),
        ("density = 0.72", "desnity = 0.72", ("desnity", "did you mean 'density'")),
        ('name = "weeks-1d2"', 'name = "kob-andersen"', ("kob-andersen", "choose another name")),
        ('species = ["A", "B"]', 'species = ["A", "A"]', ("['A', 'A']", "all different")),
        ("dimensions = 3", "dimensions = 4", ("dimensions = 4",)),
        ('truncation = "force-shifted"', 'truncation = "smooth"', ("truncation = 'smooth'",)),
        ("cutoff = 2.5 ", "cutoff = [[2.5, 2.0], [2.1, 3.0]] ", ("cutoff[0][1]", "same for AB")),
        ("cutoff = 2.5 ", "cutoff = ", ("could not read",)),
    ],
)
def test_an_entry_that_cannot_be(old: str, new: str, words: tuple[str, ...], tmp_path: Path, glassmd: Command) -> None:
    assert old in GOOD
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace(old, new))
    assert_refused(glassmd("simulate", "--mixture", file, "--out", tmp_path / "run", "--json"), *words)
    assert not (tmp_path / "run").exists()


def test_files_that_are_not_there(tmp_path: Path, glassmd: Command) -> None:
    out = ("--out", tmp_path / "run", "--json")
    assert_refused(glassmd("simulate", "--mixture", tmp_path / "no.toml", *out), "no mixture file", "own_mixture.toml")
    assert_refused(glassmd("simulate", "--mixture", "kob-anderson", *out), "or a TOML file", "'kob-andersen'")
    (tmp_path / "run.toml").write_text('mixture = "no.toml"\n')
    assert_refused(glassmd("simulate", tmp_path / "run.toml", *out), str(tmp_path / "no.toml"))


def test_a_cutoff_that_does_not_fit_into_the_box(tmp_path: Path, glassmd: Command) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace("cutoff = 2.5 ", "cutoff = 5.0 "))
    outcome = glassmd("simulate", "--mixture", file, "--particles=300", "--temperature=2", "--out", tmp_path / "run")
    assert_refused(outcome, "cutoff")
