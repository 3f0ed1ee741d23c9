"""GSD files that no prediction can be made of."""

from __future__ import annotations

from pathlib import Path

import gsd.fl
import numpy as np

from tests.fault.refusals import Command, assert_refused, frame, write


def test_a_good_snapshot_is_predicted(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    outcome = glassmd("predict", write(tmp_path / "good.gsd", frame()), "--model", tiny_model, "--force", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["n_particles"] == 64


def test_a_frame_that_claims_more_particles_than_it_has_room_for(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "huge.gsd"
    with gsd.fl.open(path, "w", application="x", schema="hoomd", schema_version=(1, 4)) as file:
        file.write_chunk("particles/N", np.array([4_000_000_000], np.uint32))
        file.write_chunk("configuration/box", np.array([5, 5, 5, 0, 0, 0], np.float32))
        file.end_frame()
    for command in (("info", path), ("simulate", "--start", path, "--temperature", "1", "--out", tmp_path / "run")):
        assert_refused(glassmd(*command), "huge.gsd claims 4,000,000,000 particles", "expected at most")


def test_a_truncated_gsd_file(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.gsd", *[frame() for _ in range(20)])
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.6):
        path.write_bytes(content[: int(len(content) * share)])
        assert_refused(glassmd("predict", path, "--model", tiny_model), "cut.gsd", "complete GSD file", "again")


def test_an_empty_file(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.gsd").touch()
    assert_refused(glassmd("predict", tmp_path / "empty.gsd", "--model", tiny_model), "empty (0 bytes)", "GSD")


def test_a_gsd_file_without_frames(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(
        glassmd("predict", write(tmp_path / "none.gsd"), "--model", tiny_model),
        "no frames",
        "at least one frame",
    )


def test_a_file_that_is_not_gsd(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.gsd"
    path.write_text("ITEM: TIMESTEP\n0\n" * 100)
    assert_refused(
        glassmd("predict", path, "--model", tiny_model),
        "no line ITEM: ATOMS",
        "as many particles as it says",
    )


def test_a_snapshot_that_does_not_exist(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(glassmd("predict", tmp_path / "no.gsd", "--model", tiny_model), "found no file", "check the path")


def test_no_particles(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "void.gsd", frame(n=0))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "no particles", "at least one particle")


def test_unknown_types(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "types.gsd", frame(particles_types=["A", "Ni"]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "of type Ni", "species A, B", "--types")


def test_a_non_periodic_box(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "open.gsd", frame(configuration_box=[4, 4, 0, 0, 0, 0]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "no periodic box", "positive edges")


def test_a_tilted_box(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "tilt.gsd", frame(configuration_box=[4, 4, 4, 0.1, 0, 0]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "tilted box", "orthorhombic")


def test_nan_positions(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    positions = frame().particles.position.copy()
    positions[17, 1] = np.nan
    path = write(tmp_path / "nan.gsd", frame(particles_position=positions))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "nan", "particle 17", "finite positions")


def test_overlapping_particles(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    positions = frame().particles.position.copy()
    positions[5] = positions[6] + 0.01
    path = write(tmp_path / "overlap.gsd", frame(particles_position=positions))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "overlapping particles", "5 and 6", "check the box")


def test_a_frame_that_is_not_there(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "one.gsd", frame())
    assert_refused(glassmd("predict", path, "--model", tiny_model, "--frames", "3"), "no frame 3", "below 1")
