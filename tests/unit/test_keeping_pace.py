"""Trainer and simulations keep up with each other: who waits, who pauses, who encodes, and what a bad step costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glassmd.engines import get_engine
from glassmd.errors import ModelError, SettingsError
from glassmd.interrupt import StopRequest
from glassmd.learners import make_model
from glassmd.learners.losses import weighted_square_error
from glassmd.learners.networks.bapst import BapstModel
from glassmd.ledger.run import RunDirectory
from glassmd.models.store import load_model
from glassmd.report.observe import observe
from glassmd.settings import Settings, TrainSettings, build_settings
from glassmd.simulation.creation import make_run
from glassmd.simulation.worker import Worker
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.structures import Structures
from glassmd.training import loop
from glassmd.training.checkpoints import latest_checkpoint
from glassmd.training.encoding import Encoder, Encodings, encodings_of
from glassmd.training.encoding_process import EncodingProcess
from glassmd.training.journal import read_metrics
from glassmd.training.pace import Pace
from glassmd.training.session import train, train_stream
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN, needs_lammps
from tests.unit.test_training_device import SMALL as NETWORKS
from tests.unit.test_training_device import STEPPED

SMALL = TINY.model_copy(update={"lineages": 3, "parents": 2, "replicas": 2, "held_out_replicas": 2})


def settings(**changes: Any) -> Settings:
    return Settings(run=SMALL, train=TINY_TRAIN.model_copy(update=changes))


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- pausing -------------------------------------------------------------------------------------------------


@needs_lammps
def test_a_worker_begins_nothing_while_somebody_asks_it_to_pause(tmp_path: Path) -> None:
    run = make_run(SMALL, tmp_path / "run")
    RunDirectory.open(run.path).pause("nobody can follow")
    worker = Worker(run, get_engine("lammps", "cpu"), StopRequest())
    thread = threading.Thread(target=worker.work)
    thread.start()
    status = run.home / "workers" / "worker.json"
    until(lambda: status.exists() and "paused: nobody can follow" in status.read_text())
    time.sleep(0.5)
    assert not open_run(run.path).entries("parents")
    RunDirectory.open(run.path).unpause()
    thread.join(120)
    assert open_run(run.path).complete


@needs_lammps
def test_a_request_to_pause_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(SMALL, tmp_path / "run")
    assert run.paused is None
    run.pause("the trainer died")
    assert run.paused == "the trainer died"
    monkeypatch.setattr("glassmd.ledger.run.PAUSE", 0.05)
    until(lambda: run.paused is None)
    (run.home / "pause.json").write_text("{")
    assert run.paused is None, "damaged"


def test_simulations_pause_while_more_arrives_than_is_drawn(run_copy: Path) -> None:
    run = open_run(run_copy)
    source = SampleSource([run])
    reservoir = Reservoir(10, lambda key: next(s for s in source.poll() if s.key == key), min_reuse=2.0)
    pace = Pace(source, reservoir)
    pace.hold(draws=True)
    assert run.paused is None, "nothing has arrived"
    for sample in source.poll():
        reservoir.add(sample)
    pace.hold(draws=False)
    assert run.paused is None, "the trainer waits itself: nobody would ever go on"
    pace.hold(draws=True)
    assert "less than 2 times" in str(run.paused)
    while reservoir.flooded:
        reservoir.draw(1)
    pace.hold(draws=True)
    assert run.paused is None
    assert pace.paused > 0


@needs_lammps
def test_a_trainer_that_cannot_follow_has_the_simulation_pause_and_both_end(tmp_path: Path) -> None:
    result = train_stream(settings(max_steps=20, min_reuse=4.0), tmp_path / "m")
    assert result["paused_seconds"] > 0
    run = open_run(result["run"])
    assert run.complete
    assert run.paused is None


def test_a_sample_that_comes_back_from_disk_is_not_used_for_the_first_time(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time() - 1000]
    monkeypatch.setattr("glassmd.training.pace.time.time", lambda: now[0])
    source = SampleSource([open_run(run_copy)])
    monkeypatch.setattr(source, "committed", lambda key, blocks: began + 10)
    samples = {sample.key: sample for sample in source.poll()}
    reservoir = Reservoir(2, samples.__getitem__)  # the other six wait on disk for an exchange every four draws
    pace, began = Pace(source, reservoir), now[0]
    now[0] += 12
    for sample in samples.values():
        reservoir.add(sample)
        pace.arrived(sample.key, sample.blocks)
    while reservoir.drawn < 100:
        reservoir.draw(1)
        pace.drew(reservoir.first_drawn)
        grown = next(iter(samples.values()))
        pace.arrived(grown.key, grown.blocks)
        reservoir.first_drawn.clear()
        now[0] += 1
    assert pace.latencies == pytest.approx([2, 3, 6, 10, 14, 18, 22, 26])


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(SettingsError, match="min_reuse = 3 above max_reuse = 2"):
        build_settings(TrainSettings, {"min_reuse": 3, "max_reuse": 2}, "train.")


# ---- waiting, and drawing again -------------------------------------------------------------------------------


@needs_lammps
def test_a_trainer_with_a_core_of_its_own_draws_again_and_one_without_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassmd.training.session.available_cores", lambda: 2)
    alone = train_stream(settings(max_steps=4), tmp_path / "alone")
    assert alone["steps_redrawn"] > 0
    assert alone["steps"] == 4 + alone["steps_redrawn"]
    shown = observe(tmp_path / "alone")["training"]
    assert (shown["max_steps"], shown["redrawn"]) == (4, alone["steps_redrawn"])
    assert alone["commit_to_batch"] is not None
    lines = [line for line in read_metrics(tmp_path / "alone" / "metrics.jsonl") if line["kind"] == "stream"]
    assert lines
    assert lines[-1]["draws_per_sample"] > 1
    monkeypatch.setattr("glassmd.training.session.available_cores", lambda: 1)
    beside = train_stream(settings(max_steps=4), tmp_path / "beside")
    assert (beside["steps"], beside["steps_redrawn"]) == (4, 0)
    assert beside["waited"]["the simulation"] > 0
    assert 0 < beside["idle_share"] <= 1


# ---- encoding beside the trainer ------------------------------------------------------------------------------


@pytest.fixture
def beside(tiny_run: Run, tmp_path: Path) -> Any:
    """A process that encodes, with what the trainer has beside it."""
    model = make_model("glassnet", n_times=2, inputs=["thermal"])
    structures, source = Structures([tiny_run], model.inputs), SampleSource([tiny_run])
    encodings = encodings_of(model, tmp_path, 1.0, 1.0)
    started = []

    def start(disk: float = 1.0) -> EncodingProcess:
        started.append(EncodingProcess(model, source, structures, encodings, disk))
        return started[-1]

    yield start, Encoder(model, structures, encodings), source, encodings
    for process in started:
        process.stop()


def test_what_another_process_encodes_is_what_the_trainer_would_have(beside: Any, tiny_run: Run) -> None:
    start, encoder, source, encodings = beside
    process = start()
    samples = {source.split(sample.key): sample for sample in tiny_run.samples()}
    names = {split: encoder.name(sample.key, sample.blocks) for split, sample in samples.items()}
    assert not process.has(names["train"])
    until(lambda: process._process.poll() is not None)
    assert process._process.returncode == 0, "the run is complete"
    assert {split: encodings.there(name) for split, name in names.items()} == {
        "train": True,
        "validation": True,
        "test": False,
    }

    def fail() -> Any:
        raise AssertionError("it is there")

    found, expected = encodings.get(names["train"], fail), encoder.encode(samples["train"])
    assert found.to_dict().keys() == expected.to_dict().keys()
    for name, tensor in expected.to_dict().items():
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(tensor)), name


def test_the_trainer_encodes_what_a_dead_process_or_a_full_disk_leaves(beside: Any, tiny_run: Run) -> None:
    start, encoder, _, encodings = beside
    sample = next(sample for sample in tiny_run.samples() if sample.role == "train")
    name = encoder.name(sample.key, sample.blocks)
    killed = start()
    killed._process.kill()
    until(lambda: killed.has(name))
    full = start(disk=1e-9)
    until(lambda: full.has(name))
    assert full._process.wait() == 0
    assert not encodings.there(name)
    assert encoder(sample).num_nodes == SMALL.particles


def test_the_trainer_does_not_wait_for_ever(beside: Any, tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    start, encoder, _, _ = beside
    process = start()
    monkeypatch.setattr("glassmd.training.encoding_process._PATIENCE", 0.0)
    sample = tiny_run.samples()[0]
    process.has(encoder.name(sample.key, sample.blocks))
    time.sleep(0.01)
    assert process.has(encoder.name(sample.key, sample.blocks))


@needs_lammps
def test_a_stream_is_encoded_beside_the_trainer_where_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SLOW", 0.0)
    here, get = [], Encodings._get

    def counted(self: Encodings, name: Any, encode: Any) -> Any:
        return get(self, name, lambda: (here.append(name), encode())[1])

    monkeypatch.setattr(Encodings, "_get", counted)
    small = {"width": 8, "n_layers": 1}
    told = settings(model="glassnet", input=["inherent"], hyperparameters=small, max_steps=20)
    result = train_stream(told, tmp_path / "m")
    assert len(here) == 1, "the first one, to see how long it takes"
    assert result["input_cost"]["inherent"]["configurations"] == 4
    assert not (tmp_path / "m" / "encodings").exists() or not any((tmp_path / "m" / "encodings").rglob("*.safetensors"))
    assert load_model(tmp_path / "m").model.name == "glassnet"


# ---- a step that goes wrong -----------------------------------------------------------------------------------


def spoilt_at(monkeypatch: pytest.MonkeyPatch, *calls: int, spoil: Callable[[Tensor], Tensor]) -> None:
    """Some of the losses to come are spoilt."""
    count = 0

    def loss(output: Tensor, *others: Any) -> Tensor:
        nonlocal count
        count += 1
        found = weighted_square_error(output, *others)
        return spoil(found) if count in calls else found

    monkeypatch.setattr("glassmd.learners.base.weighted_square_error", loss)


@pytest.mark.parametrize(
    "spoil",
    [lambda loss: loss * np.nan, lambda loss: loss * np.inf, lambda loss: loss + torch.sqrt(loss * 0)],
    ids=["nan", "infinite", "gradient"],
)
def test_a_step_that_gives_no_number_is_taken_back_once(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor]
) -> None:
    spoilt_at(monkeypatch, 5, spoil=spoil)
    result = train([tiny_run.path], tmp_path / "m", settings(max_steps=8))
    assert (result["steps"], result["went_back"]) == (8, 6 if "sqrt" in spoil.__code__.co_names else 5)
    lines = read_metrics(tmp_path / "m" / "metrics.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 9))
    assert [line["step"] for line in lines if line["kind"] == "went_back"] == [4]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] == "train")
    assert all(torch.isfinite(of).all() for of in load_model(tmp_path / "m").model.parameters())


def test_a_second_time_ends_the_training_with_an_explanation(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt_at(monkeypatch, 5, 8, spoil=lambda loss: loss * np.nan)
    with pytest.raises(ModelError, match=r"at step 7, after going back from step 5.*learning_rate"):
        train([tiny_run.path], tmp_path / "m", settings(max_steps=8))
    newest = latest_checkpoint(tmp_path / "m")
    assert newest is not None
    assert newest.name == "step-000000006.safetensors"
    spoilt_at(monkeypatch, 1, spoil=lambda loss: loss * np.nan)
    with pytest.raises(ModelError, match="after going back from step 5"):
        train([tiny_run.path], tmp_path / "m", settings(max_steps=8))


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt_at(monkeypatch, 1, spoil=lambda loss: loss * np.nan)
    with pytest.raises(ModelError, match="found a loss of nan at step 1"):
        train([tiny_run.path], tmp_path / "m", settings(max_steps=4))


@pytest.mark.parametrize("name", STEPPED)
def test_bfloat16_takes_about_the_same_first_step(tiny_run: Run, tmp_path: Path, name: str) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        told = {"model": name, "input": None, "hyperparameters": NETWORKS.get(name, {}), "precision": precision}
        train([tiny_run.path], tmp_path / precision, settings(max_steps=2, **told))
        lines = read_metrics(tmp_path / precision / "metrics.jsonl")
        losses.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*[first for first, _ in losses], rtol=0.02)
    assert np.isfinite(losses[1][1])


def test_bfloat16_leaves_labels_as_they_are(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, objective = list[tuple[Tensor, Tensor]](), BapstModel.objective

    def watched(model: BapstModel, data: Any, target: Any, noise: Any, mask: Any) -> Tensor:
        loss = objective(model, data, target, noise, mask)
        seen.append((target, loss.detach()))
        return loss

    monkeypatch.setattr(BapstModel, "objective", watched)
    told = {"model": "bapst", "input": None, "hyperparameters": NETWORKS["bapst"], "noise_weighted": False}
    for precision in ("32-true", "bf16-mixed"):
        train([tiny_run.path], tmp_path / precision, settings(max_steps=1, precision=precision, **told))
    (single, _), (half, loss) = seen
    assert (half.dtype, loss.dtype) == (torch.float32, torch.float32)
    assert torch.equal(single, half)
