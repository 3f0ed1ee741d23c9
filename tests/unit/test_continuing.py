"""A run goes on with the settings it was made with; what is said again is compared, or makes it grow."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from glassmd.settings import RunSettings, load_settings
from glassmd.simulation.pool import plan, simulate
from glassmd.storage import sealed
from glassmd.stream.dataset import open_run
from tests.conftest import TINY, Outcome, needs_lammps

pytestmark = needs_lammps

Command = Callable[..., Outcome]


def without_a_segment(run: Path) -> Path:
    """The run with one block missing; returns where it was."""
    segment = run / "segments" / "L0003-P0001-B0000.gsd"
    segment.unlink()
    segment.with_suffix(".json").unlink()
    return segment


def test_out_alone_continues_a_run(glassmd: Command, run_copy: Path) -> None:
    before = (run_copy / "run.json").read_bytes()
    segment = without_a_segment(run_copy)
    outcome = glassmd("simulate", "--out", run_copy, "--json")
    assert outcome.code == 0, outcome.err
    assert segment.exists()
    assert outcome.json["steps"] == 3 * 100, "one block of three replicas to t = 0.5"
    assert (run_copy / "run.json").read_bytes() == before


def test_out_and_what_grows_is_enough(glassmd: Command, run_copy: Path) -> None:
    outcome = glassmd("simulate", "--out", run_copy, "--lineages", 5, "--parents", 1, "--json")
    assert outcome.code == 2, "fewer parents than there are"
    assert "parents = 2" in outcome.err
    outcome = glassmd("simulate", "--out", run_copy, "--lineages", 5, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["lineages"] == 5
    stored = open_run(run_copy).settings
    assert stored is not None
    assert stored.model_dump(exclude={"lineages"}) == TINY.model_dump(exclude={"lineages"})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temperature", "0.64"), r"temperature (= )?1\.5"),  # the default, but said
        (("--set", "held_out_replicas=32"), "held_out_replicas = 6"),
        (("--set", "time_step=0.0025"), "time_step = 0.005"),
        (("--start", "elsewhere.gsd"), "start = None"),
    ],
)
def test_what_is_said_is_compared_even_if_it_is_the_default(
    glassmd: Command, run_copy: Path, flags: tuple[str, str], words: str
) -> None:
    for dry in ((), ("--dry-run",)):
        outcome = glassmd("simulate", "--out", run_copy, *flags, *dry)
        assert outcome.code == 2
        assert re.search(words, outcome.err), outcome.err


def test_a_settings_file_counts_as_said(glassmd: Command, run_copy: Path, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text("replicas = 4\n")
    outcome = glassmd("simulate", toml, "--out", run_copy)
    assert outcome.code == 2
    assert "replicas = 3" in outcome.err
    toml.write_text("replicas = 3\n")
    assert glassmd("simulate", toml, "--out", run_copy).code == 0


def test_a_dry_run_of_a_run_that_is_there_shows_its_settings(glassmd: Command, run_copy: Path) -> None:
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    found = glassmd("simulate", "--out", run_copy, "--lineages", 5, "--dry-run", "--json").json
    assert (found["temperature"], found["particles"], found["parents"]) == (1.5, 200, 10)
    assert found["settings"]["run"] == TINY.model_dump() | {"lineages": 5}
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


def test_what_was_not_said_is_not_marked_as_said() -> None:
    assert load_settings(None, {"seed": 3, "max_steps": 2}).run.model_fields_set == {"seed"}


def test_the_programming_interface_continues_with_what_was_stored(run_copy: Path) -> None:
    segment = without_a_segment(run_copy)
    assert plan(RunSettings(), run_copy)["temperature"] == 1.5
    assert simulate(RunSettings(workers=1), run_copy)["segments"] == 12
    assert segment.exists()


def test_times_and_splits_are_read_beside_the_step_and_the_lineages_of_the_run(
    glassmd: Command, tmp_path: Path
) -> None:
    """Said alone they would be refused: 0.003 is no multiple of 0.005, and two lineages leave none for training."""
    made = {"particles": 200, "temperature": 1.5, "time_step": 0.003, "times": [0.003, 0.3], "lineages": 1,
            "parents": 1, "replicas": 1, "validation_lineages": 0, "test_lineages": 0, "engine": "lammps",
            "workers": 1, "seed": 7}  # fmt: skip
    simulate(RunSettings(**made), tmp_path / "run")
    outcome = glassmd(
        "simulate", "--out", tmp_path / "run", "--times", "0.003,0.3", "--lineages", 2, "--dry-run", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["lineages"]["train"] == 2


def test_a_wall_clock_limit_is_of_one_call(run_copy: Path) -> None:
    stored = json.loads((run_copy / "run.json").read_text())
    stored["settings"]["walltime"] = 1e-6
    (run_copy / "run.json").write_text(json.dumps(sealed(stored)))
    without_a_segment(run_copy)
    assert simulate(RunSettings(), run_copy)["segments"] == 12


def test_imported_data_are_no_run_to_go_on_with(glassmd: Command, imported_run: Path) -> None:
    for dry in ((), ("--dry-run",)):
        outcome = glassmd("simulate", "--out", imported_run, *dry)
        assert outcome.code == 2
        assert "holds imported data" in outcome.err
        assert "choose another --out" in outcome.err


@pytest.fixture
def imported_run(run_copy: Path, tmp_path: Path) -> Path:
    """A run without settings, as imports are."""
    path = Path(shutil.copytree(run_copy, tmp_path / "imported"))
    stored = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(sealed({**stored, "settings": None, "origin": "botan"})))
    return path


def test_training_beside_a_simulation_goes_on_with_its_settings(glassmd: Command, tmp_path: Path) -> None:
    made = {"particles": 200, "temperature": 1.5, "lineages": 3, "parents": 1, "replicas": 2, "seed": 5,
            "times": "0.1,0.5", "engine": "lammps", "workers": 1}  # fmt: skip
    flags = [f"--{key}={value}" for key, value in made.items()]
    train = ["train", "--stream", "--out", tmp_path / "m", "--json", "--model", "bapst", "--set", "validate_every=2"]
    train += ["--set", "message_steps=1", "--set", "train_threads=1", "--max-steps"]
    assert glassmd(*train, 2, "--set", "held_out_replicas=2", *flags).code == 0
    again = glassmd(*train, 4)
    assert again.code == 0, again.err
    assert again.json["steps"] == 4
