"""Learners that are solved: the same weights as from all rows at once, penalties and spreads that hold on new data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.features import RECIPES
from glassmd.fields import NODE_SPECIES
from glassmd.mixtures import get_mixture
from glassmd.models import make_model
from glassmd.models.baselines import LENGTHS, DebyeWallerModel, DensityModel, PotentialEnergyModel, ScalarModel
from glassmd.models.cage import CageModel
from glassmd.models.card import ModelCard
from glassmd.models.closed_form import FOLDS, ClosedFormModel
from glassmd.models.fold_sums import FoldSums, sample_weight
from glassmd.models.linear import NODE_FEATURES, LinearHead
from glassmd.models.ridge import RidgeModel
from glassmd.models.store import load_model, save_model
from glassmd.structure import Structure

N, F, T = 300, 12, 2


def rows(seed: int, n: int = N, noise: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Correlated descriptors, propensities of two species that depend on them differently, and the species."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 5, generator=generator)
    mixing = torch.randn(5, F, generator=torch.Generator().manual_seed(99))
    x = 4 + hidden @ mixing + 0.2 * torch.randn(n, F, generator=generator)
    species = (torch.arange(n) % 3 == 0).long()
    slopes = torch.stack([0.2 * hidden[:, 0] + 0.1 * hidden[:, 1], -0.1 * hidden[:, 2] + 0.05 * species], dim=1)
    return x, 1 + slopes + noise * torch.randn(n, T, generator=generator), species


def solved(n_samples: int = FOLDS, noise: Tensor | None = None, spread: float = 0.3) -> LinearHead:
    head = LinearHead(None, n_times=T, n_species=2)
    for seed in range(n_samples):
        x, y, species = rows(seed, noise=spread)
        head.absorb(x, y, noise, species, species >= 0, fold=seed % FOLDS)
    head.solve()
    return head


def liquid(n: int = 250, seed: int = 0) -> Structure:
    """A jittered lattice at liquid density, with inherent and cage positions near the thermal ones."""
    generator = np.random.default_rng(seed)
    side = math.ceil(n ** (1 / 3))
    box = np.full(3, (n / 1.2) ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n] * box / side
    thermal = grid + 0.08 * generator.standard_normal((n, 3)) - box / 2
    return Structure(
        Configuration(box=box, species=np.arange(n) % 5 == 0, positions=thermal),
        get_mixture("kob-andersen"),
        0.5,
        inherent=thermal + 0.05 * generator.standard_normal((n, 3)),
        cage=thermal + 0.05 * generator.standard_normal((n, 3)),
        debye_waller=generator.uniform(0.01, 0.05, n),
    )


@pytest.fixture
def _few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe with fewer columns, which is solved faster."""
    monkeypatch.setitem(RECIPES, "recursive", RECIPES["compact"])


def check_same_solution(found: LinearHead, expected: LinearHead, tolerance: float) -> None:
    x, _, species = rows(77)
    assert torch.allclose(found(x.double(), species), expected(x.double(), species), rtol=0, atol=tolerance)
    assert torch.allclose(found.spread(x, species), expected.spread(x, species), rtol=1e-4)


def test_weights_are_those_of_ridge_regression_on_all_rows_at_once():
    head = solved()
    for index in range(2):
        samples = [rows(seed) for seed in range(FOLDS)]
        x = torch.cat([x[s == index] for x, _, s in samples]).double()
        y = torch.cat([y[s == index] for _, y, s in samples]).double()
        z = (x - x.mean(0)) / x.std(0, correction=0)
        for t in range(T):
            penalty = head.solution[str(index)]["penalty"][t]
            gram = z.T @ z / len(z) + penalty * torch.eye(F, dtype=torch.float64)
            weight = torch.linalg.solve(gram, z.T @ (y[:, t] - y[:, t].mean()) / len(z))
            found = head(x, torch.full((len(x),), index))[:, t]
            assert torch.allclose(found, y[:, t].mean() + z @ weight, rtol=0, atol=1e-9)


