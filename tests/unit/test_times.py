"""Runs with different times: one model of all of them, to which labels that were not measured mean nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from glassmd_cli.app import main

from glassmd.comparison.session import compare
from glassmd.errors import ModelError
from glassmd.evaluation import evaluate
from glassmd.learners import LEARNERS, make_model, model_class
from glassmd.learners.fitting.solved import Solvable
from glassmd.learners.glassnet.blend import Blend
from glassmd.learners.labels import LabelSums
from glassmd.learners.losses import weighted_square_error
from glassmd.learners.part import Labelled
from glassmd.metrics import score
from glassmd.models.store import load_model
from glassmd.settings import Settings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import at_times, union_of_times
from glassmd.stream.structures import Structures
from glassmd.training.session import train
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN, needs_lammps
from tests.unit.test_training_device import SMALL

pytestmark = needs_lammps

SOLVED = [name for name in LEARNERS if issubclass(model_class(name), Solvable)]
OTHER = TINY.model_copy(update={"times": [0.5, 1.0], "seed": 8, "particles": 200})


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with the second time of the tiny one, and a later one."""
    path = tmp_path_factory.mktemp("other") / "run"
    simulate(OTHER, path)
    return open_run(path)


def settings_of(name: str, steps: int) -> Settings:
    changes = {"model": name, "hyperparameters": SMALL.get(name, {}), "max_steps": steps, "input": None}
    return Settings(run=TINY, train=TINY_TRAIN.model_copy(update=changes))


def labelled(run: Run, model: Any, times: list[float], *, relabel: list[float] | None = None) -> list[Labelled]:
    """Training samples of a run at these times, encoded; at `relabel` only, with that as all times."""
    structures = Structures([run], model.inputs)
    found = []
    for sample in run.samples():
        if sample.role == "train":
            seen = at_times(sample, np.asarray(times if relabel is None else relabel))
            own = torch.from_numpy(seen.propensity.T.copy()), torch.ones(seen.parent.n_particles, dtype=torch.bool)
            found.append(Labelled(model.encode(structures.of(sample)), *own, sample.n_replicas, sample.key.lineage % 5))
    return found


# ---- what it consists of --------------------------------------------------------------------------------------


def test_times_that_agree_in_six_digits_are_one() -> None:
    assert union_of_times([[0.1, 3.0], [3.0000001, 0.05], []]) == [0.05, 0.1, 3.0]


def test_labels_that_were_not_measured_are_nan_and_the_others_stay(tiny_run: Run) -> None:
    sample = tiny_run.samples()[0]
    found = at_times(sample, np.array([0.05, 0.1, 0.5]))
    assert np.isnan(found.propensity[0]).all()
    assert np.isnan(found.variance[0]).all()
    np.testing.assert_array_equal(found.propensity[1:], sample.propensity)
    assert at_times(sample, sample.times) is sample
    np.testing.assert_array_equal(at_times(found, sample.times).variance, sample.variance)


def test_a_loss_does_not_see_what_was_not_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(6, 3, generator=generator, requires_grad=True)
    target, noise = torch.randn(6, 3, generator=generator), torch.rand(6, 3, generator=generator)
    mask = torch.tensor([True] * 5 + [False])
    target[:, 1], noise[2:, 2] = torch.nan, torch.nan
    for of in (None, noise):
        (gradient,) = torch.autograd.grad(weighted_square_error(output, target, mask, of), output)
        assert bool(torch.isfinite(gradient).all())
        assert not gradient[:, 1].any()
        assert gradient[:5, [0, 2]].all()
        kept = [0, 2]
        alone = weighted_square_error(output[:, kept], target[:, kept], mask, None if of is None else of[:, kept])
        torch.testing.assert_close(weighted_square_error(output, target, mask, of), alone)
    assert float(weighted_square_error(output, target * torch.nan, mask).detach()) == 0


