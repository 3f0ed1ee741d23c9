"""Susceptibility, correlation function and correlation length against fields whose own are known."""

import tracemalloc

import numpy as np
import pytest

from glassmd.analysis.spatial import NEAR, SHELL, PairSums, correlation_length, jackknife, pair_sums
from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.neighbour_search import pairs_within

BOX = 12.0


def liquid(generator, d=3, n=400):
    points = generator.uniform(-BOX / 2, BOX / 2, (n, d))
    return Configuration(box=[BOX] * d, species=np.zeros(n, int), positions=points)


class GaussianField:
    """Periodic Gaussian fields with covariance exp(−r/ξ): power ∝ (1 + k²ξ²)^(−(d+1)/2), variance 1 in all."""

    def __init__(self, xi, d):
        highest = 8 if d == 3 else 24
        grid = np.stack(np.meshgrid(*[np.arange(-highest, highest + 1)] * d, indexing="ij"), -1).reshape(-1, d)
        half = grid[len(grid) // 2 :]  # one of each ±k, k = 0 first
        self.k = 2 * np.pi / BOX * half
        power = (1 + (self.k**2).sum(axis=1) * xi**2) ** (-(d + 1) / 2)
        power[1:] *= 2
        self.power = power / power.sum()

    def draw(self, points, generator):
        amplitude, phase = generator.normal(size=(2, len(self.k))) * np.sqrt(self.power)
        angle = points @ self.k.T
        return np.cos(angle) @ amplitude + np.sin(angle) @ phase

    def covariance(self, distance):
        """Between two points at these (n, d) vectors."""
        return np.cos(distance @ self.k.T) @ self.power


@pytest.mark.parametrize(("d", "xi"), [(3, 1.2), (3, 2.0), (2, 1.5)])
def test_the_length_of_a_gaussian_field_is_found_within_its_error(d, xi):
    generator = np.random.default_rng(d)
    field = GaussianField(xi, d)
    # more particles than modes matter in 3D; in 2D more configurations
    liquids = [liquid(generator, d) for _ in range(24)]
    values = [field.draw(one.positions, generator)[None] for one in liquids]
    sums = pair_sums(liquids, values, [np.ones(400, bool)] * 24)
    lengths, errors = jackknife(sums, PairSums.lengths)
    # what the truncated, periodic spectrum itself gives with the same estimator, not the ξ it was made from
    direction = np.ones(d) / np.sqrt(d)
    truth = correlation_length(sums.radii, field.covariance(sums.radii[:, None] * direction))
    assert truth == pytest.approx(xi, rel=0.25)
    assert errors[0] < 0.3 * truth
    assert abs(lengths[0] - truth) < 4 * errors[0]


def test_the_correlation_function_is_that_of_the_field():
    generator = np.random.default_rng(5)
    field = GaussianField(1.5, 3)
    liquids = [liquid(generator) for _ in range(30)]
    sums = pair_sums(liquids, [field.draw(x.positions, generator)[None] for x in liquids], [np.ones(400, bool)] * 30)
    found, errors = jackknife(sums, PairSums.correlation)
    expected = field.covariance(sums.radii[:, None] * np.ones(3) / np.sqrt(3))
    shells = sums.pairs.sum(axis=0) > 1000
    assert shells.sum() > 15
    assert np.all(np.abs(found[0] - expected)[shells] < 5 * errors[0][shells] + 0.02)


def test_independent_numbers_have_the_susceptibility_of_one_particle_and_no_correlation():
    generator = np.random.default_rng(1)
    liquids = [liquid(generator, n=200) for _ in range(60)]
    values = [3.0 + 2.0 * generator.normal(size=(1, 200)) for _ in liquids]
    sums = pair_sums(liquids, values, [np.ones(200, bool)] * 60)
    chi, error = jackknife(sums, PairSums.susceptibility)
    # a variance from 60 means is known to √(2/59) = 18%
    assert error[0] == pytest.approx(4.0 * np.sqrt(2 / 59), rel=0.5)
    assert abs(chi[0] - 4.0) < 4 * 4.0 * np.sqrt(2 / 59)
    assert sums.variance()[0] == pytest.approx(4.0, rel=0.1)
    wide = sums.pairs.sum(axis=0) > 20_000
    assert np.all(np.abs(sums.correlation()[0][wide]) < 5 / np.sqrt(20_000) + 5 * chi[0] / 4.0 / 200 * np.sqrt(2 / 59))


def test_what_configurations_differ_in_is_in_the_susceptibility_and_in_the_tail():
    generator = np.random.default_rng(2)
    liquids = [liquid(generator, n=100) for _ in range(200)]
    values = [generator.normal() + generator.normal(size=(1, 100)) for _ in liquids]
    sums = pair_sums(liquids, values, [np.ones(100, bool)] * 200)
    # N (1 + 1/N): 101; the variance of 200 means is known to 10%
    assert sums.susceptibility()[0] == pytest.approx(101.0, rel=0.4)
    assert np.nanmean(sums.correlation()[0][8:]) == pytest.approx(0.5, abs=0.1)


def test_the_mean_taken_off_is_put_back_without_bias():
    generator = np.random.default_rng(3)
    few = []
    for _ in range(300):
        liquids = [liquid(generator, d=2, n=20) for _ in range(3)]
        values = [generator.normal() + np.zeros((1, 20)) for _ in liquids]
        few.append(pair_sums(liquids, values, [np.ones(20, bool)] * 3).variance()[0])
    # the variance of three means: relative deviation 1, over √300
    assert np.mean(few) == pytest.approx(1.0, abs=4 / np.sqrt(300))


def test_label_noise_is_taken_off_the_susceptibility_and_the_variance():
    generator = np.random.default_rng(4)
    field = GaussianField(1.5, 3)
    liquids = [liquid(generator) for _ in range(20)]
    truth = [field.draw(one.positions, generator)[None] for one in liquids]
    noise = 0.8
    noisy = [values + np.sqrt(noise) * generator.normal(size=values.shape) for values in truth]
    masks = [np.ones(400, bool)] * 20
    predicted = pair_sums(liquids, truth, masks)
    labels = pair_sums(liquids, noisy, masks, noise=[np.full((1, 400), noise)] * 20)
    near = labels.radii < 3.0
    known = near & np.isfinite(labels.correlation()[0])
    # ⟨noise²⟩ is 0.8 ± 0.8 √(2/8000); every shell of products is known to about a percent
    difference = labels.correlation()[0][known] - predicted.correlation()[0][known]
    assert np.abs(difference[4:]).max() < 0.1
    assert labels.lengths()[0] == pytest.approx(predicted.lengths()[0], rel=0.15)
    assert labels.susceptibility()[0] == pytest.approx(predicted.susceptibility()[0], rel=0.1)


def test_scale_and_offset_change_the_susceptibility_only():
    generator = np.random.default_rng(6)
    field = GaussianField(1.5, 2)
    liquids = [liquid(generator, 2) for _ in range(5)]
    values = [field.draw(one.positions, generator)[None] for one in liquids]
    masks = [np.ones(400, bool)] * 5
    sums = pair_sums(liquids, values, masks)
    changed = pair_sums(liquids, [7.0 - 3.0 * one for one in values], masks)
    np.testing.assert_allclose(changed.correlation(), sums.correlation(), atol=1e-8)
    np.testing.assert_allclose(changed.lengths(), sums.lengths(), rtol=1e-5)
    assert changed.susceptibility()[0] == pytest.approx(9 * sums.susceptibility()[0])


def test_only_the_chosen_particles_count_and_pairs_are_counted_once():
    points = [[0.0, 0, 0], [1.1, 0, 0], [0, 2.1, 0], [0, 0, 5.9]]
    one = Configuration(box=[BOX] * 3, species=[0, 0, 0, 1], positions=points)
    mask = np.array([True, True, True, False])
    sums = pair_sums([one], [np.array([[1.0, 2.0, 4.0, np.nan]])], [mask])
    assert sums.pairs.sum() == 3
    assert sums.products[0, 0].sum() == 1 * 2 + 1 * 4 + 2 * 4
    assert sums.distances.sum() == pytest.approx(1.1 + 2.1 + np.hypot(1.1, 2.1))


def test_leaving_out_a_configuration_is_never_having_had_it():
    generator = np.random.default_rng(7)
    liquids = [liquid(generator, 2, 50) for _ in range(4)]
    values = [generator.normal(size=(2, 50)) for _ in liquids]
    masks = [np.ones(50, bool)] * 4
    without = pair_sums(liquids, values, masks).without(1)
    rest = [0, 2, 3]
    expected = pair_sums([liquids[c] for c in rest], [values[c] for c in rest], masks[:3])
    np.testing.assert_allclose(without.correlation(), expected.correlation())
    np.testing.assert_allclose(without.susceptibility(), expected.susceptibility())


def test_what_cannot_be_known_is_nan():
    one = liquid(np.random.default_rng(8), 2, 50)
    mask = [np.ones(50, bool)]
    flat = pair_sums([one], [np.ones((1, 50))], mask, noise=[np.full((1, 50), np.nan)])
    length, length_error = jackknife(flat, PairSums.lengths)
    assert np.isnan([length[0], length_error[0], flat.susceptibility()[0]]).all()
    assert np.isnan(correlation_length(np.arange(1.0, 5.0), -np.ones(4)))


def test_no_configuration_and_a_box_too_small_are_refused():
    with pytest.raises(InputError, match="no configurations"):
        pair_sums([], [], [])
    tiny = Configuration(box=[0.4, 0.4], species=[0], positions=[[0, 0]])
    with pytest.raises(InputError, match="shell"):
        pair_sums([tiny], [np.ones((1, 1))], [np.ones(1, bool)])


@pytest.mark.parametrize(("box", "n"), [([12.0, 9.0, 10.0], 700), ([15.0, 22.0], 900)])
def test_the_sums_are_those_over_a_list_of_all_pairs(box, n):
    generator = np.random.default_rng(8)
    edges = np.array(box)
    one = Configuration(box, np.zeros(n, int), generator.uniform(-0.5, 0.5, (n, len(box))) * edges)
    values, mask = generator.normal(size=(2, n)), generator.random(n) < 0.8
    sums = pair_sums([one], [values], [mask])
    i, j, r, _ = pairs_within(one.positions[mask], edges, float(sums.edges[-1]))
    shells = np.minimum((r / sums.edges[1]).astype(int), len(sums.edges) - 2)
    p = values[:, mask]
    for found, weights in (
        (sums.pairs[0], np.ones(len(r))),
        (sums.distances[0], r),
        *((sums.products[0, k], p[k, i] * p[k, j]) for k in range(2)),
        *((sums.ends[0, k], p[k, i] + p[k, j]) for k in range(2)),
    ):
        np.testing.assert_allclose(found, np.bincount(shells, weights, len(sums.edges) - 1), rtol=1e-9, atol=1e-9)


def test_memory_does_not_follow_the_number_of_pairs():
    peaks = []
    for n in (1000, 4000):
        one = liquid(np.random.default_rng(9), n=n)
        tracemalloc.start()
        pair_sums([one], [np.ones((1, n))], [np.ones(n, bool)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]  # 16 times the pairs


@pytest.mark.parametrize(("box", "n"), [((24.0, 26.0, 24.5), 3000), ((40.0, 41.0), 1500)])
def test_a_large_box_has_the_same_correlation_without_a_list_of_its_pairs(box, n, monkeypatch):
    generator, d = np.random.default_rng(3), len(box)
    points = generator.uniform(-0.5, 0.5, (n, d)) * np.array(box)
    one = Configuration(box=box, species=np.zeros(n, int), positions=points)
    waves = np.cos(2 * np.pi * points / np.array(box))
    values = np.stack([waves.sum(axis=1) + generator.normal(size=n), 3.0 + waves[:, 0]])
    mask = generator.uniform(size=n) < 0.8
    found = pair_sums([one], [values], [mask])
    monkeypatch.setattr("glassmd.analysis.spatial.FAR", 1000.0)
    expected = pair_sums([one], [values], [mask])
    near = found.edges[1:] <= NEAR
    for name in ("pairs", "distances", "products", "ends"):
        ours, theirs = getattr(found, name)[..., near], getattr(expected, name)[..., near]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-6)
    assert found.pairs[0, ~near].sum() == pytest.approx(expected.pairs[0, ~near].sum(), rel=0.01)
    np.testing.assert_allclose(found.radii[~near], expected.radii[~near], atol=SHELL)
    smooth = found.correlation()[1, ~near] - expected.correlation()[1, ~near]
    assert np.abs(smooth).max() < 0.03
    noisy = found.correlation()[0, ~near] - expected.correlation()[0, ~near]
    assert np.abs(noisy).mean() < 3 / np.sqrt(expected.pairs[0, ~near].mean()) + 0.01


def test_parts_of_a_box_count_every_near_pair_once(monkeypatch):
    generator = np.random.default_rng(4)
    one = Configuration(box=[24.0] * 3, species=np.zeros(800, int), positions=generator.uniform(-12, 12, (800, 3)))
    values, mask = generator.normal(size=(1, 800)), np.ones(800, bool)
    whole = pair_sums([one], [values], [mask])
    monkeypatch.setattr("glassmd.analysis.spatial._NEAR_AT_ONCE", 2000)
    parted = pair_sums([one], [values], [mask])
    assert (parted.pairs == whole.pairs).all()
    np.testing.assert_allclose(parted.products, whole.products, atol=1e-9)
