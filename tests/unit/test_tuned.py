"""`train --from`: a trained model stays as it is, and what it leaves is learned, offline and on a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.errors import Interrupted, ModelError, SettingsError
from glassmd.interrupt import StopRequest
from glassmd.learners import make_model
from glassmd.learners.linear.tuned import TunedModel
from glassmd.learners.part import Labelled
from glassmd.mixtures import get_mixture
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.structure import Structure
from glassmd.training.session import train, train_stream
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps
from tests.fault.refusals import assert_refused

TRUNCATIONS = ("shifted", "force-shifted")
RIDGE = TINY_TRAIN.model_copy(update={"model": "ridge", "input": ["thermal"], "max_steps": None})


def begun(model: Path, **others: object) -> Settings:
    """Settings that begin with a model."""
    return Settings(run=TINY, train=TrainSettings(from_model=str(model), train_threads=1, **others))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to begin with: of the first time only."""
    path = tmp_path_factory.mktemp("base") / "model"
    train([tiny_run.path], path, Settings(run=TINY, train=RIDGE))
    return path


def random_liquid(seed: int, n: int = 250) -> Structure:
    """No physics, but every particle has surroundings of its own."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3)[:n] - 3.0
    positions = grid + 0.15 * generator.standard_normal((n, 3))
    liquid = Configuration([7.0] * 3, np.arange(n) % 5 == 0, positions)
    return Structure(liquid, get_mixture("kob-andersen"), 0.5)


@needs_lammps
def test_it_is_no_worse_than_what_it_began_with(tiny_run: Run, base: Path, tmp_path: Path) -> None:
    train([tiny_run.path], tmp_path / "m", begun(base))
    found, before = load_model(tmp_path / "m"), load_model(base)
    assert isinstance(found.model, TunedModel)
    assert found.card.times == before.card.times
    unseen = [one for one in tiny_run.samples() if one.role != "train"]
    errors = [
        [np.square(predict(one.parent, of, temperature=1.5).propensity - one.propensity).mean() for one in unseen]
        for of in (found, before)
    ]
    after, first = (float(np.mean(of)) for of in errors)
    assert after < 1.1 * first
    own = found.model.other.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in before.model.state_dict().items())
    assert found.card.provenance["settings"]["from_model"] == str(base)


def test_what_is_left_is_learned(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    first = make_model("ridge", n_times=1, n_species=2, inputs=["thermal"])
    samples = []
    for seed in range(5):
        structure = random_liquid(seed)
        data = first.encode(structure)
        x = data.features[:, :3].double()
        labels = (x / x.std(dim=0)).sum(dim=1, keepdim=True)
        samples.append(Labelled(data, labels, data.species >= 0, 4, seed))
    first.fit(samples)  # type: ignore[attr-defined]
    tuned = TunedModel(
        start={"model": "ridge", "hyperparameters": first.hyperparameters()}, between=[[1.0]], inputs=["thermal"]
    )
    tuned.begin_with(first)
    more = []
    for seed in range(5):
        data = tuned.encode(random_liquid(seed))
        labels = 2.0 * samples[seed].labels + 0.01 * torch.randn(samples[seed].labels.shape, generator=generator)
        more.append(samples[seed]._replace(data=data, labels=labels))
    tuned.fit(more)
    again = random_liquid(77)
    data = first.encode(again)
    x = data.features[:, :3].double()
    scale = torch.stack([sample.data.features[:, :3].double().std(dim=0) for sample in samples]).mean(dim=0)
    truth = 2.0 * (x / scale).sum(dim=1)
    known, learned = first(data)[:, 0].double(), tuned(tuned.encode(again))[:, 0].double()
    assert (learned - truth).square().mean() < 0.1 * (known - truth).square().mean()


def test_one_lineage_teaches_a_constant_and_no_more() -> None:
    first = make_model("ridge", n_times=1, n_species=2, inputs=["thermal"])
    start = {"model": "ridge", "hyperparameters": first.hyperparameters()}
    tuned = TunedModel(start=start, between=[[1.0]], inputs=["thermal"])
    for lineages in (1, 2):
        samples = []
        for seed in range(4):
            data = tuned.encode(random_liquid(seed))
            labels = 3.0 + data.features[:, :3].double().mean(dim=1, keepdim=True)
            samples.append(Labelled(data, labels, data.species >= 0, 4, seed % lineages))
        tuned.fit(samples)
        found = tuned(samples[0].data)[samples[0].data.species == 0]
        constant = found.std() < 0.02 * samples[0].labels.std()
        assert bool(constant) == (lineages == 1)
        assert bool(tuned.reservations()) == (lineages == 1)
        assert found.mean().item() == pytest.approx(samples[0].labels.mean().item(), rel=0.1)


def test_a_liquid_that_is_cut_off_otherwise_is_described_as_the_models_own() -> None:
    first = make_model("ridge", n_times=1, n_species=2, inputs=["thermal"])
    shifted, own = (replace(random_liquid(1), mixture=get_mixture("kob-andersen", of)) for of in TRUNCATIONS)
    start = {"model": "ridge", "hyperparameters": first.hyperparameters(), "mixture": own.mixture.identity()}
    tuned = TunedModel(start=start, between=[[1.0]], inputs=["thermal"])
    assert not torch.equal(first.encode(shifted).features, first.encode(own).features)
    assert torch.equal(tuned.encode(shifted).features, first.encode(own).features)
    assert replace(own, mixture=get_mixture("wca")).cut_off_as(own.mixture).mixture.name == "wca", "another liquid"


@needs_lammps
def test_stopped_it_goes_on_to_the_same(run_copy: Path, base: Path, tmp_path: Path) -> None:
    class Stop(StopRequest):
        """Stops at the third look."""

        looks = 0

        def check(self) -> None:
            self.looks += 1
            if self.looks > 6:
                raise Interrupted("stopped", "", "")

    train([run_copy], tmp_path / "whole", begun(base))
    with pytest.raises(Interrupted):
        train([run_copy], tmp_path / "cut", begun(base), stop=Stop())
    train([run_copy], tmp_path / "cut", begun(base))
    whole, cut = (load_model(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.allclose(whole[name], cut[name], rtol=0, atol=1e-9, equal_nan=True) for name in whole)


@needs_lammps
def test_on_a_stream_it_is_what_it_is_offline(base: Path, tmp_path: Path) -> None:
    streamed = train_stream(begun(base), tmp_path / "stream")
    train([Path(streamed["run"])], tmp_path / "offline", begun(base))
    first, second = (load_model(tmp_path / name).model.state_dict() for name in ("stream", "offline"))
    assert all(torch.allclose(first[name], second[name], rtol=1e-6, atol=1e-9, equal_nan=True) for name in first)


@needs_lammps
def test_other_times_are_interpolated_between_those_of_the_model(tiny_run: Run, base: Path, tmp_path: Path) -> None:
    settings = begun(base, first_time=TINY.times[-1])
    train([tiny_run.path], tmp_path / "m", settings)
    found = load_model(tmp_path / "m")
    assert found.card.times == [TINY.times[-1]]
    assert found.card.hyperparameters["between"] == [[0.0, 1.0]]


@needs_lammps
def test_the_command_says_what_is_wrong_before_anything_is_computed(
    tiny_run: Run, base: Path, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    out = tmp_path / "m"
    both = glassmd("train", tiny_run.path, "--from", base, "--model", "ridge", "--out", out)
    assert_refused(both, "found --model ridge with --from", "leave one out")
    assert_refused(glassmd("train", tiny_run.path, "--from", tmp_path / "no", "--out", out), "found no model directory")
    wrong = glassmd("train", tiny_run.path, "--from", base, "--target", "bond-breaking", "--out", out)
    assert_refused(wrong, "bond-breaking", "the model predicts")
    unseen = glassmd("train", tiny_run.path, "--from", base, "--input", "cage", "--out", out)
    assert_refused(unseen, "found input cage", "thermal")
    assert_refused(glassmd("train", tiny_run.path, "--model", "tuned", "--out", out), "found no model to start from")
    assert not (out / "checkpoints").exists()
    told = glassmd("train", tiny_run.path, "--from", base, "--out", out, "--json")
    assert told.code == 0, told.err
    assert told.json["model"] == "tuned"


def test_settings_of_both_are_refused() -> None:
    with pytest.raises(SettingsError, match="found --model ridge with --from x"):
        TrainSettings(model="ridge", from_model="x")
    assert TrainSettings(from_model="x").model == "tuned"


def test_a_model_of_other_species_is_none_to_begin_with() -> None:
    start = {"model": "ridge", "hyperparameters": {"n_species": 3, "inputs": ["thermal"]}}
    with pytest.raises(ModelError, match="a model of 3 species in 3 dimensions"):
        TunedModel(start=start, between=[[1.0]])
