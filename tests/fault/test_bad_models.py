"""Models that are damaged, or do not fit the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glassmd.storage import sealed
from glassmd.stream.dataset import Run
from tests.conftest import TINY
from tests.fault.refusals import TRAIN_FLAGS, Command, assert_refused, frame, write


def test_a_model_that_does_not_exist(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    snapshot = write(tmp_path / "good.gsd", frame())
    assert_refused(
        glassmd("predict", snapshot, "--model", tmp_path / "nowhere"),
        "found no model directory",
        "expected",
        "glassmd train",
    )
    assert_refused(
        glassmd("evaluate", tmp_path / "nowhere", tiny_run.path),
        "found no model directory",
        "expected",
        "glassmd train",
    )


def change_card(model: Path, **mixture: Any) -> None:
    card = json.loads((model / "model.json").read_text())
    card["mixture"].update(mixture)
    (model / "model.json").write_text(json.dumps(sealed(card)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truncation": "force-shifted"}, ("force-shifted", "shifted")),
        ({"name": "wahnstrom"}, ("wahnstrom", "kob-andersen")),
        ({"dimensions": 2}, ("2", "3")),
    ],
)
def test_a_model_of_another_mixture_truncation_or_dimension(
    glassmd: Command,
    model_copy: Path,
    tiny_run: Run,
    tmp_path: Path,
    change: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    change_card(model_copy, **change)
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), *words, "expected")
    snapshot = tiny_run.file("parents", "L0000-P0000")
    out = tmp_path / "out.gsd"
    assert_refused(glassmd("predict", snapshot, "--model", model_copy, "--out", out), *words, "expected")
    assert not out.exists()


def test_times_that_a_model_does_not_know(glassmd: Command, tiny_model: Path, tiny_run: Run) -> None:
    snapshot = tiny_run.file("parents", "L0000-P0000")
    assert_refused(glassmd("predict", snapshot, "--model", tiny_model, "--times", "0.1,7"), "7", "0.1, 0.5")


def test_evaluating_at_times_that_a_model_does_not_know(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    card = json.loads((model_copy / "model.json").read_text())
    (model_copy / "model.json").write_text(json.dumps(sealed({**card, "times": [0.2, 0.7]})))
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), "0.1", "expected", "0.7")


def test_going_on_with_a_training_under_other_settings(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    outcome = glassmd(
        "train", tiny_run.path, "--model", "bapst", "--out", model_copy, "--seed", "7", "--set", "learning_rate=0.5"
    )
    assert_refused(outcome, "was trained with", "expected", "--out")


def test_an_unknown_model_name(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    assert_refused(glassmd("train", tiny_run.path, "--model", "babst", "--out", tmp_path / "m"), "babst", "bapst")


def test_a_checkpoint_that_is_damaged(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    newest = sorted((model_copy / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    arguments = (
        "train",
        tiny_run.path,
        "--model",
        "bapst",
        "--out",
        model_copy,
        "--seed",
        TINY.seed,
        "--max-steps",
        "9",
        *flags,
    )
    assert_refused(glassmd(*arguments), newest.name, "is damaged", "delete it to resume from the one before")
    newest.unlink()
    assert glassmd(*arguments, "--json").json["steps"] == 9


def test_a_model_whose_weights_are_damaged(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    flip = model_copy / "weights.safetensors"
    shutil.copy(model_copy / "model.json", flip)
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), "weights.safetensors", "expected")
