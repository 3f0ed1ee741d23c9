"""Files of a model that were damaged or edited: used as they were, or refused; never used as something else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save

from glassmd.comparison.predictions import Predictions
from glassmd.configuration import Configuration
from glassmd.errors import GlassmdError, ModelError, RunError
from glassmd.learners import make_model
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import load_model, save_model
from glassmd.prediction import predict
from glassmd.storage import check_seal, sealed
from glassmd.training.checkpoints import load_checkpoint, save_checkpoint
from tests.fault.refusals import Command, assert_refused, frame, write

GOLDEN = Path(__file__).parents[1] / "golden" / "model-1"
GRID = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * 0.94
LIQUID = Configuration([3.76] * 3, np.arange(64) % 5 == 0, GRID + 0.1 * np.sin(np.arange(192)).reshape(64, 3))

Mutation = Callable[[Path, Path, random.Random], None]


def card_of() -> ModelCard:
    return ModelCard(
        model="bapst", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.44], density=1.2,
        times=[1.0, 10.0], trained_species=["A"], residual_std={"A": [0.1, 0.2]}, provenance={"seed": 3, "liquids": []},
    )  # fmt: skip


def saved(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_model(path, make_model("bapst", n_times=2, width=4, n_steps=1), card_of())


def answer(model: Path) -> str:
    """Everything that comes of a model, as text."""
    loaded = load_model(model)
    found = predict(LIQUID, loaded)
    card = loaded.card.model_dump(exclude={"glassmd_version"})
    return repr((found.times, found.propensity.tolist(), found.std.tolist(), card))


def some_file(model: Path, dice: random.Random) -> Path:
    return model / dice.choice(["model.json", "weights.safetensors"])


def flip(model: Path, other: Path, dice: random.Random) -> None:
    path = some_file(model, dice)
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 1, 4])):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def edit_a_digit(model: Path, other: Path, dice: random.Random) -> None:
    text = (model / "model.json").read_text()
    place = dice.choice([index for index, letter in enumerate(text) if letter.isdigit()])
    (model / "model.json").write_text(f"{text[:place]}{dice.randrange(10)}{text[place + 1 :]}")


def truncate(model: Path, other: Path, dice: random.Random) -> None:
    path = some_file(model, dice)
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size)])


def zero(model: Path, other: Path, dice: random.Random) -> None:
    path = some_file(model, dice)
    content = bytearray(path.read_bytes())
    start = dice.randrange(len(content))
    length = min(dice.choice([1, 8, 64, 512]), len(content) - start)
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def swap(model: Path, other: Path, dice: random.Random) -> None:
    path = some_file(model, dice)
    shutil.copy(other / path.name, path)


def change_an_entry(model: Path, other: Path, dice: random.Random) -> None:
    card = json.loads((model / "model.json").read_text())
    key = dice.choice(list(card))
    what = dice.choice(["remove", "rename", "change"])
    value = card.pop(key)
    if what == "rename":
        card[key + dice.choice("_ ")] = value
    elif what == "change":
        card[key] = dice.choice([None, 0, -1, 1.5, "", "1", [], {}, [value], {"a": value}, 10**400])
    (model / "model.json").write_text(json.dumps(card))


MUTATIONS: list[Mutation] = [flip, flip, edit_a_digit, edit_a_digit, truncate, zero, swap, change_an_entry]


def tally(original: Path, other: Path, folder: Path, count: int) -> dict[str, int]:
    """What became of so many mutations of a model directory."""
    dice, expected = random.Random(11), answer(original)
    outcomes = {"refused": 0, "used with the same result": 0, "used with another result": 0, "other exceptions": 0}
    for number in range(count):
        model = Path(shutil.copytree(original, folder / "mutated", dirs_exist_ok=True))
        MUTATIONS[number % len(MUTATIONS)](model, other, dice)
        try:
            same = answer(model) == expected
            outcomes["used with the same result" if same else "used with another result"] += 1
        except GlassmdError:
            outcomes["refused"] += 1
        except Exception:
            outcomes["other exceptions"] += 1
    return outcomes


@pytest.mark.filterwarnings("ignore")  # what an old card leads to is not what this is about
@pytest.mark.parametrize("count", [64, pytest.param(504, marks=pytest.mark.slow)])
def test_no_damage_of_a_model_changes_a_result_unseen(tmp_path: Path, count: int) -> None:
    outcomes = tally(saved(tmp_path / "a", 1), saved(tmp_path / "b", 2), tmp_path, count)
    print(f"\n{count} mutations: {outcomes}")
    assert outcomes["used with another result"] == 0
    assert outcomes["other exceptions"] == 0
    assert outcomes["refused"] > 0.8 * count


@pytest.mark.filterwarnings("ignore")
def test_no_damage_of_a_card_without_checksum_ends_in_a_traceback(tmp_path: Path) -> None:
    outcomes = tally(GOLDEN, saved(tmp_path / "b", 2), tmp_path, 160)
    print(f"\n160 mutations: {outcomes}")
    assert outcomes["other exceptions"] == 0


def test_a_model_of_an_earlier_release_is_read() -> None:
    found = predict(LIQUID, GOLDEN)
    assert load_model(GOLDEN).card.schema_version == 1
    expected = json.loads((GOLDEN / "expected.json").read_text())
    np.testing.assert_allclose(found.propensity, expected, rtol=1e-5)


def test_a_model_of_an_earlier_release_is_sealed_when_it_is_saved_again(tmp_path: Path) -> None:
    loaded = load_model(GOLDEN)
    save_model(tmp_path / "m", loaded.model, loaded.card)
    content = json.loads((tmp_path / "m" / "model.json").read_text())
    assert content["schema_version"] == 2
    check_seal(tmp_path, content)
    assert load_model(tmp_path / "m").card.temperatures == loaded.card.temperatures


CARDS = {
    "nothing": b"", "a brace": b"{", "a list": b"[1]", "a number": b"1",
    "another encoding": '{"a": "é"}'.encode("utf-16"),
    "no text": bytes(range(256)), "a deep nest": b"[" * 100_000 + b"]" * 100_000,
    "a deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "not a number": b'{"schema_version": 2, "density": NaN, "checksum": ""}',
    "infinity": b'{"schema_version": 2, "density": 1e400, "checksum": ""}',
    "a checksum of another kind": b'{"schema_version": 2, "checksum": [1]}', "true": b'{"schema_version": true}',
    "version 0": b'{"schema_version": 0}', "much of nothing": b" " * (65 * 2**20),
}  # fmt: skip


@pytest.mark.parametrize("what", CARDS)
def test_a_damaged_card_has_exit_code_2(glassmd: Command, tmp_path: Path, what: str) -> None:
    model = saved(tmp_path / "m", 1)
    (model / "model.json").write_bytes(CARDS[what])
    snapshot = write(tmp_path / "good.gsd", frame())
    assert_refused(glassmd("predict", snapshot, "--model", model), "model.json", "expected")
    assert_refused(glassmd("info", model), "model.json", "expected")


def test_a_card_that_is_a_directory(glassmd: Command, tmp_path: Path) -> None:
    model = saved(tmp_path / "m", 1)
    (model / "model.json").unlink()
    (model / "model.json").mkdir()
    assert_refused(glassmd("info", model), "model.json", "expected")


@pytest.mark.parametrize(
    "changes",
    [
        {"temperatures": [0.45]}, {"density": 1.3}, {"times": [1.0, 11.0]}, {"residual_std": {"A": [0.1, 0.3]}},
        {"residual_std": None}, {"trained_species": ["A", "B"]}, {"provenance": {}}, {"schema_version": 1},
        {"checksum": None}, {"glassmd_version": "9"}, {"weights_sha256": "0" * 64},
    ],
)  # fmt: skip
def test_an_edited_card_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = saved(tmp_path / "m", 1) / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", [None, "Checksum", "checksum ", "provenance"])
def test_a_checksum_that_was_removed_or_renamed(tmp_path: Path, name: str | None) -> None:
    path = saved(tmp_path / "m", 1) / "model.json"
    card = json.loads(path.read_text())
    checksum = card.pop("checksum")
    path.write_text(json.dumps(card if name is None else {**card, name: checksum}))
    with pytest.raises(ModelError, match="damaged or edited"):
        load_model(tmp_path / "m")


def test_what_is_written_otherwise_but_says_the_same_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m", 1) / "model.json"
    before = answer(tmp_path / "m")
    card = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(card.items())), indent=4, ensure_ascii=False))
    assert answer(tmp_path / "m") == before


def test_a_seal_holds_all_that_json_knows(tmp_path: Path) -> None:
    content = {"é": ["\ud800", 1e-300, 0.1 + 0.2, -0.0, 2**70, None, True], "b": {"c": (1, 2)}, "checksum": "old"}
    again = json.loads(json.dumps(sealed({**content, "numbers": {10: 1, 9: 2}})))
    check_seal(tmp_path, again)
    for wrong in ({**again, "b": {"c": [1, 2.0]}}, {**again, "checksum": again["checksum"].upper()}, content, {}):
        with pytest.raises(RunError, match="damaged or edited"):
            check_seal(tmp_path, wrong)
    with pytest.raises(ValueError, match="not JSON compliant"):
        sealed({"a": float("nan")})


def test_what_a_killed_process_left_half_written_goes_when_a_model_is_saved(tmp_path: Path) -> None:
    import os

    model = saved(tmp_path / "m", 1)
    dead = model / f".weights.safetensors.{os.uname().nodename}-{2**22 + 1}.tmp"
    other = model / ".weights.safetensors.elsewhere-1.tmp"
    for path in (dead, other):
        path.write_bytes(b"half")
    saved(model, 2)
    assert not dead.exists()
    assert other.exists(), "of a machine whose processes nobody here knows"


def damages(good: bytes, count: int, seed: int = 3) -> list[bytes]:
    dice, found = random.Random(seed), []
    for number in range(count):
        bad = bytearray(good)
        # the header is short and the most delicate
        bad[dice.randrange(len(bad) if number % 2 else min(len(bad), 400))] ^= 1 << dice.randrange(8)
        found.append(bytes(bad))
    found += [good[: dice.randrange(len(good))] for _ in range(count // 4)]
    return [*found, good + b"\x00", b"", good[:8] + bytes(len(good) - 8)]


TENSORS = {"model.a": torch.arange(24.0).reshape(4, 6), "random.torch": torch.arange(40, dtype=torch.uint8)}
STATE = {"step": 3, "checksum": "0" * 64, "identity": {"checksum": "1" * 64, "settings": 'a "text" é'}}


def test_one_flipped_bit_of_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, TENSORS, STATE)
    good = path.read_bytes()
    assert load_checkpoint(path)[1] == STATE
    for bad in damages(good, 200):
        path.write_bytes(bad)
        with pytest.raises(ModelError, match="delete it to resume from the one before"):
            load_checkpoint(path)
    path.unlink()
    with pytest.raises(ModelError):
        load_checkpoint(path)
    assert save_checkpoint(tmp_path, 3, TENSORS, STATE).read_bytes() == good


def test_a_checkpoint_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes(save(TENSORS, {"state": json.dumps(STATE)}))
    tensors, state = load_checkpoint(tmp_path / "old.safetensors")
    assert state == STATE
    assert all(torch.equal(tensors[name], values) for name, values in TENSORS.items())


def test_one_flipped_bit_of_kept_predictions_is_an_error(tmp_path: Path) -> None:
    path, values = tmp_path / "p.safetensors", {"run-0-0": np.arange(12.0).reshape(2, 6)}
    Predictions({"settings": {"a": 1}}, values, values).write(path)
    good = path.read_bytes()
    found = Predictions.read(path)
    assert found.facts == {"settings": {"a": 1}}
    np.testing.assert_array_equal(found.std["run-0-0"], values["run-0-0"])
    for bad in damages(good, 200):
        path.write_bytes(bad)
        with pytest.raises(RunError, match="delete it and repeat the command"):
            Predictions.read(path)


def test_predictions_of_an_earlier_release_are_read(tmp_path: Path) -> None:
    values = np.arange(12.0, dtype=np.float32).reshape(2, 6)
    (tmp_path / "old").write_bytes(save_arrays({"propensity/a": values}, {"facts": '{"settings": {}}'}))
    found = Predictions.read(tmp_path / "old")
    assert found.facts == {"settings": {}}
    np.testing.assert_array_equal(found.propensity["a"], values)
