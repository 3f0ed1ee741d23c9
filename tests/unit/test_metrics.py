"""Correlation, reliability and ceiling."""

from __future__ import annotations

import numpy as np
import pytest

from glassmd.metrics import intraclass_correlation, pearson, reliability, score


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
