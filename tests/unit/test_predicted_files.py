"""People's files through `predict`: any format in and out, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import gsd.hoomd
import numpy as np
import pytest

import glassmd as package
from glassmd.configuration import Configuration
from glassmd.learners.networks.bapst import BapstModel
from glassmd.mixtures import get_mixture
from glassmd.models.domain import kinetic_temperature
from glassmd.prediction_files import _Clock, predict_file
from glassmd.show import Counted
from glassmd.stream.dataset import Run
from glassmd.trajectory import Frame, read_frames, write_frames
from glassmd.trajectory.trajectory import open_trajectory
from glassmd.trajectory.writing import FrameWriter
from tests.conftest import Outcome, needs_lammps
from tests.fault.refusals import assert_refused
from tests.foreign_files import walk, write_dump, write_gsd, write_xyz

Command = Callable[..., Outcome]
LIQUID = get_mixture("kob-andersen")
WALK = walk(n=64, n_frames=5, step=0.02)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("ending", [".gsd", ".xyz", ".dump", ".lammpstrj.gz"])
def test_what_is_written_is_read_again(ending: str, d: int, tmp_path: Path) -> None:
    one = walk(n=30, n_frames=3, d=d, step=0.4)
    path, random = tmp_path / f"a{ending}", np.random.default_rng(1)
    written = []
    with FrameWriter(path) as writer:
        for k in range(3):
            log = {"particles/propensity_t1": random.random(30).astype(np.float32)}
            at = Configuration(one.box, one.species, one.positions[k], ("A", "B"), one.velocities[k])
            written.append(Frame(at, 10 * k, log, 0.05 * k))
            writer.append(written[-1])
    with open_trajectory(path, time_step=0.005) as trajectory:
        found = list(trajectory)
    for before, after in zip(written, found, strict=True):
        assert np.allclose(after.configuration.unwrapped, before.configuration.unwrapped, atol=1e-5)
        assert np.array_equal(after.configuration.species, before.configuration.species)
        assert np.allclose(after.configuration.velocities, before.configuration.velocities, atol=1e-5)
        assert np.array_equal(np.float32(after.log["particles/propensity_t1"]), before.log["particles/propensity_t1"])
        assert (after.step, after.time) == pytest.approx((before.step, before.time))


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    at = Configuration([5.0] * 3, [0, 1], [[0, 0, 0], [1, 0, 0]])

    def interrupted() -> None:
        with FrameWriter(tmp_path / "a.xyz") as writer:
            writer.append(Frame(at))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@needs_lammps
@pytest.mark.parametrize("ending", [".gsd", ".xyz", ".dump"])
def test_several_frames_of_a_foreign_file_are_predicted_into_any_format(
    ending: str, tmp_path: Path, glassmd: Command, tiny_model: Path
) -> None:
    source = write_dump(tmp_path / "a.dump", WALK, "id type xu yu zu vx vy vz v_p")
    out = tmp_path / f"out{ending}"
    outcome = glassmd("predict", source, "--model", tiny_model, "--frames=::2", "--force", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["frames"] == [0, 2, 4]
    assert any("by their numbers" in warning for warning in outcome.json["warnings"])
    with open_trajectory(out, time_step=0.005) as trajectory:
        frames = list(trajectory)
    assert [frame.step for frame in frames] == [WALK.steps[k] for k in (0, 2, 4)]
    for k, frame in zip((0, 2, 4), frames, strict=True):
        assert np.allclose(frame.configuration.velocities, WALK.velocities[k], atol=1e-5)
        assert np.allclose(frame.log["particles/v_p"], np.arange(64) / 7, atol=1e-6)
        assert {"particles/propensity_t0.1", "particles/propensity_t0.5_std"} <= set(frame.log)
        assert frame.configuration.species_names == ("A", "B")
    mean = np.mean([frame.log["particles/propensity_t0.5"][WALK.species == 0].mean() for frame in frames])
    assert outcome.json["propensity_mean"]["A"][1] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("last", "differ"), [(0.8, False), (0.2, True)])
def test_frames_without_a_temperature_are_one_liquid_at_the_same_times(
    last: float, differ: bool, tmp_path: Path, glassmd: Command
) -> None:
    random, velocities = np.random.default_rng(2), np.zeros_like(WALK.velocities)
    for k, temperature in enumerate([0.8, 0.8, 0.8, last, last]):
        velocities[k] = random.normal(size=velocities[k].shape) * np.sqrt(temperature)
    source, out = write_gsd(tmp_path / "a.gsd", replace(WALK, velocities=velocities)), tmp_path / "out.gsd"
    with open_trajectory(source, snapshots=True) as trajectory:
        kinetic = [kinetic_temperature(frame.configuration, LIQUID) or 0.0 for frame in trajectory]
    options = ["--input", "thermal", "--frames", "all", "--force", "--out", out]
    outcome = glassmd("predict", source, *options, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["temperature"] == pytest.approx(np.mean(kinetic))
    assert outcome.json["temperature_from"] == "velocities"
    assert any("was estimated from the velocities" in one for one in outcome.json["warnings"])
    assert any("predicted as one liquid" in one for one in outcome.json["warnings"]) == differ
    frames = read_frames(out)
    wanted = [f"particles/propensity_t{time:g}" for time in outcome.json["times"]]
    assert all([name for name in frame.log if name in wanted] == wanted for frame in frames)
    last_mean = np.mean([frame.log[wanted[-1]][WALK.species == 0].mean() for frame in frames])
    assert outcome.json["propensity_mean"]["A"][-1] == pytest.approx(last_mean, rel=1e-5)


@needs_lammps
def test_what_a_gsd_file_holds_besides_is_kept_and_types_get_their_names(
    tmp_path: Path, glassmd: Command, tiny_model: Path
) -> None:
    source, out = write_gsd(tmp_path / "a.gsd", WALK, names=("big", "small")), tmp_path / "out.gsd"
    with gsd.hoomd.open(source, "r") as old, gsd.hoomd.open(tmp_path / "b.gsd", "w") as new:
        for frame in old:
            frame.particles.charge = np.arange(64) / 3
            frame.bonds.N, frame.bonds.types, frame.bonds.typeid, frame.bonds.group = 1, ["bond"], [0], [[0, 5]]
            frame.log["mine"] = np.arange(3.0)
            new.append(frame)
    options = ["--model", tiny_model, "--types=big=A,small=B", "--frames=all", "--force", "--out", out]
    outcome = glassmd("predict", tmp_path / "b.gsd", *options, "--json")
    assert outcome.code == 0, outcome.err
    with gsd.hoomd.open(out, "r") as file:
        assert len(file) == 5
        for k, frame in enumerate(file):
            assert frame.particles.types == ["A", "B"]
            assert np.allclose(frame.particles.charge, np.arange(64) / 3)
            assert np.allclose(frame.particles.velocity, WALK.velocities[k], atol=1e-6)
            assert frame.bonds.group.tolist() == [[0, 5]]
            assert frame.log["mine"].tolist() == [0, 1, 2]
            assert frame.configuration.step == WALK.steps[k]
    assert read_frames(out)[0].log["particles/propensity_t0.1"].shape == (64,)


def test_snapshots_of_other_liquids_are_no_trajectory_but_are_predicted(
    tmp_path: Path, glassmd: Command, tiny_model: Path
) -> None:
    """Independent configurations in one file: a particle of one is no particle of the next."""
    shape = {"box": WALK.box, "species_names": ("A", "B"), "positions": WALK.positions[0] - WALK.box / 2}
    liquids = [Configuration(species=species, **shape) for species in (WALK.species, WALK.species[::-1].copy())]
    write_frames(tmp_path / "two.gsd", [Frame(liquid, step) for step, liquid in enumerate(liquids)])
    outcome = glassmd("analyze", tmp_path / "two.gsd")
    assert outcome.code == 2
    assert "other types" in outcome.err
    out = tmp_path / "out.gsd"
    outcome = glassmd(
        "predict", tmp_path / "two.gsd", "--model", tiny_model, "--frames", "all", "--force", "--out", out
    )
    assert outcome.code == 0, outcome.err
    for liquid, frame in zip(liquids, read_frames(out), strict=True):
        np.testing.assert_array_equal(frame.configuration.species, liquid.species)


@needs_lammps
def test_a_prediction_in_extended_xyz_opens_in_ase(tmp_path: Path, glassmd: Command, tiny_model: Path) -> None:
    out = tmp_path / "out.xyz"
    source = write_xyz(tmp_path / "a.xyz", WALK)
    outcome = glassmd("predict", source, "--model", tiny_model, "--force", "--out", out)
    assert outcome.code == 0, outcome.err
    atoms = ase.io.read(out)
    assert atoms.cell.lengths() == pytest.approx(WALK.box)
    assert atoms.arrays["kind"].tolist() == ["AB"[k] for k in WALK.species]
    assert atoms.arrays["propensity_t0.1"].shape == (64,)
    configuration = package.from_ase(atoms)
    assert np.array_equal(configuration.species, WALK.species)
    again = package.from_ase(package.to_ase(configuration))
    assert np.allclose(again.unwrapped, configuration.unwrapped)


def test_a_snapshot_in_memory_becomes_a_configuration(tmp_path: Path) -> None:
    with gsd.hoomd.open(write_gsd(tmp_path / "a.gsd", WALK), "r") as file:
        configuration = package.from_snapshot(file[2], mixture=LIQUID)
    assert np.allclose(configuration.unwrapped + WALK.box / 2, WALK.positions[2], atol=1e-5)
    assert configuration.species_names == ("A", "B")


@needs_lammps
def test_frames_that_are_not_there_and_endings_that_no_format_has(
    tmp_path: Path, glassmd: Command, tiny_model: Path, tiny_run: Run
) -> None:
    source = write_gsd(tmp_path / "a.gsd", WALK)
    known = ("predict", source, "--model", tiny_model)
    out = tmp_path / "out.gsd"
    assert_refused(glassmd(*known, "--frames=7", "--out", out), "no frame 7 of 5")
    assert_refused(glassmd(*known, "--frames=9:", "--out", out), "no frame in 9: of 5")
    assert_refused(glassmd(*known, "--frames=x", "--out", out), "--frames x", "slice")
    assert_refused(glassmd(*known, "--frames=::0", "--out", out), "--frames ::0")
    assert_refused(glassmd(*known, "--out", tmp_path / "out.pdb"), "out.pdb", ".xyz")
    assert_refused(glassmd(*known, "--types=A=A", "--out", out), "--types A=A")
    assert_refused(glassmd(*known, "--times=7", "--out", out), "time 7")
    assert not out.exists()


def test_a_prediction_says_how_far_it_is(
    tmp_path: Path, tiny_run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tiny_run.samples()[0].parent
    write_frames(tmp_path / "a.gsd", [Frame(parent, step, {}, None) for step in (0, 10)])
    monkeypatch.setattr(BapstModel, "at_once", 0.0)
    seen: list[Counted] = []
    predict_file(tmp_path / "a.gsd", tiny_model, tmp_path / "out.gsd", frames="all", temperature=1.5, show=seen.append)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert {one.total for one in seen} == {2}
    for frame in (0, 1):
        told = [(one.what, one.share) for one in seen if one.done == frame and one.what]
        assert told[0] == ("comparing with the training", 0.0)
        shares = [share for what, share in told if what == "predicting"]
        assert len(shares) > 2
        assert shares == sorted(shares)
    assert seen[-1].complete
    assert "━━━━━━━━━━━━━━━━━━━━ 2/2 frames, in " in str(seen[-1])


def test_a_single_frame_says_what_is_done_with_it() -> None:
    assert str(Counted(0, 1, 30.0, "predicting", 0.25, 30.0)) == "━━━━━─────────────── predicting, about 30 s left"
    assert str(Counted(0, 1, 30.0, "cage positions")) == "──────────────────── cage positions, no estimate yet"
    assert str(Counted(1, 1, 61.0)) == "━━━━━━━━━━━━━━━━━━━━ 1 frame, in 61 s"


def test_what_is_left_is_estimated_from_what_took_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seen = 100.0, list[Counted]()
    monkeypatch.setattr("glassmd.prediction_files.time.monotonic", lambda: now)

    def at(seconds: float, what: str, share: float) -> float | None:
        nonlocal now
        now = 100.0 + seconds
        clock.doing(what, share)
        return None if seen[-1].left is None else round(seen[-1].left, 6)

    clock = _Clock(1, seen.append)
    assert at(5, "cage positions", 0.0) is None  # nobody knows how long these take
    assert at(10, "predicting", 0.0) is None
    assert at(11, "predicting", 0.1) is None  # too early to tell
    assert at(15, "predicting", 0.25) == 15.0
    assert at(20, "cage positions", 0.5) is None  # of the second of two models
    assert at(40, "predicting", 0.5) is None
    assert at(50, "predicting", 0.75) == 10.0
    assert at(60, "predicting", 0.0) is None  # begun again, where the GPU had no room
    clock = _Clock(3, seen.append)
    assert at(70, "predicting", 0.9) is None
    now = 180.0
    clock.frame_done()
    assert str(seen[-1]).endswith("1/3 frames, about 40 s left")
    assert at(85, "predicting", 0.1) == 35.0
    assert at(200, "predicting", 0.2) == 0.0


@needs_lammps
def test_a_long_prediction_of_one_frame_is_told_on_standard_error(
    tmp_path: Path, glassmd: Command, tiny_run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "a.gsd", [Frame(tiny_run.samples()[0].parent, 0, {}, None)])
    told = ["predict", tmp_path / "a.gsd", "--model", tiny_model, "--temperature", "1.5", "--json"]
    assert "predicting" not in glassmd(*told).err
    monkeypatch.setattr("glassmd_cli.predict._MOMENT", 0.0)
    monkeypatch.setattr(BapstModel, "at_once", 0.0)
    outcome = glassmd(*told)
    assert "comparing with the training, no estimate yet" in outcome.err
    assert "1 frame, in" in outcome.err
    assert outcome.json["parts"] == 1


@needs_lammps
def test_what_is_refused_in_a_terminal_is_told_on_a_line_of_its_own(
    tmp_path: Path, glassmd: Command, tiny_run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames(tmp_path / "a.gsd", [Frame(tiny_run.samples()[0].parent, 0, {}, None)])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    outcome = glassmd("predict", tmp_path / "a.gsd", "--model", tiny_model, "--temperature", "30")
    assert outcome.code == 2
    shown, said = outcome.err.strip().split("\n")
    assert "comparing with the training" in shown
    assert said.startswith("glassmd: found T = 30")
