"""What a fit guarantees whoever calls it: nothing stale, nothing leaked, nothing lost, in bounded memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import Interrupted, StorageError
from glassmd.interrupt import StopRequest
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.learners.labels import LabelSums
from glassmd.learners.part import Taken
from glassmd.models.store import load_model
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.pairs import pair_changes_of
from glassmd.stream.samples import Sample, SampleKey
from glassmd.stream.structures import Structures
from glassmd.structure import INPUTS
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.encoding import Encodings
from glassmd.training.journal import read_metrics
from glassmd.training.loop import Trainer
from glassmd.training.session import train
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN, needs_lammps

SMALL = TrainSettings(
    model="glassnet", hyperparameters={"width": 4, "n_layers": 1}, max_steps=4, train_threads=1, train_device="cpu",
    validate_every=2, checkpoint_every=2,
)  # fmt: skip


def trainer_of(run: Run, out: Path, settings: TrainSettings, **options: object) -> Trainer:
    structures = Structures([run], settings.input or ("thermal",))
    return Trainer(SampleSource([run]), settings, out, structures=structures, **options)  # type: ignore[arg-type]


# ---- samples ------------------------------------------------------------------------------------------------


def test_held_out_lineages_never_enter_the_reservoir(tiny_run: Run, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_run, tmp_path / "m", TINY_TRAIN)
    trainer.train()
    lineages = {place.key.lineage for place in trainer.reservoir._places}
    assert lineages == {2, 3}
    assert {key.lineage for key in trainer.taken.blocks} == {2, 3}
    assert {key.lineage for key in trainer.taken.heard} == {0}
    assert trainer.reservoir.produced == 4


def test_a_sample_is_taken_once_however_often_it_is_given(tiny_run: Run, tmp_path: Path) -> None:
    trainer = trainer_of(
        tiny_run, tmp_path / "m", TINY_TRAIN.model_copy(update={"model": "density", "input": ["thermal"]})
    )
    sample = next(one for one in tiny_run.samples() if one.role == "train")
    trainer.fit.take(sample)
    once = {name: tensor.clone() for name, tensor in trainer.fit.tensors().items()}
    trainer.fit.take(sample)
    again = trainer.fit.tensors()
    assert once.keys() == again.keys()
    assert all(torch.equal(once[name], again[name]) for name in once)


@needs_lammps
def test_what_arrives_after_the_last_step_is_in_the_linear_part(tiny_run: Run, run_copy: Path, tmp_path: Path) -> None:
    """Ten replicas at first and twelve in the end are too few more for a solution on the way."""
    structures = Structures([tiny_run], INPUTS)
    structures.make([sample.key for sample in tiny_run.samples()], TINY)
    shutil.copytree(tiny_run.path / "structures", run_copy / "structures", dirs_exist_ok=True)
    late = run_copy / "segments" / "L0003-P0001-B0000.json"
    kept = late.rename(tmp_path / late.name)
    (run_copy / "index").exists() and shutil.rmtree(run_copy / "index")
    source = SampleSource([open_run(run_copy)], requests=Structures([open_run(run_copy)], INPUTS).requests)
    settings = SMALL.model_copy(update={"max_reuse": 10.0})  # the steps do not wait for it
    trainer = Trainer(source, settings, tmp_path / "m", structures=Structures(source.runs, INPUTS), follow=True)

    def arrives() -> None:
        assert trainer.step == SMALL.max_steps
        kept.rename(late)

    solved: list[int] = []
    solve = GlassNet.solve

    def counting(self: GlassNet, sums: object, variance: torch.Tensor) -> None:
        solved.append(len(trainer.taken.blocks))
        solve(self, sums, variance)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassmd.training.loop._SLOW", np.inf)  # a busy machine encodes in a process, one by one
        patch.setattr(GlassNet, "solve", counting)
        patch.setattr(type(trainer.source), "complete", property(lambda self: trainer.step == SMALL.max_steps))
        trainer.on_steps_done = arrives
        trainer.train()
    assert solved[-1] == 4
    assert len(solved) < 4


def test_labels_of_pairs_are_those_of_the_position_in_the_stream(tiny_run: Run) -> None:
    (sample, *_) = tiny_run.samples()
    parent = (sample.key.lineage, sample.key.parent)
    from glassmd.ledger.run import ParentKey

    first, both = (pair_changes_of(tiny_run, ParentKey(*parent), blocks) for blocks in ((0,), (0, 1)))
    assert first is not None
    assert both is not None
    assert (first.n_replicas, both.n_replicas) == (3, 6)
    assert not np.allclose(first.mean, both.mean)


def test_noise_that_is_heard_of_last_is_in_the_solution(tiny_run: Run, tmp_path: Path) -> None:
    """A held-out sample changes no label, and how noisy all of them are."""
    settings = TINY_TRAIN.model_copy(update={"model": "ridge", "input": ["thermal"]})
    samples = sorted(tiny_run.samples(), key=lambda one: one.key)
    learned, heard = ([one for one in samples if one.role == role] for role in ("train", "validation"))
    spreads = []
    for number, order in enumerate(([*heard, *learned], [*learned, *heard])):
        trainer = trainer_of(tiny_run, tmp_path / f"m{number}", settings)
        for sample in order:
            trainer.fit.take(sample, learn=sample.role == "train")
            trainer.fit.advance(trainer.reservoir, final=False)
        trainer.fit.finish()
        spreads.append(trainer.model.spread(trainer.taken.encode(learned[0])))
    torch.testing.assert_close(*spreads, rtol=1e-6, atol=0.0)


@needs_lammps
@pytest.mark.parametrize("model", ["ridge", "glassnet"])
def test_what_is_known_of_folds_survives_going_on(tiny_run: Run, tmp_path: Path, model: str) -> None:
    small = {"width": 4, "n_layers": 1} if model == "glassnet" else {}
    found = []
    for steps in (6, 8):
        settings = SMALL.model_copy(update={"model": model, "hyperparameters": small, "max_steps": steps})
        result = train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=settings), held_out=())
        spread = load_model(tmp_path / "m").model.state_dict().get("blend.variances", torch.ones(1))
        found.append((result["cross_validated"], bool(torch.isfinite(spread).all())))
    assert found == [(True, True)] * 2


# ---- saving -------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_saved_leaves_the_live_weights_alone(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tiny_run, tmp_path / "m", TINY_TRAIN)
    trainer.train()
    trainer.fit.keep()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1.0)
    live = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}

    def full(*arguments: object) -> None:
        raise StorageError("found a full disk", "room", "make some")

    monkeypatch.setattr("glassmd.models.store.write_bytes", full)
    with pytest.raises(StorageError):
        trainer._save_model()
    assert all(torch.equal(live[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_a_stop_while_the_first_samples_are_taken_leaves_a_checkpoint(tiny_run: Run, tmp_path: Path) -> None:
    settings = Settings(run=TINY, train=TINY_TRAIN)
    train([tiny_run.path], tmp_path / "whole", settings)
    stop, calls = StopRequest(), 0
    take = Trainer.mask

    def stopped(self: Trainer, sample: Sample) -> np.ndarray:
        nonlocal calls
        calls += 1
        return take(self, sample)

    acknowledge = SampleSource.acknowledge

    def third(self: SampleSource, sample: Sample) -> None:
        nonlocal calls
        acknowledge(self, sample)
        calls += 1
        if calls == 3:
            stop._signal = "SIGTERM"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleSource, "acknowledge", third)
        with pytest.raises(Interrupted):
            train([tiny_run.path], tmp_path / "parts", settings, stop=stop)
    path = latest_checkpoint(tmp_path / "parts")
    assert path is not None
    (position,) = load_checkpoint(path)[1]["source"]["position"].values()
    assert {tuple(key[:2]) for key in position} == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)}, "lineage 1 is for testing"
    assert not (tmp_path / "parts" / "model.json").exists()
    train([tiny_run.path], tmp_path / "parts", settings)
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert whole == parts


# ---- labels -------------------------------------------------------------------------------------------------


def sample_of(replicas: int, seed: int, scale: float = 1.0, n: int = 400) -> Sample:
    """Labels as means of `replicas` exponential numbers, whose variance is their squared mean."""
    generator = np.random.default_rng(seed)
    mobility = scale * generator.uniform(0.5, 2.0, (2, n))
    drawn = mobility * generator.exponential(size=(replicas, 2, n))
    unknown = np.full((2, n), np.nan)
    variance = drawn.var(axis=0, ddof=1) if replicas > 1 else unknown
    liquid = Configuration([9.0] * 3, np.arange(n) % 2, generator.uniform(-4, 4, (n, 3)))
    return Sample(
        SampleKey("run", seed, 0), liquid, np.array([1.0, 2.0]), drawn.mean(axis=0), variance, replicas, blocks=(0,)
    )


def summed(samples: list[Sample]) -> LabelSums:
    sums = LabelSums.none(2, 2)
    for one in samples:
        sums = sums.added(one)
    return sums


def test_units_are_mean_and_deviation_of_all_labels() -> None:
    samples = [sample_of(4, seed) for seed in range(3)]
    scale, shift = summed(samples).units
    for s in range(2):
        labels = np.concatenate([one.propensity[:, one.parent.species == s] for one in samples], axis=1)
        np.testing.assert_allclose(scale[s], labels.std(axis=1, ddof=1), rtol=1e-6)
        np.testing.assert_allclose(shift[s], labels.mean(axis=1), rtol=1e-6)


def test_one_replica_borrows_the_variance_of_others_and_nobody_takes_it_for_none() -> None:
    """⟨x²⟩ of uniform numbers from ½ to 2 is 1.75, and the variance of an exponential number is its squared mean."""
    alone = summed([sample_of(1, seed) for seed in range(3)])
    assert np.isnan(alone.variance).all()
    assert np.isnan(alone.noise(sample_of(1, 9))).all()
    some = summed([*(sample_of(1, seed) for seed in range(3)), *(sample_of(16, seed) for seed in range(10, 14))])
    np.testing.assert_allclose(some.variance, 1.75, rtol=0.1)
    np.testing.assert_allclose(some.relative, 1.0, rtol=0.1)
    one, many = some.noise(sample_of(1, 9)), some.noise(sample_of(16, 9))
    np.testing.assert_allclose(one, 16 * many)


def test_noise_follows_the_truth_and_not_only_what_is_predicted_of_it() -> None:
    """The variance of an exponential number is its squared mean, also where the prediction knows half of that."""
    sums = summed([sample_of(16, seed, n=4000) for seed in range(4)])
    generator = np.random.default_rng(3)
    predicted = generator.uniform(0.5, 2.0, (2, 8000))
    truth = predicted + generator.normal(0, 0.4, predicted.shape)
    for replicas in (1, 4):
        labels = (truth * generator.exponential(size=(replicas, *truth.shape))).mean(axis=0)
        liquid = Configuration([9.0] * 3, np.arange(8000) % 2, generator.uniform(-4, 4, (8000, 3)))
        one = Sample(
            SampleKey("run", 9, 0), liquid, np.array([1.0, 2.0]), labels, np.full_like(labels, np.nan), replicas
        )
        found = sums.noise(one, predicted)
        np.testing.assert_allclose(found.mean(axis=1), (truth**2).mean(axis=1) / replicas, rtol=0.05)
        slow, fast = predicted < 1.0, predicted > 1.5
        for chosen in (slow, fast):
            assert found[chosen].mean() == pytest.approx((truth[chosen] ** 2).mean() / replicas, rel=0.05)


def test_labels_that_are_taken_back_leave_no_trace() -> None:
    samples = [sample_of(4, seed) for seed in range(4)]
    turned = summed([samples[2], samples[0], samples[3], samples[1]]).added(samples[3], -1)
    expected = summed(samples[:3])
    for name, value in expected.tensors().items():
        np.testing.assert_allclose(turned.tensors()[name], value, rtol=1e-10)
    again = LabelSums.of_tensors(turned.tensors())
    np.testing.assert_array_equal(again.variance, turned.variance)


def test_what_is_heard_of_tells_the_noise_and_not_the_unit() -> None:
    one, held_out = sample_of(1, 1), sample_of(32, 2, scale=10.0)
    sums = LabelSums.none(2, 2).added(one).added(held_out, learn=False)
    assert np.isfinite(sums.variance).all()
    np.testing.assert_array_equal(sums.units[1], LabelSums.none(2, 2).added(one).units[1])


# ---- encodings ----------------------------------------------------------------------------------------------


def test_some_samples_are_of_all_runs_and_all_of_a_run_that_has_few() -> None:
    taken = Taken(
        n_species=1, n_times=1, encode=lambda _: Data(), mask=lambda _: np.ones(1, bool), fold=lambda _: 0,
        recall=lambda *_: sample_of(1, 0),
    )  # fmt: skip
    taken.blocks = {SampleKey(run, number, 0): (0,) for run, count in (("a", 50), ("b", 4)) for number in range(count)}
    some = taken.some(20)
    assert [key.lineage for key in some if key.run == "b"] == [0, 1, 2, 3]
    assert [key.lineage for key in some if key.run == "a"] == [(2 * k + 1) * 50 // 32 for k in range(16)]
    assert taken.some(100) == sorted(taken.blocks)


def named(number: int) -> tuple[SampleKey, tuple[int, ...]]:
    return SampleKey("run", number, 0), ()


def slowly(number: int, made: list[int]) -> Data:
    made.append(number)
    import time

    time.sleep(0.01)  # so that reading it again pays
    return Data(x=torch.full((1000,), float(number)), num_nodes=1000)


def test_encodings_beyond_the_memory_go_to_disk_and_come_back(tmp_path: Path) -> None:
    made: list[int] = []
    room = 2.5 * 4000 / 2**30
    encodings = Encodings(room, tmp_path / "e", disk=3.5 * 4000 / 2**30)
    for number in (*range(6), *range(6)):
        found = encodings.get(named(number), lambda number=number: slowly(number, made))
        assert torch.equal(found.x, torch.full((1000,), float(number)))
        assert found.num_nodes == 1000
    assert len(encodings._kept) == 2
    assert len(list((tmp_path / "e").iterdir())) == 3
    assert made[:6] == [0, 1, 2, 3, 4, 5]
    assert not {0, 1, 2} & set(made[6:]), "they were on disk"
    later = Encodings(room, tmp_path / "e")
    later.get(named(1), lambda: slowly(1, made))
    assert made.count(1) == 1, "what another process has left is used"
    encodings.remove()
    assert not (tmp_path / "e").exists()


def test_an_encoding_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    made: list[int] = []
    encodings = Encodings(4000 / 2**30, tmp_path / "e")
    for number in (0, 1):
        encodings.get(named(number), lambda number=number: slowly(number, made))
    (path,) = (tmp_path / "e").iterdir()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert float(encodings.get(named(0), lambda: slowly(0, made)).x[-2]) == 0.0
    assert made == [0, 1, 0]


def test_what_is_made_faster_than_read_is_not_written(tmp_path: Path) -> None:
    encodings = Encodings(4000 / 2**30, tmp_path / "e")
    for number in range(4):
        encodings.get(named(number), lambda: Data(x=torch.zeros(1_000_000), num_nodes=1))
    assert not (tmp_path / "e").exists()


def test_a_training_removes_its_encodings_in_the_end(tiny_run: Run, tmp_path: Path) -> None:
    settings = TINY_TRAIN.model_copy(update={"memory": 1e-6})
    stop = StopRequest()

    def stop_at_four(progress: object, simulation: object) -> None:
        if progress.step == 4:  # type: ignore[attr-defined]
            stop._signal = "SIGTERM"

    with pytest.raises(Interrupted):
        train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=settings), stop=stop, show=stop_at_four)
    (tmp_path / "m" / "encodings" / "of-another-learner").mkdir(parents=True, exist_ok=True)
    train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=settings))
    assert not list((tmp_path / "m").glob("encodings/*"))
    train([tiny_run.path], tmp_path / "whole", Settings(run=TINY, train=TINY_TRAIN))
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "m"))
    assert whole == parts
    assert json.loads((tmp_path / "m" / "model.json").read_text())["provenance"]["validation_samples"] == [2, 2]
