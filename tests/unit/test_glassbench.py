"""GlassBench files: what they hold is a sample like any other, and a run written in their form comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import minimum_image
from glassmd.errors import InputError, ModelError, RunError
from glassmd.evaluation import evaluate
from glassmd.exporters.glassbench import export_glassbench
from glassmd.fields import label_chunk
from glassmd.importers.botan import import_botan
from glassmd.importers.glassbench import import_glassbench
from glassmd.metrics import pearson
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import Settings, TrainSettings
from glassmd.simulation import pool
from glassmd.simulation.structures import Request
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample
from glassmd.stream.structures import Structures
from glassmd.training.session import train
from glassmd.training.source import SampleSource
from tests.conftest import Outcome, needs_lammps
from tests.glassbench_files import labelled, labelled_file, replica_file
from tests.unit.conftest import no_engine

Command = Callable[..., Outcome]

TRAIN, TEST = range(1, 9), range(450, 453)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Eight configurations for training and three for tests."""
    folder = tmp_path_factory.mktemp("glassbench")
    for configuration in (*TRAIN, *TEST):
        labelled_file(folder / "files", configuration)
    import_glassbench([folder / "files"], folder / "run")
    return open_run(folder / "run")


def solved(**changes: Any) -> Settings:
    return Settings(train=TrainSettings(**{"model": "ridge", "train_threads": 1, **changes}))


def sample_of(run: Run, configuration: int) -> Sample:
    return next(sample for sample in run.samples() if sample.key.lineage == configuration)


def test_a_sample_is_what_the_file_says(published: Run) -> None:
    sample, arrays = sample_of(published, 3), labelled(3)
    np.testing.assert_allclose(sample.propensity, arrays["md_prop"], rtol=1e-6)
    np.testing.assert_allclose(sample.parent.positions, arrays["initial_positions"], atol=1e-6)
    assert sample.parent.species.tolist() == arrays["types"].tolist()
    assert np.isnan(sample.variance).all()
    assert (sample.n_replicas, sample.replicas_known) == (1, False)
    assert published.times == [0.13, 1.3, 13, 130, 412, 1300, 4120, 13000, 41200, 130000]
    assert published.identity["mixture"]["truncation"] == "force-shifted"


def test_a_box_that_begins_at_zero_is_the_same_box(tmp_path: Path) -> None:
    arrays = labelled(3)
    length = (125 / 1.2) ** (1 / 3)
    changes = {name: arrays[name] % length for name in arrays if name.startswith("initial_positions")}
    run = import_glassbench([labelled_file(tmp_path, 3, **changes)], tmp_path / "r")
    sample = open_run(run.path).samples()[0]
    apart = minimum_image(sample.parent.positions - arrays["initial_positions"], sample.parent.box)
    assert np.abs(apart).max() < 1e-5


def test_bond_breaking_labels_are_kept_under_their_name(published: Run) -> None:
    (entry,) = (entry for entry in published.entries("segments") if entry.key.lineage == 3)
    log = entry.read([0])[0].log
    found = np.stack([log[label_chunk("bond-breaking", time)] for time in published.times])
    np.testing.assert_allclose(found, labelled(3)["bb_prop"], rtol=1e-6)
    assert entry.sidecar["targets"] == ["propensity", "bond-breaking"]


def test_configurations_for_tests_are_never_trained_on(published: Run) -> None:
    source = SampleSource([published])
    sides = {sample.key.lineage: source.split(sample.key) for sample in published.samples()}
    assert {lineage for lineage, side in sides.items() if side == "test"} == set(TEST)
    assert [lineage for lineage, side in sides.items() if side == "validation"] == [7, 8]
    assert {sample.role for sample in published.samples()} == {"train", "test"}


def test_configurations_all_for_tests_are_no_training(tmp_path: Path) -> None:
    for configuration in TEST:
        labelled_file(tmp_path, configuration)
    run = import_glassbench([tmp_path], tmp_path / "r")
    with pytest.raises(InputError):
        train([run.path], tmp_path / "m", solved(input=["thermal"]))