def test_the_chosen_penalty_has_the_least_error_on_rows_left_out():
    head = solved()
    samples = [rows(seed) for seed in range(FOLDS)]
    left_out = torch.zeros(T, dtype=torch.float64)
    count = 0
    for fold, (x, y, species) in enumerate(samples):
        a = species == 0
        left_out += ((head.forward_fold(x.double(), species, fold) - y)[a] ** 2).sum(0)
        count += int(a.sum())
    reported = torch.tensor(head.solution["0"]["residual_std"], dtype=torch.float64) ** 2
    assert torch.allclose(left_out / count, reported, rtol=1e-6)


def test_weights_of_a_fold_never_saw_it():
    """They are the ridge regression of the other folds' rows, at the penalty and in the unit of all of them."""
    head, samples, fold = solved(), [rows(seed) for seed in range(FOLDS)], 2
    others = [sample for k, sample in enumerate(samples) if k != fold]
    x = torch.cat([x[s == 0] for x, _, s in others]).double()
    y = torch.cat([y[s == 0] for _, y, s in others]).double()
    unit = torch.cat([x[s == 0] for x, _, s in samples]).double().std(0, correction=0)
    z = (x - x.mean(0)) / unit
    for t in range(T):
        gram = z.T @ z / len(z) + head.solution["0"]["penalty"][t] * torch.eye(F, dtype=torch.float64)
        weight = torch.linalg.solve(gram, z.T @ (y[:, t] - y[:, t].mean()) / len(z))
        found = head.forward_fold(x, torch.zeros(len(x), dtype=torch.int64), fold)[:, t]
        assert torch.allclose(found, y[:, t].mean() + z @ weight, rtol=0, atol=1e-9)


def test_each_particle_may_name_its_own_fold():
    head = solved()
    x, _, species = rows(8)
    folds = torch.arange(N) % FOLDS
    found = head.forward_fold(x, species, folds)
    for fold in range(FOLDS):
        assert torch.equal(found[folds == fold], head.forward_fold(x, species, fold)[folds == fold])


def test_a_sample_taken_back_leaves_no_trace():
    plain = solved(4)
    grown = LinearHead(None, n_times=T, n_species=2)
    for seed in range(4):
        x, y, species = rows(seed)
        grown.absorb(x, y, None, species, species >= 0, fold=seed % FOLDS)
    x, y, species = rows(40)
    for sign in (1, -1):
        grown.absorb(x, 50 * y, None, species, species >= 0, fold=4, sign=sign)
    grown.solve()
    check_same_solution(grown, plain, 1e-9)


def test_the_order_of_samples_behind_the_first_does_not_matter():
    plain, turned = solved(), LinearHead(None, n_times=T, n_species=2)
    for seed in (0, 3, 1, 4, 2):
        x, y, species = rows(seed)
        turned.absorb(x, y, None, species, species >= 0, fold=seed % FOLDS)
    turned.solve()
    check_same_solution(turned, plain, 1e-9)


def test_the_spread_covers_the_truth_and_not_the_noise_of_the_label():
    """Of normal errors 68.3% lie within one spread and 95.4% within two; 6000 particles give ±0.6% and ±0.3%."""
    truth_std, label_std = 0.3, 0.4
    head = LinearHead(None, n_times=T, n_species=2)
    generator = torch.Generator().manual_seed(1)
    for seed in range(10):
        x, y, species = rows(seed, noise=truth_std)
        label = y + label_std * torch.randn(N, T, generator=generator)
        head.absorb(x, label, torch.full((N, T), label_std**2), species, species >= 0, fold=seed % FOLDS)
    head.solve()
    x, truth, species = rows(500, n=6000, noise=truth_std)
    deviation = (truth - head(x, species)).abs() / head.spread(x, species)
    assert (deviation < 1).float().mean() == pytest.approx(0.683, abs=0.04)  # the spread itself is known to 4%
    assert (deviation < 2).float().mean() == pytest.approx(0.954, abs=0.02)


