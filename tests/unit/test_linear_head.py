"""Linear learners are solved: weights as from all rows at once, penalties and spreads that hold on new data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.fit import Fit
from glassmd.learners.fitting.solved import Solved, species_of
from glassmd.learners.labels import LabelSums
from glassmd.learners.linear.cage import CageModel
from glassmd.learners.linear.fold_sums import FoldSums
from glassmd.learners.linear.head import BETWEEN, LinearHead
from glassmd.learners.linear.scalar import DensityModel
from glassmd.learners.part import FOLDS, Labelled, Taken
from glassmd.stream.samples import Sample, SampleKey

N, F, T = 300, 12, 2
UNKNOWN = torch.full((2, T), torch.nan, dtype=torch.float64)


def rows(seed: int, n: int = N, noise: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Correlated descriptors, propensities of two species that depend on them differently, and the species."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 5, generator=generator)
    mixing = torch.randn(5, F, generator=torch.Generator().manual_seed(99))
    x = 4 + hidden @ mixing + 0.2 * torch.randn(n, F, generator=generator)
    species = (torch.arange(n) % 3 == 0).long()
    slopes = torch.stack([0.2 * hidden[:, 0] + 0.1 * hidden[:, 1], -0.1 * hidden[:, 2] + 0.05 * species], dim=1)
    return x, 1 + slopes + noise * torch.randn(n, T, generator=generator), species


def labelled(
    x: Tensor, y: Tensor, species: Tensor, mask: Tensor | None = None, *, fold: int = 0, n_replicas: int = 1
) -> Labelled:
    data = Data(num_nodes=len(x), **{NODE_FEATURES: x, NODE_SPECIES: species})
    return Labelled(data, y, species >= 0 if mask is None else mask, n_replicas, fold)


def sample(seed: int, noise: float = 0.3) -> Labelled:
    return labelled(*rows(seed, noise=noise), fold=seed % FOLDS)


def sums_of(head: LinearHead, samples: Sequence[Labelled]) -> FoldSums:
    """Counted from the first sample, which has all species."""
    sums = head.no_sums().anchored(samples[0], species_of(samples[0]))
    for one in samples:
        sums = sums.added(one)
    return sums


def solved(samples: Sequence[Labelled], variance: Tensor = UNKNOWN) -> LinearHead:
    head = LinearHead(None, n_times=variance.shape[1], n_species=len(variance))
    head.solve(sums_of(head, samples), variance)
    return head


def plain(n_samples: int = FOLDS) -> LinearHead:
    return solved([sample(seed) for seed in range(n_samples)])


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
    head = plain()
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
    generator, species = torch.Generator().manual_seed(3), torch.zeros(N, dtype=torch.int64)
    samples = []
    for fold, offset in enumerate((-1.0, -0.5, 0.0, 0.5, 1.0)):
        x = torch.randn(N, 1, generator=generator)
        samples.append(labelled(x - offset, 0.2 * x + offset, species, fold=fold))
    head = solved(samples, UNKNOWN[:1, :1])
    slope = head(torch.tensor([[0.0], [1.0]]), species[:2]).diff(dim=0).item()
    # Within: slope 0.2, variance 1. Between: slope −1, variance 1/2, which counts for BETWEEN².
    share = 0.5 * BETWEEN**2
    assert slope == pytest.approx((0.2 - share) / (1 + share), abs=0.02)
    assert slope > 0.1 > (0.2 - 0.5) / 1.5


def test_the_chosen_penalty_has_the_least_error_on_rows_left_out():
    head = plain()
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
    head, fold = plain(), 2
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
    head = LinearHead(None, n_times=T, n_species=2)
    x, y, species = rows(40)
    coming = labelled(x, 50 * y, species, fold=4)
    sums = sums_of(head, [sample(seed) for seed in range(4)]).added(coming)
    head.solve(sums, UNKNOWN)
    new, _, kinds = rows(77)
    assert not torch.allclose(head(new, kinds), plain(4)(new, kinds), rtol=0.1)
    head.solve(sums.added(coming, -1), UNKNOWN)
    check_same_solution(head, plain(4), 1e-9)


def test_adding_and_taking_back_leave_the_sums_before_as_they_were():
    head = LinearHead(None, n_times=T, n_species=2)
    before = sums_of(head, [sample(0), sample(1)])
    told = {name: tensor.clone() for name, tensor in before.tensors().items()}
    others = before.added(sample(2)), before.added(sample(1), -1), before.anchored(sample(2), {1})
    assert all(other.tensors().keys() != told.keys() for other in others[:2])
    assert not torch.equal(others[2].tensors()["anchor.1.x"], told["anchor.1.x"])
    found = before.tensors()
    assert found.keys() == told.keys()
    assert all(torch.equal(found[name], told[name]) for name in told)


def test_the_order_of_samples_does_not_matter():
    """Counted from the same sample, whichever is the first to be added."""
    samples, head = [sample(seed) for seed in range(FOLDS)], LinearHead(None, n_times=T, n_species=2)
    start = head.no_sums().anchored(samples[0], {0, 1})
    for order in list(permutations(range(FOLDS)))[::17]:
        sums = start
        for k in order:
            sums = sums.added(samples[k])
        head.solve(sums, UNKNOWN)
        check_same_solution(head, plain(), 1e-9)


def observed(seed: int, n_replicas: int, spread: float = 0.2) -> Sample:
    """:func:`rows` as a sample of so many replicas, whose variance is measured where there are two."""
    _, truth, species = rows(seed)
    generator = np.random.default_rng([seed, n_replicas])
    replicas = truth.numpy().T + spread * generator.normal(size=(n_replicas, T, N))
    variance = replicas.var(axis=0, ddof=1) if n_replicas > 1 else np.full((T, N), np.nan)
    liquid = Configuration([9, 9, 9], species.numpy(), generator.uniform(0, 9, (N, 3)))
    return Sample(
        SampleKey("run", seed, 0), liquid, np.arange(1.0, T + 1), replicas.mean(axis=0), variance, n_replicas,
        blocks=tuple(range(n_replicas)),
    )  # fmt: skip


def described(one: Sample) -> Data:
    """What :func:`rows` says of the particles of :func:`observed`."""
    x, _, species = rows(one.key.lineage)
    return Data(num_nodes=N, **{NODE_FEATURES: x, NODE_SPECIES: species})


def taken_of(versions: Sequence[Sample]) -> Taken:
    """Takes any of these."""
    known = {(one.key, one.blocks): one for one in versions}
    return Taken(
        n_species=2,
        n_times=T,
        encode=described,
        mask=lambda one: np.ones(N, dtype=bool),
        fold=lambda key: key.lineage % FOLDS,
        recall=lambda key, blocks: known[key, blocks],
    )


def fitted(samples: Sequence[Sample]) -> LinearHead:
    """What :class:`Solved` makes of samples in this order; one whose key comes again has grown."""
    head, taken = LinearHead(None, n_times=T, n_species=2), taken_of(samples)
    fit = Fit(taken, [Solved(head, taken)])
    for one in samples:
        fit.take(one)
    fit.finish()
    return head


def test_it_does_not_matter_which_sample_comes_first_or_that_it_grew():
    """The limits and where sums are counted from are those of the lowest key, which may come last and in pieces."""
    whole, begun = ([observed(seed, n) for seed in range(FOLDS)] for n in (4, 1))
    expected = fitted(whole)
    for order in list(permutations(range(FOLDS)))[::29]:
        check_same_solution(fitted([whole[k] for k in order]), expected, 1e-9)
        pieces = [one for k in order for one in ([begun[k], whole[k]] if k % 2 else [whole[k]])]
        check_same_solution(fitted(pieces), expected, 1e-9)
    late = fitted([begun[1], *whole[2:], begun[0], whole[1], whole[0]])
    check_same_solution(late, expected, 1e-9)


def test_the_spread_covers_the_truth_and_not_the_noise_of_the_label():
    """Of normal errors 68.3% lie within one spread and 95.4% within two; 6000 particles give ±0.6% and ±0.3%."""
    truth_std, label_std, n_replicas = 0.3, 0.4, 4
    generator, samples = torch.Generator().manual_seed(1), []
    for seed in range(10):
        x, y, species = rows(seed, noise=truth_std)
        label = y + label_std * torch.randn(N, T, generator=generator)
        samples.append(labelled(x, label, species, fold=seed % FOLDS, n_replicas=n_replicas))
    head = solved(samples, torch.full((2, T), n_replicas * label_std**2, dtype=torch.float64))
    x, truth, species = rows(500, n=6000, noise=truth_std)
    deviation = (truth - head(x, species)).abs() / head.spread(x, species)
    assert (deviation < 1).float().mean() == pytest.approx(0.683, abs=0.04)  # the spread itself is known to 4%
    assert (deviation < 2).float().mean() == pytest.approx(0.954, abs=0.02)


def test_the_spread_grows_away_from_the_training_particles():
    head = plain(2)
    x, _, species = rows(9)
    centre = x.mean(0)
    assert (head.spread(centre + 2.5 * (x - centre), species) > head.spread(x, species)).float().mean() > 0.95


def test_one_fold_alone_is_solved_by_generalised_cross_validation_and_says_so():
    head = solved([labelled(*rows(0), fold=3)])
    assert not head.folds_apart
    assert "one fold only" in head.solution["0"]["chosen_by"]
    new, truth, kinds = rows(6)
    residual = (truth - head(new, kinds)).std(dim=0)
    assert torch.allclose(residual, torch.full((T,), 0.3), rtol=0.15)  # √(300/2) labels, 12 weights
    assert torch.equal(head.forward_fold(new, kinds, 3), head(new, kinds))


def test_more_descriptors_than_particles_are_no_obstacle():
    generator = torch.Generator().manual_seed(2)
    species = torch.zeros(20, dtype=torch.int64)
    x = torch.randn(40, 100, generator=generator)
    y = x[:, :1] + 1
    halves = zip(x.split(20), y.split(20), strict=True)
    head = solved([labelled(*half, species, fold=fold) for fold, half in enumerate(halves)], UNKNOWN[:1, :1])
    assert torch.isfinite(head(x, torch.zeros(40, dtype=torch.int64))).all()
    assert torch.isfinite(head.spread(x, torch.zeros(40, dtype=torch.int64))).all()


def test_columns_that_only_show_rounding_get_no_weight():
    samples = []
    for seed in range(FOLDS):
        x, y, species = rows(seed)
        x[:, 3] = 12.0 * (1 + 1e-7 * torch.sign(y[:, 0] - 1))  # tells the label in the last bit of float32
        samples.append(labelled(x, y, species, fold=seed))
    head = solved(samples)
    assert torch.equal(head.inverse_unit[:, 3], torch.zeros(2, dtype=torch.float64))
    assert torch.isfinite(head.weight).all()


def test_an_overlap_moves_nobody_else():
    """One particle whose descriptors are a thousand times too large changes the others' predictions little."""
    samples = []
    for seed in range(FOLDS):
        x, y, species = rows(seed)
        x[0] *= 1000
        samples.append(labelled(x, y, species, fold=seed))
    hit = solved(samples)
    x, y, species = rows(9)
    worse = ((hit(x, species) - y) ** 2).mean() / ((plain()(x, species) - y) ** 2).mean()
    assert worse < 1.2
    assert ((hit(1000 * x, species) - 1).abs() < 20).all()


