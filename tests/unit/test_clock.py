"""Times of a model at temperatures and times in between."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from glassmd.errors import ModelError
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.clock import asked_times, beyond_measured, tau_alpha_at

TIMES = [0.1 * 10 ** (k / 5) for k in range(6)]


def card(tau_alphas: dict[str, float] | None = None, times: list[float] = TIMES) -> ModelCard:
    known = sorted(float(name) for name in tau_alphas or {"1": 1.0})
    return ModelCard(
        model="ridge",
        mixture=get_mixture("kob-andersen").identity(),
        temperatures=known,
        density=1.2,
        times=times,
        trained_species=["A"],
        tau_alphas=tau_alphas or {},
    )


def arrhenius(temperature: float) -> float:
    return 0.1 * math.exp(3 / temperature)


ARRHENIUS = {f"{t:g}": arrhenius(t) for t in (0.5, 0.6, 0.8, 1.0)}


@pytest.mark.parametrize("temperature", [0.5, 0.55, 0.7, 1.0, 0.47, 1.08])
def test_an_arrhenius_liquid_is_interpolated_and_extrapolated_exactly(temperature: float) -> None:
    assert tau_alpha_at(card(ARRHENIUS), temperature) == pytest.approx(arrhenius(temperature))


def test_relaxation_times_never_rise_with_the_temperature() -> None:
    fragile = card({"0.44": 2600.0, "0.5": 105.0, "0.56": 25.0, "0.64": 8.4, "0.8": 2.55, "1": 1.26})
    found = [tau_alpha_at(fragile, t) for t in np.linspace(0.43, 1.05, 60)]
    assert all(b < a for a, b in pairwise(found))  # type: ignore[operator]


def test_a_model_with_times_of_its_own_has_no_clock() -> None:
    assert tau_alpha_at(card(), 0.5) is None
    assert asked_times(card(), 0.5).times == TIMES


def test_its_own_times_come_back_as_they_are() -> None:
    values = np.random.default_rng(0).random((6, 4))
    asked = asked_times(card(), 1.0, [TIMES[3], TIMES[0]])
    assert np.array_equal(asked.of(values), values[[3, 0]])


def test_times_in_between_are_smooth_functions_of_their_logarithm() -> None:
    own = np.array(TIMES)
    values = np.stack([own**0.5, own**0.3], axis=1)
    times = np.geomspace(TIMES[0], TIMES[-1], 41)
    found = asked_times(card(), 1.0, times.tolist()).of(values)
    assert found == pytest.approx(np.stack([times**0.5, times**0.3], axis=1), rel=0.01)
    assert (np.diff(found, axis=0) > 0).all()
    unknown = asked_times(card(), 1.0, times.tolist()).of(values * [1.0, np.nan])
    assert np.isnan(unknown[:, 1]).all()
    assert np.isfinite(unknown[:, 0]).all()


def test_times_are_those_of_the_liquid_that_is_met() -> None:
    asked = asked_times(card(ARRHENIUS), 0.7)
    assert asked.own == pytest.approx(np.array(TIMES) * arrhenius(0.7))
    assert asked.times == [float(f"{time:.3g}") for time in asked.own]
    values = np.log(asked.own)[:, None]
    assert asked.of(values)[:, 0] == pytest.approx(np.log(asked.times), abs=0.002)


@pytest.mark.parametrize("time", [0.05, 1.1, -1.0, math.inf, math.nan])
def test_times_before_the_first_and_behind_the_last_are_refused(time: float) -> None:
    with pytest.raises(ModelError, match=r"found time .*one of the model's times 0.1, 0.158"):
        asked_times(card(), 1.0, [time])


def test_times_that_lie_far_apart_say_nothing_of_those_in_between() -> None:
    with pytest.raises(ModelError, match=r"found time 1; expected one of the model's times 0.1, 10; try 0.1"):
        asked_times(card(times=[0.1, 10.0]), 1.0, [1.0])
    assert asked_times(card(times=[0.1, 10.0]), 1.0, [10.0]).times == [10.0]


def test_times_that_go_on_from_other_temperatures_are_said() -> None:
    measured = {"0.5": [1.0], "0.7": [1.0, 2.0], "1": [1.0, 2.0]}
    card = ModelCard(
        model="ridge", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.5, 0.7, 1.0], density=1.2,
        times=[1.0, 2.0], trained_species=["A"], measured=measured,
    )  # fmt: skip
    assert beyond_measured(card, 0.5, [1.0, 2.0]) == [2.0]
    assert beyond_measured(card, 0.6, [1.0, 1.01, 1.3, 1.9]) == [1.3, 1.9], "between two, of which one is not known"
    assert beyond_measured(card, 0.69, [1.0, 2.0]) == []
    assert beyond_measured(card, 0.8, [1.0, 2.0]) == []
    assert beyond_measured(card, 1.5, [1.0, 2.0]) == [], "the temperature is said to be another one's"
    assert beyond_measured(card.model_copy(update={"measured": {}}), 0.5, [2.0]) == []


def test_times_of_colder_liquids_only_are_not_predicted_unless_somebody_asks() -> None:
    card = ModelCard(
        model="ridge", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.5, 1.0], density=1.2,
        times=[0.5, 1.0], trained_species=["A"], measured={"0.5": [0.5, 1.0], "1": [1.0]},
    )  # fmt: skip
    assert asked_times(card, 0.5).times == [0.5, 1.0]
    assert asked_times(card, 0.8).times == [1.0]
    assert asked_times(card, 0.8).own.tolist() == [0.5, 1.0]
    assert asked_times(card, 0.8, [0.5]).times == [0.5]
    values = np.array([[1.0], [2.0]])
    assert asked_times(card, 0.8).of(values).tolist() == [[2.0]]