def test_the_spread_grows_away_from_the_training_particles():
    head = solved(2)
    x, _, species = rows(9)
    centre = x.mean(0)
    assert (head.spread(centre + 2.5 * (x - centre), species) > head.spread(x, species)).float().mean() > 0.95


def test_one_fold_alone_is_solved_by_generalised_cross_validation_and_says_so():
    head = LinearHead(None, n_times=T, n_species=2)
    x, y, species = rows(0)
    head.absorb(x, y, None, species, species >= 0, fold=3)
    head.solve()
    assert "one fold only" in head.solution["0"]["chosen_by"]
    new, truth, kinds = rows(6)
    residual = (truth - head(new, kinds)).std(dim=0)
    assert torch.allclose(residual, torch.full((T,), 0.3), rtol=0.15)  # √(300/2) labels, 12 weights
    assert torch.equal(head.forward_fold(new, kinds, 3), head(new, kinds))


def test_more_descriptors_than_particles_are_no_obstacle():
    head = LinearHead(None, n_times=1, n_species=1)
    generator = torch.Generator().manual_seed(2)
    species = torch.zeros(20, dtype=torch.int64)
    x = torch.randn(40, 100, generator=generator)
    y = x[:, :1] + 1
    for fold in range(2):
        part = slice(20 * fold, 20 * fold + 20)
        head.absorb(x[part], y[part], None, species, species == 0, fold=fold)
    head.solve()
    assert torch.isfinite(head(x, torch.zeros(40, dtype=torch.int64))).all()
    assert torch.isfinite(head.spread(x, torch.zeros(40, dtype=torch.int64))).all()


def test_columns_that_only_show_rounding_get_no_weight():
    head = LinearHead(None, n_times=T, n_species=2)
    for seed in range(FOLDS):
        x, y, species = rows(seed)
        x = x.clone()
        x[:, 3] = 12.0 * (1 + 1e-7 * torch.sign(y[:, 0] - 1))  # tells the label in the last bit of float32
        head.absorb(x, y, None, species, species >= 0, fold=seed)
    head.solve()
    assert torch.equal(head.inverse_unit[:, 3], torch.zeros(2, dtype=torch.float64))
    assert torch.isfinite(head.weight).all()


def test_an_overlap_moves_nobody_else():
    """One particle whose descriptors are a thousand times too large changes the others' predictions little."""
    plain, hit = LinearHead(None, n_times=T, n_species=2), LinearHead(None, n_times=T, n_species=2)
    for seed in range(FOLDS):
        x, y, species = rows(seed)
        plain.absorb(x, y, None, species, species >= 0, fold=seed)
        x = x.clone()
        x[0] *= 1000
        hit.absorb(x, y, None, species, species >= 0, fold=seed)
    plain.solve()
    hit.solve()
    x, y, species = rows(9)
    worse = ((hit(x, species) - y) ** 2).mean() / ((plain(x, species) - y) ** 2).mean()
    assert worse < 1.2
    assert ((hit(1000 * x, species) - 1).abs() < 20).all()


def test_a_species_without_labels_is_zero_with_unknown_spread():
    head = LinearHead(None, n_times=T, n_species=2)
    for seed in range(2):
        x, y, species = rows(seed)
        head.absorb(x, y, None, species, species == 0, fold=seed)
    head.solve()
    assert list(head.solution) == ["0"]
    assert (head(x, species)[species == 1] == 0).all()
    assert torch.isnan(head.spread(x, species)[species == 1]).all()
    assert torch.isfinite(head.spread(x, species)[species == 0]).all()


def test_weights_save_and_load_through_hyperparameters():
    head = solved()
    again = LinearHead(head.n_features, n_times=T, n_species=2)
    again.load_state_dict(head.state_dict())
    check_same_solution(again, head, 0.0)


