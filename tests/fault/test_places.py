"""Where nothing may be written, and what must never be opened: runs stay what they are, files are files."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from glassmd_cli import app

from glassmd.errors import ImportDataError, RunError, SettingsError, TrajectoryError
from glassmd.importers.botan import import_botan
from glassmd.importers.deepmind_weights import import_deepmind_weights
from glassmd.importers.restricted_pickle import load_numpy_pickle
from glassmd.settings import RunSettings, Settings, load_settings
from glassmd.storage import sealed
from glassmd.stream.dataset import Run
from glassmd.training.session import train, train_stream
from glassmd.trajectory import read_frames
from tests.conftest import TINY, TINY_TRAIN
from tests.fault.refusals import Command, assert_refused


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- a run is no place for models and predictions ----------------------------------------------------------------


def test_a_model_is_never_written_into_a_run(glassmd: Command, tiny_run: Run, run_copy: Path) -> None:
    before = content(run_copy)
    words = (f"{run_copy} is a run", "a model directory", "choose another --out")
    for arguments in ((tiny_run.path,), (run_copy,), ("--stream",), (tiny_run.path, "--dry-run")):
        assert_refused(glassmd("train", *arguments, "--out", run_copy), *words)
    settings = Settings(run=TINY, train=TINY_TRAIN)
    with pytest.raises(RunError, match="is a run"):
        train([tiny_run.path], run_copy, settings)
    with pytest.raises(RunError, match="is a run"):
        train_stream(settings, run_copy)
    assert content(run_copy) == before


def test_a_prediction_of_a_parent_goes_to_the_current_directory(
    glassmd: Command, tiny_model: Path, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(run_copy)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    outcome = glassmd("predict", run_copy / "parents" / "L0001-P0000.gsd", "--model", tiny_model, "--json")
    assert outcome.code == 0, outcome.err
    assert Path(outcome.json["output"]).resolve() == here / "L0001-P0000.predicted.gsd"
    assert (here / "L0001-P0000.predicted.gsd").exists()
    assert content(run_copy) == before
    shutil.copy(run_copy / "parents" / "L0001-P0000.gsd", tmp_path / "mine.gsd")
    outcome = glassmd("predict", tmp_path / "mine.gsd", "--model", tiny_model, "--json")
    assert outcome.json["output"] == str(tmp_path / "mine.predicted.gsd"), "beside a snapshot that is in no run"


@pytest.mark.parametrize("folder", ["parents", "segments", "structures"])
def test_a_prediction_is_never_written_among_the_files_of_a_run(
    glassmd: Command, tiny_model: Path, tiny_run: Run, run_copy: Path, tmp_path: Path, folder: str
) -> None:
    before = content(run_copy)
    (tmp_path / "link").symlink_to(run_copy / folder)
    for out in (run_copy / folder / "p.gsd", tmp_path / "link" / "p.gsd", run_copy / folder / "deeper" / "p.gsd"):
        outcome = glassmd("predict", tiny_run.file("parents", "L0001-P0000"), "--model", tiny_model, "--out", out)
        assert_refused(outcome, f"{run_copy.name}/{folder}", "outside of the run's files", "choose another --out")
    for option, name in (("--plot", "p.png"), ("--view", "p.html")):
        drawn = run_copy / folder / name
        outcome = glassmd(
            "predict", tiny_run.file("parents", "L0001-P0000"), "--model", tiny_model, "--out", tmp_path / "p.gsd",
            option, drawn,
        )  # fmt: skip
        assert_refused(outcome, f"found {option} {drawn}", f"choose another {option}")
    assert content(run_copy) == before


def test_a_parent_is_checked_against_its_sidecar(
    glassmd: Command, tiny_model: Path, run_copy: Path, tmp_path: Path
) -> None:
    parents = run_copy / "parents"
    shutil.copy(parents / "L0002-P0000.gsd", parents / "L0001-P0000.gsd")  # readable, of the same size, another liquid
    arguments = ("--model", tiny_model, "--out", tmp_path / "p.gsd")
    assert_refused(glassmd("predict", parents / "L0001-P0000.gsd", *arguments), "checksum", "as committed")
    (parents / "L0001-P0000.json").write_text("{")
    assert_refused(glassmd("predict", parents / "L0001-P0000.gsd", *arguments), "L0001-P0000.json")
    assert not (tmp_path / "p.gsd").exists()
    mine = tmp_path / "mine.gsd"
    shutil.copy(parents / "L0002-P0000.gsd", mine)
    mine.with_suffix(".json").write_text('{"notes": "of my own"}')
    assert glassmd("predict", mine, *arguments).code == 0, "a JSON file that is no sidecar"


# ---- names that would lead elsewhere -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "", "a/b", "..", "A B", 5, None, "x" * 300, "a\n"])
def test_the_id_of_a_run_is_no_path(glassmd: Command, run_copy: Path, name: object) -> None:
    stored = json.loads((run_copy / "run.json").read_text())
    (run_copy / "run.json").write_text(json.dumps(sealed({**stored, "id": name})))
    assert_refused(glassmd("info", run_copy), "run.json has id", "lowercase letters, digits and dashes")


def test_the_traceback_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder for temporary files, where anybody may have put one."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "glassmd-traceback.txt").symlink_to(tmp_path / "file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    try:
        raise ZeroDivisionError("by surprise")
    except ZeroDivisionError:
        places = [app._keep_traceback(), app._keep_traceback()]
    assert (tmp_path / "file").read_text() == "mine"
    assert places[0] != places[1]
    for path in places:
        assert path.parent == tmp_path / "tmp"
        assert "by surprise" in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


# ---- what would never end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"lineages": 10**12},
        {"parents": 10**12},
        {"replicas": 10**12},
        {"held_out_replicas": 10**12},
        {"lineages": 10**4, "parents": 10**4},
        {"start": ["x.gsd"], "lineages": 10**12},
    ],
)
def test_more_replicas_than_any_run_holds(settings: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"replicas in all; expected at most 10,000,000"):
        RunSettings(**settings)


def test_a_run_json_that_asks_for_more_is_refused(glassmd: Command, run_copy: Path) -> None:
    stored = json.loads((run_copy / "run.json").read_text())
    stored["settings"]["lineages"] = 10**12
    (run_copy / "run.json").write_text(json.dumps(sealed(stored)))
    assert_refused(glassmd("info", run_copy), "replicas in all", "at most 10,000,000")


def test_more_times_than_any_run_has() -> None:
    with pytest.raises(SettingsError, match="at most 10,000 times"):
        load_settings(None, {"times": "log:0.1:1000:1000000000000"})


@pytest.fixture
def in_time() -> Iterator[None]:
    """A test that waits forever fails after half a minute."""

    def ring(*arguments: object) -> None:
        raise TimeoutError("still waiting")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def nobody_writes(path: Path) -> Iterator[Path]:
    """A pipe, which whoever opens it for reading waits at until a writer comes."""
    os.mkfifo(path)
    try:
        yield path
    finally:
        path.unlink()


@pytest.mark.usefixtures("in_time")
def test_pipes_are_refused_where_files_are_expected(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    with nobody_writes(tmp_path / "isoconfig_N64T0.44_1_tc07.npz") as pipe:
        with pytest.raises(TrajectoryError, match="no regular file"):
            read_frames(pipe)
        with pytest.raises(SettingsError, match="no regular file"):
            load_settings(pipe)
        for importer in (
            lambda: import_botan([pipe], tmp_path / "r"),
            lambda: load_numpy_pickle(pipe),
            lambda: import_deepmind_weights(pipe, tmp_path / "m"),
        ):
            with pytest.raises(ImportDataError, match="no regular file"):
                importer()
        for arguments in (
            ("predict", pipe, "--model", tiny_model),
            ("simulate", "--start", pipe, "--out", tmp_path / "r"),
            ("simulate", pipe, "--out", tmp_path / "r"),
            ("info", pipe),
        ):
            assert_refused(glassmd(*arguments), pipe.name)


@pytest.mark.usefixtures("in_time")
def test_a_pipe_for_a_sidecar_is_refused(glassmd: Command, run_copy: Path) -> None:
    sidecar = run_copy / "segments" / "L0000-P0000-B0000.json"
    sidecar.unlink()
    with nobody_writes(sidecar):
        assert_refused(glassmd("info", run_copy), "no regular file", "JSON written by glassmd")


def test_devices_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="no regular file"):
        read_frames(Path("/dev/zero"))
