"""Published files with a number that no experiment gives: refused by name, and nothing is written."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError, InputError
from glassmd.importers.botan import import_botan
from glassmd.importers.commit import commit_imported
from glassmd.importers.deepmind import import_deepmind
from glassmd.importers.deepmind_weights import import_deepmind_weights
from glassmd.importers.imported import Imported
from glassmd.learners.networks.bapst import BapstModel
from glassmd.mixtures import get_mixture
from tests.fault.refusals import Command, assert_refused
from tests.unit.test_importers import botan_file, deepmind_file

NAN, INF = float("nan"), float("inf")
GRID = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * 0.94


def but(values: Any, wrong: float) -> Any:
    """The same with one number changed."""
    changed = np.array(values, np.float64)
    changed.flat[changed.size // 2] = wrong
    return changed


DEEPMIND = {
    "no time": {"time": [0.0, 1.0, NAN]},
    "an infinite time": {"time": [0.0, 1.0, INF]},
    "a negative time": {"time": [0.0, 1.0, -2.0]},
    "time zero": {"time_indices": [0, 1]},
    "a time beyond floating point": {"time": [0.0, 1.0, 10**400]},
    "one time twice": {"time": [0.0, 1.0, 1.0]},
    "times that look the same": {"time": [0.0, 1.0, 1.0000001]},
    "no times": {"time_indices": [], "trajectory_target_positions": []},
    "a time counted from the end": {"time_indices": [-1, 1]},
    "no temperature": {"metadata": {"temperature": NAN}},
    "an infinite temperature": {"metadata": {"temperature": INF}},
    "a negative temperature": {"metadata": {"temperature": -0.44}},
    "temperature zero": {"metadata": {"temperature": 0}},
    "a temperature beyond floating point": {"metadata": {"temperature": 10**400}},
    "metadata of text": {"metadata": "temperature"},
    "labels that are not numbers": {"targets": [but(np.ones(64), NAN), np.ones(64)]},
    "infinite labels": {"targets": [but(np.ones(64), INF), np.ones(64)]},
    "labels beyond single precision": {"targets": [but(np.ones(64), 1e39), np.ones(64)]},
    "negative labels": {"targets": [np.ones(64), but(np.ones(64), -1e-3)]},
    "a position that is no number": {"positions": but(GRID, NAN)},
    "an infinite position": {"positions": but(GRID, INF)},
    "a position far outside": {"positions": but(GRID, 1e30)},
    "an end that is no number": {"trajectory_target_positions": [[but(GRID, NAN)] * 3, [GRID] * 3]},
    "an infinite end": {"trajectory_target_positions": [[but(GRID, -INF)] * 3, [GRID] * 3]},
    "an end far outside": {"trajectory_target_positions": [[but(GRID, 1e300)] * 3, [GRID] * 3]},
    "ends of one particle": {"trajectory_target_positions": [[GRID[:1]] * 3, [GRID] * 3]},
    "no replicas": {"trajectory_target_positions": [[], []]},
    "other replicas at other times": {"trajectory_target_positions": [[GRID] * 3, [GRID] * 2]},
    "ends at times that are not there": {"trajectory_target_positions": [[GRID] * 3] * 3, "targets": [np.ones(64)] * 2},
    "a box without size": {"box": np.array([3.76, 0.0, 3.76])},
    "a negative box": {"box": np.array([3.76, -3.76, 3.76])},
    "a box that is no number": {"box": np.array([3.76, NAN, 3.76])},
    "a huge box": {"box": np.full(3, 1e200)},
    "a box of almost nothing": {"box": np.full(3, 1e-200)},
    "an empty box": {"box": np.full(3, 1e6)},
    "a species of 2": {"types": np.full(64, 2)},
    "a species below 0": {"types": np.full(64, -1)},
    "a species that wraps to 0": {"types": np.full(64, 1 << 32)},
    "half a species": {"types": np.full(64, 0.5)},
    "a species that is no number": {"types": np.full(64, NAN)},
}  # fmt: skip


@pytest.mark.parametrize("what", DEEPMIND)
def test_a_deepmind_file(tmp_path: Path, what: str) -> None:
    with pytest.raises(ImportDataError):
        import_deepmind([deepmind_file(tmp_path / "a.pickle", **DEEPMIND[what])], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_one_replica_has_no_variance(tmp_path: Path) -> None:
    ends = [[GRID + 0.1], [GRID + 0.2]]
    run = import_deepmind([deepmind_file(tmp_path / "a.pickle", trajectory_target_positions=ends)], tmp_path / "r")
    assert run.times == [1.0, 2.0]


LENGTH = (64 / 1.2) ** (1 / 3)
START = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * (LENGTH / 4)
BOTAN = {
    "a start that is no number": {"initial_positions": but(START, NAN)},
    "an infinite start": {"initial_positions": but(START, INF)},
    "an end that is no number": {"positions": but([START, START], NAN)},
    "an infinite end": {"positions": but([START, START], INF)},
    "an end beyond single precision": {"positions": but([START, START], 1e39)},
    "no replicas": {"positions": np.zeros((0, 64, 3))},
    "half a type": {"types": np.full(64, 0.5)},
    "a type that wraps to 0": {"types": np.full(64, 1 << 32)},
    "a type below 0": {"types": np.full(64, -1)},
    "positions of text": {"initial_positions": START.astype(str)},
    "complex positions": {"positions": np.zeros((2, 64, 3), complex)},
    "no particles": {
        "types": np.zeros(0, int), "initial_positions": np.zeros((0, 3)), "positions": np.zeros((2, 0, 3)),
    },
    "fewer particles than its name says": {
        "types": np.zeros(8, int), "initial_positions": np.zeros((8, 3)), "positions": np.zeros((2, 8, 3)),
    },
}  # fmt: skip


@pytest.mark.parametrize("what", BOTAN)
def test_a_botan_file(tmp_path: Path, what: str) -> None:
    with pytest.raises(ImportDataError):
        import_botan([botan_file(tmp_path, **BOTAN[what])], tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("time", [NAN, INF, -1.0, 0.0])
def test_a_time_that_is_given(tmp_path: Path, time: float) -> None:
    with pytest.raises(ImportDataError, match="finite times above 0"):
        import_botan([botan_file(tmp_path)], tmp_path / "r", time=time)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("temperature", ["0.4.4", ".", "0", "0.0"])
def test_a_temperature_in_a_name(glassmd: Command, tmp_path: Path, temperature: str) -> None:
    path = botan_file(tmp_path, f"isoconfig_N64T{temperature}_1_tc07.npz")
    arguments = ("import", path, "--format", "botan", "--out", tmp_path / "r", "--times", "1")
    assert_refused(glassmd(*arguments), "expected")
    assert not (tmp_path / "r").exists()


def test_archives_with_flipped_bits_are_refused_or_read(tmp_path: Path) -> None:
    good, dice = botan_file(tmp_path).read_bytes(), np.random.default_rng(1)
    folder = tmp_path / "bad"
    folder.mkdir()
    path = folder / "isoconfig_N64T0.44_1_tc07.npz"
    refused = 0
    for number in range(150):
        bad = bytearray(good)
        # headers are few of the bytes and most of what can go wrong
        at = int(dice.integers(len(bad))) if number % 3 == 0 else int(dice.choice([0, len(bad) - 400])) + number
        bad[at] ^= 1 << int(dice.integers(8))
        path.write_bytes(bad)
        try:
            import_botan([path], tmp_path / f"r{number}")
        except InputError:
            refused += 1
    print(f"\n{refused} of 150 refused")
    assert refused > 75


def test_a_claim_of_a_huge_array_in_an_archive(tmp_path: Path) -> None:
    path = botan_file(tmp_path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 1 << 8)})
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in {**content, "positions.npy": header.getvalue()}.items():
            archive.writestr(name, values)
    with pytest.raises(ImportDataError):
        import_botan([path], tmp_path / "r")


LABELS = {
    "a label that is no number": {"propensity": but(np.ones((1, 64)), NAN)},
    "a negative label": {"propensity": but(np.ones((1, 64)), -1)},
    "a label too many": {"propensity": np.ones((1, 65))},
    "a variance that is no number": {"variance": but(np.ones((1, 64)), NAN)},
    "an infinite variance": {"variance": but(np.ones((1, 64)), INF)},
    "a negative variance": {"variance": but(np.ones((1, 64)), -1)},
    "no replicas": {"n_replicas": 0},
}


@pytest.mark.parametrize("what", LABELS)
def test_what_any_importer_gives(tmp_path: Path, what: str) -> None:
    fields = {"propensity": np.ones((1, 64)), "variance": np.ones((1, 64)), "n_replicas": 3, **LABELS[what]}
    item = Imported(Configuration([3.76] * 3, [0] * 64, GRID), [1.0], "a", **fields)
    with pytest.raises(ImportDataError):
        commit_imported([item], tmp_path / "r", get_mixture("kob-andersen"), 0.44, "test")
    assert not (tmp_path / "r").exists()


def weights_file(path: Path, wrong: float) -> Path:
    names = {
        "node_encoder": "graph_independent/node_model", "edge_encoder": "graph_independent/edge_model",
        "edge_network": "graph_network/edge_block", "node_network": "graph_network/node_block",
        "decoder": "graph_independent_1/node_model",
    }  # fmt: skip
    arrays = {}
    for key, values in BapstModel().state_dict().items():
        if key.count(".") == 2:
            ours, layer, kind = key.split(".")
            arrays[f"Graph/{names[ours]}/mlp/linear_{layer}/{kind[0]}"] = values.numpy().T
    arrays["Graph/graph_network/node_block/mlp/linear_1/w"] = but(np.ones((64, 64)), wrong).astype(np.float32)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("wrong", [NAN, INF, -INF, 1e30])
def test_weights(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(ImportDataError):
        import_deepmind_weights(weights_file(tmp_path / "w.npz", wrong), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("state", [{"temperature": NAN}, {"temperature": -1.0}, {"time": 0.0}, {"time": INF}])
def test_the_state_that_weights_are_for(tmp_path: Path, state: dict[str, float]) -> None:
    good = weights_file(tmp_path / "w.npz", 1.0)
    with pytest.raises(ImportDataError):
        import_deepmind_weights(good, tmp_path / "m", **state)
    assert not (tmp_path / "m").exists()
    import_deepmind_weights(good, tmp_path / "m")
