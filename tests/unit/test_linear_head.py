"""Linear learners are solved: weights as from all rows at once, penalties and spreads that hold on new data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glassmd.errors import ModelError
from glassmd.learners.fitting.closed_form import FOLDS
from glassmd.learners.linear.cage import CageModel
from glassmd.learners.linear.fold_sums import FoldSums, sample_weight
from glassmd.learners.linear.head import BETWEEN, LinearHead
from glassmd.learners.linear.scalar import DensityModel

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


def check_same_solution(found: LinearHead, expected: LinearHead, tolerance: float) -> None:
    x, _, species = rows(77)
    assert torch.allclose(found(x.double(), species), expected(x.double(), species), rtol=0, atol=tolerance)
    assert torch.allclose(found.spread(x, species), expected.spread(x, species), rtol=1e-4)


def moved(values: list[Tensor]) -> Tensor:
    """All rows, with the difference of each sample's mean from the mean of all samples of one size shrunk."""
    middle = torch.cat(values).mean(0)
    return torch.cat([value - (1 - BETWEEN) * (value.mean(0) - middle) for value in values])


def ridge(x: list[Tensor], y: list[Tensor], unit: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights in the unit, and what they leave of the mean at x = 0."""
    z, label = moved(x) / unit, moved(y)
    mean, height = z.mean(0), label.mean(0)
    gram = (z - mean).T @ (z - mean) / len(z) + penalty * torch.eye(len(unit), dtype=torch.float64)
    weight = torch.linalg.solve(gram, (z - mean).T @ (label - height) / len(z))
    return weight, height - mean @ weight


def of_species(index: int) -> tuple[list[Tensor], list[Tensor]]:
    samples = [rows(seed) for seed in range(FOLDS)]
    return [x[s == index].double() for x, _, s in samples], [y[s == index].double() for _, y, s in samples]


def test_weights_are_those_of_ridge_regression_on_all_rows_at_once():
    head = solved()
    for index in range(2):
        x, y = of_species(index)
        unit = moved(x).std(0, correction=0)
        every = torch.cat(x)
        found = head(every, torch.full((len(every),), index))
        for t in range(T):
            weight, bias = ridge(x, [of[:, t] for of in y], unit, head.solution[str(index)]["penalty"][t])
            assert torch.allclose(found[:, t], bias + every / unit @ weight, rtol=0, atol=1e-9)


def test_offsets_of_whole_samples_hardly_move_the_weights():
    """One descriptor explains the particles, and its mean goes against the offset of the sample."""
    head, generator = LinearHead(1, n_species=1), torch.Generator().manual_seed(3)
    species = torch.zeros(N, dtype=torch.int64)
    for fold, offset in enumerate((-1.0, -0.5, 0.0, 0.5, 1.0)):
        x = torch.randn(N, 1, generator=generator)
        head.absorb(x - offset, 0.2 * x + offset, None, species, species == 0, fold=fold)
    head.solve()
    slope = head(torch.tensor([[0.0], [1.0]]), species[:2]).diff(dim=0).item()
    # Within: slope 0.2, variance 1. Between: slope −1, variance 1/2, which counts for BETWEEN².
    share = 0.5 * BETWEEN**2
    assert slope == pytest.approx((0.2 - share) / (1 + share), abs=0.02)
    assert slope > 0.1 > (0.2 - 0.5) / 1.5


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
    head, fold = solved(), 2
    x, y = of_species(0)
    unit = moved(x).std(0, correction=0)
    others = [k for k in range(FOLDS) if k != fold]
    every = torch.cat([x[k] for k in others])
    found = head.forward_fold(every, torch.zeros(len(every), dtype=torch.int64), fold)
    for t in range(T):
        weight, bias = ridge(
            [x[k] for k in others], [y[k][:, t] for k in others], unit, head.solution["0"]["penalty"][t]
        )
        assert torch.allclose(found[:, t], bias + every / unit @ weight, rtol=0, atol=1e-9)


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
