"""GSD files as anybody reads them: with gsd alone, frames in any order, and everything that was logged."""

from __future__ import annotations

from itertools import pairwise, permutations
from pathlib import Path

import gsd.fl
import gsd.hoomd
import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.fields import GSD_IDENTITY, GSD_PROPENSITY, GSD_PROPENSITY_VARIANCE, GSD_REPLICA, GSD_TIME
from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported
from glassmd.mixtures import get_mixture
from glassmd.prediction_files import predict_file
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import Run, open_run
from glassmd.trajectory import Frame, read_frames, write_frames
from tests.conftest import TINY, needs_lammps

MIXTURE = get_mixture("kob-andersen")


def pair(x: float) -> Configuration:
    return Configuration([9] * 3, [0, 1], [[0, 0, 0], [x, 0, 0]])


def check_readable(path: Path) -> dict[str, np.ndarray]:
    """Read a file with gsd alone, in any order; the logs of all frames by name."""
    with gsd.fl.open(str(path), "r") as file:
        names = file.find_matching_chunk_names("log/")
    logs = gsd.hoomd.read_log(str(path))
    assert set(logs) == {"configuration/step", *names}
    with gsd.hoomd.open(str(path), "r") as trajectory:
        count = len(trajectory)
        order = np.random.default_rng(5).permutation(np.repeat(np.arange(count), 2))
        for index in (*order.tolist(), 0, -1, 0):
            found = trajectory[index].log
            assert {f"log/{name}" for name in found} == set(names)
            for name, value in found.items():
                logged = logs[f"log/{name}"].reshape(count, *np.shape(value))
                np.testing.assert_array_equal(value, logged[index])
    return {name.removeprefix("log/"): values for name, values in logs.items()}


def imported(path: Path, **labels: object) -> Run:
    generator = np.random.default_rng(1)
    parent = Configuration([12.0] * 3, np.arange(60) % 2, generator.uniform(-6, 6, (60, 3)))
    if "ends" in labels:
        labels["ends"] = parent.positions + generator.normal(size=(2, 3, 60, 3))
    commit_imported([Imported(parent, [1.0, 2.0, 3.0], "0.npz", 2, **labels)], path, MIXTURE, 0.5, "test")
    return open_run(path)


@needs_lammps
def test_parents_and_segments_of_replicas_are_read_in_any_order(tiny_run: Run) -> None:
    for entry in tiny_run.entries("parents"):
        assert set(check_readable(entry.path)) == {"configuration/step", GSD_IDENTITY}
    for entry in tiny_run.entries("segments"):
        logs = check_readable(entry.path)
        replicas = [replica for replica in entry.sidecar["replicas"] for _ in TINY.times]
        assert logs[GSD_REPLICA].ravel().tolist() == [-1, *replicas]
        assert logs[GSD_TIME].ravel().tolist() == [0.0, *(TINY.times * len(entry.sidecar["replicas"]))]


@needs_lammps
def test_segments_of_propensities_are_read_in_any_order(tmp_path: Path) -> None:
    update = {
        "keep": "propensities",
        "lineages": 2,
        "test_lineages": 0,
        "held_out_replicas": 3,
        "accept_unequilibrated": True,
    }
    simulate(TINY.model_copy(update=update), tmp_path / "run")
    several = 0
    for entry in open_run(tmp_path / "run").entries("segments"):
        logs = check_readable(entry.path)
        several += len(logs["configuration/step"]) > 1
        for time in TINY.times:
            assert {GSD_PROPENSITY.format(time=time), GSD_PROPENSITY_VARIANCE.format(time=time)} <= set(logs)
    assert several, "the start of the next parent comes with the propensities"


@pytest.mark.parametrize("labels", [{"ends": True}, {"propensity": np.ones((3, 60)), "variance": np.ones((3, 60))}])
def test_imported_segments_are_read_in_any_order(tmp_path: Path, labels: dict[str, object]) -> None:
    run = imported(tmp_path / "run", **labels)
    for kind in ("parents", "segments"):
        for entry in run.entries(kind):
            logs = check_readable(entry.path)
    assert (GSD_REPLICA in logs) == ("ends" in labels)