def test_units_and_noise_are_those_of_what_was_measured(tiny_run: Run) -> None:
    times, samples = np.array([0.05, 0.1, 0.5]), tiny_run.samples()[:3]
    whole, part = LabelSums.none(2, 2), LabelSums.none(2, 3)
    for sample in samples:
        whole, part = whole.added(sample), part.added(at_times(sample, times))
    for found, expected in zip(part.units, whole.units, strict=True):
        torch.testing.assert_close(found[:, 1:], expected)
    assert part.units[0][:, 0].tolist() == [1, 1], "nothing is known of it"
    np.testing.assert_allclose(part.variance[:, 1:], whole.variance)
    assert np.isnan(part.variance[:, 0]).all()
    taken_back = part.added(at_times(samples[0], times), -1).added(at_times(samples[0], times))
    np.testing.assert_allclose(taken_back.label, part.label)
    expected = part.noise(at_times(samples[0], times), np.ones((3, TINY.particles)))
    assert np.isfinite(expected[1:]).all()


def test_scores_are_over_the_configurations_with_labels() -> None:
    generator = np.random.default_rng(0)
    labels = [generator.normal(size=(2, 30)) for _ in range(3)]
    guesses, variances = [label + generator.normal(size=(2, 30)) for label in labels], [np.full((2, 30), 0.1)] * 3
    masks, counts = [np.ones(30, bool)] * 3, [4] * 3
    whole = score(guesses, labels, variances, counts, masks)
    labels[1] = labels[1].copy()
    labels[1][0] = np.nan
    found = score(guesses, labels, variances, counts, masks)
    assert found.mean[0] == pytest.approx(whole.per_configuration[[0, 2], 0].mean())
    assert found.sd[0] == pytest.approx(whole.per_configuration[[0, 2], 0].std(ddof=1))
    assert (found.mean[1], found.pooled[1]) == (whole.mean[1], whole.pooled[1])
    assert np.isfinite(found.pooled).all()
    assert found.ceiling_share().n_left_out.tolist() == [0, 0]
    nobody = score(guesses, [label * np.nan for label in labels], variances, counts, masks)
    assert np.isnan([*nobody.mean, *nobody.pooled, *nobody.reliability]).all()


def test_a_blend_is_fitted_to_what_was_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(400, 2, generator=generator) for _ in range(2))
    target, noise = 0.3 * first + 0.7 * second, torch.zeros(400, 2)
    species, liquid = torch.zeros(400, dtype=torch.int64), torch.arange(400) // 100
    known = liquid > 1
    whole, part = Blend(n_species=1, n_times=2), Blend(n_species=1, n_times=2)
    whole.fit(first[known], second[known], target[known], noise[known], species[known], liquid[known] - 2)
    blank = torch.where(known[:, None], target, torch.nan)
    blank[:, 1] = target[:, 1]
    part.fit(first, second, blank, noise, species, liquid)
    torch.testing.assert_close(part.weights[0, 0], whole.weights[0, 0])
    assert bool(torch.isfinite(part.weights).all())


# ---- learners -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVED)
def test_what_is_solved_at_a_time_is_solved_from_the_samples_that_have_it(
    name: str, tiny_run: Run, other_run: Run, tmp_path: Path
) -> None:
    """In any order, after a checkpoint, and with a sample taken back and added again."""
    times = [0.1, 0.5, 1.0]
    whole = make_model(name, n_times=3)
    runs = [copied(run, tmp_path / name_, whole.inputs) for name_, run in (("a", tiny_run), ("b", other_run))]
    first, second = (labelled(run, whole, times) for run in runs)
    variance = torch.full((2, 3), 0.01, dtype=torch.float64)
    whole.fit([*first, *second], variance)
    by_time = {0: [runs[0]], 1: runs, 2: [runs[1]]}
    data = second[0].data
    for time, of in by_time.items():
        alone = make_model(name, n_times=1)
        unlabelled = first[0]._replace(labels=torch.zeros(TINY.particles, 1, dtype=torch.float64))
        sums = alone.no_sums().anchored(unlabelled, {0, 1})  # limits of columns are those of the same sample
        for sample in [s for run in of for s in labelled(run, alone, times, relabel=[times[time]])]:
            sums = sums.added(sample)
        alone.solve(sums, variance[:, :1])
        expected = alone(data)[:, 0]
        assert bool(expected.std() > 0)
        torch.testing.assert_close(whole(data)[:, time], expected, rtol=1e-3, atol=2e-4)
        spread = whole.spread(data)
        if spread is not None:
            torch.testing.assert_close(spread[:, time], alone.spread(data)[:, 0], rtol=1e-3, atol=1e-5)
    sums = whole.no_sums().anchored(first[0], {0, 1})
    for sample in [*second[::-1], *first[::-1]]:
        sums = sums.added(sample)
    sums = whole.no_sums().restored(sums.tensors()).added(first[0], -1).added(first[0])
    again = make_model(name, n_times=3)
    if sums.exact:
        again.solve(sums, variance)
        torch.testing.assert_close(again(data), whole(data), rtol=1e-3, atol=1e-3)


