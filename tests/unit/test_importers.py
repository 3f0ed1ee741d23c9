"""Published data and weights, as far as they are at hand."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.errors import ImportDataError
from glassmd.importers.botan import import_botan
from glassmd.importers.deepmind import import_deepmind
from glassmd.importers.restricted_pickle import load_numpy_pickle
from glassmd.stream.dataset import open_run
from tests.conftest import Outcome

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def botan(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("botan") / "run"
    import_botan([shared / "botan"], path)
    return path


def test_the_botan_data_are_ten_parents_with_32_replicas(glassmd: Command, botan: Path) -> None:
    facts = glassmd("info", botan, "--json", "--verify").json
    expected = {"parents": 10, "replicas": 32, "temperature": 0.44, "truncation": "force-shifted", "n_particles": 4096}
    assert {key: facts[key] for key in expected} == expected
    assert facts["complete"] is True
    assert facts["verified_files"] == 20
    assert facts["labels"]["A"]["reliability"][0] == pytest.approx(0.834, abs=0.002)
    assert facts["labels"]["A"]["ceiling"][0] == pytest.approx(0.834**0.5, abs=0.002)


def test_a_botan_label_is_that_of_the_published_arrays(shared: Path, botan: Path) -> None:
    with np.load(shared / "botan" / "isoconfig_N4096T0.44_3_tc07.npz") as file:
        moved = np.linalg.norm(file["positions"] - file["initial_positions"], axis=2)
    sample = next(s for s in open_run(botan).samples() if s.key.lineage == 2)
    np.testing.assert_allclose(sample.propensity[0], moved.mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(sample.variance[0], moved.var(axis=0, ddof=1), atol=1e-4)


def test_training_on_botan_resumes_and_predicts(glassmd: Command, botan: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    few = ("--set", "validate_every=100", "--set", "message_steps=1")
    assert (
        glassmd("train", botan, "--model", "bapst", "--max-steps", 2, "--out", model, *few, "--json").json["steps"] == 2
    )
    result = glassmd("train", botan, "--model", "bapst", "--max-steps", 4, "--out", model, *few, "--json").json
    assert result["steps"] == 4
    assert len(result["validation"]["A"]["pearson"]) == 1
    parent = open_run(botan).file("parents", "L0000-P0000")
    predicted = glassmd("predict", parent, "--model", model, "--out", tmp_path / "p.gsd", "--json").json
    assert predicted["n_particles"] == 4096
    assert predicted["times"] == [4120.0]
    evaluated = glassmd("evaluate", model, botan, "--json").json
    assert evaluated["seen_in_training"] is True
    assert evaluated["published"]["per-configuration"]["SE3"] == [0.791]
    assert "published, species A" in glassmd("evaluate", model, botan).out


def test_the_published_network_through_the_command_line(glassmd: Command, shared: Path, tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    folder = shared / "deepmind"
    facts = glassmd("import", folder / "test_large.pickle", "--format", "deepmind", "--out", data, "--json").json
    assert (facts["parents"], len(facts["times"]), facts["truncation"]) == (1, 10, "truncated")
    assert facts["times"] == sorted(facts["times"])
    weights = folder / "t044_s09_weights.npz"
    assert glassmd("import", weights, "--format", "deepmind-weights", "--out", model, "--json").json["times"] == [0.132]
    from glassmd.prediction import predict

    sample = open_run(data).samples()[0]
    prediction = predict(sample.parent, model).propensity[0]
    with np.load(folder / "t044_s09_prediction_on_test_large.npz") as file:
        published = file["prediction"]
    # positions went through single precision on their way, which moves a prediction by less than 1e-5
    assert np.abs(prediction - published).max() < 2e-5
    of_a = sample.parent.of_species("A")
    assert np.corrcoef(prediction[of_a], sample.propensity[0][of_a])[0, 1] == pytest.approx(0.9346, abs=1e-4)


def test_labels_with_replicas_have_their_noise_and_others_do_not(shared: Path, tmp_path: Path) -> None:
    import_deepmind([shared / "deepmind" / "test_large.pickle"], tmp_path / "r")
    (sample,) = open_run(tmp_path / "r").samples()
    assert np.isfinite(sample.variance[0]).all()
    assert np.isnan(sample.variance[1:]).all()
    assert sample.n_replicas == 30


def test_a_cut_of_a_configuration_is_imported_with_labels_from_its_replicas(shared: Path, tmp_path: Path) -> None:
    import_deepmind([shared / "deepmind" / "test_small.pickle"], tmp_path / "r")
    (sample,) = open_run(tmp_path / "r").samples()
    assert sample.propensity.shape == (10, 20)
    assert np.isfinite(sample.variance).all()
    assert np.all(np.diff(sample.propensity.mean(axis=1)) > 0)


def botan_file(path: Path, name: str = "isoconfig_N64T0.44_1_tc07.npz", **changes: Any) -> Path:
    n = 64
    length = (n / 1.2) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * (length / 4)
    arrays = {
        "types": np.zeros(n, np.int8),
        "initial_positions": grid,
        "positions": np.stack([grid, grid + 0.1 * length]),
    }
    np.savez(path / name, **{**arrays, **changes})
    return path / name


def test_importing_again_keeps_what_is_there(tmp_path: Path) -> None:
    source = botan_file(tmp_path)
    first = import_botan([source], tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    again = import_botan([source], tmp_path / "r")
    assert again.identity == first.identity
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((2, 60, 3))}, "has shapes"),
        ({"initial_positions": np.full((64, 3), 9.0)}, "positions up to 9"),
        ({"types": np.full(64, 3)}, "species index 3"),
    ],
)
def test_a_botan_file_that_contradicts_itself(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportDataError, match=message):
        import_botan([botan_file(tmp_path, **changes)], tmp_path / "r")


def test_names_that_do_not_tell_the_time(tmp_path: Path) -> None:
    unknown = botan_file(tmp_path, "isoconfig_N64T0.44_1_tc09.npz")
    with pytest.raises(ImportDataError, match="time code tc09"):
        import_botan([unknown], tmp_path / "r")
    run = import_botan([unknown], tmp_path / "r", time=41200.0)
    assert run.times == [41200.0]
    with pytest.raises(ImportDataError, match="as published"):
        import_botan([botan_file(tmp_path, "mine.npz")], tmp_path / "s")
    both = [unknown, botan_file(tmp_path, "isoconfig_N64T0.50_1_tc09.npz")]
    with pytest.raises(ImportDataError, match="found temperatures"):
        import_botan(both, tmp_path / "t", time=1.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportDataError, match="found no npz files"):
        import_botan([tmp_path / "empty"], tmp_path / "u")


def deepmind_file(path: Path, **changes: Any) -> Path:
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * 0.94
    content = {
        "positions": grid, "types": np.zeros(64, np.int32), "box": np.full(3, 3.76), "time": [0.0, 1.0, 2.0],
        "time_indices": [2, 1], "metadata": {"temperature": 0.44},
        "trajectory_target_positions": [[grid + 0.01 * k for k in range(3)], [grid] * 3],
    }  # fmt: skip
    path.write_bytes(pickle.dumps({**content, **changes}))
    return path


def test_a_deepmind_file_that_contradicts_itself(tmp_path: Path) -> None:
    bad = deepmind_file(tmp_path / "a.pickle", targets=[np.zeros(64)])
    with pytest.raises(ImportDataError, match="1 targets"):
        import_deepmind([bad], tmp_path / "r")
    with pytest.raises(ImportDataError, match="not a file of this data set"):
        import_deepmind([deepmind_file(tmp_path / "b.pickle", time_indices=[7])], tmp_path / "r")
    with pytest.raises(ImportDataError, match=r"no metadata\.temperature"):
        import_deepmind([deepmind_file(tmp_path / "c.pickle", metadata={})], tmp_path / "r")
    hot = deepmind_file(tmp_path / "d.pickle", metadata={"temperature": 0.5})
    with pytest.raises(ImportDataError, match="found temperatures"):
        import_deepmind([deepmind_file(tmp_path / "e.pickle"), hot], tmp_path / "r")
    other = deepmind_file(tmp_path / "f.pickle", time=[0.0, 1.0, 3.0])
    with pytest.raises(ImportDataError, match="has times"):
        import_deepmind([tmp_path / "e.pickle", other], tmp_path / "s")
    assert not (tmp_path / "r").exists()


def test_times_are_put_in_order(tmp_path: Path) -> None:
    import_deepmind([deepmind_file(tmp_path / "a.pickle")], tmp_path / "r")
    assert json.loads((tmp_path / "r" / "run.json").read_text())["times"] == [1.0, 2.0]


def test_old_and_new_pickles_of_numpy_are_read(tmp_path: Path) -> None:
    content = {"a": np.arange(3), "b": [np.float64(1.5), "text", None], "c": np.array([1.0], np.float32)}
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pickle"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        found = load_numpy_pickle(path)
        np.testing.assert_array_equal(found["a"], content["a"])
        assert found["b"] == content["b"]
