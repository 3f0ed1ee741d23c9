"""What a model has seen: snapshots of such liquids pass, others are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.domain import Domain, kinetic_temperature, measured_domain
from glassmd.models.guard import Temperature, guard, temperature_of

LIQUID = get_mixture("kob-andersen")
TEMPERATURES = (0.5, 1.0)
N = 500
SIDE = (N / 1.2) ** (1 / 3)


def liquid(temperature: float, seed: int, *, density: float = 1.2, n: int = N) -> Configuration:
    """Something whose particles shake around the sites of a simple cubic lattice, the hotter the farther."""
    random = np.random.default_rng([seed, round(1000 * temperature)])
    sites = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3)[:n] / 8
    side = (n / density) ** (1 / 3)
    positions = side * sites + 0.07 * np.sqrt(temperature) * random.normal(size=(n, 3))
    species = random.permutation(np.arange(n) >= round(0.8 * n)).astype(int)
    velocities = np.sqrt(temperature) * random.normal(size=(n, 3))
    return Configuration([side] * 3, species, positions, ("A", "B"), velocities)


def mirrored(one: Configuration, **changes: object) -> Configuration:
    """The same with something else."""
    told = {"box": one.box, "species": one.species, "positions": one.positions, "velocities": one.velocities}
    return Configuration(**{**told, **changes})  # type: ignore[arg-type]


def samples() -> Iterator[tuple[Configuration, float]]:
    """Ten of each temperature."""
    for temperature in TEMPERATURES:
        for seed in range(10):
            yield liquid(temperature, seed), temperature


@pytest.fixture(scope="module")
def domain() -> Domain:
    """Of two temperatures."""
    return measured_domain(samples(), LIQUID)


@pytest.fixture(scope="module")
def card(domain: Domain) -> ModelCard:
    """Of a model that has seen it."""
    return ModelCard(
        model="ridge",
        mixture=LIQUID.identity(),
        temperatures=list(TEMPERATURES),
        density=1.2,
        times=[1.0],
        trained_species=["A", "B"],
        domain=domain,
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_liquids_like_those_of_the_training_pass_in_silence(card: ModelCard, temperature: float) -> None:
    for seed in range(100, 120):
        found = guard(card, liquid(temperature, seed), temperature)
        assert (found.findings, found.extrapolated) == ([], 0.0)
        assert (found.distance > 1).mean() < 0.02


SWAPPED = lambda one: mirrored(one, species=1 - one.species)  # noqa: E731
EVEN = lambda one: mirrored(one, species=np.arange(N) % 2)  # noqa: E731
ONLY_A = lambda one: mirrored(one, species=0 * one.species)  # noqa: E731
THIN = lambda one: mirrored(one, box=1.2 * one.box, positions=1.2 * one.positions)  # noqa: E731
ANGSTROM = lambda one: mirrored(one, box=3.4 * one.box, positions=3.4 * one.positions)  # noqa: E731
SHUFFLED = lambda one: mirrored(one, positions=one.positions + np.random.default_rng(0).normal(size=(N, 3)))  # noqa: E731


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (SWAPPED, "20.0% of A"),
        (EVEN, "50.0% of A"),
        (ONLY_A, "100.0% of A"),
        (THIN, "density 0.6944"),
        (ANGSTROM, "density 0.03053"),
        (SHUFFLED, "surroundings of A at T = 0.5"),
    ],
)
def test_what_is_another_liquid_is_named(
    card: ModelCard, change: Callable[[Configuration], Configuration], found: str
) -> None:
    told = guard(card, change(liquid(0.5, 200)), 0.5)
    assert found in str(told.outside[0])
    assert "the model has seen" in told.warnings()[0]


@pytest.mark.parametrize(
    ("temperature", "severity"), [(0.495, None), (0.47, "edge"), (0.4, "outside"), (1.05, "edge"), (1.2, "outside")]
)
def test_temperatures_beyond_the_training_are_extrapolated_a_little(
    domain: Domain, temperature: float, severity: str | None
) -> None:
    assert [one.severity for one in domain.compare_temperature(temperature)] == ([severity] if severity else [])


def test_a_liquid_at_another_temperature_than_is_told_is_seen(card: ModelCard) -> None:
    assert any("surroundings" in str(one) for one in guard(card, liquid(1.0, 300), 0.5).outside)


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0])
def test_velocities_tell_the_temperature_and_else_the_structure_does(card: ModelCard, temperature: float) -> None:
    one = liquid(temperature, 400)
    found = temperature_of(card, one)
    assert (found.value, found.told_by) == (pytest.approx(temperature, rel=3 * np.sqrt(2 / (3 * N))), "velocities")
    still = mirrored(one, velocities=None)
    found = temperature_of(card, still)
    assert (found.value, found.told_by) == (pytest.approx(temperature, rel=0.12), "structure")
    expected = f"T = {found.value:.3g} ± {found.error:.1g} was estimated from the structure"
    assert expected in guard(card, still).warnings()
    assert temperature_of(card, one, 0.66) == Temperature(0.66, "told")


def test_what_is_told_is_held_against_the_velocities(card: ModelCard) -> None:
    one, off = liquid(0.7, 400), np.sqrt(2 / (3 * N))
    assert guard(card, one, 0.7 * (1 + off)).warnings() == []
    assert any("the velocities say T = 0." in said for said in guard(card, one, 0.7 * (1 + 6 * off)).warnings())


@pytest.mark.parametrize("none", [0.0, -1.0, np.inf, np.nan])
def test_what_is_no_temperature_is_refused(card: ModelCard, none: float) -> None:
    with pytest.raises(ModelError, match=r"found temperature .*; expected one above 0"):
        guard(card, liquid(0.7, 400), none)


def test_a_temperature_that_nobody_tells_is_asked_for(card: ModelCard) -> None:
    silent = card.model_copy(update={"domain": None})
    still = mirrored(liquid(0.5, 0), velocities=None)
    with pytest.raises(ModelError, match=r"trained at 0.5, 1.*--temperature 0.5"):
        temperature_of(silent, still)
    one = silent.model_copy(update={"temperatures": [0.5]})
    assert temperature_of(one, still) == Temperature(0.5, "model")


def test_the_motion_of_the_whole_and_velocities_of_zero_are_no_temperature() -> None:
    one = liquid(1.0, 0)
    moving = mirrored(one, velocities=one.velocities + 10.0)  # type: ignore[operator]
    assert kinetic_temperature(moving, LIQUID) == pytest.approx(kinetic_temperature(one, LIQUID))
    assert kinetic_temperature(mirrored(one, velocities=np.zeros((N, 3))), LIQUID) is None
    assert kinetic_temperature(mirrored(one, velocities=np.full((N, 3), np.float32(0.1))), LIQUID) is None


def test_few_small_samples_do_not_make_others_outsiders() -> None:
    few = measured_domain([(liquid(0.5, seed, n=64), 0.5) for seed in range(4)], LIQUID)
    for seed in range(10, 30):
        found, _ = few.compare_structure(liquid(0.5, seed, n=64), LIQUID, 0.5)
        assert [one for one in found if one.severity == "outside"] == []


def test_a_domain_comes_back_from_a_card(card: ModelCard) -> None:
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
