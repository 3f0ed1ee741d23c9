"""What holds for every learner: it trains, goes on, saves, loads, predicts and is evaluated, on runs and streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassmd.evaluation import evaluate
from glassmd.learners import LEARNERS, model_class
from glassmd.models.store import load_model
from glassmd.prediction_files import predict_file
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.training.session import train
from glassmd.trajectory import read_frames
from tests.conftest import TINY, needs_lammps

SMALL = {
    "bapst": {"width": 8, "n_steps": 2},
    "botan": {"width": 8, "n_steps": 2, "pretrain_steps": 1},
    "se3": {"width": 2, "n_layers": 1, "l_max": 1},
    "glassnet": {"width": 8, "n_layers": 1},
}
"""Hyperparameters of learners that would take long."""


def settings_of(name: str, steps: int) -> Settings:
    train_settings = TrainSettings(
        model=name,
        hyperparameters=SMALL.get(name, {}),
        max_steps=steps,
        checkpoint_every=2,
        validate_every=2,
        train_threads=1,
    )
    return Settings(run=TINY, train=train_settings)


@needs_lammps
@pytest.mark.parametrize("follow", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_from_training_to_evaluation(tiny_run: Run, tmp_path: Path, name: str, follow: bool) -> None:
    model = tmp_path / "m"
    first = train([tiny_run.path], model, settings_of(name, 2), follow=follow)
    assert first["model"] == name
    assert first["inputs"] == list(model_class(name).default_inputs)
    again = train([tiny_run.path], model, settings_of(name, 4), follow=follow)
    assert again["steps"] == (4 if model_class(name).stepped else first["steps"])
    assert np.isfinite(again["validation"]["A"]["pearson"]).all()

    snapshot, out = tiny_run.file("parents", "L0001-P0001"), tmp_path / "out.gsd"
    facts, configuration, prediction = predict_file(snapshot, model, out)
    assert facts["times"] == TINY.times
    assert set(facts["input_cost"]) == {of for of in facts["inputs"] if of != "thermal"}
    assert prediction.propensity.shape == prediction.std.shape == (2, configuration.n_particles)
    assert np.isfinite(prediction.propensity).all()
    assert np.isfinite(prediction.std).all()
    assert (prediction.std >= 0).all()
    written = read_frames(out, ["A", "B"])[0].log["particles/propensity_t0.5"]
    np.testing.assert_allclose(written, prediction.propensity[1], rtol=1e-6)

    scores = evaluate(model, [tiny_run.path])
    assert scores["n_configurations"] == TINY.parents  # of the one test lineage
    assert not scores["seen_in_training"]
    assert load_model(model).model.hyperparameters()["inputs"] == first["inputs"]