def test_a_sample_with_noisy_labels_counts_less():
    labels = torch.randn(1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quiet, loud = (sample_weight(labels, torch.full((1000, 1), value)) for value in (0.1, 0.5))
    assert 0 < loud < quiet < 1
    # var = signal + noise: signal 0.9 and 0.5 of 1, w = ½ signal / (½ signal + noise)
    assert quiet == pytest.approx(0.45 / 0.55, abs=0.02)
    assert loud == pytest.approx(0.25 / 0.75, abs=0.03)


def test_refusals_name_what_does_not_fit():
    head = LinearHead(None, n_times=T, n_species=2)
    with pytest.raises(ModelError, match="no labelled particle"):
        head.solve()
    x, y, species = rows(0)
    head.absorb(x, y, None, species, species >= 0, fold=0)
    with pytest.raises(ModelError, match="descriptors per particle"):
        head(x[:, :3], species)
    with pytest.raises(ModelError, match="found fold 7"):
        head.absorb(x, y, None, species, species >= 0, fold=7)
    with pytest.raises(ModelError, match="not finite"):
        head.absorb(x, y * torch.nan, None, species, species >= 0, fold=0)
    with pytest.raises(ModelError, match="labels of shape"):
        head.absorb(x, y[:, :1], None, species, species >= 0, fold=0)
    with pytest.raises(ModelError, match="cage among them"):
        CageModel(inputs=["thermal"])
    with pytest.raises(ModelError, match="one kind of positions"):
        DensityModel(inputs=["thermal", "inherent"])


def test_sums_of_a_species_forget_an_emptied_fold():
    sums = FoldSums(1, 1, 1, 2)
    one, mask = torch.ones(3, 1), torch.ones(3, dtype=torch.bool)
    for sign in (1, -1):
        sums.absorb(one, one, None, torch.zeros(3, dtype=torch.int64), mask, fold=0, sign=sign)
    assert sums.of_species(0) == {}


@pytest.mark.usefixtures("_few_columns")
@pytest.mark.parametrize("inputs", [("thermal",), ("inherent", "cage"), ("thermal", "inherent", "cage")])
def test_ridge_learns_from_what_it_sees_and_is_made_again(inputs):
    model = RidgeModel(inputs=inputs, n_times=2)
    for seed in range(3):
        data = model.encode(liquid(seed=seed))
        labels = 1 + 0.1 * data[NODE_FEATURES][:, -2:]
        model.absorb(data, labels, None, torch.ones(250, dtype=torch.bool), fold=seed)
    model.solve()
    made = RidgeModel(**model.hyperparameters())
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(data), model(data))
    assert model(data).dtype == torch.float32
    assert torch.allclose(model(data), labels, atol=0.25 * float(labels.std()))
    assert model.spread(data).shape == (250, 2)


@pytest.mark.usefixtures("_few_columns")
@pytest.mark.parametrize("name", ["ridge", "cage", "density", "potential-energy", "debye-waller"])
def test_a_solved_model_comes_back_from_its_directory(name: str, tmp_path: Path):
    model, structure = make_model(name), liquid()
    assert isinstance(model, ClosedFormModel)
    data = model.encode(structure)
    model.absorb(data, torch.rand(250, 1), None, data[NODE_SPECIES] == 0, fold=0)
    model.solve()
    card = ModelCard(
        model=name,
        mixture=structure.mixture.identity(),
        temperatures=[0.5],
        density=1.2,
        times=[1.0],
        trained_species=["A"],
    )
    again = load_model(save_model(tmp_path / "model", model, card)).model
    assert again.name == name
    assert again.inputs == model.default_inputs
    assert torch.equal(again(again.encode(structure)), model(data))


