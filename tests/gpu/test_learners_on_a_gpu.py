"""Trainings and predictions on CUDA against the same on the CPU, of data that HOOMD-blue made on the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.learners.tiles import GIB, in_parts
from glassmd.models.known import model_directory
from glassmd.models.store import load_model, load_models
from glassmd.prediction import predict
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import Run
from glassmd.stream.structures import Structures, cage_asked
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.session import train, train_stream
from tests.unit.test_tiles import LONG, for_tiles, liquid, taught
from tests.unit.test_training_device import SMALL, STEPPED, losses

pytest.importorskip("hoomd", reason="HOOMD-blue does not import: mamba install -c conda-forge hoomd")

INPUTS = RunSettings(engine="hoomd", device="cpu")
"""Who makes structures that are missing; on the CPU, so that both trainings see the same."""


def settings_of(name: str, steps: int, device: str, precision: str = "32-true") -> Settings:
    return Settings(
        run=INPUTS,
        train=TrainSettings(
            model=name, hyperparameters=SMALL.get(name, {}), max_steps=steps, checkpoint_every=2, validate_every=2,
            train_threads=1, train_device=device, cage_replicas=4, cage_time=0.05,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
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


def test_several_temperatures_train_as_on_the_cpu(gpu: str, gpu_run: Run, cuda: str, tmp_path: Path) -> None:
    """The default learner knows of each, and what it knows is where the rest of it is."""
    cold = RunSettings(
        particles=256, temperature=1.2, lineages=4, parents=2, replicas=3, held_out_replicas=6, block=3,
        times=[0.1, 0.5], engine="hoomd", device=gpu, packed=8, neighbor_buffer=0.3, workers=1, seed=9,  # type: ignore[arg-type]
    )  # fmt: skip
    simulate(cold, tmp_path / "cold")
    runs, sample, found = [gpu_run.path, tmp_path / "cold"], gpu_run.samples()[0], []
    for device in ("cpu", cuda):
        for steps in (4, 20):
            result = train(runs, tmp_path / f"on-{device}", settings_of("glassnet", steps, device))
        assert (result["device"], np.isfinite(result["validation"]["A"]["pearson"]).all()) == (device, True)
        loaded = load_model(tmp_path / f"on-{device}")
        structure = Structures([gpu_run], loaded.model.inputs, cage_asked(settings_of("glassnet", 4, device))).of(
            sample
        )
        where = "gpu" if device == "cuda" else "cpu"
        found.append(predict(sample.parent, loaded, structure=structure, temperature=1.5, device=where).propensity)  # type: ignore[arg-type]
    print(f"\nseen: two temperatures: {np.abs(found[1] - found[0]).max() / found[0].std():.1e} of the spread")
    assert np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1] > 0.99  # Adam makes much of rounding


@pytest.mark.parametrize("name", STEPPED)
def test_bfloat16_takes_about_the_same_first_step(gpu_run: Run, cuda: str, tmp_path: Path, name: str) -> None:
    first, last = [], []
    for precision in ("32-true", "bf16-mixed"):
        train([gpu_run.path], tmp_path / precision, settings_of(name, 2, cuda, precision))
        one, other = losses(tmp_path / precision)
        first.append(one)
        last.append(other)
    print(f"\nseen: {name}: losses of the first step {first} in single precision and bfloat16")
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.02)
    assert np.isfinite(last).all()


@pytest.mark.parametrize("name", STEPPED)
def test_large_snapshots_go_in_parts_as_on_the_cpu(cuda: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    structure = liquid(LONG)
    model = taught(name, structure)
    monkeypatch.setattr(type(model), "at_once", 0.0)  # a learner that has a wave goes in it
    memory = GIB if name in ("bapst", "botan") else for_tiles(model, structure)
    here = in_parts(model, structure, memory)
    there = in_parts(model.to(cuda), structure, memory)
    scale = float(here.values.abs().max())
    print(f"\nseen: {name}: {float((there.values - here.values).abs().max()) / scale:.1e} of the largest")
    assert there.parts == here.parts
    torch.testing.assert_close(there.values, here.values, rtol=1e-4, atol=1e-4 * scale)
    if here.spread is not None:
        torch.testing.assert_close(there.spread, here.spread, rtol=1e-4, atol=1e-4 * scale)


def test_what_comes_with_glassmd_predicts_as_on_the_cpu(gpu_run: Run, cuda: str) -> None:
    """What most will use; the liquid is hotter than those that it was trained on, which changes no arithmetic."""
    sample = gpu_run.samples()[0]
    models = load_models(model_directory("kob-andersen"))
    structures = Structures([gpu_run], ("thermal", "inherent", "cage"), cage_asked(settings_of("glassnet", 2, cuda)))
    structures.make([sample.key], INPUTS)
    structure = structures.of(sample)
    found = [
        predict(sample.parent, models, structure=structure, temperature=1.0, device=where, force=True)  # type: ignore[arg-type]
        for where in ("cpu", "gpu" if cuda == "cuda" else "cpu")
    ]
    scale = found[0].propensity.std()
    print(f"\nseen: kob-andersen: {np.abs(found[1].propensity - found[0].propensity).max() / scale:.1e} of the spread")
    np.testing.assert_allclose(found[1].propensity, found[0].propensity, rtol=1e-4, atol=1e-4 * scale)
    np.testing.assert_allclose(found[1].std, found[0].std, rtol=1e-4, atol=1e-4 * scale)


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
        redraw=0.0, train_device=cuda,  # type: ignore[arg-type]
    )  # fmt: skip
    result = train_stream(Settings(run=run, train=learner), tmp_path / "model")
    assert (result["steps"], result["device"]) == (20, cuda)
    assert result["samples_seen"] >= 4
    assert np.isfinite(result["validation"]["A"]["pearson"]).all()
    assert torch.cuda.is_available() or cuda == "cpu"
