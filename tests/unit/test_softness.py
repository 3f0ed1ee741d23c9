"""Softness and its regression counterpart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners import make_model
from glassmd.learners.fitting.solved import Solvable
from glassmd.learners.linear.extreme_rows import ExtremeRows
from glassmd.learners.linear.hyperplane import METHODS, cross_validate, fit_hyperplane
from glassmd.learners.linear.softness import SoftnessModel
from glassmd.learners.part import Labelled
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import load_model, save_model
from glassmd.structure import Structure

KA = get_mixture("kob-andersen")


def _normal(n: int, k: int, shift: float, seed: int) -> np.ndarray:
    """Points with unit variance, moved by `shift` along the first axis."""
    points = np.random.default_rng(seed).normal(size=(n, k))
    points[:, 0] += shift
    return points


@pytest.mark.parametrize("method", METHODS)
def test_the_plane_separates_as_well_as_anything_can(method):
    # Two normal clouds 2a apart: nothing is right more often than Φ(a).
    n, a = 3000, 1.2
    soft, hard, folds = _normal(n, 6, a, 0), _normal(n, 6, -a, 1), np.arange(n) % 5
    found = cross_validate(soft, hard, folds, folds, method=method)
    best = 0.5 * (1 + math.erf(a / math.sqrt(2)))
    error = math.sqrt(best * (1 - best) / (2 * n))
    assert abs(found.mean - best) < 4 * error + 0.002  # 6 weights learned from 4800 rows cost less than that
    assert set(found.left_out) == set(range(5))


@pytest.mark.parametrize("method", METHODS)
def test_softness_knows_neither_the_units_of_descriptors_nor_the_sizes_of_the_classes(method):
    soft, hard = _normal(300, 4, 1.0, 0), _normal(200, 4, -1.0, 1)
    units, shift = np.array([1e3, 1e-2, 5.0, 1.0]), np.array([1e4, 0.0, -3.0, 2.0])
    points = _normal(50, 4, 0.0, 2)
    plane = fit_hyperplane(soft, hard, method=method)
    other = fit_hyperplane(soft * units + shift, hard * units + shift, method=method)
    np.testing.assert_allclose(other.softness(points * units + shift), plane.softness(points), atol=1e-4)
    twice = fit_hyperplane(soft, np.concatenate([hard, hard, hard]), method=method)
    np.testing.assert_allclose(twice.softness(points), plane.softness(points), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_descriptor_that_never_varies_has_no_weight(method):
    soft, hard = _normal(60, 3, 1.0, 0), _normal(60, 3, -1.0, 1)
    soft[:, 2] = hard[:, 2] = 7.1
    assert fit_hyperplane(soft, hard, method=method).normal[2] == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_a_descriptor_that_one_row_in_a_thousand_has_does_not_move_a_new_particle(method):
    soft, hard = _normal(1000, 3, 1.0, 0), _normal(1000, 3, -1.0, 1)
    soft[:, 2] = hard[:, 2] = 0.0
    soft[7, 2] = 1e-9
    plane = fit_hyperplane(soft, hard, method=method)
    assert plane.softness([[0.0, 0.0, 1e-6]]) == pytest.approx(plane.softness([[0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_differs_unseen_rows_are_guessed(method):
    n = 600
    soft, hard, folds = _normal(n, 20, 0.0, 0), _normal(n, 20, 0.0, 1), np.arange(n) % 4
    found = cross_validate(soft, hard, folds, folds, method=method)
    assert abs(found.mean - 0.5) < 4 * math.sqrt(0.25 / (2 * n))


def test_one_fold_gives_a_plane_and_no_accuracy():
    soft, hard = _normal(40, 2, 1.0, 0), _normal(40, 2, -1.0, 1)
    found = cross_validate(soft, hard, [0] * 40, [0] * 40)
    assert math.isnan(found.mean)
    assert math.isnan(found.error)
    assert found.left_out == {}


def test_rows_that_cannot_be_separated_are_refused():
    with pytest.raises(ModelError, match="rows of both"):
        fit_hyperplane(np.zeros((0, 2)), np.ones((3, 2)))
    with pytest.raises(ModelError, match="do not differ"):
        fit_hyperplane(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ModelError, match="not finite"):
        fit_hyperplane([[np.nan]], [[1.0]])
    with pytest.raises(ModelError, match="one of each"):
        cross_validate(np.ones((3, 1)), np.zeros((2, 1)), [0, 1], [0, 1])


def _extremes(samples: list[Labelled], capacity: int = 1000) -> ExtremeRows:
    rows = ExtremeRows(share=0.1, capacity=capacity)
    for one in samples:
        rows = rows.added(one)
    return rows


def _sample_of(seed: int) -> Labelled:
    generator = np.random.default_rng(seed)
    x, labels = generator.normal(size=(100, 3)).astype(np.float32), generator.normal(size=(100, 2))
    data = Data(
        **{NODE_FEATURES: torch.from_numpy(x), NODE_SPECIES: torch.zeros(100, dtype=torch.int64)}, num_nodes=100
    )
    return Labelled(data, torch.from_numpy(labels), torch.ones(100, dtype=torch.bool), n_replicas=1, fold=seed % 5)


def test_the_most_and_least_mobile_are_kept_at_every_time():
    sample = _sample_of(0)
    x, labels = sample.data[NODE_FEATURES].numpy(), sample.labels.numpy()
    rows = _extremes([sample])
    for time in range(2):
        order = np.argsort(labels[:, time])
        soft, hard = rows.of(0, time)
        np.testing.assert_array_equal(np.sort(soft.x, axis=0), np.sort(x[order[-10:]], axis=0))
        np.testing.assert_array_equal(np.sort(hard.x, axis=0), np.sort(x[order[:10]], axis=0))


def test_what_is_kept_does_not_depend_on_the_order_and_is_bounded():
    samples = [_sample_of(seed) for seed in range(8)]
    forth, back = _extremes(samples, capacity=25), _extremes(samples[::-1], capacity=25)
    for one, other in zip(forth.of(0, 1), back.of(0, 1), strict=True):
        assert len(one.x) == 25
        assert len(set(one.fold.tolist())) > 1
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.fold, other.fold)
        assert one.bound == other.bound < 1


def test_a_sample_that_is_taken_back_leaves_no_row():
    samples = [_sample_of(seed) for seed in range(3)]
    rows, expected = _extremes(samples).added(samples[2], -1), _extremes(samples[:2])
    assert rows.exact
    for found, wanted in zip(rows.of(0, 0), expected.of(0, 0), strict=True):
        np.testing.assert_array_equal(found.x, wanted.x)
        np.testing.assert_array_equal(found.fold, wanted.fold)


def test_taking_back_says_so_where_rows_that_were_dropped_would_have_come_back():
    samples = [_sample_of(seed) for seed in range(3)]
    full = _extremes(samples, capacity=25)
    assert full.exact
    assert not full.added(samples[2], -1).exact
    assert not full.added(samples[2], -1).added(samples[2]).exact
    later = full.added(samples[1], -1).added(samples[2], -1).added(_sample_of(3))
    for rows, before in zip(later.of(0, 0), full.of(0, 0), strict=True):
        assert (rows.rank < before.bound).all()  # no row that stayed out takes the place of one that was dropped
    assert full.exact  # sums are never changed
    assert [len(rows.x) for rows in full.of(0, 0)] == [25, 25]


_UNKNOWN = torch.full((2, 1), torch.nan, dtype=torch.float64)
_DIRECTION = np.random.default_rng(99).normal(size=166) / math.sqrt(166)


def _encoded(seed: int, n: int = 400, noise: float = 0.5) -> tuple[Data, torch.Tensor]:
    """Descriptors along one direction of which the propensity grows: 1 + 0.3 (d·x + noise)."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 166))
    labels = 1 + 0.3 * (x @ _DIRECTION + noise * generator.normal(size=n))
    species = torch.from_numpy((np.arange(n) % 4 == 0).astype(np.int64))
    data = Data(**{NODE_FEATURES: torch.from_numpy(x).float(), NODE_SPECIES: species}, num_nodes=n)
    return data, torch.from_numpy(labels)[:, None]


