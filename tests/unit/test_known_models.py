"""Models that come with the program: found by name, taken for a snapshot that they know, small."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import glassmd.models.known as known
from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.mixtures import get_mixture
from glassmd.models.known import About, about, fitting, model_directory
from glassmd.models.store import load_model, save_model
from glassmd.prediction import predict
from glassmd.settings import Settings
from glassmd.stream.dataset import Run
from glassmd.structure import Structure
from glassmd.training.session import train
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps
from tests.fault.refusals import assert_refused

pytestmark = needs_lammps

LATE = TINY.times[-1]
STATE = {
    "temperature": 1.5, "truncation": "shifted", "tau_alpha": 0.5, "particles": 200, "lineages": 4, "parents": 8,
    "replicas": 36,
}  # fmt: skip
SCORE = {
    "temperature": 1.5, "truncation": "shifted", "time": 1.0, "pearson": 0.5, "ceiling": 0.8, "share": 0.625,
    "share_error": 0.01, "within_std": [0.68, 0.95],
}  # fmt: skip
TOLD = {"version": "1", "licence": "BSD-3-Clause", "summary": "of a tiny run", "states": [STATE], "scores": [SCORE]}


@pytest.fixture(scope="module")
def trained(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of thermal positions, and one of all inputs that begins later and is as small as it can be."""
    folder = tmp_path_factory.mktemp("known") / "tiny"
    quick = TINY_TRAIN.model_copy(update={"model": "ridge", "input": ["thermal"], "max_steps": None})
    careful = TINY_TRAIN.model_copy(update={"model": "glassnet", "first_time": LATE, "max_steps": 10})
    for name, settings in (("thermal", quick), ("all", careful)):
        train([tiny_run.path], folder / name, Settings(run=TINY, train=settings))
    (folder / "about.json").write_text(json.dumps(TOLD))
    return folder


