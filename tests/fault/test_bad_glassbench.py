"""GlassBench files that are not what they should be, files of other formats, and places where nothing is exported."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.errors import StorageError
from glassmd.exporters.glassbench import export_glassbench
from glassmd.importers.glassbench import import_glassbench
from tests.fault.refusals import Command, assert_refused
from tests.glassbench_files import labelled, labelled_file, replica_file
from tests.unit.test_importers import botan_file, deepmind_file

FINE = labelled(450, test=True)


def assert_not_imported(glassmd: Command, tmp_path: Path, *words: str, source: Path | None = None) -> None:
    outcome = glassmd("import", source or tmp_path / "f", "--format", "glassbench", "--out", tmp_path / "r")
    assert_refused(outcome, "expected", *words)
    assert not (tmp_path / "r").exists()


def spoilt(name: str) -> np.ndarray[Any, Any]:
    found = FINE[name].astype(float)
    found.flat[7] = np.nan
    return found


@pytest.mark.parametrize("name", ["types", "initial_positions", "md_prop"])
def test_a_file_without_a_key(glassmd: Command, tmp_path: Path, name: str) -> None:
    labelled_file(tmp_path / "f", 450, **{name: None})
    # without its labels it looks like nothing that is known
    assert_not_imported(glassmd, tmp_path, f"has no {name}", "a GlassBench file: arrays types, initial_positions")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"types": np.zeros(120, int)}, ("initial_positions of shape (125, 3)", "(120, 3)")),
        ({"types": FINE["types"] + 4}, ("types from 4 to 5", "0 to 1 or 1 to 2")),
        ({"types": FINE["types"] * 1.5}, ("types float64", "whole numbers")),
        ({"initial_positions": FINE["initial_positions"][:, 0]}, ("initial_positions of shape (125,)",)),
        ({"initial_positions": FINE["initial_positions"] * 1.5}, ("positions from", "check the box and the units")),
        ({"initial_positions": spoilt("initial_positions")}, ("initial_positions that are not finite",)),
        ({"md_prop": FINE["md_prop"][:9]}, ("labels at 9 times", "10, 0.13, 1.3,", "give 9 with --times")),
        ({"md_prop": FINE["md_prop"][:, :9]}, ("md_prop of shape (10, 9)", "(any, 125)")),
        ({"md_prop": spoilt("md_prop")}, ("md_prop that are not finite",)),
        ({"md_prop": -FINE["md_prop"]}, ("propensities such as -", "0 or more")),
        ({"md_prop": FINE["md_prop"].astype(str)}, ("md_prop of <U32", "numbers")),
        ({"bb_prop": spoilt("bb_prop")}, ("bb_prop that are not finite",)),
        ({"bb_prop": FINE["bb_prop"][:4]}, ("bb_prop of shape (4, 125)", "(10, 125)")),
        ({"initial_positions_inherent": np.zeros((7, 3))}, ("initial_positions_inherent of shape (7, 3)",)),
        ({"initial_positions_cage": spoilt("initial_positions_cage")}, ("initial_positions_cage that are not finite",)),
        ({"BOTAN": FINE["BOTAN"][:, :50]}, ("BOTAN of shape (10, 50)", "(10, 125)")),
        ({"BOTAN": spoilt("BOTAN")}, ("BOTAN that are not finite for some particles of species A",)),
        ({"../BOTAN": FINE["BOTAN"]}, ("an array '../BOTAN'", "a published method's name")),
        ({"box": np.array(-1.0)}, ("box -1.0", "above 0")),
        ({"box": np.array(6.0)}, ("density 0.5787", "1.2 of kob-andersen")),
        ({"role": np.array("judge")}, ("role 'judge'", "train, validation, test")),
        ({"mixture": np.array("{}")}, ("a mixture that cannot be read", "as exported")),
    ],
)
def test_a_file_that_contradicts_itself(
    glassmd: Command, tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    labelled_file(tmp_path / "f", 450, **changes)
    assert_not_imported(glassmd, tmp_path, *words)


def test_structures_of_another_configuration(tmp_path: Path, glassmd: Command) -> None:
    labelled_file(tmp_path / "f", 450, initial_positions_inherent=FINE["initial_positions"][::-1])
    assert_not_imported(glassmd, tmp_path, "inherent positions", "of the same configuration")


def test_times_that_nobody_knows(glassmd: Command, tmp_path: Path) -> None:
    labelled_file(tmp_path / "f", 1, temperature="0.47")
    assert_not_imported(glassmd, tmp_path, "labels at 10 times at T = 0.47", "give 10 with --times")
    command = ("import", tmp_path / "f", "--format", "glassbench", "--out", tmp_path / "r", "--times")
    assert_refused(glassmd(*command, "1,2,3"), "labels at 10 times", "give 10 with --times")
    assert glassmd(*command, "log:1:512:10", "--json").json["times"][-1] == 512
    replica_file(tmp_path / "g", 1, 7, wrapped=True)
    outcome = glassmd("import", tmp_path / "g", "--format", "glassbench", "--out", tmp_path / "s")
    assert_refused(outcome, "time code tc07 at T = 0.23", "give 1 with --times")
    outcome = glassmd("import", tmp_path / "g", "--format", "glassbench", "--out", tmp_path / "s", "--times", "1,2")
    assert_refused(outcome, "2 times for the codes tc07")


def test_files_that_do_not_belong_together(glassmd: Command, tmp_path: Path) -> None:
    labelled_file(tmp_path / "f", 1)
    labelled_file(tmp_path / "f", 1, temperature="0.50")
    assert_not_imported(glassmd, tmp_path, "temperatures [0.44, 0.5]", "import them one by one")
    source = tmp_path / "g"
    labelled_file(source, 1).rename(source / "N125T0.44_1.npz")
    labelled_file(source, 1)
    assert_not_imported(glassmd, tmp_path, "every configuration once", source=source)
    source = tmp_path / "h"
    replica_file(source, 1, 5, wrapped=True)
    replica_file(source, 1, 10, wrapped=True)
    replica_file(source, 2, 5, wrapped=True)
    outcome = glassmd("import", source, "--format", "glassbench", "--out", tmp_path / "r")
    assert_refused(outcome, "N81T0.23_2 has times [0.1]", "[0.1, 1.1] as the files before it")


def test_a_configuration_on_the_wrong_side_of_the_split(glassmd: Command, tmp_path: Path) -> None:
    path = labelled_file(tmp_path / "f", 450)
    (tmp_path / "f" / "train").mkdir()
    path.rename(tmp_path / "f" / "train" / path.name)
    assert_not_imported(glassmd, tmp_path, "configuration 450 in a folder train", "it in test")


def test_a_name_that_says_something_else(glassmd: Command, tmp_path: Path) -> None:
    path = labelled_file(tmp_path / "f", 1)
    other = path.rename(path.with_name("N4096T0.44_1.npz"))
    assert_not_imported(glassmd, tmp_path, "125 particles", "4096 as its name says")
    other.rename(path.with_name("mine.npz"))
    assert_not_imported(glassmd, tmp_path, "mine.npz", "as published")


def test_wrapped_particles_that_may_have_moved_half_a_box(glassmd: Command, tmp_path: Path) -> None:
    replica_file(tmp_path / "f", 1, 40, wrapped=True, scale=3.0)
    assert_not_imported(glassmd, tmp_path, "of the box from where it started", "the nearest image is the right one")


def test_replicas_that_start_elsewhere_at_another_time(glassmd: Command, tmp_path: Path) -> None:
    replica_file(tmp_path / "f", 1, 5, wrapped=True)
    start = replica_file(tmp_path / "g", 2, 10, wrapped=True)[0]
    start.rename(tmp_path / "f" / "N81T0.23_1_tc10.npz")
    assert_not_imported(glassmd, tmp_path, "starts from another configuration")


def test_files_of_other_formats_are_called_by_their_names(glassmd: Command, tmp_path: Path) -> None:
    files = {
        "botan": botan_file(tmp_path),
        "deepmind": deepmind_file(tmp_path / "a.pickle"),
        "glassbench": labelled_file(tmp_path, 1),
    }
    plane = replica_file(tmp_path, 1, 5, wrapped=True)[0]
    for told in (*files, "deepmind-weights"):
        for format_, path in [*files.items(), ("glassbench", plane)]:
            if told != format_:
                outcome = glassmd("import", path, "--format", told, "--out", tmp_path / "r")
                assert_refused(outcome, "looks like", f"try --format {format_}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.pickle").write_bytes(pickle.dumps({}))
    outcome = glassmd("import", tmp_path / "folder", "--format", "glassbench", "--out", tmp_path / "r")
    assert_refused(outcome, "looks like a pickle", "try --format deepmind")
    dump = tmp_path / "dump.lammpstrj"
    dump.write_text("ITEM: TIMESTEP\n0\n")
    outcome = glassmd("import", dump, "--format", "glassbench", "--out", tmp_path / "r")
    assert_refused(outcome, "looks like a trajectory", "try --format trajectory")
    assert not (tmp_path / "r").exists()


def test_sources_that_do_not_exist(glassmd: Command, tmp_path: Path) -> None:
    assert_not_imported(glassmd, tmp_path, "found no", "check the path")
    (tmp_path / "f").mkdir()
    assert_not_imported(glassmd, tmp_path, "found no npz files")


def test_places_where_nothing_is_exported(glassmd: Command, tmp_path: Path) -> None:
    labelled_file(tmp_path / "f", 1)
    run = import_glassbench([tmp_path / "f"], tmp_path / "r").path
    command = ("export", run, "--format", "glassbench", "--out")
    assert_refused(glassmd(*command, tmp_path / "f"), "is there already", "choose another --out")
    assert_refused(glassmd(*command, run / "out"), "in a run", "choose another --out")
    outcome = glassmd("export", tmp_path / "f", "--format", "glassbench", "--out", tmp_path / "o")
    assert_refused(outcome, "found no run in")
    assert not (tmp_path / "o").exists()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for configuration in (1, 2):
        labelled_file(tmp_path / "f", configuration)
    run = import_glassbench([tmp_path / "f"], tmp_path / "r").path
    from glassmd.exporters import glassbench

    written: list[Path] = []
    write = glassbench.write_bytes

    def full(path: Path, content: bytes) -> bool:
        if written:
            raise StorageError("could not write", "room")
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(glassbench, "write_bytes", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError):
        export_glassbench(run, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
