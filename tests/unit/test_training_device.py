"""Training and predicting on another device than the CPU, an emulated one; `tests/gpu` is for a real one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.errors import EngineError, SettingsError
from glassmd.learners import LEARNERS, model_class
from glassmd.learners.fitting.solved import Solved
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.learners.part import FOLDS
from glassmd.learners.tiles import GIB, in_parts
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.stream.structures import Structures
from glassmd.training.choices import training_device
from glassmd.training.encoding import Encodings
from glassmd.training.loop import Trainer
from glassmd.training.session import train
from glassmd.training.source import SampleSource
from tests.conftest import TINY, needs_lammps
from tests.unit.elsewhere import ELSEWHERE, elsewhere
from tests.unit.test_tiles import LONG, for_tiles, liquid, taught

STEPPED = [name for name in LEARNERS if model_class(name).stepped]
SMALL: dict[str, dict[str, Any]] = {
    "bapst": {"width": 16, "n_steps": 2},
    "botan": {"width": 16, "n_steps": 2, "pretrain_steps": 1},
    "glassmlp": {"members": 2},
    "glassnet": {"width": 8, "n_layers": 1, "dropout": 0.0},
    "se3": {"width": 2, "n_layers": 2},
}


def settings_of(name: str, steps: int, device: str) -> Settings:
    return Settings(
        run=TINY,
        train=TrainSettings(
            model=name,
            hyperparameters=SMALL.get(name, {}),
            max_steps=steps,
            checkpoint_every=2,
            validate_every=2,
            train_threads=1,
            train_device=device,  # type: ignore[arg-type]
        ),
    )


def trained(run: Run, out: Path, name: str, device: str, encodings: Encodings | None = None) -> dict[str, Any]:
    """Two steps, and two more from the checkpoint."""
    train([run.path], out, settings_of(name, 2, device), encodings=encodings)
    return train([run.path], out, settings_of(name, 4, device), encodings=encodings)


def losses(directory: Path) -> list[float]:
    lines = map(json.loads, (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def require_same_training(one: Path, other: Path, tolerance: float) -> None:
    """The same losses and weights up to the rounding of sums in another order."""
    np.testing.assert_allclose(losses(one), losses(other), rtol=tolerance)
    weights, same = (load_model(directory).model.state_dict() for directory in (one, other))
    for name, tensor in weights.items():
        np.testing.assert_allclose(
            tensor.double().numpy(), same[name].double().numpy(), rtol=tolerance, atol=tolerance, err_msg=name
        )


def test_cuda_is_taken_where_it_is_and_refused_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {choice: TrainSettings(model="bapst", train_device=choice) for choice in ("auto", "cpu", "cuda")}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert {choice: training_device(one).type for choice, one in asked.items()} == {
        "auto": "cuda",
        "cpu": "cpu",
        "cuda": "cuda",
    }
    assert training_device(TrainSettings(model="ridge", train_device="cuda")).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {training_device(asked[choice]).type for choice in ("auto", "cpu")} == {"cpu"}
    with pytest.raises(SettingsError, match="train_device=cpu"):
        training_device(asked["cuda"])


def test_the_emulated_device_refuses_what_a_gpu_refuses() -> None:
    with elsewhere() as is_there:
        here, there = torch.arange(3.0), torch.arange(3.0).to(ELSEWHERE)
        assert (is_there(here), is_there(there), is_there(there.cpu()), is_there(here.cpu())) == (0, 1, 0, 0)
        assert is_there(torch.zeros(2, device=there.device) + 1)
        assert is_there(there.view(3, 1)[1:] * torch.tensor(2.0))
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: torch.cat([here, there])):
            with pytest.raises(RuntimeError, match="both devices"):
                mixed()
        with pytest.raises(TypeError, match="NumPy"):
            there.numpy()
        weight = here.clone().requires_grad_()
        with pytest.raises(RuntimeError, match="both devices"):
            (weight * there).sum()


@needs_lammps
@pytest.mark.parametrize("name", STEPPED)
def test_training_elsewhere_is_that_on_the_cpu(
    tiny_run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings = Encodings()
    expected = trained(tiny_run, tmp_path / "here", name, "cpu", encodings)
    assert expected["device"] == "cpu"
    monkeypatch.setattr("glassmd.training.loop.training_device", lambda *_: ELSEWHERE)
    with elsewhere() as is_there:
        found = trained(tiny_run, tmp_path / "there", name, "cpu", encodings)
        assert found["device"] == ELSEWHERE.type
        kept = [value for data in encodings._kept.values() for value in data.to_dict().values()]
        assert not any(is_there(value) for value in kept if isinstance(value, torch.Tensor))
    require_same_training(tmp_path / "here", tmp_path / "there", 1e-5)
    for species, scores in expected["validation"].items():
        np.testing.assert_allclose(found["validation"][species]["pearson"], scores["pearson"], atol=1e-4)


@needs_lammps
@pytest.mark.parametrize("name", STEPPED)
def test_a_prediction_elsewhere_is_that_on_the_cpu(
    tiny_run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train([tiny_run.path], tmp_path / "m", settings_of(name, 2, "cpu"))
    loaded, sample = load_model(tmp_path / "m"), tiny_run.samples()[0]
    structure = Structures([tiny_run], loaded.model.inputs).of(sample)
    here = predict(sample.parent, loaded, structure=structure, device="cpu")
    monkeypatch.setattr("glassmd.prediction.torch_device", lambda asked, learner: ELSEWHERE)
    with elsewhere() as is_there:
        there = predict(sample.parent, loaded, structure=structure)
        assert is_there(loaded.model.scale)
    np.testing.assert_allclose(there.propensity, here.propensity, rtol=1e-5)
    np.testing.assert_allclose(there.std, here.std, rtol=1e-5)


@pytest.mark.parametrize("name", STEPPED)
def test_a_large_snapshot_elsewhere_goes_in_parts_as_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    structure = liquid(LONG)
    model = taught(name, structure)
    monkeypatch.setattr(type(model), "at_once", 0.0)  # a learner that has a wave goes in it
    memory = GIB if name in ("bapst", "botan") else for_tiles(model, structure)
    here = in_parts(model, structure, memory)
    with elsewhere() as is_there:
        there = in_parts(model.to(ELSEWHERE), structure, memory)
        assert is_there(model.scale)
        assert not is_there(there.values)
    assert there.parts == here.parts
    assert here.parts > 1 or model.in_passing(structure, memory, None) is not None
    torch.testing.assert_close(there.values, here.values, rtol=1e-5, atol=1e-6 * float(here.values.abs().max()))
    assert (there.spread is None) == (here.spread is None)
    if here.spread is not None:
        torch.testing.assert_close(there.spread, here.spread, rtol=1e-5, atol=1e-6)


@needs_lammps
def test_a_snapshot_that_finds_no_room_is_predicted_on_the_cpu_or_refused(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train([tiny_run.path], tmp_path / "m", settings_of("bapst", 2, "cpu"))
    loaded, parent = load_model(tmp_path / "m"), tiny_run.samples()[0].parent
    expected = predict(parent, loaded, device="cpu")
    forward = type(loaded.model).forward
    monkeypatch.setattr("glassmd.prediction.torch_device", lambda asked, learner: ELSEWHERE)
    with elsewhere() as is_there:

        def full(model: Any, data: Any) -> torch.Tensor:
            if is_there(data.species):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(model, data)

        monkeypatch.setattr(type(loaded.model), "forward", full)
        np.testing.assert_array_equal(predict(parent, loaded).propensity, expected.propensity)
        with pytest.raises(EngineError, match="--device cpu"):
            predict(parent, loaded, device="gpu")


@needs_lammps
def test_a_gpu_that_is_not_there_predicts_nothing(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train([tiny_run.path], tmp_path / "m", settings_of("bapst", 2, "cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="--device cpu"):
        predict(tiny_run.samples()[0].parent, tmp_path / "m", device="gpu")


@needs_lammps
def test_cross_validation_elsewhere_is_that_on_the_cpu(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings, settings = Encodings(), settings_of("glassnet", FOLDS, "cpu")  # a step for every member
    expected = train([tiny_run.path], tmp_path / "here", settings, held_out=(), encodings=encodings)
    monkeypatch.setattr("glassmd.training.loop.training_device", lambda *_: ELSEWHERE)
    with elsewhere():
        found = train([tiny_run.path], tmp_path / "there", settings, held_out=(), encodings=encodings)
    assert expected["cross_validated"]
    assert found["cross_validated"]
    for species, scores in expected["validation"].items():
        np.testing.assert_allclose(found["validation"][species]["pearson"], scores["pearson"], atol=1e-4)


@needs_lammps
def test_samples_that_arrive_during_training_are_solved_for_where_the_model_is(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassmd.training.loop.training_device", lambda *_: ELSEWHERE)
    settings, source = settings_of("glassnet", 3, "cpu"), SampleSource([tiny_run])
    structures = Structures(source.runs, GlassNet.default_inputs)
    structures.make([sample.key for sample in tiny_run.samples()], settings.run)
    with elsewhere() as is_there:
        trainer = Trainer(source, settings.train, tmp_path / "m", structures=structures)
        trainer.train()
        model, fit, taken = trainer.model, trainer.fit, trainer.taken
        linear = fit.parts[0]
        assert isinstance(model, GlassNet)
        assert isinstance(linear, Solved)
        assert is_there(model.linear.weight)
        before = model.linear.weight.cpu().clone()
        sample, recall = taken.sample(min(taken.blocks)), taken.recall
        grown = replace(sample, propensity=2 * sample.propensity[:, ::-1], n_replicas=6, blocks=(*sample.blocks, 1))
        taken.recall = lambda key, blocks: grown if blocks == grown.blocks else recall(key, blocks)
        for found, same in ((grown, False), (sample, True)):  # taken back, and added anew
            fit.take(found)
            model.linear.weight.zero_()
            linear.finish()
            assert is_there(model.linear.weight)
            # The order of the sums is another, and so is the rounding that their solution enlarges.
            assert torch.allclose(model.linear.weight.cpu(), before, rtol=1e-6, atol=1e-9) == same
        fit.finish()  # and weighed there
        assert is_there(model.blend.weights)
        assert model.blend.known
