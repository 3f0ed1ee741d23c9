"""A model directory gives back the model it was given, or says in one line why not."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glassmd.errors import ModelError, StorageError
from glassmd.learners import make_model
from glassmd.learners.networks.bapst import BapstModel
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import CARD_FILE, WEIGHTS_FILE, load_model, save_model
from glassmd.storage import sealed


def card_of(**changes: object) -> ModelCard:
    fields = {
        "model": "bapst",
        "mixture": get_mixture("kob-andersen").identity(),
        "temperatures": [0.44, 0.5],
        "density": 1.2,
        "times": [1.0, 10.0],
        "trained_species": ["A"],
        "residual_std": {"A": [0.1, 0.2]},
        "provenance": {"seed": 3},
    }
    return ModelCard(**{**fields, **changes})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", make_model("bapst", n_times=2, width=8), card_of())


def edit(directory: Path, **changes: object) -> None:
    path = directory / CARD_FILE
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **changes})))


def test_a_model_comes_back_as_it_was(tmp_path):
    model = make_model("bapst", n_times=2, width=8)
    model.set_normalisation(torch.full((2, 2), 3.0), torch.full((2, 2), 0.5))
    directory = save_model(tmp_path / "deep" / "model", model, card_of())
    loaded = load_model(directory)
    assert {p.name for p in directory.iterdir()} == {CARD_FILE, WEIGHTS_FILE}
    assert not loaded.model.training
    state = loaded.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    expected = card_of().model_dump()
    found = loaded.card.model_dump()
    assert found.pop("glassmd_version")
    assert found.pop("hyperparameters") == model.hyperparameters()
    assert found == {key: expected[key] for key in found}


def test_saving_again_replaces_the_model(saved):
    other = make_model("bapst", n_times=1, width=4)
    save_model(saved, other, card_of(times=[5.0], residual_std=None))
    loaded = load_model(saved)
    assert loaded.card.times == [5.0]
    assert isinstance(loaded.model, BapstModel)
    assert loaded.model.width == 4


def assert_refused(directory: Path, *parts: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(directory)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_missing_things_are_named(saved, tmp_path):
    assert_refused(tmp_path / "nothing", "found no model directory", "--out MODEL")
    (saved / WEIGHTS_FILE).unlink()
    assert_refused(saved, WEIGHTS_FILE, "No such file", "train or import")
    (saved / CARD_FILE).unlink()
    assert_refused(saved, f"found no {CARD_FILE}")


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", '{"schema_version": 1e400}'])
def test_a_damaged_card_is_refused(saved, text):
    (saved / CARD_FILE).write_text(text)
    assert_refused(saved, CARD_FILE)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"schema_version": 99}, "newer glassmd"),
        ({"schema_version": None}, "schema version None"),
        ({"times": "often"}, "times"),
        ({"times": []}, "times"),
        ({"density": -1.0}, "density"),
        ({"trained_species": ["C"]}, "species 'C'"),
        ({"residual_std": {"A": [0.1]}}, "residual_std of 'A' has 1 numbers for 2 times"),
        ({"colour": "blue"}, "colour"),
        ({"model": "bapts"}, "did you mean 'bapst'"),
        ({"times": [1.0, 2.0, 3.0], "residual_std": None}, "3 times in the card"),
        ({"hyperparameters": {"n_times": 2, "width": 9}}, "do not fit"),
        ({"hyperparameters": {"n_times": "two"}}, "do not fit"),
        ({"hyperparameters": {"n_times": 2, "widht": 8}}, "did you mean 'width'"),
        ({"hyperparameters": {"n_times": 2, "width": 8, "n_species": 3}}, "do not fit"),
        ({"weights_sha256": "0" * 64}, "another checksum"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved, changes, part):
    edit(saved, **changes)
    assert_refused(saved, part)


def test_damaged_weights_are_refused(saved):
    weights = bytearray((saved / WEIGHTS_FILE).read_bytes())
    weights[-5] ^= 1
    (saved / WEIGHTS_FILE).write_bytes(weights)
    assert_refused(saved, "another checksum", "train or import the model again")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_weights_in_another_format_are_refused_even_with_a_matching_checksum(saved, content):
    (saved / WEIGHTS_FILE).write_bytes(content)
    edit(saved, weights_sha256=hashlib.sha256(content).hexdigest())
    assert_refused(saved, "could not read", "safetensors")


def test_weights_of_another_model_are_refused(saved):
    save_file({"layer": torch.zeros(2)}, saved / WEIGHTS_FILE)
    assert_refused(saved, "another checksum")


def test_a_card_for_another_network_is_not_saved(tmp_path):
    with pytest.raises(ModelError, match="2 times in the card; expected the model's 1"):
        save_model(tmp_path / "model", make_model("bapst"), card_of())
    with pytest.raises(ModelError, match="2 species in 3 dimensions"):
        save_model(tmp_path / "model", make_model("bapst", n_times=2, dimensions=2), card_of())
    assert not (tmp_path / "model").exists()


def test_a_full_disk_leaves_the_old_model_whole(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="no space left"):
        save_model(saved, make_model("bapst", n_times=2, width=8), card_of())
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_another_liquid_is_refused():
    card = card_of()
    card.check_mixture(get_mixture("kob-andersen").identity())
    with pytest.raises(ModelError, match=r"found data with truncation 'force-shifted'.*train a model"):
        card.check_mixture(get_mixture("kob-andersen", "force-shifted").identity())
    identity = get_mixture("kob-andersen").identity()
    with pytest.raises(ModelError, match="found data with dimensions 2; expected dimensions 3"):
        card.check_mixture({**identity, "dimensions": 2})
    with pytest.raises(ModelError, match="found data with sigma"):
        card.check_mixture({**identity, "sigma": [[1.0, 0.8], [0.8, 0.9]]})
    card.check_mixture({**identity, "r_cut": [[2.5, 2.0 + 1e-12], [2.0, 2.2]]})


def test_only_the_models_times_are_predicted():
    card = card_of()
    assert card.check_times([10.0, 1.0]) == [1, 0]
    with pytest.raises(ModelError, match="found time 9; expected one of the model's times 1, 10; try 10"):
        card.check_times([1.0, 9.0])