def test_a_species_without_labels_is_zero_with_unknown_spread():
    samples = []
    for seed in range(2):
        x, y, species = rows(seed)
        samples.append(labelled(x, y, species, species == 0, fold=seed))
    head = solved(samples)
    assert list(head.solution) == ["0"]
    assert (head(x, species)[species == 1] == 0).all()
    assert torch.isnan(head.spread(x, species)[species == 1]).all()
    assert torch.isfinite(head.spread(x, species)[species == 0]).all()


def test_weights_save_and_load_through_hyperparameters():
    head = plain()
    again = LinearHead(head.n_features, n_times=T, n_species=2)
    again.load_state_dict(head.state_dict())
    check_same_solution(again, head, 0.0)


def noisy(truth: float, variance: float, n_replicas: int) -> Labelled:
    """Labels of one species at one time: a truth of some standard deviation, seen in so many replicas."""
    generator = torch.Generator().manual_seed(n_replicas)
    noise = (variance / n_replicas) ** 0.5
    y = truth * torch.randn(1000, 1, generator=generator) + noise * torch.randn(1000, 1, generator=generator)
    x, species = torch.randn(1000, 1, generator=generator), torch.zeros(1000, dtype=torch.int64)
    return labelled(x, y, species, n_replicas=n_replicas, fold=n_replicas % FOLDS)