def _labelled(seed: int) -> Labelled:
    data, labels = _encoded(seed)
    return Labelled(data, labels, torch.ones(len(labels), dtype=torch.bool), n_replicas=1, fold=seed % 5)


@pytest.fixture(scope="module")
def solved() -> SoftnessModel:
    model = make_model("softness", n_times=1)
    assert isinstance(model, SoftnessModel)
    return model.fit([_labelled(seed) for seed in range(20)])


def test_softness_becomes_a_propensity_with_its_line_and_its_scatter(solved):
    data, labels = _encoded(100, n=20_000)
    predicted, truth = solved(data).double()[:, 0], labels[:, 0]
    assert float(np.corrcoef(predicted, truth)[0, 1]) > 0.8  # the noise leaves √(1/1.25) = 0.894
    for species in (0, 1):
        of = data[NODE_SPECIES] == species
        slope = np.polyfit(predicted[of], truth[of], 1)[0]
        # the line was fitted with planes of four fifths of the rows, whose slope is a little smaller
        assert 0.9 < slope < 1.25
        left = float((truth[of] - predicted[of]).std())
        assert float(solved.spread(data)[of].mean()) == pytest.approx(left, rel=0.1)
    assert float(solved.accuracy.min()) > 0.85
    assert bool((solved.accuracy_error < 0.05).all())


