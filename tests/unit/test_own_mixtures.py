"""A mixture of one's own, from a file, is a liquid like those that come with glassmd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import glassmd as package
from glassmd.engines import get_engine
from glassmd.mixtures import get_mixture, mixture_of
from glassmd.settings import RunSettings, load_settings
from glassmd.simulation.conservation import MOST, energy_error
from glassmd.stream.dataset import open_run
from tests.conftest import Outcome, needs_lammps

Command = Callable[..., Outcome]
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_mixture.toml"
PLANE = """
name = "plane"
dimensions = 2
species = ["big", "small"]
composition = [50, 50]
masses = [1.0, 0.5]
epsilon = [[1.0, 1.0], [1.0, 1.0]]
sigma = [[1.0, 0.85], [0.85, 0.7]]
cutoff = [[2.5, 2.1], [2.1, 1.8]]
density = 0.95
"""
TINY = ("--particles=220", "--temperature=2", "--lineages=3", "--parents=1", "--replicas=2", "--times=0.1,0.5",
        "--set=held_out_replicas=2", "--seed=3", "--workers=1")  # fmt: skip


def test_the_example_is_a_mixture() -> None:
    mixture = package.get_mixture(str(EXAMPLE))
    assert mixture.truncation == "force-shifted"
    assert mixture.counts(100) == (50, 50)
    assert np.allclose(mixture.r_cut, [[2.5, 2.75], [2.75, 3.0]])
    assert mixture.wave_numbers == pytest.approx([6.82 * 0.72 ** (1 / 3)] * 2, abs=1e-3)
    assert get_mixture(str(EXAMPLE), "xplor").truncation == "xplor"


def test_an_identity_holds_all_of_it_and_that_of_others_is_as_it_was() -> None:
    mixture = get_mixture(str(EXAMPLE))
    assert mixture_of(mixture.identity()) == mixture
    assert "composition" not in get_mixture("kob-andersen").identity()


def test_settings_keep_the_table_and_need_the_file_no_more(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(EXAMPLE.read_text())
    (tmp_path / "run.toml").write_text('mixture = "mine.toml"\ntemperature = 1.0\n')
    settings = load_settings(tmp_path / "run.toml").run
    file.unlink()
    again = RunSettings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert again.liquid().name == "weeks-1d2"
    assert again.truncation == "force-shifted"
    assert RunSettings(mixture=settings.mixture, truncation="xplor").liquid().truncation == "xplor"


@needs_lammps
@pytest.mark.parametrize("d", [2, 3])
def test_from_a_file_to_a_prediction(d: int, tmp_path: Path, glassmd: Command) -> None:
    file, run, model = tmp_path / "mine.toml", tmp_path / "run", tmp_path / "model"
    file.write_text(EXAMPLE.read_text() if d == 3 else PLANE)
    outcome = glassmd("simulate", "--mixture", file, *TINY, "--engine=lammps", "--out", run, "--json")
    assert outcome.code == 0, outcome.err
    changed = file.read_text().replace("density = 0.", "density = 0.9")
    file.write_text(changed.replace("[1.0, 1.0], [1.0, 1.0]", "[1.0, 1.1], [1.1, 1.0]"))
    other = glassmd("simulate", "--mixture", file, *TINY, "--engine=lammps", "--out", run)
    assert other.code == 2
    assert "epsilon of the mixture" in other.err
    file.unlink()
    grown = glassmd("simulate", "--out", run, "--parents=2", "--json")
    assert grown.code == 0, grown.err
    assert grown.json["parents"] == 6
    assert open_run(run).identity["mixture"]["name"] == ("weeks-1d2" if d == 3 else "plane")
    assert "weeks-1d2" in glassmd("info", run).out or d == 2
    trained = glassmd("train", run, "--model=ridge", "--input=inherent", "--out", model, "--json")
    assert trained.code == 0, trained.err
    snapshot = run / "parents" / "L0002-P0000.gsd"
    predicted = glassmd("predict", snapshot, "--model", model, "--out", tmp_path / "p.gsd", "--json")
    assert predicted.code == 0, predicted.err
    assert predicted.json["mixture_checked"]
    seen = glassmd("analyze", run, "--json").json
    assert np.isfinite([seen["energy_per_particle"], seen["pressure"]]).all()
    start = glassmd("simulate", "--start", run, "--replicas=1", "--times=0.1", "--out", tmp_path / "more", "--json")
    assert start.code == 0, start.err


@needs_lammps
def test_the_step_that_conserves_energy_is_named(tmp_path: Path, glassmd: Command) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(EXAMPLE.read_text().replace("masses = [1.0, 1.0]", "masses = [1.0, 0.02]"))
    outcome = glassmd("simulate", "--mixture", file, *TINY, "--engine=lammps", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "time_step = 0.005" in outcome.err
    step = float(outcome.err.split("--set time_step=")[1].split()[0])
    assert step < 0.005
    assert not (tmp_path / "run").exists()
    settings = RunSettings(mixture=str(file), temperature=2.0, time_step=step)
    assert energy_error(get_engine("lammps", "cpu"), settings, step) <= MOST


@needs_lammps
@pytest.mark.parametrize("name", ["kob-andersen", "kob-andersen-2d", "wahnstrom", "wca"])
def test_the_mixtures_of_glassmd_conserve_energy_at_their_step(name: str) -> None:
    engine, settings = get_engine("lammps", "cpu"), RunSettings(mixture=name)
    coarse, fine = (energy_error(engine, settings, step) for step in (0.005, 0.0025))
    assert fine < coarse < MOST
    assert coarse / fine == pytest.approx(4, rel=0.5)  # velocity Verlet's error goes as the square of the step