def copied(run: Run, path: Path, inputs: tuple[str, ...]) -> Run:
    """A copy with what the learner sees."""
    shutil.copytree(run.path, path)
    found = open_run(path)
    structures = Structures([found], inputs)
    structures.make([sample.key for sample in found.samples()], TINY)
    return found


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_trains_on_runs_with_different_times(
    name: str, tiny_run: Run, other_run: Run, tmp_path: Path
) -> None:
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "m"
    shutil.copytree(tiny_run.path, a)
    shutil.copytree(other_run.path, b)
    steps = 7 if name == "glassnet" else 2
    result = train([a, b], out, settings_of(name, steps))
    assert result["times"] == [0.1, 0.5, 1.0]
    assert np.isfinite(result["validation"]["A"]["pearson"]).all()
    again = train([a, b], out, settings_of(name, steps + 1))
    assert np.isfinite(again["validation"]["A"]["pearson"]).all()
    card = load_model(out).card
    assert card.times == [0.1, 0.5, 1.0]
    assert np.isfinite(card.residual_std["A"]).all()
    found = evaluate(out, [a, b])
    assert found["times"] == [0.1, 0.5, 1.0]
    assert found["times_left_out"] == []
    assert np.isfinite(found["species"]["A"]["pearson_per_configuration"]["mean"]).all()
    assert evaluate(out, [b])["times"] == [0.5, 1.0]


# ---- the whole ------------------------------------------------------------------------------------------------


def test_a_source_has_the_times_of_all_runs(tiny_run: Run, other_run: Run) -> None:
    source = SampleSource([tiny_run, other_run])
    assert source.times == [0.1, 0.5, 1.0]
    for sample in source.poll():
        blank = np.isnan(sample.propensity).all(axis=1).tolist()
        assert blank == ([False, False, True] if sample.key.run == tiny_run.identity["id"] else [True, False, False])
        again = replace(sample, propensity=np.nan_to_num(sample.propensity))
        assert np.isfinite(again.propensity).all()


def test_a_stream_of_runs_with_different_times_ends_with_one_model(
    tiny_run: Run, other_run: Run, tmp_path: Path
) -> None:
    result = train([tiny_run.path, other_run.path], tmp_path / "m", settings_of("bapst", 3), follow=True)
    assert result["times"] == [0.1, 0.5, 1.0]


def test_a_model_is_scored_at_the_times_that_it_shares_with_the_data(
    tiny_model: Path, other_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(tiny_model, [other_run.path])
    assert (found["times"], found["times_left_out"]) == ([0.5], [1.0])
    assert main(["evaluate", str(tiny_model), str(other_run.path)]) == 0
    assert "left out t = 1, which the model does not predict" in capsys.readouterr().out
    assert main(["evaluate", str(tiny_model), str(other_run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["times_left_out"] == [1.0]


def test_a_model_that_shares_no_time_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    later = TINY.model_copy(update={"times": [0.7], "lineages": 3, "parents": 1, "replicas": 2})
    simulate(later, tmp_path / "run")
    with pytest.raises(ModelError, match=r"found time 0.7; expected one of the model's times 0.1, 0.5"):
        evaluate(tiny_model, [tmp_path / "run"])


def test_learners_are_compared_on_runs_with_different_times(tiny_run: Run, other_run: Run, tmp_path: Path) -> None:
    found = compare([tiny_run.path, other_run.path], entries=["density:inherent", "softness"], out=tmp_path / "out")
    assert found["times"] == [0.1, 0.5, 1.0]
    for entry in found["entries"]:
        assert np.isfinite(entry["species"]["A"]["pearson"]["mean"]).all()
        assert entry["species"]["A"]["heterogeneity"] is None, "labels of different times"
    assert np.isfinite(found["differences"]["mean"]).all()