@pytest.mark.usefixtures("_few_columns")
def test_models_see_only_their_inputs():
    whole = liquid()
    moved = Structure(
        whole.thermal, whole.mixture, whole.temperature, inherent=whole.inherent, cage=whole.cage + 0.1 * whole.cage**2
    )
    for model in (RidgeModel(inputs=["thermal", "inherent"]), RidgeModel(inputs=["inherent"])):
        assert torch.equal(model.encode(whole)[NODE_FEATURES], model.encode(moved)[NODE_FEATURES])
    cage = CageModel()
    # the descriptors of the cage, one displacement and the Debye–Waller factor, each with five averages
    recursive = RidgeModel(inputs=["cage"]).encode(whole)[NODE_FEATURES]
    found = cage.encode(whole)[NODE_FEATURES]
    assert found.shape[1] == recursive.shape[1] + 2 * 6
    assert torch.equal(found[:, : recursive.shape[1]], recursive)


@pytest.mark.parametrize("kind", [DensityModel, PotentialEnergyModel, DebyeWallerModel])
def test_a_baseline_finds_the_length_and_the_line_of_its_labels(kind: type[ScalarModel]):
    model = kind(n_times=2)
    data = model.encode(liquid())
    assert data[NODE_FEATURES].shape == (250, len(LENGTHS))
    truth = torch.stack([2 - 3 * data[NODE_FEATURES][:, 4], 1 + data[NODE_FEATURES][:, 7]], dim=1)
    mask = data[NODE_SPECIES] == 0
    model.absorb(data, truth, None, mask, fold=0)
    model.solve()
    assert model.chosen[0].tolist() == [4, 7]
    assert torch.allclose(model.slope[0], torch.tensor([-3.0, 1.0], dtype=torch.float64), rtol=1e-4)
    assert torch.allclose(model(data)[mask], truth[mask], rtol=1e-4, atol=1e-4)
    assert torch.isnan(model.spread(data)[~mask]).all()
    made = kind(**model.hyperparameters())
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(data), model(data))


def test_the_length_of_a_baseline_is_chosen_inside_configurations():
    """One column follows the labels of each sample, the other only tells the samples apart, by more."""
    model = DensityModel()
    generator = torch.Generator().manual_seed(5)
    species = torch.zeros(500, dtype=torch.int64)
    for k in range(4):
        values = torch.randn(500, len(LENGTHS), generator=generator)
        labels = values[:, 2:3] + 10 * k
        values[:, 6] += 1000 * k
        data = Data(num_nodes=500, **{NODE_FEATURES: values, NODE_SPECIES: species})
        model.absorb(data, labels, None, species == 0, fold=k)
    model.solve()
    assert model.chosen[0].tolist() == [2]


def test_a_baseline_spread_is_the_residual_less_the_noise():
    model = DensityModel()
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(4000, len(LENGTHS), generator=generator)
    species = torch.zeros(4000, dtype=torch.int64)
    data = Data(num_nodes=4000, **{NODE_FEATURES: values, NODE_SPECIES: species})
    labels = values[:, :1] + 0.5 * torch.randn(4000, 1, generator=generator)
    model.absorb(data, labels, torch.full((4000, 1), 0.16), species == 0, fold=0)
    model.solve()
    assert float(model.spread(data)[0]) == pytest.approx(0.3, abs=0.02)  # √(0.25 − 0.16)


def test_potential_energy_of_a_pair_is_half_the_pairs():
    mixture = get_mixture("kob-andersen", "truncated")
    pair = Configuration(box=[12, 12, 12], species=[0, 1], positions=[[0, 0, 0], [1.0, 0, 0]])
    energy = PotentialEnergyModel(inputs=["thermal"]).number(Structure(pair, mixture, 1.0))
    sixth = 0.8**6
    assert energy == pytest.approx([0.5 * 4 * 1.5 * (sixth**2 - sixth)] * 2)


def test_debye_waller_without_the_factor_is_refused():
    whole = liquid()
    bare = Structure(whole.thermal, whole.mixture, 0.5, cage=whole.cage)
    with pytest.raises(ModelError, match="without Debye–Waller"):
        DebyeWallerModel().encode(bare)