def test_softness_is_positive_where_particles_are_mobile(solved):
    data, labels = _encoded(101, n=4000)
    softness = solved.softness(data)[:, 0]
    mobile = labels[:, 0] > labels[:, 0].mean()
    assert float(((softness > 0) == mobile).double().mean()) > 0.7


def test_a_sample_taken_back_was_never_there():
    model, samples = make_model("softness"), [_labelled(seed) for seed in range(4)]
    expected = make_model("softness").fit(samples)
    sums = model.no_sums().anchored(samples[0], {0, 1})
    for one in samples:
        sums = sums.added(one)
    data, labels = _encoded(4)
    coming = Labelled(data, 2 - labels, torch.ones(len(labels), dtype=torch.bool), n_replicas=1, fold=4)  # soft is hard
    new, _ = _encoded(5)
    model.solve(sums.added(coming), _UNKNOWN)
    assert float((model(new) - expected(new)).abs().max()) > 0.01
    model.solve(sums.added(coming).added(coming, -1), _UNKNOWN)
    torch.testing.assert_close(model(new), expected(new), rtol=0, atol=1e-6)


def test_softness_refuses_what_it_was_not_made_for():
    with pytest.raises(ModelError, match="one kind of positions"):
        make_model("softness", inputs=["thermal", "cage"])
    with pytest.raises(ModelError, match=r"share=0\.7"):
        make_model("softness", share=0.7)
    model = make_model("softness")
    with pytest.raises(ModelError, match="no labelled particle"):
        model.solve(model.no_sums(), _UNKNOWN)


def _liquid(seed: int = 0, n: int = 216) -> Structure:
    generator = np.random.default_rng(seed)
    side = round(n ** (1 / 3))
    grid = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    points = grid + generator.uniform(-0.2, 0.2, grid.shape)
    species = generator.permutation(np.arange(len(grid)) % 5 == 0).astype(int)
    return Structure(Configuration([side] * 3, species, points), KA, 0.5)


def _trained_on_liquids(name: str) -> Solvable:
    model, samples = make_model(name), []
    assert isinstance(model, Solvable)
    for seed in range(5):
        labels = torch.from_numpy(np.random.default_rng(seed).normal(1, 0.3, (216, 1)))
        everyone = torch.ones(216, dtype=torch.bool)
        samples.append(Labelled(model.encode(_liquid(seed)), labels, everyone, n_replicas=1, fold=seed))
    return model.fit(samples)


@pytest.mark.parametrize("name", ["softness", "softness-regression"])
def test_predictions_do_not_depend_on_how_a_liquid_is_written_down(name):
    model, structure = _trained_on_liquids(name), _liquid(10)
    start = structure.thermal
    expected = model(model.encode(structure))
    order = np.random.default_rng(3).permutation(start.n_particles)
    turned = start.positions[:, [1, 2, 0]] * [1, -1, 1] + [0.7, 40.0, -3.0]  # turned, mirrored, moved through the box
    written = Configuration(start.box, start.species[order], turned[order])
    found = model(model.encode(replace(structure, thermal=written)))
    torch.testing.assert_close(found, expected[torch.from_numpy(order)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["softness", "softness-regression"])
def test_a_saved_learner_predicts_the_same(name, tmp_path):
    model, data = _trained_on_liquids(name), None
    data = model.encode(_liquid(10))
    card = ModelCard(
        model=name, mixture=KA.identity(), temperatures=[0.5], density=1.2, times=[1.0], trained_species=["A", "B"]
    )
    save_model(tmp_path / "model", model, card)
    again = load_model(tmp_path / "model").model
    torch.testing.assert_close(again(data), model(data), rtol=0, atol=0)


def test_regression_learns_propensities_from_every_particle():
    model = make_model("softness-regression").fit([_labelled(seed) for seed in range(20)])
    data, labels = _encoded(100, n=4000)
    assert float(np.corrcoef(model(data)[:, 0], labels[:, 0])[0, 1]) > 0.85