@pytest.mark.parametrize("model", ["ridge", "cage"])
def test_learners_see_the_published_positions_and_nothing_is_computed(
    published: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(pool, "Pool", no_engine)
    result = train([published.path], tmp_path / "m", solved(model=model, input=["inherent", "cage"]))
    assert result["input_cost"] == {}
    assert result["noise_known"] is False
    published.poll()
    assert published.index.count("structures") == 2 * len([*TRAIN, *TEST])
    arrays, sample = labelled(3), sample_of(published, 3)
    structure = Structures([published], ["inherent", "cage"]).of(sample)
    for name in ("inherent", "cage"):
        expected = arrays[f"initial_positions_{name}"]
        assert np.abs(minimum_image(structure.positions(name) - expected, sample.parent.box)).max() < 1e-5
    assert structure.debye_waller is None
    evaluated = evaluate(tmp_path / "m", [published.path])
    assert (evaluated["n_configurations"], evaluated["replicas"]) == (len(TEST), [None])
    assert evaluated["species"]["A"]["ceiling"] == [None] * 10
    # A model of published cages cannot be asked of positions without them.
    with pytest.raises(ModelError, match="came with its data"):
        predict(sample.parent, tmp_path / "m", temperature=0.44)


def test_a_network_on_published_cages_goes_on_where_it_stopped(published: Run, tmp_path: Path) -> None:
    small = {"width": 2, "n_layers": 1, "l_max": 1}
    for steps in (2, 4):
        settings = solved(model="se3", input=["cage"], hyperparameters=small, max_steps=steps, checkpoint_every=2)
        result = train([published.path], tmp_path / "m", settings)
        assert (result["steps"], result["inside_cage"]) == (steps, [False] * 10)
    assert load_model(tmp_path / "m").card.cage_protocols == {"0.44": {"published": True}}
    assert evaluate(tmp_path / "m", [published.path])["n_configurations"] == len(TEST)


def test_published_structures_of_a_run_that_may_only_be_read(
    published: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    run = open_run(published.path)
    assert tmp_path / "cache" in run.home.parents
    structure = Structures([run], ["inherent", "cage"]).of(sample_of(run, 3))
    assert structure.available() == ("thermal", "inherent", "cage")
    assert run.verify() == 44


def test_a_learner_that_wants_rattling_has_cages_made(published: Run) -> None:
    assert Request("cage").settled(published) == Request("cage", published=True)
    for request in (Request("cage", rattling=True), Request("cage", replicas=8)):
        settled = request.settled(published)
        assert settled is not None
        assert settled.protocol is not None


@needs_lammps
def test_glassnet_computes_what_was_not_published(tmp_path: Path, four_liquids: list[Any]) -> None:
    for number, liquid in enumerate(four_liquids, 1):
        n = liquid.n_particles
        path = tmp_path / "files" / f"N{n}T0.80_{number}.npz"
        path.parent.mkdir(exist_ok=True)
        positions = dict.fromkeys(("initial_positions", "initial_positions_cage"), liquid.positions)
        label = np.random.default_rng(number).uniform(size=(1, n))
        np.savez(path, types=liquid.species, **positions, md_prop=label)
    run = import_glassbench([tmp_path / "files"], tmp_path / "r", times=[10.0])
    small = {"width": 8, "n_layers": 1}
    settings = solved(model="glassnet", input=["cage"], hyperparameters=small, max_steps=1, cage_replicas=32)
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"workers": 1})})
    result = train([run.path], tmp_path / "m", settings)
    assert result["input_cost"]["cage"]["configurations"] == 4
    assert result["input_cost"]["cage"]["replica_steps"] > 0


def test_cages_that_some_configurations_lack_are_asked_for_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "Pool", no_engine)
    labelled_file(tmp_path, 1)
    labelled_file(tmp_path, 2, initial_positions_cage=None)
    run = import_glassbench([tmp_path], tmp_path / "r")
    with pytest.raises(RunError, match=r"1 parents .* without published cage positions, L0002-P0000"):
        train([run.path], tmp_path / "m", solved(input=["cage"]))
    other = import_glassbench([labelled_file(tmp_path / "b", 3, initial_positions_cage=None)], tmp_path / "s")
    with pytest.raises(RunError, match=r"published cage positions in .* and none in"):
        train([run.path, other.path], tmp_path / "m", solved(input=["cage"]))


def test_published_predictions_are_scored_beside_a_model(glassmd: Command, published: Run, tmp_path: Path) -> None:
    train([published.path], tmp_path / "m", solved(input=["inherent"]))
    found = evaluate(tmp_path / "m", [published.path])["published_predictions"]
    assert {name: sorted(of["species"]) for name, of in found.items()} == {
        "BOTAN": ["A", "B"], "DEN": ["A", "B"], "GlassMLP": ["A"]
    }  # fmt: skip
    expected = []
    for configuration in TEST:
        arrays = labelled(configuration, test=True)
        expected.append([pearson(arrays["GlassMLP"][t], arrays["md_prop"][t, :100]) for t in range(10)])
    pearsons = found["GlassMLP"]["species"]["A"]["pearson_per_configuration"]
    np.testing.assert_allclose(pearsons["mean"], np.mean(expected, axis=0), atol=1e-5)
    assert max(found["DEN"]["species"]["A"]["pearson_per_configuration"]["mean"]) < 0
    text = glassmd("evaluate", tmp_path / "m", published.path).out
    assert "published predictions, species A" in text
    assert "GlassMLP, 3" in text


