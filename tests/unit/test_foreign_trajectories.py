"""One trajectory, written in every format and style, is one trajectory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassmd.mixtures import get_mixture
from glassmd.trajectory.trajectory import Trajectory, open_trajectory
from tests.foreign_files import TIME_STEP, Walk, walk, write_data, write_dump, write_gsd, write_xyz

WALK, PLANE = walk(), walk(d=2)
WRITERS: dict[str, Callable[[Path, Walk], Path]] = {
    "a.gsd": write_gsd,
    "b.gsd": lambda path, one: write_gsd(path, one, images="first"),
    "c.gsd": lambda path, one: write_gsd(path, one, images="none"),
    "xyz.dump": lambda path, one: write_dump(path, one, "id type x y z vx vy vz"),
    "images.dump": lambda path, one: write_dump(path, one, "type id x y z ix iy iz vx vy vz", origin=-3.5),
    "scaled.dump": lambda path, one: write_dump(path, one, "id type xs ys zs ix iy iz vx vy vz", origin=2.0),
    "unwrapped.dump": lambda path, one: write_dump(path, one, "id type vx vy vz xu yu zu", origin=1.5),
    "scaled_unwrapped.dump": lambda path, one: write_dump(path, one, "id type xsu ysu zsu vx vy vz"),
    "both.dump": lambda path, one: write_dump(path, one, "id type x y z xu yu zu vx vy vz"),
    "gaps.dump.gz": lambda path, one: write_dump(path, one, "id type mass xu yu zu vx vy vz v_p", gaps=True),
    "labels.dump": lambda path, one: write_dump(path, one, "id element xu yu zu vx vy vz"),
    "labels_too.dump": lambda path, one: write_dump(path, one, "id type element xu yu zu vx vy vz"),
    "extended.xyz": write_xyz,
}


def opened(path: Path, **options: object) -> Trajectory:
    options = {"mixture": get_mixture("kob-andersen"), "time_step": TIME_STEP, **options}
    return open_trajectory(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WRITERS)
def test_every_style_gives_the_same_moves_species_velocities_and_times(name: str, tmp_path: Path) -> None:
    with opened(WRITERS[name](tmp_path / name, WALK)) as trajectory:
        times, frames = trajectory.times(), list(trajectory)
    assert len(trajectory) == len(frames) == len(WALK.positions)
    assert np.allclose(times, TIME_STEP * np.array(WALK.steps))
    for k, frame in enumerate(frames):
        start = frames[0].configuration
        moved = frame.configuration.unwrapped - start.unwrapped
        assert np.abs(moved - (WALK.positions[k] - WALK.positions[0])).max() < 1e-5
        assert np.array_equal(frame.configuration.species, WALK.species)
        assert frame.configuration.velocities is not None
        assert np.abs(frame.configuration.velocities - WALK.velocities[k]).max() < 1e-5
        assert frame.time == pytest.approx(times[k])
        assert frame.step == WALK.steps[k]
    assert frames[0].configuration.species_names == ("A", "B")
    assert np.allclose(frames[0].configuration.box, WALK.box)


@pytest.mark.parametrize("name", ["a.gsd", "xyz.dump", "scaled.dump", "unwrapped.dump", "extended.xyz"])
def test_the_plane_is_read_as_one(name: str, tmp_path: Path) -> None:
    with opened(WRITERS[name](tmp_path / name, PLANE), mixture=None, types=None) as trajectory:
        frames = list(trajectory)
    assert frames[0].configuration.dimensions == 2
    moved = frames[-1].configuration.unwrapped - frames[0].configuration.unwrapped
    assert np.abs(moved - (PLANE.positions[-1] - PLANE.positions[0])).max() < 1e-5


@pytest.mark.parametrize("name", ["a.gsd", "unwrapped.dump", "gaps.dump.gz", "extended.xyz"])
def test_a_frame_by_its_number_is_the_frame_met_on_the_way(name: str, tmp_path: Path) -> None:
    with opened(WRITERS[name](tmp_path / name, WALK)) as trajectory:
        frames = list(trajectory)
        for k in (7, 2, -1, 0, 11):
            assert np.array_equal(trajectory[k].configuration.positions, frames[k].configuration.positions)


def test_a_data_file_is_one_frame_whose_types_are_known_by_their_masses(tmp_path: Path) -> None:
    with opened(write_data(tmp_path / "liquid.data", WALK), mixture=get_mixture("wahnstrom")) as trajectory:
        (frame,) = trajectory
    assert "by their masses, 1 and 0.5" in trajectory.notes[0]
    assert np.array_equal(frame.configuration.species, WALK.species)
    turned = frame.configuration.unwrapped - frame.configuration.unwrapped[0]
    assert np.abs(turned - (WALK.positions[0] - WALK.positions[0, 0])).max() < 1e-5
    assert np.abs(frame.configuration.velocities - WALK.velocities[0]).max() < 1e-5


def test_types_are_known_by_their_numbers_and_that_is_said(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", WALK)
    with opened(path) as trajectory:
        assert "types 1=A, 2=B by their numbers, 64 and 16" in trajectory.notes[0]
    with opened(path, types={"1": "A", "2": "B"}) as trajectory:
        assert trajectory.notes == []
    with opened(path, mixture=None) as trajectory:
        assert trajectory.species_names == ("1", "2")


def test_the_files_own_times_are_used_where_nobody_says_how_long_a_step_is(tmp_path: Path) -> None:
    with opened(write_dump(tmp_path / "a.dump", WALK, times=True), time_step=None) as trajectory:
        assert trajectory.time_unit == "reduced"
        assert trajectory.times()[3] == pytest.approx(3 * WALK.every * TIME_STEP)
    with opened(write_dump(tmp_path / "b.dump", WALK), time_step=None) as trajectory:
        assert trajectory.time_unit == "steps"
        assert trajectory.times()[3] == 3 * WALK.every


def test_frames_without_steps_are_counted_and_that_is_said(tmp_path: Path) -> None:
    with opened(write_xyz(tmp_path / "a.xyz", WALK, steps=False), time_step=0.5) as trajectory:
        assert trajectory.times()[3] == 1.5
        assert "no step numbers" in trajectory.notes[0]


def test_logarithmic_frames_keep_their_times(tmp_path: Path) -> None:
    steps = [0, 1, 2, 5, 10, 100, 101, 102, 105, 110, 200, 1000]

    class Logarithmic(Walk):
        @property
        def steps(self) -> list[int]:
            return steps

    one = Logarithmic(WALK.box, WALK.species, WALK.positions, WALK.velocities)
    for name, write in (("a.gsd", write_gsd), ("a.dump", write_dump), ("a.xyz", write_xyz)):
        with opened(write(tmp_path / name, one)) as trajectory:
            assert np.allclose(trajectory.times(), TIME_STEP * np.array(steps))
            assert [frame.step for frame in trajectory] == steps


def test_columns_that_are_not_ours_are_kept(tmp_path: Path) -> None:
    path = WRITERS["gaps.dump.gz"](tmp_path / "a.dump.gz", WALK)
    with opened(path) as trajectory:
        assert np.allclose(trajectory[2].log["particles/v_p"], np.arange(80) / 7)


def test_the_frames_before_a_cut_one_are_read_and_that_is_said(tmp_path: Path) -> None:
    for name, write in (("a.dump", write_dump), ("a.xyz", write_xyz)):
        path = write(tmp_path / name, WALK)
        path.write_bytes(path.read_bytes()[:-300])
        with opened(path) as trajectory:
            assert len(list(trajectory)) == 11
            assert "the last frame is cut" in trajectory.notes[0]


def test_reading_again_and_again_needs_no_more_memory_than_a_frame(tmp_path: Path) -> None:
    """The text of a frame and an offset per frame are all that is kept: frames are made anew each time."""
    with opened(write_dump(tmp_path / "a.dump", WALK)) as trajectory:
        first, again = trajectory[3], trajectory[3]
        assert first is not again
        assert np.array_equal(first.configuration.positions, again.configuration.positions)
