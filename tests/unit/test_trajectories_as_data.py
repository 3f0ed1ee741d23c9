"""Frames of trajectories are parents of single replicas, at once or while somebody writes them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gsd.hoomd
import numpy as np
import pytest

from glassmd.errors import ImportDataError, SettingsError
from glassmd.importers.trajectories import FrameChoice, import_trajectories
from glassmd.mixtures import get_mixture
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.reduction import reduced
from glassmd.target import TARGETS, Target
from tests.conftest import Outcome
from tests.fault.refusals import assert_refused
from tests.foreign_files import TIME_STEP, Walk, walk, write_dump, write_gsd

Command = Callable[..., Outcome]
LIQUID = {2: get_mixture("kob-andersen-2d"), 3: get_mixture("kob-andersen")}
SPACING = 50 * TIME_STEP


def long_walk(seed: int = 1, d: int = 3, n_frames: int = 20) -> Walk:
    one = walk(n=60, n_frames=n_frames, d=d, seed=seed, step=0.03)
    if d == 2:  # 65:35
        one = replace(one, species=np.random.default_rng(seed).permutation((np.arange(60) >= 39).astype(int)))
    return one


def taken(sources: list[Path], out: Path, d: int = 3, follow: bool = False, **choice: object) -> Run:
    times = choice.pop("times", [SPACING, 3 * SPACING])
    chosen = FrameChoice(time_step=TIME_STEP, **choice)  # type: ignore[arg-type]
    known = {"mixture": LIQUID[d], "temperature": 0.8, "times": times}
    return open_run(import_trajectories(sources, out, choice=chosen, follow=follow, **known).path)  # type: ignore[arg-type]


def expected(one: Walk, begin: int, frames: int) -> np.ndarray:
    moved = one.positions[begin + frames] - one.positions[begin]
    return np.linalg.norm(moved - moved.mean(axis=0), axis=1)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("write", [write_gsd, lambda p, o: write_dump(p, o, "id type x y z"), write_dump])
def test_the_label_of_a_frame_is_how_far_particles_are_a_lag_later(
    d: int, write: Callable[[Path, Walk], Path], tmp_path: Path
) -> None:
    walks = [long_walk(seed, d) for seed in (1, 2)]
    files = [write(tmp_path / f"{k}.trj", one) for k, one in enumerate(walks)]
    run = taken(files, tmp_path / "run", d, stride=4)
    samples = run.samples()
    assert [(s.key.lineage, s.key.parent) for s in samples] == [(k, p) for k in (0, 1) for p in range(5)]
    for sample in samples:
        one, begin = walks[sample.key.lineage], 4 * sample.key.parent
        assert sample.n_replicas == 1
        assert np.isnan(sample.variance).all()
        assert np.allclose(sample.propensity[0], expected(one, begin, 1), atol=1e-5)
        assert np.allclose(sample.propensity[1], expected(one, begin, 3), atol=1e-5)
        assert sample.parent.dimensions == d
    again = taken(files, tmp_path / "run", d)
    assert len(again.samples()) == 10, "the stride is that of the run"
    with pytest.raises(ImportDataError, match="every 4 frames"):
        taken(files, tmp_path / "run", d, stride=5)


@pytest.mark.parametrize("target", ["bond-breaking", "cage-relative"])
def test_frames_have_labels_of_every_target(target: Target, tmp_path: Path) -> None:
    one = long_walk(d=2)
    run = taken([write_gsd(tmp_path / "1.gsd", one)], tmp_path / "run", 2, stride=4)
    assert run.targets == list(TARGETS)
    run.use_target(target)
    for sample in run.samples():
        begin = 4 * sample.key.parent
        moved = np.stack([one.positions[begin + lag] - one.positions[begin] for lag in (1, 3)])
        moved = moved - moved.mean(axis=1, keepdims=True)
        wanted = reduced(target, sample.parent, moved, LIQUID[2].sigma)
        assert np.allclose(sample.propensity, wanted, atol=1e-5)
        assert np.isnan(sample.variance).all()


def test_files_that_share_their_first_frame_are_replicas_of_it(tmp_path: Path) -> None:
    first = long_walk()
    walks = [replace(first, positions=first.positions[:1] + (long_walk(k).positions - long_walk(k).positions[:1]))
             for k in (1, 2, 3)]  # fmt: skip
    files = [write_gsd(tmp_path / f"{k}.gsd", one) for k, one in enumerate(walks)]
    other = write_gsd(tmp_path / "other.gsd", long_walk(9))
    ensemble, *rest = taken([*files, other], tmp_path / "run", stride=4).samples()
    assert ensemble.n_replicas == 3
    lengths = [expected(one, 0, 3) for one in walks]
    assert np.allclose(ensemble.propensity[1], np.mean(lengths, axis=0), atol=1e-5)
    assert np.allclose(ensemble.variance[1], np.var(lengths, axis=0, ddof=1), atol=1e-5)
    assert {sample.key.lineage for sample in rest} == {1}
    assert all(sample.n_replicas == 1 for sample in rest)


def test_lags_and_stride_follow_from_the_frames_where_nobody_says_them(tmp_path: Path) -> None:
    run = taken([write_gsd(tmp_path / "a.gsd", long_walk(n_frames=41))], tmp_path / "run", times=None)
    assert run.times == pytest.approx([SPACING, 2 * SPACING, 3 * SPACING, 4 * SPACING][: len(run.times)])
    assert len(run.samples()) == 41 - round(run.times[-1] / SPACING)


def test_what_is_missing_or_too_short_is_said(tmp_path: Path, glassmd: Command) -> None:
    path = write_gsd(tmp_path / "a.gsd", long_walk())
    out = ("--out", tmp_path / "m")
    assert_refused(glassmd("train", path, *out), "which mixture", "inherent or cage", "--input thermal")
    assert_refused(glassmd("train", path, "--mixture=kob-andersen", *out), "no times", "--time-step")
    known = ("--mixture=kob-andersen", "--time-step=0.005")
    assert_refused(glassmd("train", path, *known, *out), "no temperature", "--temperature 0.9")
    known += ("--temperature=1",)
    assert_refused(glassmd("train", path, *known, "--times=50", *out), "50 apart", "shorter --times")
    assert_refused(glassmd("train", path, *known, "--stride=0", *out), "stride 0")
    assert_refused(glassmd("train", tmp_path / "no.gsd", *known, *out), "found no file")
    dump = write_dump(tmp_path / "a.dump", long_walk())
    assert_refused(glassmd("train", "--stream", dump, *known, *out), "lammps-dump", "leave --stream out")
    with pytest.raises(SettingsError, match="patience"):
        FrameChoice(patience=0)


@pytest.mark.parametrize("d", [2, 3])
def test_a_learner_is_trained_on_trajectories_and_predicts_a_frame(d: int, tmp_path: Path, glassmd: Command) -> None:
    files = [write_gsd(tmp_path / f"{k}.gsd", long_walk(k, d)) for k in (1, 2, 3)]
    liquid = [f"--mixture={LIQUID[d].name}", "--temperature=0.8", "--time-step=0.005", "--times=0.25,0.75"]
    outcome = glassmd(
        "train", *files, *liquid, "--stride=4", "--model=ridge", "--input=thermal", "--out", tmp_path / "m", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["samples_seen"] == 15
    assert outcome.json["noise_known"] is False
    assert open_run(tmp_path / "m" / "run").identity["origin"] == "trajectory"
    predicted = glassmd(
        "predict", files[0], "--model", tmp_path / "m", "--force", "--out", tmp_path / "p.gsd", "--json"
    )
    assert predicted.code == 0, predicted.err
    imported = glassmd(
        "import", *files, "--format=trajectory", *liquid, "--stride=4", "--out", tmp_path / "run", "--json"
    )
    assert imported.json["parents"] == 15
    assert imported.json["origin"] == "trajectory"


WRITER = """
import sys, time
import gsd.hoomd, numpy as np
with np.load(sys.argv[1]) as given, gsd.hoomd.open(sys.argv[2], "w") as file:
    for k, position in enumerate(given["position"]):
        frame = gsd.hoomd.Frame()
        frame.configuration.step, frame.configuration.box = int(given["steps"][k]), given["box"]
        frame.particles.N, frame.particles.types, frame.particles.typeid = len(position), ["A", "B"], given["typeid"]
        frame.particles.position, frame.particles.image = position, given["image"][k]
        file.append(frame)
        file.flush()
        time.sleep(0.05)
