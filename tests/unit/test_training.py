"""Training: resuming, splitting, waiting, and what it leaves behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from glassmd.errors import InputError, Interrupted, ModelError, RunError
from glassmd.interrupt import StopRequest
from glassmd.learners.losses import weighted_square_error
from glassmd.metrics import pearson
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import Settings
from glassmd.simulation.worker import Worker
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.journal import read_metrics
from glassmd.training.loop import Trainer
from glassmd.training.session import train, train_stream
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN
from tests.sidecars import rewrite

SETTINGS = Settings(run=TINY, train=TINY_TRAIN)


def with_train(**changes: object) -> Settings:
    return SETTINGS.model_copy(update={"train": TINY_TRAIN.model_copy(update=changes)})


def test_training_leaves_a_model_metrics_checkpoints_and_event_files(tiny_model: Path) -> None:
    card = json.loads((tiny_model / "model.json").read_text())
    assert card["times"] == TINY.times
    assert card["trained_species"] == ["A", "B"]
    assert set(card["residual_std"]) == {"A", "B"}
    lines = read_metrics(tiny_model / "metrics.jsonl")
    kinds = [line["kind"] for line in lines]
    assert kinds.count("train") == TINY_TRAIN.max_steps
    assert kinds.count("validation") == 2
    assert kinds[-1] == "result"
    assert kinds.count("result") == 1
    assert set(lines[-1]["pearson"]) == {"A", "B"}
    assert lines[-1]["step"] == TINY_TRAIN.max_steps
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_model / "tensorboard"))
    events.Reload()
    assert {"loss", "learning_rate", "pearson_A/t=0.1", "pearson_A/t=0.5"} <= set(events.Tags()["scalars"])
    assert events.Scalars("learning_rate")[0].value == pytest.approx(1e-3)
    assert len(list((tiny_model / "checkpoints").iterdir())) <= 2


def test_a_checkpoint_holds_no_pickle(tiny_model: Path) -> None:
    path = latest_checkpoint(tiny_model)
    assert path is not None
    tensors, state = load_checkpoint(path)
    assert state["fit"]["parts"][0]["step"] == TINY_TRAIN.max_steps
    assert {name.split(".")[0] for name in tensors} == {"model", "fit"}


def test_stopping_and_going_on_is_the_same_as_never_stopping(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "whole", with_train(max_steps=8))
    stop = StopRequest()

    def stop_at_five(progress: object, simulation: object) -> None:
        if progress.step == 5:  # type: ignore[attr-defined]
            stop._signal = "SIGTERM"

    with pytest.raises(Interrupted) as caught:
        train([tiny_run.path], tmp_path / "parts", with_train(max_steps=8), stop=stop, show=stop_at_five)
    assert caught.value.exit_code == 75
    train([tiny_run.path], tmp_path / "parts", with_train(max_steps=8))
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert whole == parts


def test_a_stop_in_a_validation_changes_nothing_either(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_train(max_steps=8, validate_every=2)
    train([tiny_run.path], tmp_path / "whole", settings)
    stop, predict_, calls = StopRequest(), Trainer.predict, []

    def stopped(self: Trainer, sample: Sample) -> np.ndarray:
        calls.append(self.step)
        if calls == [2, 2, 4]:  # of two validation samples the first
            stop._signal = "SIGTERM"
        return predict_(self, sample)

    monkeypatch.setattr(Trainer, "predict", stopped)
    with pytest.raises(Interrupted):
        train([tiny_run.path], tmp_path / "parts", settings, stop=stop)
    assert calls == [2, 2, 4]
    train([tiny_run.path], tmp_path / "parts", settings)
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert whole == parts


def test_more_steps_continue_a_finished_training(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=3))
    result = train([tiny_run.path], tmp_path / "m", with_train(max_steps=7))
    assert result["steps"] == result["samples_seen"] == 7
    steps = [line["step"] for line in read_metrics(tmp_path / "m" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == list(range(1, 8))


def test_a_last_line_cut_short_by_a_kill_is_dropped(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=3))
    with (tmp_path / "m" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "ki')
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=5))
    steps = [line["step"] for line in read_metrics(tmp_path / "m" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5]


def test_training_learns(tiny_run: Run, tmp_path: Path) -> None:
    settings = with_train(max_steps=60, validate_every=60, checkpoint_every=60, learning_rate=3e-3, message_steps=2)
    train([tiny_run.path], tmp_path / "m", settings)
    losses = [line["loss"] for line in read_metrics(tmp_path / "m" / "metrics.jsonl") if line["kind"] == "train"]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:10])


def test_the_network_starts_with_outputs_of_the_order_of_the_labels(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=1, learning_rate=1e-9, message_steps=7))
    loaded = load_model(tmp_path / "m")
    sample = tiny_run.samples()[0]
    predicted = predict(sample.parent, loaded).propensity
    scale = loaded.model.scale.numpy()[sample.parent.species].T
    shift = loaded.model.shift.numpy()[sample.parent.species].T
    normalised = (predicted - shift) / scale
    assert abs(normalised.mean()) < 1.0
    assert 0.05 < normalised.std() < 3.0


def test_held_out_lineages_never_enter_the_reservoir(tiny_run: Run) -> None:
    source = SampleSource([tiny_run])
    splits = {sample.key.lineage: source.split(sample.key) for sample in source.poll()}
    assert splits == {0: "validation", 1: "test", 2: "train", 3: "train"}


def test_imported_lineages_are_split_and_never_on_both_sides(run_copy: Path) -> None:
    rewrite(run_copy / "run.json", settings=None, origin="botan")
    source = SampleSource([open_run(run_copy)])
    splits: dict[int, set[str]] = {}
    for sample in source.poll():
        splits.setdefault(sample.key.lineage, set()).add(source.split(sample.key))
    assert splits == {0: {"train"}, 1: {"train"}, 2: {"train"}, 3: {"validation"}}


def test_runs_of_other_liquids_do_not_mix(tiny_run: Run, run_copy: Path) -> None:
    mixture = {**tiny_run.identity["mixture"], "truncation": "truncated"}
    rewrite(run_copy / "run.json", mixture=mixture)
    with pytest.raises(RunError, match="another mixture"):
        SampleSource([tiny_run, open_run(run_copy)])


def test_a_file_of_a_run_is_no_trajectory(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no times"):
        train([tiny_run.file("parents", "L0000-P0000")], tmp_path / "m", SETTINGS)


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_checkpoint(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=2))
    path = latest_checkpoint(tmp_path / "m")
    assert path is not None
    tensors, state = load_checkpoint(path)
    from glassmd.training.checkpoints import save_checkpoint

    spoilt = {name: tensor * (np.nan if name.startswith("model.decoder") else 1) for name, tensor in tensors.items()}
    save_checkpoint(tmp_path / "m", 2, spoilt, state)
    with pytest.raises(ModelError, match="found a loss of nan at step 3"):
        train([tiny_run.path], tmp_path / "m", with_train(max_steps=4))
    newest = latest_checkpoint(tmp_path / "m")
    assert newest is not None
    assert newest.name == "step-000000002.safetensors"


def test_a_checkpoint_of_an_earlier_version_is_refused_with_a_word(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(max_steps=2))
    path = latest_checkpoint(tmp_path / "m")
    assert path is not None
    tensors, state = load_checkpoint(path)
    from glassmd.training.checkpoints import save_checkpoint

    del state["fit"]
    save_checkpoint(tmp_path / "m", 2, tensors, state)
    with pytest.raises(ModelError, match="a checkpoint of an earlier version"):
        train([tiny_run.path], tmp_path / "m", with_train(max_steps=4))


def test_unknown_species_in_the_loss(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="species"):
        train([tiny_run.path], tmp_path / "m", with_train(species=["C"]))


def test_training_on_a_species_says_so(tiny_run: Run, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", with_train(species=["A"], noise_weighted=True, max_steps=2))
    assert load_model(tmp_path / "m").card.trained_species == ["A"]


def test_labels_count_by_their_noise() -> None:
    output, target = torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])
    everyone = torch.tensor([True, True])
    plain = weighted_square_error(output, target, everyone)
    weighted = weighted_square_error(output, target, everyone, torch.tensor([[0.0], [3.0]]))
    unknown = weighted_square_error(output, target, everyone, torch.full((2, 1), torch.nan))
    assert float(plain) == float(unknown) == 5.0
    assert float(weighted) == pytest.approx((1 * 1 + 9 * 0.25) / 1.25)


def test_following_a_run_that_another_process_writes(tmp_path: Path) -> None:
    """The simulation is a thread here; it shares nothing with the trainer but the directory."""
    from glassmd.engines import get_engine
    from glassmd.simulation.creation import make_run

    run = make_run(TINY, tmp_path / "run")
    thread = threading.Thread(target=Worker(run, get_engine("lammps", "cpu"), StopRequest()).work)
    thread.start()
    waits = []
    result = train(
        [tmp_path / "run"],
        tmp_path / "m",
        with_train(max_steps=12, watermark=2, max_reuse=3.0),
        follow=True,
        show=lambda progress, simulation: waits.append(progress.waiting),
    )
    thread.join()
    assert result["steps"] == 12
    assert "the simulation" in waits, "it waits for the watermark"


def test_training_beside_the_simulation_overlaps_with_it(tmp_path: Path) -> None:
    shown = []
    settings = Settings(
        run=TINY.model_copy(update={"lineages": 3, "replicas": 2, "held_out_replicas": 2, "workers": 1}),
        train=TINY_TRAIN.model_copy(update={"max_steps": 10}),
    )
    result = train_stream(settings, tmp_path / "m", show=lambda t, s: shown.append((t.step, s)))
    assert result["steps"] - result["steps_redrawn"] == 10
    assert result["overlap_seconds"] > 0
    assert result["steps_while_simulating"] > 0
    run = open_run(result["run"])
    assert run.complete
    assert run.verify() == 12
    assert set(result["validation"]) == {"A", "B"}
    assert any(progress is not None and progress.workers for _, progress in shown)
    again = train_stream(settings, tmp_path / "m")
    assert again["steps"] == result["steps"]


def test_predictions_of_the_saved_model_are_those_that_were_validated(tiny_run: Run, tiny_model: Path) -> None:
    lines = [line for line in read_metrics(tiny_model / "metrics.jsonl") if line["kind"] == "validation"]
    loaded = load_model(tiny_model)
    best = next(line for line in lines if line["step"] == loaded.card.provenance["steps"])
    samples = [s for s in tiny_run.samples() if s.role == "validation"]
    found = [pearson(predict(s.parent, loaded).propensity[1][s.parent.species == 0],
                     s.propensity[1][s.parent.species == 0]) for s in samples]  # fmt: skip
    assert np.mean(found) == pytest.approx(best["pearson"]["A"][1], abs=1e-6)
