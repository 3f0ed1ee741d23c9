"""Correlation, reliability and ceiling."""

from __future__ import annotations

import numpy as np
import pytest

from glassmd.metrics import SpeciesScores, intraclass_correlation, pearson, reliability, score, within_std


def labels(
    generator: np.random.Generator, kappa: float, replicas: int, n: int = 20_000
) -> tuple[np.ndarray, np.ndarray]:
    """Replicas of n particles with the given intraclass correlation: truth (n,), values (replicas, n)."""
    truth = generator.normal(size=n) * np.sqrt(kappa)
    return truth, truth + generator.normal(size=(replicas, n)) * np.sqrt(1 - kappa)


@pytest.mark.parametrize("replicas", [4, 8, 16, 32, 64])
def test_reliability_follows_spearman_and_brown(replicas: int) -> None:
    _, values = labels(np.random.default_rng(replicas), 0.15, replicas)
    found = reliability(values.mean(axis=0), values.var(axis=0, ddof=1), replicas)
    assert found == pytest.approx(replicas * 0.15 / (1 + (replicas - 1) * 0.15), abs=0.01)
    assert intraclass_correlation(found, replicas) == pytest.approx(0.15, abs=0.01)


def test_the_ceiling_is_what_the_truth_itself_reaches() -> None:
    truth, values = labels(np.random.default_rng(1), 0.15, 32)
    label, variance = values.mean(axis=0)[None], values.var(axis=0, ddof=1)[None]
    found = score([truth[None]], [label], [variance], [32], [np.ones(truth.size, bool)])
    assert found.mean[0] == pytest.approx(found.ceiling[0], abs=0.01)


def test_the_two_aggregations_differ_when_configurations_have_other_means() -> None:
    generator = np.random.default_rng(2)
    guesses = [generator.normal(size=(1, 500)) + shift for shift in (0.0, 10.0)]
    truths = [generator.normal(size=(1, 500)) + shift for shift in (0.0, 10.0)]
    everyone = [np.ones(500, bool)] * 2
    found = score(guesses, truths, [np.ones((1, 500))] * 2, [4, 4], everyone)
    assert abs(found.mean[0]) < 0.1
    assert found.pooled[0] > 0.9
    assert found.sd.shape == (1,)


def test_one_configuration_has_no_spread() -> None:
    x = np.random.default_rng(3).normal(size=(2, 50))
    found = score([x], [x], [np.ones_like(x)], [4], [np.ones(50, bool)])
    assert np.isnan(found.sd).all()
    np.testing.assert_allclose(found.mean, 1.0)


def test_what_does_not_vary_has_no_correlation_and_no_reliability() -> None:
    assert np.isnan(pearson([1, 1], [0, 1]))
    assert np.isnan(reliability([1, 1], [0, 0], 2))


def scores_of(variances: list[float]) -> SpeciesScores:
    """Labels 1, 2, 3 of four replicas; predicted in this order, and with the last two exchanged, in turn."""
    label = np.array([[1.0, 2.0, 3.0]])
    guesses = [label if k % 2 == 0 else label[:, [0, 2, 1]] for k in range(len(variances))]
    n = len(variances)
    known = [np.full((1, 3), variance) for variance in variances]
    return score(guesses, [label] * n, known, [4] * n, [np.ones(3, bool)] * n)


def test_each_configuration_is_divided_by_its_own_ceiling() -> None:
    """The variance of the labels is 1, so that r = 1 - variance / 4: 0.9 and 0.5; ρ is 1 and 1/2."""
    found = scores_of([0.4, 2.0])
    np.testing.assert_allclose(found.over_ceiling[:, 0], [1 / np.sqrt(0.9), 0.5 / np.sqrt(0.5)])
    share = found.ceiling_share()
    assert share.mean[0] == pytest.approx((1 / np.sqrt(0.9) + np.sqrt(0.5)) / 2)
    assert share.sd[0] == pytest.approx((1 / np.sqrt(0.9) - np.sqrt(0.5)) / np.sqrt(2))
    assert share.n_left_out.tolist() == [0]
    assert share.mean[0] != pytest.approx(found.mean[0] / found.ceiling[0], abs=0.01), "it is no ratio of means"


def test_configurations_of_no_or_unknown_reliability_have_no_share_of_the_ceiling() -> None:
    """r = 0.9, 0, -1 and unknown: the first alone counts."""
    share = scores_of([0.4, 4.0, 8.0, np.nan]).ceiling_share()
    assert share.mean[0] == pytest.approx(1 / np.sqrt(0.9))
    assert np.isnan(share.sd[0])
    assert share.n_left_out.tolist() == [3]
    nothing = scores_of([8.0, 4.0]).ceiling_share()
    assert np.isnan(nothing.mean[0])
    assert nothing.n_left_out.tolist() == [2]


def test_differences_of_the_labels_alone_do_not_spread_the_share_of_the_ceiling() -> None:
    """The truth reaches every ceiling: with κ from 0.05 to 0.8, ρ spreads by 0.15, its share by what 20 000 allow."""
    made = [labels(np.random.default_rng(k), kappa, 8) for k, kappa in enumerate((0.05, 0.1, 0.2, 0.4, 0.8))]
    found = score(
        [truth[None] for truth, _ in made],
        [values.mean(axis=0)[None] for _, values in made],
        [values.var(axis=0, ddof=1)[None] for _, values in made],
        [8] * 5,
        [np.ones(20_000, bool)] * 5,
    )
    share = found.ceiling_share()
    assert found.sd[0] > 0.1
    assert share.mean[0] == pytest.approx(1.0, abs=0.02)
    assert share.sd[0] < 0.03


def test_labels_lie_within_the_spread_and_their_noise_as_often_as_normal_numbers_do() -> None:
    generator, n, replicas = np.random.default_rng(3), 20_000, 4
    predicted = generator.normal(size=(2, n))
    truth = predicted + 0.3 * generator.normal(size=(2, n))
    values = truth + 0.5 * generator.normal(size=(replicas, 2, n))
    labels_, variances = values.mean(axis=0), values.var(axis=0, ddof=1)
    labels_[1] = np.nan  # a time that was not measured
    everyone = np.ones(n, bool)
    right, narrow = (
        within_std([predicted], [np.full((2, n), std)], [labels_], [variances], [replicas], [everyone])
        for std in (0.3, 0.1)
    )
    assert right[:, 0] == pytest.approx([0.683, 0.954], abs=0.01)
    assert narrow[0, 0] < 0.6
    assert np.isnan(right[:, 1]).all()
    exact = within_std([truth], [0 * truth], [truth], [0 * truth], [1], [everyone])
    assert exact[:, 0].tolist() == [1.0, 1.0]