"""


def frames_of(one: Walk) -> list[gsd.hoomd.Frame]:
    n = one.positions.shape[1]
    found = []
    for k, step in enumerate(one.steps):
        frame = gsd.hoomd.Frame()
        frame.configuration.step, frame.configuration.box = step, [*one.box, 0, 0, 0]
        frame.particles.N, frame.particles.types, frame.particles.typeid = n, ["A", "B"], one.species
        frame.particles.position = one.positions[k] - one.images[k] * one.box - one.box / 2
        frame.particles.image = one.images[k]
        found.append(frame)
    return found


def writer(path: Path, one: Walk) -> subprocess.Popen[bytes]:
    frames = frames_of(one)
    np.savez(
        path.with_suffix(".npz"),
        steps=one.steps,
        box=frames[0].configuration.box,
        typeid=one.species,
        position=[frame.particles.position for frame in frames],
        image=[frame.particles.image for frame in frames],
    )
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path.with_suffix(".npz")), str(path)])


def test_a_trajectory_is_followed_while_it_is_written_and_every_frame_but_the_last_is_used_once(
    tmp_path: Path, glassmd: Command
) -> None:
    path = tmp_path / "growing.gsd"
    one = long_walk(3, n_frames=40)
    with writer(path, one) as other:
        outcome = glassmd(
            "train", "--stream", path, "--mixture=kob-andersen", "--temperature=0.8", "--time-step=0.005",
            "--patience=3", "--model=ridge", "--input=thermal", "--out", tmp_path / "m", "--json",
        )  # fmt: skip
        assert other.wait() == 0
    assert outcome.code == 0, outcome.err
    samples = open_run(tmp_path / "m" / "run").samples()
    assert [sample.key.parent for sample in samples] == list(range(39))
    assert outcome.json["samples_seen"] == 39
    for sample in samples:
        assert np.allclose(sample.propensity[0], expected(one, sample.key.parent, 1), atol=1e-5)


def test_a_writer_that_was_killed_in_the_middle_of_a_frame_changes_nothing_else(tmp_path: Path) -> None:
    whole, cut = write_gsd(tmp_path / "a.gsd", long_walk()), write_gsd(tmp_path / "b.gsd", long_walk())
    with cut.open("ab") as file:  # data of a frame that no index names yet
        file.write(np.random.default_rng(1).bytes(700))
    runs = [taken([path], tmp_path / path.stem, follow=True, patience=0.5, times=[SPACING]) for path in (whole, cut)]
    for one, other in zip(*(run.samples() for run in runs), strict=True):
        assert np.array_equal(one.propensity, other.propensity)
    assert len(runs[0].samples()) == 19


def test_whoever_follows_can_be_stopped_and_goes_on_where_it_was(tmp_path: Path) -> None:
    frames, path, out = frames_of(long_walk()), tmp_path / "a.gsd", tmp_path / "run"
    with gsd.hoomd.open(path, "w") as file:
        file.extend(frames[:8])
    taken([path], out, follow=True, patience=0.5, times=[SPACING])
    before = {entry.key: entry.sidecar["created"] for entry in open_run(out).entries("segments")}
    assert len(before) == 7
    with gsd.hoomd.open(path, "a") as file:
        file.extend(frames[8:])
    run = taken([path], out, follow=True, patience=0.5, times=[SPACING])
    after = {entry.key: entry.sidecar["created"] for entry in run.entries("segments")}
    assert len(after) == 19
    assert before.items() <= after.items()


def test_a_run_that_is_read_into_is_not_complete_and_one_whose_reader_died_is_after_a_minute(tmp_path: Path) -> None:
    run = taken([write_gsd(tmp_path / "a.gsd", long_walk())], tmp_path / "run")
    assert run.complete
    run.grow()
    assert not run.complete
    long_ago = time.time() - 100
    os.utime(run.path / "growing.json", (long_ago, long_ago))
    assert run.complete


def test_a_file_that_begins_anew_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = write_gsd(tmp_path / "a.gsd", long_walk())
    problem: list[BaseException] = []

    def follow() -> None:
        try:
            taken([path], tmp_path / "run", follow=True, patience=8.0, times=[SPACING])
        except ImportDataError as error:
            problem.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    while not (tmp_path / "run" / "segments" / "L0000-P0017-B0000.json").exists():
        time.sleep(0.05)
    write_gsd(tmp_path / "b.gsd", long_walk(n_frames=5)).rename(path)
    thread.join()
    assert "fewer frames" in str(problem[0])


def test_a_liquid_without_a_known_potential_is_learned_on_thermal_positions(tmp_path: Path, glassmd: Command) -> None:
    files = [write_gsd(tmp_path / f"{k}.gsd", long_walk(k), names=("big", "small")) for k in (1, 2, 3)]
    told = ["--temperature=0.8", "--time-step=0.005", "--times=0.25", "--stride=4", "--input=thermal"]
    for model in ("ridge", "softness", "bapst"):
        out = tmp_path / model
        outcome = glassmd("train", *files, *told, "--model", model, "--max-steps=2", "--out", out, "--json")
        assert outcome.code == 0, outcome.err
        assert open_run(out / "run").identity["mixture"]["species"] == ["big", "small"]
        predicted = glassmd("predict", files[0], "--model", out, "--force", "--out", tmp_path / "p.gsd", "--json")
        assert predicted.code == 0, predicted.err
        assert np.isfinite(predicted.json["propensity_mean"]["big"]).all()
    run = tmp_path / "ridge" / "run"
    assert_refused(glassmd("train", run, "--model=ridge", "--out", tmp_path / "m"), "nobody has named", "--mixture")
    assert glassmd("analyze", run, "--json").json["energy_per_particle"] is None


def test_a_run_of_trajectories_knows_its_mixture_when_the_file_is_gone(tmp_path: Path, glassmd: Command) -> None:
    liquid, example = tmp_path / "liquid.toml", Path(__file__).parents[2] / "examples" / "own_mixture.toml"
    liquid.write_text(example.read_text().replace("[50, 50]", "[80, 20]"))
    files = [write_gsd(tmp_path / f"{k}.gsd", long_walk(k)) for k in (1, 2, 3)]
    told = ["--temperature=0.8", "--time-step=0.005", "--times=0.25", "--stride=4", "--model=ridge", "--input=thermal"]
    command = ["train", "--stream", *files[:2], *told, "--patience=0.5", "--out", tmp_path / "m"]
    first = glassmd(*command, "--mixture", liquid)
    assert first.code == 0, first.err
    liquid.unlink()
    again = glassmd(*command)
    assert again.code == 0, again.err
    imported = ["import", *files, "--format=trajectory", *told[:4], "--out", tmp_path / "m" / "run"]
    assert glassmd(*imported).code == 0
    run = open_run(tmp_path / "m" / "run")
    assert run.identity["mixture"]["name"] == "half-and-half"
    assert {entry.key.lineage for entry in run.entries("parents")} == {0, 1, 2}
    other = glassmd(*imported, "--mixture=kob-andersen")
    assert_refused(other, "half-and-half (force-shifted)", "kob-andersen (shifted)", "leave --mixture out")
