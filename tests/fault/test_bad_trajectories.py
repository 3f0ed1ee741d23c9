"""Trajectories of other programs that cannot be used: what is wrong, before anything slow, and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gsd.hoomd
import numpy as np
import pytest

from tests.conftest import SHARED, Outcome
from tests.fault.refusals import assert_refused
from tests.foreign_files import Walk, walk, write_dump, write_gsd, write_xyz

Command = Callable[..., Outcome]
WALK = walk()
KNOWN = ("--mixture=kob-andersen", "--time-step=0.005")


def refused(glassmd: Command, path: Path, *words: str, options: tuple[str, ...] = KNOWN) -> None:
    assert_refused(glassmd("analyze", path, *options, "--out", path.parent / "out", "--json"), *words)
    assert not (path.parent / "out").exists()


def test_a_wrong_map_of_types(glassmd: Command, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", WALK)
    refused(glassmd, path, "--types", "types 1, 2", options=(*KNOWN, "--types=1=A"))
    refused(glassmd, path, "species C", "A, B", options=(*KNOWN, "--types=1=A,2=C"))
    refused(glassmd, path, "1A", "TYPE=SPECIES", options=(*KNOWN, "--types=1A"))
    refused(glassmd, path, "64 B, 16 A by --types", "--types 1=A,2=B", options=(*KNOWN, "--types=1=B,2=A"))
    half = replace(WALK, species=np.arange(80) % 2)
    path = write_dump(tmp_path / "b.dump", half)
    refused(glassmd, path, "40 of type 1, 40 of type 2", "--types 1=A")


def test_a_number_of_particles_or_a_box_that_changes(glassmd: Command, tmp_path: Path) -> None:
    fewer = walk(n=70)
    for name, write in (("a.dump", write_dump), ("a.xyz", write_xyz)):
        path = write(tmp_path / name, WALK)
        with path.open("ab") as file:
            file.write(_later(write(tmp_path / f"b{name}", fewer)))
        refused(glassmd, path, "frame 12", "70 particles", "80 as the first")
    wider = replace(WALK, box=WALK.box * 1.01)
    path = write_dump(tmp_path / "c.dump", WALK)
    with path.open("ab") as file:
        file.write(_later(write_dump(tmp_path / "d.dump", wider)))
    refused(glassmd, path, "frame 12", "a box of", "constant volume")


def _later(path: Path) -> bytes:
    """The frames of a file at steps that come later."""
    text = path.read_text()
    for step in WALK.steps:
        text = text.replace(f"TIMESTEP\n{step}\n", f"TIMESTEP\n{step + 1000}\n").replace(
            f"Step={step} ", f"Step={step + 1000} "
        )
    return text.encode()


def test_steps_out_of_order_or_twice(glassmd: Command, tmp_path: Path) -> None:
    class Restarted(Walk):
        @property
        def steps(self) -> list[int]:
            return [*range(0, 350, 50), *range(300, 550, 50)]

    one = Restarted(WALK.box, WALK.species, WALK.positions, WALK.velocities)
    for name, write in (("a.gsd", write_gsd), ("a.dump", write_dump), ("a.xyz", write_xyz)):
        refused(glassmd, write(tmp_path / name, one), "frame 7", "each once", "restart")


def test_all_frames_at_one_time(glassmd: Command, tmp_path: Path) -> None:
    class Stuck(Walk):
        @property
        def steps(self) -> list[int]:
            return [50] * len(self.positions)

    one = Stuck(WALK.box, WALK.species, WALK.positions, WALK.velocities)
    for name, write in (("a.gsd", write_gsd), ("a.dump", write_dump), ("a.xyz", write_xyz)):
        refused(glassmd, write(tmp_path / name, one), "frame 1", "each once", "restart")


def test_a_frame_cut_in_the_middle_of_the_file(glassmd: Command, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", WALK)
    lines = path.read_text().splitlines(keepends=True)
    del lines[3 * 89 + 40 : 3 * 89 + 60]
    path.write_text("".join(lines))
    refused(glassmd, path, "frame 3", "60 particles", "80 as the first")


def test_nothing_but_a_cut_frame(glassmd: Command, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", WALK)
    path.write_bytes(path.read_bytes()[:900])
    refused(glassmd, path, "no complete frame")


@pytest.mark.parametrize("kind", ["dump", "xyz", "gsd"])
def test_a_tilted_box(kind: str, glassmd: Command, tmp_path: Path) -> None:
    if kind == "gsd":
        path = write_gsd(tmp_path / "a.gsd", WALK)
        with gsd.hoomd.open(path, "r") as source, gsd.hoomd.open(tmp_path / "b.gsd", "w") as target:
            for frame in source:
                frame.configuration.box = [*frame.configuration.box[:3], 0.1, 0, 0]
                target.append(frame)
        path = tmp_path / "b.gsd"
    elif kind == "dump":
        path = write_dump(tmp_path / "a.dump", WALK)
        text = path.read_text().replace("BOUNDS pp", "BOUNDS xy xz yz pp")
        edge = f"0.0 {float(WALK.box[0])!r}\n"
        path.write_text(text.replace(edge, edge.replace("\n", " 0.3\n", 1)))
    else:
        path = write_xyz(tmp_path / "a.xyz", WALK)
        edge = WALK.box[1]
        path.write_text(path.read_text().replace(f" 0 0 0 {edge} 0 0 0", f" 0 0 0.4 {edge} 0 0 0"))
    refused(glassmd, path, "tilted box", "orthorhombic")


def test_open_boundaries(glassmd: Command, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", WALK)
    path.write_text(path.read_text().replace("pp pp pp", "ff ff ff"))
    refused(glassmd, path, "open", "periodic")


def test_units_that_are_not_reduced(glassmd: Command, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "a.dump", walk(density=0.06))
    refused(glassmd, path, "0.06 particles", "reduced units", "real units")


def test_positions_outside_of_a_box_that_is_not_theirs(glassmd: Command, tmp_path: Path) -> None:
    smaller = replace(WALK, box=WALK.box * 0.8)
    for name, write in (("a.gsd", write_gsd), ("a.dump", write_dump), ("a.xyz", write_xyz)):
        refused(glassmd, write(tmp_path / name, smaller), "overlapping particles", "check the box and the units")


def test_wrapped_positions_of_particles_that_may_have_gone_half_a_box(glassmd: Command, tmp_path: Path) -> None:
    far = walk(step=0.6)
    for name, columns in (("a.dump", "id type x y z"), ("b.dump", "id type xs ys zs")):
        refused(glassmd, write_dump(tmp_path / name, far, columns), "wrapped", "box lengths", "xu yu zu")
    refused(glassmd, write_gsd(tmp_path / "a.gsd", far, images="first"), "wrapped", "box lengths")
    assert glassmd("analyze", write_gsd(tmp_path / "b.gsd", far), *KNOWN, "--json").code == 0


def test_columns_that_are_missing(glassmd: Command, tmp_path: Path) -> None:
    refused(glassmd, write_dump(tmp_path / "a.dump", WALK, "id type x y"), "columns id type x y", "all three")
    refused(glassmd, write_dump(tmp_path / "b.dump", WALK, "id x y z"), "columns id x y z", "type")


def test_a_plane_where_a_volume_is_expected(glassmd: Command, tmp_path: Path) -> None:
    refused(glassmd, write_gsd(tmp_path / "a.gsd", walk(d=2)), "2D", "3D", "--mixture")


def test_positions_that_are_no_numbers(glassmd: Command, tmp_path: Path) -> None:
    one = walk()
    one.positions[4, 3, 1] = np.nan
    with np.errstate(invalid="ignore"):
        path = write_gsd(tmp_path / "a.gsd", one)
    refused(glassmd, path, "frame 4", "particle 3", "finite")


def test_files_of_other_kinds_say_what_they_look_like(glassmd: Command, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    refused(glassmd, tmp_path / "a.npz", "numpy archive", "glassmd import")
    (tmp_path / "a.txt").write_text("hello\nworld\n")
    refused(glassmd, tmp_path / "a.txt", "no format that glassmd reads", "GSD, LAMMPS dump")
    (tmp_path / "a.xyz").write_text("2\nno box here\nA 0 0 0\nB 1 0 0\n")
    refused(glassmd, tmp_path / "a.xyz", "Lattice")
    (tmp_path / "empty.dump").write_bytes(b"")
    refused(glassmd, tmp_path / "empty.dump", "empty")
    refused(glassmd, tmp_path / "nothing.dump", "found no file")
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    refused(glassmd, tmp_path / "a.gz", "cannot be unpacked")


def test_a_file_of_a_run(glassmd: Command, tiny_run: object, tmp_path: Path) -> None:
    from glassmd.stream.dataset import Run

    assert isinstance(tiny_run, Run)
    segment = tiny_run.entries("segments")[0].path
    refused(glassmd, segment, "replicas", str(tiny_run.path), options=())


def test_the_install_line_where_ase_is_missing(
    glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ase", None)
    refused(glassmd, write_dump(tmp_path / "a.dump", WALK), "ASE", 'pip install "glassmd[formats]"')


def test_trajectories_that_do_not_belong_together(glassmd: Command, tmp_path: Path) -> None:
    first = write_gsd(tmp_path / "a.gsd", WALK)
    second = write_gsd(tmp_path / "b.gsd", walk(n=90))
    assert_refused(glassmd("analyze", first, second, *KNOWN, "--json"), "another liquid", "analyze them apart")


def test_options_that_contradict_a_run_or_each_other(glassmd: Command, tmp_path: Path, run_copy: Path) -> None:
    assert_refused(glassmd("analyze", run_copy, "--temperature=1", "--json"), "--temperature", "a run says its own")
    path = write_gsd(tmp_path / "a.gsd", WALK)
    assert_refused(glassmd("analyze", path, "--truncation=xplor", "--json"), "--mixture")
    assert_refused(glassmd("analyze", path, run_copy, "--json"), "runs and trajectories together")
    assert_refused(glassmd("analyze", path, "--temperature=-1", "--json"), "temperature -1")
    assert_refused(glassmd("analyze", path, "--time-step=0", "--json"), "time step 0")


@pytest.mark.skipif(not (SHARED / "botan").exists(), reason="needs shared/data/botan")
def test_published_data_given_as_a_trajectory(glassmd: Command, tmp_path: Path) -> None:
    source = next((SHARED / "botan").glob("*.npz"))
    assert_refused(glassmd("analyze", source, "--json"), "numpy archive", "glassmd import")