@needs_lammps
@pytest.mark.parametrize("frame", [0, 3])
def test_predictions_are_read_in_any_order(tiny_run: Run, tiny_model: Path, tmp_path: Path, frame: int) -> None:
    snapshot = tiny_run.entries("segments")[0].path
    predict_file(snapshot, tiny_model, tmp_path / "out.gsd", frames=str(frame))
    logs = check_readable(tmp_path / "out.gsd")
    assert logs[GSD_REPLICA].item() == (-1 if frame == 0 else 1)


def test_a_log_that_only_later_frames_have_is_nothing_in_the_first(tmp_path: Path) -> None:
    later = {"particles/x": np.array([1.0, 2.0], np.float32), "count": np.array([3], np.int32)}
    write_frames(tmp_path / "x.gsd", [Frame(pair(1.0)), Frame(pair(2.0), 1, later)])
    logs = check_readable(tmp_path / "x.gsd")
    np.testing.assert_array_equal(logs["particles/x"], np.array([[np.nan, np.nan], [1, 2]], np.float32))
    assert logs["count"].tolist() == [-1, 3]


def test_what_is_logged_again_and_again_is_written_once(tmp_path: Path) -> None:
    constant = np.arange(2000, dtype=np.float64)
    frames = [Frame(pair(1.0), k, {"constant": constant, "own": constant + (k == 2)}) for k in range(4)]
    write_frames(tmp_path / "x.gsd", frames)
    with gsd.fl.open(str(tmp_path / "x.gsd"), "r") as file:
        written = {name: [file.chunk_exists(k, f"log/{name}") for k in range(4)] for name in ("constant", "own")}
    assert written == {"constant": [True, False, False, False], "own": [True, False, True, False]}
    for k, frame in enumerate(read_frames(tmp_path / "x.gsd")):
        np.testing.assert_array_equal(frame.log["own"], frames[k].log["own"])


def old_file(path: Path) -> list[Frame]:
    """As the program wrote them: the first frame says nothing of a replica."""
    from glassmd.trajectory.gsd_writing import _snapshot

    label = {GSD_REPLICA: np.array([0], np.int64)}
    frames = [Frame(pair(1.0)), *(Frame(pair(1.0 + k), k, {**label, GSD_TIME: np.array([k / 2])}) for k in (1, 2))]
    with gsd.hoomd.open(str(path), "w") as trajectory:
        for frame in frames:
            trajectory.append(_snapshot(frame))
    return frames


def test_old_files_are_read_in_any_order(tmp_path: Path) -> None:
    written = old_file(tmp_path / "old.gsd")
    for order in (*permutations(range(3)), (2, 0, 2, 0), (-1, 0), (0, -3)):
        for index, found in zip(order, read_frames(tmp_path / "old.gsd", frames=order), strict=True):
            assert found.step == written[index].step
            assert set(found.log) == set(written[index].log)
            np.testing.assert_array_equal(found.configuration.positions, written[index].configuration.positions)


def test_labels_of_old_and_new_segments_are_the_same(tmp_path: Path) -> None:
    """The first frame is the parent, whatever it says of itself."""
    from glassmd.stream.reduction import Reduction
    from glassmd.stream.samples import _values

    old = old_file(tmp_path / "old.gsd")
    write_frames(tmp_path / "new.gsd", old)
    length = Reduction("propensity", old[0].configuration, [[1.0, 1.0], [1.0, 1.0]])
    found = [_values(read_frames(tmp_path / name), length, np.ones(2)) for name in ("old.gsd", "new.gsd")]
    assert found[0][0] == found[1][0] == [0.5, 1.0]
    for one, other in pairwise(moved[0] for _, moved in found):
        np.testing.assert_array_equal(one, other)