def test_published_predictions_are_entries_of_the_leaderboard(glassmd: Command, published: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--compare", published.path, "--models", "ridge:inherent", "--out", tmp_path / "c")
    result = glassmd(*command, "--json").json
    assert result["split"] == "test lineages"
    rows = {row["name"]: row for row in result["entries"]}
    assert set(rows) == {"ridge:inherent", "BOTAN (published)", "DEN (published)", "GlassMLP (published)"}
    assert all(row["n_configurations"] == len(TEST) for row in rows.values())
    assert result["differences"]["entries"][0] == result["entries"][0]["name"]
    assert all(count == 3 for row in result["differences"]["n_configurations"] for count in row)
    text = glassmd(*command).out
    assert "BOTAN (published)" in text
    assert "BOTAN (published)" in (tmp_path / "c" / "leaderboard.csv").read_text()


def test_predictions_of_propensities_are_not_scored_on_other_labels(published: Run, tmp_path: Path) -> None:
    train([published.path], tmp_path / "m", solved(input=["inherent"], target="bond-breaking"))
    result = evaluate(tmp_path / "m", [published.path])
    assert result["target"] == "bond-breaking"
    assert result["published_predictions"] == {}


def test_info_says_what_came_with_the_data(glassmd: Command, published: Run) -> None:
    facts = glassmd("info", published.path, "--json", "--verify").json
    assert facts["roles"] == {"train": 8, "test": 3}
    assert facts["published_predictions"] == {"BOTAN": 3, "DEN": 3, "GlassMLP": 3}
    assert facts["published_structures"] == {"inherent": 11, "cage": 11}
    assert facts["targets"] == ["bond-breaking", "propensity"]
    assert (facts["replicas"], facts["replicas_total"]) == (None, None)
    assert "published_predictions" in glassmd("info", published.path).out


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_times_of_a_configuration_are_one_parent(tmp_path: Path, wrapped: bool) -> None:
    moved = {code: replica_file(tmp_path / "f", 17, code, wrapped=wrapped)[1] for code in (5, 10)}
    replica_file(tmp_path / "f", 450, 5, wrapped=wrapped)
    replica_file(tmp_path / "f", 450, 10, wrapped=wrapped)
    run = open_run(import_glassbench([tmp_path / "f"], tmp_path / "r").path)
    assert run.times == [0.1, 1.1]
    sample = sample_of(run, 17)
    assert (sample.n_replicas, sample.role, sample_of(run, 450).role) == (3, "train", "test")
    for row, of_code in zip(sample.propensity, moved.values(), strict=True):
        distances = np.linalg.norm(of_code - of_code.mean(axis=1, keepdims=True), axis=2)
        np.testing.assert_allclose(row, distances.mean(axis=0), atol=1e-5)
    structure = Structures([run], ["inherent"]).of(sample)
    np.testing.assert_allclose(structure.positions("inherent") - structure.positions("thermal"), 0.01, atol=1e-5)


def test_the_published_files_in_the_plane(shared: Path, tmp_path: Path) -> None:
    run = open_run(import_glassbench([shared / "glassbench" / "N1290T0.23_202_tc05.npz"], tmp_path / "r").path)
    (sample,) = run.samples()
    assert (run.times, sample.n_replicas) == ([0.1], 20)
    assert [int(sample.parent.of_species(name).sum()) for name in "ABC"] == [600, 330, 360]
    assert sample.propensity.mean() == pytest.approx(0.0528, abs=1e-4)  # unwrapped: no displacement is a box long
    assert sample.propensity.max() < 0.3
    structure = Structures([run], ["inherent"]).of(sample)
    assert np.abs(structure.positions("inherent") - structure.positions("thermal")).max() < 0.4
    warm = import_glassbench([shared / "glassbench" / "N1290T0.30_3_tc01.npz"], tmp_path / "s", times=[0.1])
    (sample,) = open_run(warm.path).samples()
    assert sample.propensity.mean() == pytest.approx(0.0627, abs=1e-4)
    assert sample.propensity.max() < 0.3


def assert_same_samples(one: Run, other: Run) -> None:
    for a, b in zip(one.samples(), other.samples(), strict=True):
        assert (a.key.lineage, a.key.parent, a.role) == (b.key.lineage, b.key.parent, b.role)
        assert (a.n_replicas, a.replicas_known, a.temperature) == (b.n_replicas, b.replicas_known, b.temperature)
        assert np.array_equal(a.parent.positions, b.parent.positions)
        assert np.array_equal(a.parent.species, b.parent.species)
        assert np.array_equal(a.parent.box, b.parent.box)
        np.testing.assert_array_equal(a.times, b.times)
        # labels are kept in single precision
        np.testing.assert_allclose(a.propensity, b.propensity, rtol=1e-7)
        np.testing.assert_allclose(a.variance, b.variance, rtol=1e-6)
    assert {k: one.identity[k] for k in ("mixture", "times")} == {k: other.identity[k] for k in ("mixture", "times")}


def test_an_exported_run_comes_back_with_everything(glassmd: Command, published: Run, tmp_path: Path) -> None:
    facts = glassmd("export", published.path, "--format", "glassbench", "--out", tmp_path / "out", "--json").json
    assert facts["files"] == 11
    assert {"BOTAN", "md_prop", "bb_prop", "initial_positions_cage", "times", "box"} <= set(facts["keys"])
    glassmd("import", tmp_path / "out", "--format", "glassbench", "--out", tmp_path / "again", "--json")
    again = open_run(tmp_path / "again")
    assert_same_samples(published, again)
    for kind in ("parents", "structures", "segments"):
        for one, other in zip(published.entries(kind), again.entries(kind), strict=True):  # type: ignore[arg-type]
            (a,), (b,) = one.read(), other.read()
            assert set(a.log) == set(b.log)
            for name in a.log:
                np.testing.assert_allclose(a.log[name], b.log[name], atol=1e-6, err_msg=name)
    with pytest.raises(RunError, match="is there already"):
        export_glassbench(published.path, tmp_path / "out")


@needs_lammps
def test_a_simulated_run_comes_back_with_its_lineages_and_roles(tiny_run: Run, tmp_path: Path) -> None:
    export_glassbench(tiny_run.path, tmp_path / "out")
    again = open_run(import_glassbench([tmp_path / "out"], tmp_path / "again").path)
    assert_same_samples(tiny_run, again)
    sides = [{str(s.key).partition(":")[2]: source.split(s.key) for s in run.samples()}
             for run in (tiny_run, again) for source in [SampleSource([run])]]  # fmt: skip
    assert sides[0] == sides[1]


def test_a_run_in_the_plane_comes_back(tmp_path: Path) -> None:
    for code in (5, 10):
        replica_file(tmp_path / "f", 17, code, wrapped=False)
    first = open_run(import_glassbench([tmp_path / "f"], tmp_path / "r").path)
    export_glassbench(first.path, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.npz")] == ["N81T0.23_1.npz"]
    again = open_run(import_glassbench([tmp_path / "out"], tmp_path / "again").path)
    assert_same_samples(first, again)
    one, other = (Structures([run], ["inherent"]).of(run.samples()[0]) for run in (first, again))
    np.testing.assert_allclose(
        one.positions("inherent") - one.positions("thermal"),
        other.positions("inherent") - other.positions("thermal"),
        atol=1e-6,
    )


def test_importing_again_keeps_what_is_there(tmp_path: Path) -> None:
    labelled_file(tmp_path / "f", 1)
    path = import_glassbench([tmp_path / "f"], tmp_path / "r").path
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    labelled_file(tmp_path / "f", 450)
    import_glassbench([tmp_path / "f"], path)
    assert {file: file.read_bytes() for file in before if file.parent.name != "index"} == {
        file: content for file, content in before.items() if file.parent.name != "index"
    }
    assert [sample.role for sample in open_run(path).samples()] == ["train", "test"]


def test_runs_that_say_nothing_of_roles_are_divided_as_ever(tmp_path: Path) -> None:
    from tests.unit.test_importers import botan_file

    files = [botan_file(tmp_path, f"isoconfig_N64T0.44_{number}_tc07.npz") for number in range(1, 6)]
    run = open_run(import_botan(files, tmp_path / "r").path)
    assert [run.role(lineage) for lineage in range(5)] == [None] * 5
    assert not any("role" in entry.sidecar for entry in run.entries("parents"))
