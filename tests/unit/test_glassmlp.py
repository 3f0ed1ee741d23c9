"""GlassMLP: its descriptors against sums written out, its invariances, its loss, and that it learns."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.features.neighbours import find_neighbours
from glassmd.fields import NODE_INPUT, NODE_SPECIES
from glassmd.learners import make_model
from glassmd.learners.networks.glassmlp_descriptors import LENGTHS, REACH, n_descriptors, physical_descriptors
from glassmd.learners.networks.spatial_loss import (
    PAIR_INDEX,
    PAIR_SHELL,
    PAIRS_PER_SHELL,
    SHELLS,
    Groups,
    draw_pairs,
    spatial_error,
    width_error,
)
from glassmd.mixtures import get_mixture
from glassmd.structure import Structure


def crystal(d, seed, shake=0.06):
    """A shaken lattice at density 0.9, every fifth particle a B."""
    side = 6 if d == 3 else 14
    spacing = 0.9 ** (-1 / d)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d, indexing="ij"), -1).reshape(-1, d) * spacing
    generator = np.random.default_rng(seed)
    points = grid + generator.uniform(-shake, shake, grid.shape)
    species = (np.arange(len(grid)) % 5 == 0).astype(int)
    return Configuration(box=[side * spacing] * d, species=species, positions=points, species_names=("A", "B"))


def structure(d=3, seed=0):
    thermal = crystal(d, seed)
    mixture = get_mixture("kob-andersen" if d == 3 else "kob-andersen-2d")
    generator = np.random.default_rng([seed, 1])
    moved = [thermal.unwrapped + generator.uniform(-0.05, 0.05, thermal.positions.shape) for _ in range(2)]
    return Structure(thermal, mixture, 0.5, inherent=moved[0], cage=moved[1])


def changed(one, points_of, order=None):
    """The structure with every kind of positions mapped, and the particles in another order."""
    order = np.arange(one.thermal.n_particles) if order is None else order
    thermal = Configuration(
        box=one.thermal.box,
        species=one.thermal.species[order],
        positions=points_of(one.thermal.unwrapped)[order],
        species_names=one.thermal.species_names,
    )
    inherent, cage = points_of(one.inherent)[order], points_of(one.cage)[order]
    return Structure(thermal, one.mixture, one.temperature, inherent=inherent, cage=cage)


def trained_like(one, **hyperparameters):
    torch.manual_seed(0)
    model = make_model("glassmlp", **hyperparameters)
    model.initialise(model.encode(one))
    return model.eval()


def test_coarse_grained_columns_are_the_sums_of_the_paper():
    one = crystal(3, 0)
    mixture = get_mixture("kob-andersen")
    found = physical_descriptors(one, mixture)
    assert found.shape == (216, n_descriptors(2))
    own, length, which = found[:, :3], LENGTHS[4], 17
    near = find_neighbours(one.positions, one.box, one.species, REACH, 2)
    pairs = near.centre == which
    members = np.append(near.neighbour[pairs], which)
    weights = np.exp(-np.append(near.distances[pairs], 0.0) / length)
    for column, chosen in ((0, [0]), (1, [1]), (2, [0, 1])):
        there = np.isin(one.species[members], chosen)
        w, values = weights[there], own[members[there]]
        mean = w @ values / w.sum()
        variance = w @ (values[:, 0] - mean[0]) ** 2 / w.sum()
        expected = [w.sum(), mean[0], variance, mean[1], mean[2]]
        start = 3 + 15 * 4 + 5 * column
        np.testing.assert_allclose(found[which, start : start + 5], expected, rtol=1e-9)


def test_own_columns_are_energy_surface_and_volume():
    one = crystal(3, 1)
    mixture = get_mixture("kob-andersen", "force-shifted")
    own = physical_descriptors(one, mixture)[:, :3]
    assert own[:, 1].sum() == pytest.approx(np.prod(one.box))  # the cells fill the box
    assert np.all(own[:, 2] ** 3 > 36 * np.pi * own[:, 1] ** 2)  # no body has less surface than a ball
    which = int(np.argmax(one.species))
    near = find_neighbours(one.positions, one.box, one.species, 2.5, 2)
    r, kinds = near.distances[near.centre == which], one.species[near.neighbour[near.centre == which]]
    epsilon, sigma = np.array([1.5, 0.5])[kinds], np.array([0.8, 0.88])[kinds]

    def u(x):
        return 4 * epsilon * (x**-12 - x**-6)

    def slope(x):
        return 4 * epsilon / sigma * (-12 * x**-13 + 6 * x**-7)

    pair = u(r / sigma) - u(2.5) - (r - 2.5 * sigma) * slope(2.5)
    assert own[which, 0] == pytest.approx(0.5 * pair[r < 2.5 * sigma].sum())


@pytest.mark.parametrize("d", [2, 3])
def test_predictions_do_not_depend_on_how_the_liquid_is_looked_at(d):
    one = structure(d)
    model = trained_like(one, n_times=2, dimensions=d, inputs=("inherent", "cage"))
    expected = model(model.encode(one)).detach()
    assert expected.shape == (one.thermal.n_particles, 2)
    assert float(expected.std(dim=0).min()) > 0.05  # else nothing would be compared
    turn = np.eye(d)[np.roll(np.arange(d), 1)]
    turn[0] *= -1
    shift = np.random.default_rng(3).uniform(-5, 5, d)
    looks = {
        "turned": changed(one, lambda x: x @ turn.T),
        "shifted": changed(one, lambda x: x + shift),
        "other images": changed(one, lambda x: x + 2 * one.thermal.box),
    }
    single = 1e-4  # in which cells are found
    for name, look in looks.items():
        assert torch.allclose(model(model.encode(look)), expected, atol=single), name
    order = np.random.default_rng(4).permutation(one.thermal.n_particles)
    permuted = model(model.encode(changed(one, lambda x: x, order)))
    assert torch.allclose(permuted, expected[torch.from_numpy(order)], atol=single)


def test_a_batch_predicts_what_its_members_predict():
    liquids = [structure(3, seed) for seed in range(3)]
    model = trained_like(liquids[0], n_times=2)
    encoded = [model.encode(one) for one in liquids]
    together = model(Batch.from_data_list(encoded))
    assert torch.allclose(together, torch.cat([model(one) for one in encoded]), atol=1e-5)


def test_the_first_layer_sees_standardised_descriptors():
    one = structure()
    model = trained_like(one, members=1)
    data = model.encode(one)
    values, species = data[NODE_INPUT], data[NODE_SPECIES]
    for kind in range(2):
        standard = ((values[species == kind] - model.mean[kind]) / model.deviation[kind]).float()
        assert torch.allclose(standard.mean(dim=0), torch.zeros(()), atol=1e-3)
        expected = standard @ model.weights[0][kind, 0] + model.biases[0][kind, 0]
        found = model._first_layer(values)[species == kind, kind]
        assert torch.allclose(found, expected, atol=1e-4)


def test_a_descriptor_that_never_varies_is_left_out():
    model = make_model("glassmlp")
    data = model.encode(structure())
    data[NODE_INPUT][:, 7] = 3.25
    model.initialise(data)
    assert torch.isinf(model.deviation[:, 7]).all()
    other = data.clone()
    other[NODE_INPUT][:, 7] = -1e4
    assert torch.equal(model(other), model(data))
    assert bool(torch.isfinite(model(data)).all())


def test_species_have_networks_of_their_own():
    one = structure()
    model = trained_like(one)
    data = model.encode(one)
    before = model(data).detach()
    with torch.no_grad():
        model.weights[3][1] += 1.0
    moved = ((model(data) - before).abs() > 1e-4).squeeze(1)
    assert torch.equal(moved, data[NODE_SPECIES] == 1)


def test_the_drawn_pairs_are_alike_near_and_not_too_many():
    one = crystal(3, 0)
    near = find_neighbours(one.positions, one.box, one.species, 2.8, 2, with_vectors=False)  # half the box
    (i, j), shell = draw_pairs([near], np.random.default_rng(0))
    assert np.array_equal(one.species[i], one.species[j])
    delta = one.positions[i] - one.positions[j]
    r = np.linalg.norm(delta - one.box * np.round(delta / one.box), axis=1)
    assert np.all((np.array(SHELLS)[shell] <= r) & (r < np.array(SHELLS)[shell + 1]))
    for kind in range(2):
        counts = np.bincount(shell[one.species[i] == kind])
        assert counts.max() <= PAIRS_PER_SHELL
    assert np.unique(np.stack([i, j]), axis=1).shape[1] == len(i)


def terms(output, target, data, noise=None):
    mask, groups = torch.ones(len(target), dtype=torch.bool), Groups.of(data, 2)
    each = output.unsqueeze(2)
    return (
        float(width_error(each, target, mask, noise, groups)),
        float(spatial_error(each, target, mask, data, groups)),
    )


def test_the_terms_of_the_loss_vanish_for_the_truth_and_tell_how_it_is_missed():
    model = make_model("glassmlp", n_times=2)
    data = Batch.from_data_list([model.encode(structure(3, seed)) for seed in range(2)])
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(data.num_nodes, 2, generator=generator)
    assert terms(truth, truth, data) == (0.0, 0.0)
    width, _ = terms(0.5 * truth, truth, data)
    assert width == pytest.approx(0.25, rel=0.2)  # (1 − ½)² with σ = 1 ± 1/√(2 · 43) in the smallest group
    width, spatial = terms(truth + 1.0, truth, data)
    assert width == pytest.approx(0.0, abs=1e-10)  # a constant has no width, ⟨(p+1)(p+1)⟩ − ⟨pp⟩ = 1 + 2⟨p⟩
    assert spatial == pytest.approx(1.0, rel=0.6)
    assert terms(-truth, truth, data)[1] == 0.0  # which has the same correlations


def test_the_width_that_noise_adds_is_not_asked_for():
    model = make_model("glassmlp")
    data = model.encode(structure())
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(data.num_nodes, 1, generator=generator)
    noise = torch.full_like(truth, 0.75)
    expected = np.mean(
        [
            (0.5 * s - np.sqrt(s * s - 0.75)) ** 2
            for s in (float(truth[data.species == k].std(correction=0)) for k in (0, 1))
        ]
    )
    assert terms(0.5 * truth, truth, data, noise)[0] == pytest.approx(expected, rel=1e-4)


def test_spatial_error_is_the_sum_over_pairs_written_out():
    model = make_model("glassmlp")
    data = model.encode(structure())
    generator = torch.Generator().manual_seed(1)
    truth, guess = torch.randn(2, data.num_nodes, 1, generator=generator)
    (i, j), shell = data[PAIR_INDEX], data[PAIR_SHELL]
    squares = []
    for kind in range(2):
        for one in shell.unique():
            pairs = (data.species[i] == kind) & (shell == one)
            if pairs.any():
                found, true = (float((p[i[pairs]] * p[j[pairs]]).mean()) for p in (guess, truth))
                squares.append((found - true) ** 2)
    assert terms(guess, truth, data)[1] == pytest.approx(np.mean(squares), rel=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_it_learns_what_its_descriptors_know(d):
    liquids = [structure(d, seed) for seed in range(3)]
    # two small boxes: their correlations are mostly chance, and count little
    settings = {"members": 2, "width_weight": 0.1, "spatial_weight": 0.1}
    torch.manual_seed(0)
    model = make_model("glassmlp", n_times=2, dimensions=d, **settings)
    encoded = [model.encode(one) for one in liquids]
    model.initialise(encoded[0])
    data, test = Batch.from_data_list(encoded[:2]), encoded[2]

    def labels(graph):
        energy, size = graph[NODE_INPUT][:, 0], graph[NODE_INPUT][:, 3 + 15 * 4]
        both = torch.stack([energy, torch.tanh(2 * (size - size.mean()) / size.std())], dim=1)
        return ((both - both.mean(dim=0)) / both.std(dim=0)).float()

    mask = torch.ones(data.num_nodes, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.objective(data, labels(data), None, mask)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    found = model(test).detach()
    of_a = test[NODE_SPECIES] == 0
    for time in range(2):
        assert np.corrcoef(found[of_a, time], labels(test)[of_a, time])[0, 1] > 0.8


def test_particles_out_of_the_mask_do_not_count():
    model = trained_like(structure())
    data = model.encode(structure())
    mask = data[NODE_SPECIES] == 0
    target = torch.randn(data.num_nodes, 1, generator=torch.Generator().manual_seed(0))
    other = torch.where(mask[:, None], target, torch.nan)
    noise = torch.full_like(target, torch.nan)
    expected = model.objective(data, target, noise, mask)
    assert torch.equal(model.objective(data, other, noise, mask), expected)
    assert bool(torch.isfinite(expected))


def test_hyperparameters_and_weights_make_the_same_model_again():
    one = structure()
    model = trained_like(one, n_times=2, members=3, width=6, spatial_weight=0.3, inputs=("cage", "inherent"))
    again = make_model("glassmlp", **model.hyperparameters())
    again.load_state_dict(model.state_dict())
    assert again.inputs == ("inherent", "cage")
    assert torch.equal(again(again.encode(one)), model(model.encode(one)))


def test_impossible_hyperparameters_are_refused():
    with pytest.raises(ModelError, match="members=0"):
        make_model("glassmlp", members=0)
    with pytest.raises(ModelError, match="spatial_weight"):
        make_model("glassmlp", spatial_weight=-1.0)


def test_a_structure_without_its_input_is_refused():
    bare = Structure(crystal(3, 0), get_mixture("kob-andersen"), 0.5)
    with pytest.raises(ModelError, match="inherent"):
        make_model("glassmlp").encode(bare)
