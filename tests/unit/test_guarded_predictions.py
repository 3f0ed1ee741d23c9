"""Snapshots of liquids that a model has not seen, through the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.errors import EngineError, ModelError
from glassmd.evaluation import evaluate
from glassmd.features import recipe
from glassmd.learners.tiles import GIB, in_parts
from glassmd.mixtures import mixture_of
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.prediction_files import predict_file
from glassmd.settings import Settings
from glassmd.stream.dataset import Run
from glassmd.structure import Structure
from glassmd.training.session import train
from glassmd.trajectory import Frame, write_frames
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps
from tests.fault.refusals import assert_refused

pytestmark = needs_lammps
Command = Callable[..., Outcome]


def parent_of(run: Run) -> Configuration:
    return run.samples()[0].parent


def altered(one: Configuration, **changes: object) -> Configuration:
    told = {"box": one.box, "species": one.species, "positions": one.positions, "species_names": one.species_names}
    return Configuration(**{**told, **changes})  # type: ignore[arg-type]


LIQUIDS = {
    "swapped": (lambda one: altered(one, species=1 - one.species), "of A", "80.0%"),
    "even": (lambda one: altered(one, species=np.arange(one.n_particles) % 2), "50.0% of A", "80.0%"),
    "only A": (lambda one: altered(one, species=0 * one.species), "100.0% of A", "80.0%"),
    "thin": (lambda one: altered(one, box=1.2 * one.box, positions=1.2 * one.positions), "density 0.69", "1.2"),
}


def test_a_model_says_what_it_has_seen(tiny_model: Path, glassmd: Command) -> None:
    domain = load_model(tiny_model).card.domain
    assert domain is not None
    assert domain.density == pytest.approx([1.2, 1.2])
    assert (domain.temperatures, domain.composition["A"]) == ([1.5], [0.8, 0.8])
    assert set(domain.surroundings) == {"A", "B"}
    told = glassmd("info", tiny_model, "--json").json["has_seen"]
    assert told == {"temperature": "1.5", "density": "1.2", "A": "80.0%", "B": "20.0%", "surroundings": "A, B"}


@pytest.mark.parametrize("name", LIQUIDS)
def test_other_liquids_are_refused_by_name_unless_forced(
    name: str, tiny_run: Run, tiny_model: Path, tmp_path: Path, glassmd: Command
) -> None:
    alter, found, expected = LIQUIDS[name]
    write_frames(tmp_path / "a.gsd", [Frame(alter(parent_of(tiny_run)))])
    command = ("predict", tmp_path / "a.gsd", "--model", tiny_model, "--out", tmp_path / "o.gsd", "--temperature", 1.5)
    assert_refused(glassmd(*command), found, expected, "--force")
    assert not (tmp_path / "o.gsd").exists()
    told = glassmd(*command, "--force", "--json")
    assert told.code == 0, told.err
    assert found in told.json["warnings"][0]
    assert found in told.err


def test_a_liquid_of_another_temperature_is_refused(tiny_run: Run, tiny_model: Path) -> None:
    one = parent_of(tiny_run)
    with pytest.raises(ModelError, match=r"found T = 0.8; expected T = 1.5, which the model has seen.*--force"):
        predict(one, tiny_model, temperature=0.8)
    assert predict(one, tiny_model, temperature=0.8, force=True).warnings


def test_at_the_edge_the_spread_grows(tiny_run: Run, tiny_model: Path) -> None:
    one = parent_of(tiny_run)
    inside, edge = (predict(one, tiny_model, temperature=temperature) for temperature in (1.5, 1.6))
    assert inside.warnings == []
    assert "found T = 1.6" in edge.warnings[0]
    expected = np.hypot(inside.std, np.log(1.6 / 1.5) * edge.propensity)
    np.testing.assert_allclose(edge.std, expected, rtol=1e-6)


def test_the_spread_grows_where_a_time_was_measured_at_other_temperatures_only(tiny_run: Run, tiny_model: Path) -> None:
    one, loaded = parent_of(tiny_run), load_model(tiny_model)
    times = loaded.card.times
    elsewhere = loaded.card.model_copy(update={"measured": {"1.5": times[:-1], "2": times}})
    own, other = (predict(one, loaded._replace(card=card), temperature=1.5) for card in (loaded.card, elsewhere))
    expected = own.std.copy()
    expected[-1] = np.hypot(own.std[-1], np.log(2 / 1.5) * own.propensity[-1])
    np.testing.assert_allclose(other.std, expected, rtol=1e-6)
    np.testing.assert_array_equal(other.propensity, own.propensity)


def test_lengths_in_angstrom_are_no_liquid_at_all(
    tiny_run: Run, tiny_model: Path, tmp_path: Path, glassmd: Command
) -> None:
    one = parent_of(tiny_run)
    large = altered(one, box=3.4 * one.box, positions=3.4 * one.positions)
    write_frames(tmp_path / "a.gsd", [Frame(large)])
    refused = glassmd("predict", tmp_path / "a.gsd", "--model", tiny_model, "--temperature", 1.5)
    assert_refused(refused, "0.03053 particles per unit of volume", "real units")
    with pytest.raises(ModelError, match=r"density 0\.03053"):
        predict(large, tiny_model, temperature=1.5)


def test_scores_on_liquids_of_the_training_come_without_a_warning(tiny_run: Run, tiny_model: Path) -> None:
    assert evaluate(tiny_model, [tiny_run.path])["warnings"] == []


def test_what_needs_no_network_is_refused_before_one_is_loaded(tmp_path: Path, glassmd: Command) -> None:
    assert_refused(glassmd("predict", tmp_path / "no.gsd", "--model", tmp_path), "found no file")
    (tmp_path / "a.txt").write_text("hello")
    assert_refused(glassmd("predict", tmp_path / "a.txt", "--model", tmp_path), "no format that glassmd reads")


def test_a_temperature_that_the_file_contradicts_is_warned_of(
    tiny_run: Run, tiny_model: Path, tmp_path: Path, glassmd: Command
) -> None:
    command = ["predict", tiny_run.file("parents", "L0001-P0000"), "--model", tiny_model, "--out", tmp_path / "o.gsd"]
    told = glassmd(*command, "--temperature", 1.52, "--json")
    assert not any("was told" in one for one in told.json["warnings"])
    other = glassmd(*command, "--temperature", 1.6, "--json")
    assert any("T = 1.6 was told of a file that says T = 1.5" in one for one in other.json["warnings"])
    assert_refused(glassmd(*command, "--temperature", 0), "found temperature 0")
    assert_refused(glassmd(*command, "--times", "log:1:10:0"), "found times 'log:1:10:0'")


@needs_lammps
def test_a_box_that_is_too_small_for_an_engine_is_predicted_from_what_needs_none(tiny_run: Run, tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)
    small = Configuration([4.2] * 3, np.arange(64) % 5 == 0, 1.05 * grid)
    for name, inputs in (("thermal", ["thermal"]), ("all", ["thermal", "inherent"])):
        settings = TINY_TRAIN.model_copy(update={"model": "ridge", "input": inputs, "max_steps": None})
        train([tiny_run.path], tmp_path / name, Settings(run=TINY, train=settings))
    found = predict(small, tmp_path, temperature=1.5, force=True)
    assert found.inputs == ("thermal",)
    assert any("found a box of edge 4" in one for one in found.warnings)
    with pytest.raises(EngineError, match=r"found a box of edge 4.*sees thermal positions only"):
        predict(small, tmp_path / "all", temperature=1.5, force=True)


@needs_lammps
@pytest.mark.parametrize("name", ["ridge", "glassnet"])
def test_what_the_comparison_computes_is_what_the_learner_begins_with(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = TINY_TRAIN.model_copy(update={"model": name, "input": ["thermal"]})
    train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=told))
    loaded, parent = load_model(tmp_path / "m"), parent_of(tiny_run)
    structure = Structure(parent, mixture_of(loaded.card.mixture), TINY.temperature)
    alone = in_parts(loaded.model.eval(), structure, GIB).values.numpy().T
    computed, base = list[int](), recipe._base

    def counted(points: Any, *others: Any) -> Any:
        computed.append(len(points))
        return base(points, *others)

    monkeypatch.setattr(recipe, "_base", counted)
    found = predict(parent, loaded)
    assert computed == [parent.n_particles]
    np.testing.assert_array_equal(found.propensity, alone)
    write_frames(tmp_path / "a.gsd", [Frame(parent, 0, {}, None)])
    computed.clear()
    predict_file(tmp_path / "a.gsd", tmp_path / "m", tmp_path / "out.gsd")
    assert computed == [parent.n_particles]