@pytest.fixture
def shipped(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only model that comes with the program."""
    monkeypatch.setattr(known, "_HERE", tmp_path / "here")
    return Path(shutil.copytree(trained, tmp_path / "here" / "tiny"))


def test_names_are_of_models_unless_there_is_a_directory(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model_directory("tiny") == shipped
    assert about(shipped) == About.model_validate(TOLD)
    assert about(tmp_path) is None
    with pytest.raises(ModelError, match=r"found no model tinny; .* did you mean 'tiny'"):
        model_directory("tinny")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert model_directory("tiny") == Path("tiny")


def test_without_a_model_the_one_predicts_that_knows_the_liquid(
    shipped: Path, tiny_run: Run, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    snapshot, out = tiny_run.file("parents", "L0001-P0000"), tmp_path / "o.gsd"
    told = glassmd("predict", snapshot, "--out", out, "--json")
    assert told.code == 0, told.err
    assert (told.json["model"], told.json["model_version"]) == ("tiny", "1")
    assert told.json["times"] == TINY.times
    assert "model tiny 1, which comes with glassmd" in told.err
    named = glassmd("predict", snapshot, "--model", "tiny", "--out", out, "--json")
    assert named.json["propensity_mean"] == told.json["propensity_mean"]
    quick = glassmd("predict", snapshot, "--input", "thermal", "--out", out, "--json")
    assert (quick.json["inputs"], quick.json["times"]) == (["thermal"], TINY.times)


def test_from_python_no_model_is_needed_either(shipped: Path, tiny_run: Run) -> None:
    one = tiny_run.samples()[0].parent
    found, named = (predict(one, *of, temperature=1.5, inputs=["thermal"]) for of in ((), ("tiny",)))
    assert np.array_equal(found.propensity, named.propensity)
    with pytest.raises(ModelError, match="found a configuration in 2D"):
        predict(Configuration([9.0, 9.0], [0, 1], [[0.0, 0.0], [2.0, 2.0]]))


def test_a_liquid_that_none_knows_is_refused(
    shipped: Path, tiny_run: Run, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    snapshot, out = tiny_run.file("parents", "L0001-P0000"), tmp_path / "o.gsd"
    other = glassmd("predict", snapshot, "--mixture", "kob-andersen", "--truncation", "xplor", "--out", out)
    assert_refused(other, "found data with truncation 'xplor'")
    assert_refused(glassmd("predict", snapshot, "--input", "cage", "--out", out), "found input cage", "thermal")
    assert_refused(glassmd("predict", snapshot, "--model", "tini", "--out", out), "did you mean 'tiny'")
    assert not out.exists()


def test_of_several_that_fit_one_has_to_be_chosen(shipped: Path) -> None:
    shutil.copytree(shipped, shipped.parent / "other")
    with pytest.raises(ModelError, match="found several models that fit: other, tiny"):
        fitting(lambda card: None)

    def none(card: object) -> None:
        raise ModelError("found another liquid", "", "")

    with pytest.raises(ModelError, match="found no model of this liquid"):
        fitting(none)


def test_another_truncation_is_predicted_as_the_models_own_where_that_was_measured(
    shipped: Path, tiny_run: Run, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    snapshot, out = tiny_run.file("parents", "L0001-P0000"), tmp_path / "o.gsd"
    own = glassmd("predict", snapshot, "--out", out, "--input", "thermal", "--json")
    for member in ("thermal", "all"):
        loaded = load_model(shipped / member)
        card = loaded.card.model_copy(update={"truncations": ["force-shifted"]})
        save_model(shipped / member, loaded.model, card)
    other = ("--mixture", "kob-andersen", "--truncation", "force-shifted")
    liquid = tmp_path / "liquid.xyz"  # which says nothing of its truncation
    glassmd("predict", snapshot, "--out", liquid, "--input", "thermal")
    found = glassmd("predict", liquid, *other, "--temperature", 1.5, "--input", "thermal", "--out", out, "--json")
    assert found.code == 0, found.err
    assert np.allclose(found.json["propensity_mean"]["A"], own.json["propensity_mean"]["A"], rtol=1e-3)
    one = tiny_run.samples()[1]
    elsewhere = Structure(one.parent, get_mixture("kob-andersen", "force-shifted"), 1.4)
    at_home = replace(elsewhere, mixture=get_mixture("kob-andersen", TINY.truncation), temperature=1.5)
    given, expected = (
        predict(one.parent, shipped / "thermal", structure=of, temperature=1.5) for of in (elsewhere, at_home)
    )
    assert np.array_equal(given.propensity, expected.propensity)
    nowhere = replace(at_home, mixture=get_mixture("kob-andersen", "xplor"))
    with pytest.raises(ModelError, match="found data with truncation 'xplor'"):
        predict(one.parent, shipped / "thermal", structure=nowhere, temperature=1.5)
    loaded.card.model_copy(update={"truncations": ["xplor"]}).check_mixture(
        get_mixture("kob-andersen", "xplor").identity()
    )


def test_models_and_info_say_what_they_know(shipped: Path, glassmd: Callable[..., Outcome]) -> None:
    (listed,) = glassmd("models", "--json").json["models"]
    told = glassmd("models", "tiny", "--json").json
    assert listed == {"name": "tiny", **told}
    assert (told["version"], told["licence"], told["truncations"]) == ("1", "BSD-3-Clause", ["shifted"])
    assert told["members"]["all"] == {
        "model": "glassnet", "inputs": ["thermal", "inherent", "cage"], "times": f"{LATE:g} to {LATE:g}",
    }  # fmt: skip
    assert told["scores"] == [SCORE]
    assert told["temperatures"] == [1.5, 1.5]
    for arguments in (("info", "tiny"), ("info", shipped)):
        assert glassmd(*arguments, "--json").json["members"] == told["members"]
    screen = glassmd("models", "tiny").out
    assert "0.62(1)" in screen
    assert "4 lineages, 8 parents, 36 replicas, N = 200" in screen
    listed_screen = " ".join(glassmd("models").out.split())
    assert "thermal; t from 0.1 to 0.5" in listed_screen
    assert "thermal, inherent, cage; t from 0.5 to 0.5" in listed_screen
    assert_refused(glassmd("models", "no-such-model"), "found no model directory no-such-model")


def test_several_models_are_evaluated_as_one(shipped: Path, tiny_run: Run, glassmd: Callable[..., Outcome]) -> None:
    told = glassmd("evaluate", "tiny", tiny_run.path, "--subset", "all", "--json")
    assert told.code == 0, told.err
    found = told.json
    assert found["times"] == TINY.times
    assert found["inputs"] == ["thermal", "inherent", "cage"]
    for member, column in (("thermal", 0), ("all", 1)):
        alone = glassmd("evaluate", shipped / member, tiny_run.path, "--subset", "all", "--json").json
        of = alone["times"].index(TINY.times[column])
        expected = alone["species"]["A"]["pearson_per_configuration"]["mean"][of]
        if member == "thermal" or column == 0:  # at its first time the other one takes over from it
            assert found["species"]["A"]["pearson_per_configuration"]["mean"][column] == pytest.approx(expected)
    shares = np.array(found["species"]["A"]["within_std"], float)
    assert shares.shape == (2, 2)
    assert ((shares > 0) & (shares <= 1)).all()
    assert (shares[1] >= shares[0]).all()
    for member in ("thermal", "all"):
        loaded = load_model(shipped / member)
        save_model(
            shipped / member, loaded.model, loaded.card.model_copy(update={"times": [7.0] * len(loaded.card.times)})
        )
    assert_refused(glassmd("evaluate", "tiny", tiny_run.path), "found times 0.1, 0.5", "one from 7 to 7 at T = 1.5")


def test_weights_without_those_of_training_predict_the_same(shipped: Path, tiny_run: Run, tmp_path: Path) -> None:
    whole = load_model(shipped / "all")
    save_model(tmp_path / "small", whole.model, whole.card, whole.model.weights_to_predict())
    small = load_model(tmp_path / "small")
    one = tiny_run.samples()[0].parent
    first, second = (predict(one, loaded, temperature=1.5) for loaded in (whole, small))
    assert np.allclose(first.propensity, second.propensity, rtol=0, atol=1e-4)
    assert np.allclose(first.std, second.std, rtol=5e-3, equal_nan=True)  # networks are in 16 bits
    sizes = [(path / "weights.safetensors").stat().st_size for path in (shipped / "all", tmp_path / "small")]
    assert sizes[1] < 0.5 * sizes[0]
    assert torch.isnan(small.model.linear.rest).all()  # type: ignore[union-attr,arg-type]
    assert not small.model.linear.folds_apart  # type: ignore[union-attr,operator]
