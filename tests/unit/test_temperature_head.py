"""Linear models of several temperatures: as one alone where there is one, and lines in ln T where there are more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.glassnet.bond_network import NodeScale
from glassmd.learners.linear.head import LinearHead
from glassmd.learners.linear.temperature_head import TemperatureHead, filled
from glassmd.learners.linear.temperature_sums import TemperatureSums, heat_of
from glassmd.learners.part import FOLDS, Labelled

N, F, T = 600, 8, 3
KNOWN = torch.zeros(2, T, dtype=torch.float64)
COLD, MILD, HOT = -0.2, 0.1, 0.4
"""ln T of liquids."""


def liquid(heat: float, seed: int, *, times: Sequence[int] = (0, 1, 2), noise: float = 0.05) -> Labelled:
    """Descriptors whose mean and unit change with the temperature, and labels whose slopes do.

    In units of its own temperature a descriptor z counts 0.3 + 0.5 ln T for species 0 at every time.
    """
    generator = torch.Generator().manual_seed(1000 * seed + round(100 * heat))
    z = torch.randn(N, F - 1, generator=generator)
    x = 2 + 3 * heat + math.exp(2 * heat) * z
    species = (torch.arange(N) % 3 == 0).long()
    slope = torch.where(species == 0, 0.3 + 0.5 * heat, 0.2)
    y = 1 + heat + (slope * z[:, 0])[:, None] + noise * torch.randn(N, T, generator=generator)
    y[:, [time for time in range(T) if time not in times]] = torch.nan
    columns = torch.cat([x, torch.full((N, 1), heat)], dim=1)
    data = Data(num_nodes=N, **{NODE_FEATURES: columns, NODE_SPECIES: species})
    return Labelled(data, y.double(), species >= 0, n_replicas=4, fold=seed % FOLDS)


def many(heats: Sequence[float] = (COLD, HOT), count: int = 5) -> list[Labelled]:
    return [liquid(heat, seed) for heat in heats for seed in range(count)]


def head_of(samples: Sequence[Labelled], kind: type[LinearHead] = TemperatureHead) -> LinearHead:
    """Solved, each kind of particles counted from the first sample that has it."""
    head = kind(None, n_times=T, n_species=2)
    sums = head.no_sums()
    anchored = set()
    for one in samples:
        new = sums.kinds(one) - anchored
        sums = (sums.anchored(one, new) if new else sums).added(one)
        anchored |= new
    head.solve(sums, KNOWN)
    return head


def predicted(head: LinearHead, one: Labelled) -> Tensor:
    return head(one.data[NODE_FEATURES].double(), one.data[NODE_SPECIES])


def error(head: LinearHead, heat: float) -> float:
    """Root mean square of prediction minus truth at a temperature, for a liquid that was not learned from."""
    one = liquid(heat, 99, noise=0.0)
    return float((predicted(head, one) - one.labels).square().mean().sqrt())


def test_one_temperature_is_solved_as_a_linear_head_is():
    samples = many([COLD])
    found, expected = head_of(samples), head_of(samples, LinearHead)
    one = liquid(COLD, 99)
    assert torch.equal(predicted(found, one), predicted(expected, one))
    for fold in range(FOLDS):
        x, species = one.data[NODE_FEATURES].double(), one.data[NODE_SPECIES]
        assert torch.equal(found.forward_fold(x, species, fold), expected.forward_fold(x, species, fold))


def test_means_units_and_weights_follow_the_temperature():
    together, alike = head_of(many()), head_of(many(), LinearHead)
    assert error(together, COLD) < 0.02
    assert error(together, HOT) < 0.02
    assert error(alike, COLD) > 0.1  # which knows that the temperature differs, and no more


def test_temperatures_in_between_are_interpolated_and_others_extrapolated():
    head = head_of(many())
    assert error(head, MILD) < 0.04  # means are lines in ln T here, units as exponentials
    assert error(head, HOT + 0.1) < 0.05
    assert error(head_of(many((COLD, MILD, HOT))), MILD) < 0.02


def test_weights_of_a_fold_never_saw_it_at_any_temperature():
    samples = many()
    others = [one for one in samples if one.fold != 2]
    wrong = [one if one.fold != 2 else one._replace(labels=one.labels * 0 + 7.0) for one in samples]
    one = liquid(COLD, 99)
    x, species = one.data[NODE_FEATURES].double(), one.data[NODE_SPECIES]
    found = [head_of(these).forward_fold(x, species, 2) for these in (samples, wrong)]
    # units of columns are those of all samples, and penalties are chosen with all labels: a mean would be off by 1
    assert torch.allclose(*found, rtol=0, atol=0.15)
    assert torch.allclose(found[0], predicted(head_of(others), one), rtol=0, atol=0.02)


def test_the_order_of_samples_does_not_matter():
    samples = [liquid(COLD, 0), liquid(HOT, 1), liquid(COLD, 2)]
    one = liquid(MILD, 99)
    heads = []
    for order in permutations(range(3)):
        empty = TemperatureHead(None, n_times=T, n_species=2)
        sums = empty.no_sums()
        for anchor in (samples[0], samples[1]):
            sums = sums.anchored(anchor, sums.kinds(anchor))
        for k in order:
            sums = sums.added(samples[k])
        empty.solve(sums, KNOWN)
        heads.append(predicted(empty, one))
    for found in heads[1:]:
        assert torch.allclose(found, heads[0], rtol=0, atol=1e-8)


def test_a_sample_taken_back_leaves_no_trace():
    samples = many()
    head = TemperatureHead(None, n_times=T, n_species=2)
    sums = head.no_sums()
    for one in (samples[0], samples[5]):
        sums = sums.anchored(one, sums.kinds(one))
    for one in samples:
        sums = sums.added(one)
    again = sums.added(liquid(HOT, 7)).added(liquid(HOT, 7), -1)
    head.solve(sums, KNOWN)
    expected = predicted(head, liquid(MILD, 99))
    head.solve(again, KNOWN)
    assert torch.allclose(predicted(head, liquid(MILD, 99)), expected, rtol=0, atol=1e-7)


def test_sums_come_back_from_a_checkpoint():
    head = TemperatureHead(None, n_times=T, n_species=2)
    sums: TemperatureSums = head.no_sums()
    for one in many(count=2):
        new = sums.kinds(one) if heat_of(one.data[NODE_FEATURES]) not in sums.by_heat else set()
        sums = (sums.anchored(one, new) if new else sums).added(one)
    again = head.no_sums().restored(sums.tensors())
    assert again.heats == sums.heats
    for name, tensor in sums.tensors().items():
        assert torch.equal(again.tensors()[name], tensor)


def test_times_that_a_temperature_was_not_measured_at_are_taken_from_the_others():
    samples = [liquid(COLD, seed, times=(1,)) for seed in range(5)] + [liquid(HOT, seed) for seed in range(5)]
    head = head_of(samples)
    assert len(head.others) == 1
    unseen = [liquid(heat, 99, noise=0.0) for heat in (COLD, HOT)]
    cold, hot = (predicted(head, one) - one.labels for one in unseen)
    assert float(hot.square().mean().sqrt()) < 0.02
    assert float(cold[:, 1].square().mean().sqrt()) < 0.02
    assert torch.isfinite(cold).all()


def test_weights_save_and_load():
    head = head_of([liquid(COLD, 0, times=(1,)), *many()])
    again = TemperatureHead(F, n_times=T, n_species=2)
    again.load_state_dict(head.state_dict())
    for heat in (COLD, MILD, HOT):
        assert torch.equal(predicted(again, liquid(heat, 99)), predicted(head, liquid(heat, 99)))


def test_weights_of_a_linear_head_are_those_of_one_temperature():
    alone = head_of(many([COLD]), LinearHead)
    again = TemperatureHead(F, n_times=T, n_species=2)
    again.load_state_dict(alone.state_dict())
    assert torch.equal(predicted(again, liquid(COLD, 99)), predicted(alone, liquid(COLD, 99)))


def test_a_head_of_several_temperatures_that_is_solved_for_one_forgets_the_others():
    head = head_of(many())
    sums = head.no_sums()
    first = liquid(COLD, 0)
    sums = sums.anchored(first, sums.kinds(first))
    for one in many([COLD]):
        sums = sums.added(one)
    head.solve(sums, KNOWN)
    assert torch.equal(predicted(head, liquid(COLD, 99)), predicted(head_of(many([COLD])), liquid(COLD, 99)))


def test_descriptors_of_a_network_are_in_the_units_of_their_temperature():
    scale = NodeScale(F, 2)
    scale.learn([(one.data[NODE_FEATURES], one.data[NODE_SPECIES]) for one in many(count=1)])
    for heat in (COLD, MILD, HOT):
        one = liquid(heat, 99)
        found = scale(one.data[NODE_FEATURES], one.data[NODE_SPECIES])
        assert found[:, :-1].mean(dim=0).abs().max() < 0.3
        assert found[:, :-1].std(dim=0).sub(1).abs().max() < 0.3
        assert torch.allclose(found[:, -1], found[0, -1])
    again = NodeScale(F, 2)
    again.load_state_dict(scale.state_dict())
    assert torch.equal(again(one.data[NODE_FEATURES], one.data[NODE_SPECIES]), found)


@pytest.mark.parametrize("heats", [[COLD], [COLD, HOT]])
def test_a_batch_of_liquids_is_predicted_as_each_alone(heats: list[float]):
    head = head_of(many(heats))
    liquids = [liquid(heat, 50 + k) for k, heat in enumerate(heats)]
    data = [one.data for one in liquids]
    x, species = (torch.cat([of[name] for of in data]) for name in (NODE_FEATURES, NODE_SPECIES))
    found = head(x.double(), species)
    expected = torch.cat([predicted(head, one) for one in liquids])
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_weights_that_bend_with_the_temperature_are_followed():
    heats = (-0.6, COLD, MILD, HOT)

    def bent(heat: float, seed: int) -> Labelled:
        one = liquid(heat, seed)
        z = (one.data[NODE_FEATURES][:, 0] - (2 + 3 * heat)) / math.exp(2 * heat)
        return one._replace(labels=one.labels + (heat**2 * z)[:, None].double())

    head = head_of([bent(heat, seed) for heat in heats for seed in range(5)])
    for heat in heats:
        one = bent(heat, 99)
        assert float((predicted(head, one) - one.labels).square().mean().sqrt()) < 0.08  # 0.05 of it is noise


def test_means_that_were_not_measured_are_those_of_other_temperatures_times_what_these_miss():
    """The means of three liquids are lines in ln T; the coldest has 1.5 times as much where it was measured."""
    heats, nan = torch.tensor([COLD, MILD, HOT]), math.nan
    lines = (1 + heats)[:, None] * torch.tensor([1.0, 2.0, 4.0])
    values = lines.clone()
    values[0] = torch.tensor([nan, 1.5 * lines[0, 1], nan])
    expected = torch.cat([1.5 * lines[:1], lines[1:]])
    assert torch.allclose(filled(heats, values), expected)
    folds = values[:, None].repeat(1, FOLDS, 1)
    assert torch.allclose(filled(heats, folds), expected[:, None].expand(-1, FOLDS, -1))
    values[0] = torch.tensor([lines[0, 0], nan, 2 * lines[0, 2]])
    assert torch.allclose(filled(heats, values)[0, 1], 1.5 * lines[0, 1])  # half way
    assert torch.isnan(filled(heats, torch.full((3, 2), nan))).all()
    values[:, 0] = torch.tensor([nan, nan, 7.0])
    of_hottest = torch.stack([2 * lines[0, 2] / lines[2, 2], lines[1, 2] / lines[2, 2]])
    assert torch.allclose(filled(heats, values)[:2, 0], 7.0 * of_hottest)


def loud(heat: float, seed: int) -> Labelled:
    """A liquid whose labels follow another descriptor than those of :func:`liquid`, and vary ten times as much."""
    one = liquid(heat, seed)
    z = (one.data[NODE_FEATURES][:, 1] - 2 - 3 * heat) * math.exp(-2 * heat)
    return Labelled(one.data, (3 * z)[:, None].repeat(1, T).double(), one.mask, n_replicas=4, fold=one.fold)


def test_a_liquid_whose_labels_vary_most_does_not_decide_for_the_others():
    """No parabola is right at all of four temperatures: each has its share of what is wrong, as its labels vary."""
    quiet = many([COLD, MILD, HOT])
    with_loud = head_of([*quiet, *(loud(-0.5, seed) for seed in range(5))])
    spread = [float(liquid(heat, 99, noise=0.0).labels.std(dim=0).mean()) for heat in (COLD, MILD, HOT)]
    for heat, sd in zip((COLD, MILD, HOT), spread, strict=True):
        assert error(with_loud, heat) < 0.5 * sd