def weights_of(*samples: Labelled, variance: float, error: float | None = None) -> dict[int, float]:
    """Of one species at one time."""
    sums = sums_of(LinearHead(None, n_times=1, n_species=1), samples)
    told = None if error is None else torch.tensor([error], dtype=torch.float64)
    return sums.weights(0, torch.tensor([variance], dtype=torch.float64), told)


def test_a_sample_with_noisy_labels_counts_less():
    """w = E/(E + V/R), where half of what varies in truth is left as long as nobody knows better, E = S/2."""
    loud, quiet = noisy(1.0, 1.0, 2), noisy(1.0, 1.0, 16)
    found = weights_of(loud, quiet, variance=1.0)
    assert 0 < found[2] < found[16] < 1
    # S = 1 and E = 0.5, known to 4% from 1000 labels of variance 1.5 and 1000 of variance 1.06
    assert found[2] == pytest.approx(0.5 / (0.5 + 1 / 2), abs=0.03)
    assert found[16] == pytest.approx(0.5 / (0.5 + 1 / 16), abs=0.01)
    exact = weights_of(loud, quiet, variance=1.0, error=0.25)
    assert exact == {2: pytest.approx(0.25 / (0.25 + 1 / 2)), 16: pytest.approx(0.25 / (0.25 + 1 / 16))}


