"""The thermostat against what its formula says about a system without forces."""

import numpy as np
import pytest

from glassmd.engines.thermostat import Thermostat, degrees_of_freedom
from glassmd.errors import EngineError

STEP = 0.005


def trajectory(thermostat, kinetic, degrees, rescalings):
    """Kinetic energy of free particles, which nothing but the thermostat changes; (n_systems, n_rescalings)."""
    interval, history = thermostat.interval(STEP), []
    kinetic = np.array(kinetic, float)
    for number in range(1, rescalings + 1):
        factors = thermostat.factors(number * interval, STEP, kinetic, degrees, range(len(kinetic)))
        kinetic = kinetic * factors**2
        history.append(kinetic)
    return np.array(history).T


def test_kinetic_energies_are_those_of_the_canonical_ensemble():
    degrees, temperature, systems = 27, 0.7, 200
    thermostat = Thermostat(temperature, 1.0, tuple(range(systems)))
    kinetic = trajectory(thermostat, np.full(systems, 50.0), degrees, 400)[:, 100::20]
    # 20 rescalings, four relaxation times, lie between two samples. 2K/T is χ² distributed with N_f degrees.
    found = np.sort(2 * kinetic.ravel() / temperature)
    theory = np.sort(np.random.default_rng(1).chisquare(degrees, 1_000_000))
    distance = np.abs(np.searchsorted(theory, found) / theory.size - (np.arange(found.size) + 0.5) / found.size).max()
    assert distance < 1.95 / np.sqrt(found.size), "Kolmogorov and Smirnov: once in a thousand seeds"


def test_the_kinetic_energy_relaxes_within_the_relaxation_time():
    degrees, systems, relaxation = 3000, 400, 2.0
    thermostat = Thermostat(1.0, relaxation, tuple(range(systems)))
    start = 1.5 * degrees / 2
    mean = trajectory(thermostat, np.full(systems, start), degrees, 10).mean(axis=0) / (degrees / 2) - 1
    elapsed = np.arange(1, 11) * thermostat.interval(STEP) * STEP
    # The mean decays exactly as exp(-t/τ); 400 systems fluctuate by √(2/3000)/20 of it.
    np.testing.assert_allclose(mean, 0.5 * np.exp(-elapsed / relaxation), atol=5 * np.sqrt(2 / degrees / systems))


def test_a_system_draws_its_own_numbers_whoever_is_beside_it():
    together = trajectory(Thermostat(1.0, 1.0, (5, 6, 7)), [40.0, 50.0, 60.0], 81, 200)
    alone = trajectory(Thermostat(1.0, 1.0, (6,)), [50.0], 81, 200)
    np.testing.assert_array_equal(together[1], alone[0])
    assert not np.allclose(together[0], together[1])


def test_rescalings_lie_on_the_same_steps_when_a_stretch_is_cut():
    whole = Thermostat(1.0, 0.5, (1,))
    steps, step = [], 0
    while step < 200:
        step = whole.next_rescaling(step, STEP)
        steps.append(step)
    assert steps == list(range(20, 201, 20))
    rest = Thermostat(1.0, 0.5, (1,), first_step=50)
    assert rest.next_rescaling(0, STEP) == 10
    np.testing.assert_array_equal(
        rest.factors(10, STEP, [40.0], 81, range(1)), whole.factors(60, STEP, [40.0], 81, range(1))
    )


@pytest.mark.parametrize("kinetic", [0.0, float("nan"), float("inf")])
def test_a_kinetic_energy_that_no_liquid_has_is_refused(kinetic):
    with pytest.raises(EngineError, match="kinetic energy"):
        Thermostat(1.0, 1.0, (1,)).factors(40, STEP, [kinetic], 81, range(1))


def test_the_centre_of_mass_has_no_degree_of_freedom():
    assert degrees_of_freedom(100, 3) == 297
    assert degrees_of_freedom(100, 2) == 198
