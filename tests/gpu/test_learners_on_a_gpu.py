"""Trainings and predictions on CUDA against the same on the CPU, of data that HOOMD-blue made on the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.stream.structures import Structures, cage_asked
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.session import train, train_stream
from tests.unit.test_training_device import SMALL, STEPPED, losses

pytest.importorskip("hoomd", reason="HOOMD-blue does not import: mamba install -c conda-forge hoomd")

INPUTS = RunSettings(engine="hoomd", device="cpu")
"""Who makes structures that are missing; on the CPU, so that both trainings see the same."""


def settings_of(name: str, steps: int, device: str) -> Settings:
    return Settings(
        run=INPUTS,
        train=TrainSettings(
            model=name, hyperparameters=SMALL.get(name, {}), max_steps=steps, checkpoint_every=2, validate_every=2,
            train_threads=1, train_device=device, cage_replicas=4, cage_time=0.05,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def trained(run: Run, out: Path, name: str, device: str) -> dict[str, Any]:
    """Two steps, and two more from the checkpoint."""
    train([run.path], out, settings_of(name, 2, device))
    return train([run.path], out, settings_of(name, 4, device))


@pytest.mark.parametrize("name", STEPPED)
def test_training_and_prediction_are_those_of_the_cpu(gpu_run: Run, cuda: str, tmp_path: Path, name: str) -> None:
    for device in ("cpu", cuda):
        out = tmp_path / f"on-{device}"
        assert trained(gpu_run, out, name, device)["device"] == device
    here, there = losses(tmp_path / "on-cpu"), losses(tmp_path / f"on-{cuda}")
    print(f"\nseen: {name}: losses {here} and {there}")
    assert here[0] == pytest.approx(there[0], rel=1e-4)  # single precision, sums in another order
    # Adam divides a gradient by its own size: where that is rounding, so is the direction of the step.
    assert here == pytest.approx(there, rel=1e-2)
    checkpoint = latest_checkpoint(tmp_path / f"on-{cuda}")
    assert checkpoint is not None
    number = 1 if name == "glassnet" else 0  # the part that takes steps
    assert (f"fit.{number}.random.cuda" in load_checkpoint(checkpoint)[0]) == (cuda == "cuda")
    loaded = load_model(tmp_path / f"on-{cuda}")
    assert loaded.card.provenance["device"] == cuda
    sample = gpu_run.samples()[0]
    structure = Structures([gpu_run], loaded.model.inputs, cage_asked(settings_of(name, 4, device))).of(sample)
    found = {
        where: predict(sample.parent, loaded, structure=structure, device=where)  # type: ignore[arg-type]
        for where in ("cpu", "gpu" if cuda == "cuda" else "cpu")
    }
    one, other = next(iter(found.values())), list(found.values())[-1]
    scale = one.propensity.std()
    print(
        f"seen: {name}: {np.abs(one.propensity - other.propensity).max() / scale:.1e} of the spread of the propensity"
    )
    np.testing.assert_allclose(other.propensity, one.propensity, rtol=1e-4, atol=1e-4 * scale)
    np.testing.assert_allclose(other.std, one.std, rtol=1e-4, atol=1e-4 * scale)


def test_a_learner_that_is_solved_stays_on_the_cpu(gpu_run: Run, cuda: str, tmp_path: Path) -> None:
    assert train([gpu_run.path], tmp_path / "m", settings_of("ridge", 2, cuda))["device"] == "cpu"


def test_simulation_and_training_share_the_gpu(gpu: str, cuda: str, tmp_path: Path) -> None:
    """`train --stream` with the default learner, cages and minima included."""
    run = RunSettings(
        particles=256, temperature=1.5, lineages=4, parents=2, replicas=3, held_out_replicas=6, times=[0.5, 1.0],
        engine="hoomd", device=gpu, packed=8, neighbor_buffer=0.3, workers=1, seed=8, melt_time=2.0,  # type: ignore[arg-type]
        tau_alphas=2.0, max_equilibration_time=10.0, accept_unequilibrated=True,
    )  # fmt: skip
    learner = TrainSettings(
        max_steps=20, hyperparameters=SMALL["glassnet"], cage_replicas=4, cage_time=0.05, train_threads=1,
        train_device=cuda,  # type: ignore[arg-type]
    )  # fmt: skip
    result = train_stream(Settings(run=run, train=learner), tmp_path / "model")
    assert (result["steps"], result["device"]) == (20, cuda)
    assert result["samples_seen"] >= 4
    assert np.isfinite(result["validation"]["A"]["pearson"]).all()
    assert torch.cuda.is_available() or cuda == "cpu"
