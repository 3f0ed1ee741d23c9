"""Committing entries to a run: the first wins, and nothing of anybody else's stays or is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glassmd import storage
from glassmd.ledger import run as ledger
from glassmd.ledger.run import RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.trajectory import Frame


def test_committing_twice_keeps_the_first(run_copy: Path) -> None:
    run = RunDirectory.open(run_copy)
    entry = run.entry("segments", "L0000-P0000-B0000")
    assert entry is not None
    before = entry.path.read_bytes()
    assert run.commit(SegmentKey(0, 0, 0), [], {}) is False
    assert entry.path.read_bytes() == before


def test_data_stay_where_a_commit_was_stopped_after_its_sidecar_had_appeared(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory.open(run_copy)
    entry = run.entry("segments", "L0000-P0000-B0000")
    assert entry is not None
    frames, facts = entry.read(), {key: entry.sidecar[key] for key in ("replicas", "times", "steps", "holds")}
    for path in run_copy.glob("segments/L0000-P0000-B0000.*"):
        path.unlink()
    appeared = storage.sync_directory

    def stopped(directory: Path) -> None:
        appeared(directory)
        if (run_copy / "segments" / "L0000-P0000-B0000.json").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "sync_directory", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.commit(SegmentKey(0, 0, 0), frames, facts)
    again = RunDirectory.open(run_copy).entry("segments", "L0000-P0000-B0000")
    assert again is not None
    again.verify()


def test_a_loser_and_what_killed_writers_left_are_tidied_away(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.open(run_copy)
    entry = run.entry("segments", "L0000-P0000-B0000")
    assert entry is not None
    before = {path: path.read_bytes() for path in run_copy.rglob("L*.gsd")}
    orphan = entry.path.with_name("L0000-P0000-B0000.0123abcd.gsd")
    orphan.write_bytes(b"written, never committed")
    unfinished = entry.path.with_name("L0009-P0000-B0000.gsd")
    unfinished.write_bytes(b"somebody may be about to commit this")
    run.remove_leftovers()
    assert not orphan.exists()
    assert unfinished.exists()
    unfinished.unlink()
    assert {path: path.read_bytes() for path in run_copy.rglob("L*.gsd")} == before

    frames = entry.read()
    sidecar = entry.path.with_suffix(".json")
    kept = sidecar.read_bytes()
    sidecar.unlink()
    write = ledger.write_frames

    def beaten(path: Path, found: list[Frame]) -> None:
        write(path, found)
        sidecar.write_bytes(kept)  # another one commits meanwhile, and tidies up
        RunDirectory.open(run_copy).remove_leftovers()

    monkeypatch.setattr(ledger, "write_frames", beaten)
    assert run.commit(SegmentKey(0, 0, 0), frames, {}) is False
    assert {path: path.read_bytes() for path in run_copy.rglob("L*.gsd")} == before


def test_a_run_that_somebody_makes_meanwhile_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liquid = {"temperature": 1.0, "times": [1.0], "n_particles": 5, "density": 1.2}
    look = Path.iterdir

    def meanwhile(path: Path) -> Iterator[Path]:
        monkeypatch.undo()
        RunDirectory.create(tmp_path / "run", get_mixture("kob-andersen"), **liquid)
        return look(path)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Path, "iterdir", meanwhile)
    run = RunDirectory.create(tmp_path / "run", get_mixture("kob-andersen"), **liquid)
    assert run.identity == RunDirectory.open(tmp_path / "run").identity
