"""What must never happen by accident: leaking splits, overwritten files, two trainers, one bad lineage stopping all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.errors import EngineError, EquilibrationError, RunError
from glassmd.importers.botan import import_botan
from glassmd.simulation.block import _require_temperature
from glassmd.simulation.pool import simulate
from glassmd.storage import claim
from glassmd.stream.dataset import Run, open_run
from glassmd.training.source import SampleSource
from tests.conftest import TINY, Outcome, needs_lammps
from tests.fault.refusals import assert_refused
from tests.sidecars import rename_run, rewrite
from tests.unit.test_importers import botan_file

Command = Callable[..., Outcome]


@needs_lammps
@pytest.mark.parametrize("workers", [1, 2])
def test_a_refused_lineage_stops_no_other(run_copy: Path, workers: int) -> None:
    """Training lineage 2 is not equilibrated; lineage 3 lacks a segment too, and gets it."""
    parent = run_copy / "parents" / "L0002-P0000.json"
    report = json.loads(parent.read_text())["equilibration"]
    rewrite(parent, equilibration={**report, "equilibrated": False, "reasons": ["it is still falling"]})
    for path in [*(run_copy / "segments").glob("L0002*"), *(run_copy / "segments").glob("L0003-P0001*")]:
        path.unlink()
    with pytest.raises(EquilibrationError, match=r"lineage 2 .* is not equilibrated: it is still falling"):
        simulate(TINY.model_copy(update={"workers": workers}), run_copy)
    names = {path.name for path in (run_copy / "segments").glob("*.json")}
    assert "L0003-P0001-B0000.json" in names
    assert not any(name.startswith("L0002") for name in names)
    accepted = TINY.model_copy(update={"workers": workers, "accept_unequilibrated": True})
    assert simulate(accepted, run_copy)["segments"] == 12


def test_a_crystal_is_never_accepted(run_copy: Path) -> None:
    parent = run_copy / "parents" / "L0002-P0000.json"
    report = json.loads(parent.read_text())["equilibration"]
    rewrite(parent, equilibration={**report, "equilibrated": False, "crystalline_fraction": 0.4})
    for path in (run_copy / "segments").glob("L0002*"):
        path.unlink()
    with pytest.raises(EquilibrationError, match=r"lineage 2 has crystallised before parent 0 \(40%"):
        simulate(TINY.model_copy(update={"accept_unequilibrated": True}), run_copy)


def test_replicas_that_left_their_temperature_are_refused() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3), -1).reshape(-1, 3)
    parent = Configuration([10.0] * 3, np.zeros(1000), grid)
    settings = TINY.model_copy(update={"temperature": 1.0})
    generator = np.random.default_rng(1)
    fluctuating = 1 + np.sqrt(2 / 2997) * generator.normal(size=(8, 2))
    _require_temperature(fluctuating, settings, parent)
    with pytest.raises(EngineError, match=r"at t = 0\.5 is off by -9"):
        _require_temperature(fluctuating - [[0.0, 0.1]], settings, parent)


def test_a_second_import_adds_what_is_new(tmp_path: Path) -> None:
    one, two = (botan_file(tmp_path, f"isoconfig_N64T0.44_{k}_tc07.npz") for k in (1, 2))
    import_botan([one], tmp_path / "r")
    run = import_botan([two], tmp_path / "r")
    assert [entry.sidecar["source"] for entry in run.entries("segments")] == [one.name, two.name]


def twin(run_copy: Path, **settings: object) -> Path:
    """Another run with the very same liquids, as the same seed makes it."""
    stored = json.loads((run_copy / "run.json").read_text())
    rename_run(run_copy, "twin", settings={**stored["settings"], **settings})
    return run_copy


def test_a_liquid_is_on_one_side_of_the_split_whatever_run_it_is_in(tiny_run: Run, run_copy: Path) -> None:
    source = SampleSource([tiny_run, open_run(twin(run_copy, test_lineages=2))])
    with pytest.raises(RunError, match="the same liquid in another run for train"):
        [source.split(sample.key) for sample in source.poll()]


def test_evaluation_knows_a_liquid_that_training_saw(
    glassmd: Command, tiny_model: Path, tiny_run: Run, run_copy: Path
) -> None:
    other = twin(run_copy, validation_lineages=0, test_lineages=3)
    outcome = glassmd("evaluate", tiny_model, other, "--subset", "test", "--json")
    assert outcome.json["seen_in_training"] is True
    assert glassmd("evaluate", tiny_model, tiny_run.path, "--json").json["seen_in_training"] is False


def test_a_prediction_never_replaces_its_snapshot(glassmd: Command, tiny_model: Path, run_copy: Path) -> None:
    snapshot = run_copy / "segments" / "L0000-P0000-B0000.gsd"
    before = snapshot.read_bytes()
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--out", snapshot)
    assert outcome.code == 2
    assert "the snapshot itself" in outcome.err
    assert snapshot.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--plot", "x.xyz"), "an ending of"),
        (("--view", "x.png"), "an ending of .html"),
        (("--view", "/dev/null/x.html"), "could not write /dev/null/x.html"),
        (("--times", "foo"), "found times 'foo'"),
    ],
)
def test_options_are_checked_before_anything_is_written(
    glassmd: Command, tiny_model: Path, tiny_run: Run, tmp_path: Path, option: tuple[str, str], words: str
) -> None:
    snapshot, out = tiny_run.file("parents", "L0000-P0000"), tmp_path / "p.gsd"
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--out", out, *option)
    assert outcome.code == 2
    assert words in outcome.err
    assert not out.exists()


def test_a_view_without_what_draws_it_is_refused_before_anything_is_predicted(
    glassmd: Command, tiny_model: Path, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassmd.prediction_files.predict_file", lambda *arguments, **options: pytest.fail("predicted"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    snapshot = tiny_run.file("parents", "L0000-P0000")
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--view", tmp_path / "v.html")
    assert_refused(outcome, "found no K3D", 'pip install "glassmd[view]"')


def test_a_model_has_one_trainer_at_a_time(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    with claim(tmp_path / "m" / ".lock"):
        outcome = glassmd("train", tiny_run.path, "--out", tmp_path / "m", "--max-steps", 1)
    assert outcome.code == 2
    assert "being trained by another process" in outcome.err


def test_weights_are_not_imported_over_a_training(glassmd: Command, model_copy: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(1))
    outcome = glassmd("import", tmp_path / "w.npz", "--format", "deepmind-weights", "--out", model_copy)
    assert outcome.code == 2
    assert "holds a training" in outcome.err
    twice = glassmd("import", "a.npz", "b.npz", "--format", "deepmind-weights", "--out", tmp_path / "m")
    assert "found 2 sources" in twice.err


@needs_lammps
def test_what_a_kill_left_of_run_json_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".run.json.elsewhere-1.tmp").write_text("{")
    assert simulate(TINY.model_copy(update={"lineages": 3, "parents": 1, "held_out_replicas": 3}), tmp_path / "r")


def test_ctrl_c_ends_any_command_with_code_75(
    glassmd: Command, tiny_model: Path, tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glassmd.evaluation.evaluate", interrupt)
    assert glassmd("evaluate", tiny_model, tiny_run.path).code == 75


@pytest.mark.parametrize("command", ["simulate", "train"])
def test_an_out_that_is_a_file(glassmd: Command, tiny_run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("mine")
    data = [tiny_run.path] if command == "train" else []
    outcome = glassmd(command, *data, "--out", tmp_path / "file")
    assert outcome.code == 2, outcome.err
    assert "file" in outcome.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    ["train = 5\n", 'times = "0.1,inf"\n', 'times = "log:0.1:inf:3"\n', 'times = "log:0.1:1:3"\ntime_step = 0\n'],
)
def test_settings_files_that_surprise(glassmd: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.toml").write_text(content)
    outcome = glassmd("simulate", tmp_path / "run.toml", "--out", tmp_path / "r")
    assert outcome.code == 2, outcome.err
    assert "found" in outcome.err


def test_a_run_whose_settings_are_from_another_program(glassmd: Command, run_copy: Path) -> None:
    stored = json.loads((run_copy / "run.json").read_text())
    rewrite(run_copy / "run.json", settings={**stored["settings"], "colour": "blue"})
    outcome = glassmd("info", run_copy)
    assert outcome.code == 2
    assert "unknown key" in outcome.err
    assert "colour" in outcome.err
    shutil.rmtree(run_copy)
