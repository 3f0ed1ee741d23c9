"""Files of mixtures that cannot be: the error names the entry and what to write, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.storage import sealed
from glassmd.stream.dataset import open_run
from tests.conftest import needs_lammps
from tests.fault.refusals import Command, assert_refused
from tests.unit.test_own_mixtures import OWN, SHORT

TEXT = OWN[0].read_text()
SIGMA = "[1.0, 0.9],\n    [0.9, 0.8],"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (SIGMA, "[1.0, 0.9],\n    [0.85, 0.8],", ("sigma[0][1] = 0.9", "sigma[1][0] = 0.85", "of A and B")),
        (SIGMA, "[1.0, -0.9],\n    [-0.9, 0.8],", ("sigma[0][1] = -0.9", "a number greater than 0")),
        (SIGMA, "[1.0, nan],\n    [nan, 0.8],", ("sigma[0][1] = nan", "finite")),
        (SIGMA, "[1.0, inf],\n    [inf, 0.8],", ("sigma[0][1] = inf", "finite")),
        (SIGMA, "[1.0, 0],\n    [0, 0.8],", ("sigma[0][1] = 0", "greater than 0")),
        (SIGMA, '[1.0, "0.9"],\n    [0.9, 0.8],', ("sigma[0][1] = '0.9'", "a valid number")),
        (SIGMA, "[1.0, true],\n    [true, 0.8],", ("sigma[0][1] = True", "a valid number")),
        (SIGMA, "[1.0, 0.9],", ("sigma = [[1.0, 0.9]]", "2 rows of 2 numbers", "write the table out in full")),
        (SIGMA, "[1.0],\n    [0.9, 0.8],", ("sigma", "2 rows of 2 numbers")),
        (f"sigma = [\n    {SIGMA}\n]", "sigma = { AA = 1.0, AB = 0.9, BB = 0.8 }", ("sigma = {", "a row per species")),
        (f"sigma = [\n    {SIGMA}\n]", "", ("found no sigma", "sigma: diameters of all pairs")),
        (SIGMA, "[3.4, 0.9],\n    [0.9, 0.8],", ("sigma[0][0] = 3.4", "divide sigma", "by 3.4", "density by 39.304")),
        ("[1.0, 1.2],\n    [1.2, 0.8],", "[2.0, 1.2],\n    [1.2, 0.8],", ("epsilon[0][0] = 2", "divide epsilon by 2")),
        ("masses = [1.0, 0.75]", "masses = [40, 30]", ("masses[0] = 40", "unit", "divide masses by 40")),
        ("masses = [1.0, 0.75]", "masses = [1.0]", ("masses = [1.0]", "1 for 2 species", "one for each of A, B")),
        ("masses = [1.0, 0.75]", "masses = 1.0", ("masses = 1.0", "a valid list")),
        ("[50, 50]", "[50, 30, 20]", ("composition = [50, 30, 20]", "3 for 2 species")),
        ("[50, 50]", "[0.5, 0.5]", ("composition[0] = 0.5", "a valid integer", "[80, 20]")),
        ("[50, 50]", "[50, 0]", ("composition[1] = 0", "greater than or equal to 1")),
        ("[50, 50]", "[9999, 1]", ("1000 particles of half-and-half, none of them B", "try --particles 10000")),
        ('["A", "B"]', '["A", "A"]', ("species = ['A', 'A']", "different names")),
        ('["A", "B"]', '["A1", "B"]', ("species", "names of letters alone")),
        ('["A", "B"]', "[]", ("species", "names of letters alone")),
        ("dimensions = 3", "dimensions = 4", ("dimensions = 4", "2 or 3")),
        ("cutoff = 2.5 ", "cutoff = -2.5 ", ("cutoff = -2.5", "greater than 0")),
        ("cutoff = 2.5 ", "cutoff = 9.0 ", ("box of edge 9.048", "at least 18, twice the longest cutoff", "half")),
        ("cutoff = 2.5 ", "cutoff = [[2.5, 2.0], [2.1, 2.2]] ", ("cutoff[0][1] = 2", "cutoff[1][0] = 2.1")),
        ("cutoff = 2.5 ", "cutoff = [[2.5, 2.0]] ", ("cutoff", "2 rows of 2 numbers")),
        ("cutoff", "cutof", ("unknown key 'cutof'", "did you mean 'cutoff'?")),
        ('"force-shifted"', '"force_shifted"', ("truncation 'force_shifted'", "did you mean 'force-shifted'?")),
        ("cutoff = 2.5 ", "cutoff = 1.12 ", ()),  # with --truncation xplor
        ("density = 1.35", "density = 0.034", ("density = 0.034", "0.0135 of the box", "for example density = 1.52")),
        ("density = 1.35", "density = 1350", ("density = 1350", "of the box")),
        ("# wave_numbers = [7.6, 7.6]", "wave_numbers = [7.6]", ("wave_numbers = [7.6]", "1 for 2 species")),
        ('"half-and-half"', '"kob-andersen"', ("name = 'kob-andersen'", "another composition, masses, epsilon, sigma",
                                               'name = "my-kob-andersen"')),
        ('"half-and-half"', '"../x"', ("name = '../x'", "letters, digits")),
        ('"half-and-half"', '"unknown"', ("name = 'unknown'", "not unknown")),  # of liquids without a potential
        ('"half-and-half"', '"x.toml"', ("name = 'x.toml'", "no name of a file")),
        ("[50, 50]", "[100000000000000000000000, 1]", ("composition[0]", "less than or equal to")),
        ("# wave_numbers = [7.6, 7.6]", "wave_numbers = [7.6, 1e6]", ("wave_numbers[1] = 1e+06", "leave wave_numbers")),
        ("# wave_numbers = [7.6, 7.6]", "wave_numbers = [0.1, 7.6]", ("wave_numbers[0] = 0.1", "leave wave_numbers")),
        ('"half-and-half"', "3", ("name = 3", "a valid string")),
        ("dimensions = 3", "dimensions: 3", ("could not read mixture file", "liquid.toml")),
        ("dimensions = 3", "x = " + "[" * 9999, ("could not read mixture file", "liquid.toml")),
    ],
)  # fmt: skip
def test_files_that_cannot_be(
    glassmd: Command, tmp_path: Path, before: str, after: str, words: tuple[str, ...]
) -> None:
    assert before in TEXT
    path = tmp_path / "liquid.toml"
    path.write_text(TEXT.replace(before, after))
    flags = () if words else ("--truncation", "xplor")
    outcome = glassmd("simulate", "--mixture", path, "--out", tmp_path / "r", "--engine", "lammps", *flags)
    assert_refused(outcome, *(words or ("truncation 'xplor'", "r_c = 1.12 σ_ab", "try --truncation shifted")))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "command",
    [("predict", "x.gsd", "--model", "m"), ("analyze", "x.gsd"), ("init", "new.toml"),
     ("train", "--stream", "--out", "m"), ("import", "x.gsd", "--format", "trajectory", "--out", "r")],
)  # fmt: skip
def test_every_command_that_takes_a_file_names_the_entry(
    glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("liquid.toml").write_text(TEXT.replace("masses = [1.0, 0.75]", "masses = [1.0, -0.75]"))
    assert_refused(glassmd(*command, "--mixture", "liquid.toml"), "masses[1] = -0.75 in liquid.toml")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["liquid.toml"]


def test_a_file_that_is_not_there_or_never_ends(glassmd: Command, tmp_path: Path) -> None:
    flags = ("--out", tmp_path / "r")
    assert_refused(glassmd("simulate", "--mixture", "no.toml", *flags), "found no mixture file no.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    assert_refused(glassmd("simulate", "--mixture", tmp_path / "pipe.toml", *flags), "no regular file")
    (tmp_path / "folder.toml").mkdir()
    assert_refused(glassmd("simulate", "--mixture", tmp_path / "folder.toml", *flags), "could not read mixture file")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert_refused(glassmd("simulate", "--mixture", tmp_path / "bytes.toml", *flags), "could not read mixture file")


def test_a_settings_file_that_names_a_mixture_that_is_not_there(glassmd: Command, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('mixture = "liquid.toml"\n')
    outcome = glassmd("simulate", tmp_path / "run.toml", "--out", tmp_path / "r")
    assert_refused(outcome, f"found no mixture file {tmp_path}/liquid.toml")
    (tmp_path / "run.toml").write_text("mixture = 3\n")
    assert_refused(glassmd("simulate", tmp_path / "run.toml", "--out", tmp_path / "r"), "mixture = 3", "a TOML file")


def test_a_mixture_is_no_settings_file(glassmd: Command, tmp_path: Path) -> None:
    outcome = glassmd("simulate", OWN[0], "--out", tmp_path / "r")
    assert_refused(outcome, "describes a mixture", f"try --mixture {OWN[0]}")


def test_a_model_mixture_that_init_does_not_know(glassmd: Command, tmp_path: Path) -> None:
    outcome = glassmd("init", tmp_path / "x.toml", "--mixture", "kob-anderson")
    assert_refused(outcome, "did you mean 'kob-andersen'?")
    assert not (tmp_path / "x.toml").exists()


def test_a_truncation_of_nobody_knows_what(glassmd: Command) -> None:
    assert_refused(glassmd("predict", "x.gsd", "--model", "m", "--truncation", "shifted"), "--truncation without")


@needs_lammps
def test_a_step_that_conserves_no_energy(glassmd: Command, tmp_path: Path) -> None:
    path, run = tmp_path / "liquid.toml", tmp_path / "r"
    path.write_text(TEXT.replace("[1.0, 0.75]", "[1.0, 0.01]"))
    flags = [f"--set={key}={json.dumps(value)}" for key, value in SHORT.items()]
    refused = glassmd("simulate", "--mixture", path, "--out", run, *flags)
    assert_refused(refused, "found time_step = 0.005", "at T = 3, the highest of the run", "try --set time_step=")
    assert not run.exists()
    stream = glassmd("train", "--stream", "--mixture", path, "--out", tmp_path / "m", "--model", "bapst", *flags)
    assert_refused(stream, "found time_step = 0.005", "try --set time_step=")
    assert not (tmp_path / "m" / "run").exists()


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "run"
    simulate(RunSettings(mixture=str(OWN[0]), **SHORT), path)
    return path


@needs_lammps
@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("masses = [1.0, 0.75]", "masses = [1.0, 0.7]", ("masses[1] = 0.75", "masses[1] = 0.7 as asked for now")),
        (SIGMA, "[1.0, 0.91],\n    [0.91, 0.8],", ("sigma[0][1] = 0.9;", "sigma[0][1] = 0.91 as")),
        ("cutoff = 2.5 ", "cutoff = 2.4 ", ("r_cut[0][0] = 2.5", "r_cut[0][0] = 2.4")),
        ("density = 1.35", "density = 1.34", ("density = 1.35", "density = 1.34")),
        ('"force-shifted"', '"shifted"', ("half-and-half (force-shifted)", "half-and-half (shifted)")),
        ("# wave_numbers", "wave_numbers", ("wave_numbers[0] = 7.577", "wave_numbers[0] = 7.6")),
    ],
)
def test_a_file_that_has_changed_since(
    glassmd: Command, own_run: Path, tmp_path: Path, before: str, after: str, words: tuple[str, ...]
) -> None:
    path, kept = tmp_path / "liquid.toml", (own_run / "run.json").read_bytes()
    assert before in TEXT
    path.write_text(TEXT.replace(before, after))
    for dry in ((), ("--dry-run",)):
        outcome = glassmd("simulate", "--mixture", path, "--out", own_run, *dry)
        assert_refused(outcome, "was made with mixture or truncation half-and-half", *words)
        assert "leave --mixture out, which the run knows" in outcome.err
    assert (own_run / "run.json").read_bytes() == kept
    path.write_text(TEXT.replace('"an example"', '"the same example"'))
    assert glassmd("simulate", "--mixture", path, "--out", own_run).code == 0, "the source is of no consequence"
    assert (own_run / "run.json").read_bytes() == kept


@needs_lammps
def test_data_of_two_own_mixtures_of_one_name_are_not_trained_on_together(
    glassmd: Command, own_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "liquid.toml"
    other.write_text(TEXT.replace("masses = [1.0, 0.75]", "masses = [1.0, 0.7]"))
    simulate(RunSettings(mixture=str(other), **SHORT), tmp_path / "run")
    flags = ("--out", tmp_path / "m", "--model", "ridge", "--input", "thermal")
    both = glassmd("train", own_run, tmp_path / "run", *flags)
    assert_refused(both, "has another mixture than", "masses[1] = 0.7, not masses[1] = 0.75")
    assert glassmd("train", own_run, *flags).code == 0
    parent = tmp_path / "run" / "parents" / "L0000-P0000.gsd"
    predicted = glassmd("predict", parent, "--model", tmp_path / "m", "--out", tmp_path / "x.gsd")
    assert_refused(predicted, "found data with masses [1.0, 0.7]", "what the model was trained on")
    started = glassmd("simulate", "--start", parent, "--mixture", OWN[0], "--out", tmp_path / "r2")
    assert_refused(started, "has mixture half-and-half with masses[1] = 0.7", "masses[1] = 0.75 as in the settings")


@needs_lammps
@pytest.mark.parametrize("damage", [{"masses": [1.0, -1.0]}, {"species": 3}, {"name": None}, {"cutoff": {}}])
def test_a_run_whose_mixture_is_damaged(
    glassmd: Command, own_run: Path, tmp_path: Path, damage: dict[str, object]
) -> None:
    run = Path(shutil.copytree(own_run, tmp_path / "run"))
    stored = json.loads((run / "run.json").read_text())
    stored["settings"]["mixture"] |= damage
    (run / "run.json").write_text(json.dumps(sealed(stored)))
    for command in (("simulate", "--out", run), ("info", run)):
        assert_refused(glassmd(*command), next(iter(damage)))
    assert open_run(own_run).settings is not None
    assert get_mixture(OWN[0]).own