def test_labels_count_alike_where_nobody_knows_how_noisy_they_are():
    assert weights_of(noisy(1.0, 1.0, 1), noisy(1.0, 1.0, 16), variance=torch.nan) == {1: 1.0, 16: 1.0}


def test_a_time_whose_noise_is_unknown_does_not_change_what_the_others_say():
    x, y, species = rows(0)
    sums = sums_of(LinearHead(None, n_times=T, n_species=2), [labelled(x, y, species, n_replicas=n) for n in (1, 4)])
    variance = torch.tensor([0.5, torch.nan], dtype=torch.float64)
    both = sums.weights(0, variance, torch.tensor([0.25, 9.0], dtype=torch.float64))
    assert both == {1: pytest.approx(0.25 / 0.75), 4: pytest.approx(0.25 / 0.375)}


def test_labels_of_the_same_number_of_replicas_count_alike_however_noisy_they_are():
    """Then the weights of the model are those without any noise, and the spread alone knows of it."""
    alike = [labelled(*rows(seed), fold=seed, n_replicas=3) for seed in range(FOLDS)]
    x, _, species = rows(77)
    for variance in (1e-3, 0.1):
        head = solved(alike, torch.full((2, T), variance, dtype=torch.float64))
        assert torch.allclose(head(x.double(), species), plain()(x.double(), species), rtol=0, atol=1e-9)
        assert (head.spread(x, species) < plain().spread(x, species)).all()


def test_one_replica_whose_noise_nobody_measured_does_not_count_more_than_many():
    """Its noise is that of the others' replicas, of which it has but one."""
    spread, many = 0.6, 32
    samples = [observed(seed, many if seed % 2 else 1, spread) for seed in range(6)]
    taken = taken_of(samples)
    labels = LabelSums.none(2, T)
    for one in samples:
        labels = labels.added(one)
    variance = torch.from_numpy(labels.variance)
    # 31 × 100 or 200 particles × 3 samples tell a variance to √(2/9300) = 1.5%
    assert torch.allclose(variance, torch.full_like(variance, spread**2), rtol=0.06)
    sums = sums_of(LinearHead(None, n_times=T, n_species=2), [taken.labelled(one) for one in samples])
    error = torch.full((T,), 0.1, dtype=torch.float64)
    for species in range(2):
        assert sums.weights(species, variance[species])[1] < 0.5 * sums.weights(species, variance[species])[many]
        found = sums.weights(species, variance[species], error)
        assert found == {
            1: pytest.approx(0.1 / (0.1 + spread**2), rel=0.06),
            many: pytest.approx(0.1 / (0.1 + spread**2 / many), rel=0.06),
        }


def test_refusals_name_what_does_not_fit():
    head = LinearHead(None, n_times=T, n_species=2)
    with pytest.raises(ModelError, match="no labelled particle"):
        head.solve(head.no_sums(), UNKNOWN)
    x, y, species = rows(0)
    sums = sums_of(head, [sample(0)])
    head.solve(sums, UNKNOWN)
    with pytest.raises(ModelError, match="descriptors per particle"):
        head(x[:, :3], species)
    with pytest.raises(ModelError, match="descriptors of shape"):
        sums.added(labelled(x[:, :3], y, species))
    with pytest.raises(ModelError, match="found fold 7"):
        sums.added(labelled(x, y, species, fold=7))
    with pytest.raises(ModelError, match="not finite"):
        sums.added(labelled(x, y * torch.nan, species))
    with pytest.raises(ModelError, match="not finite"):
        head.no_sums().anchored(labelled(x * torch.inf, y, species), {0})
    with pytest.raises(ModelError, match="labels of shape"):
        sums.added(labelled(x, y[:, :1], species))
    with pytest.raises(ModelError, match="cage among them"):
        CageModel(inputs=["thermal"])
    with pytest.raises(ModelError, match="one kind of positions"):
        DensityModel(inputs=["thermal", "inherent"])


def test_sums_of_a_species_forget_an_emptied_fold():
    one = labelled(torch.ones(3, 1), torch.ones(3, 1), torch.zeros(3, dtype=torch.int64))
    sums = FoldSums(1, 2).anchored(one, {0}).added(one)
    assert sums.species == [0]
    assert list(sums.folds(0, {1: 1.0})) == [0]
    emptied = sums.added(one, -1)
    assert emptied.species == []
    assert emptied.folds(0, {1: 1.0}) == {}
