"""The Kob-Andersen liquid of this program against published reference values, with error bars."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from glassmd.engines import Thermostat, get_engine
from glassmd.errors import EngineError
from glassmd.mixtures import get_mixture
from glassmd.simulation.equilibration import equilibrate_together
from glassmd.simulation.equilibrium_run import compare_halves
from glassmd.simulation.start import draw_velocities

try:
    engine = get_engine("lammps")
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)

pytestmark = [pytest.mark.physics, pytest.mark.slow]

N, STEP = 1000, 0.005


@cache
def liquid(temperature):
    """One equilibrated lineage of the shifted liquid and its evidence."""
    lineages = equilibrate_together(
        engine,
        get_mixture("kob-andersen"),
        [np.random.default_rng(round(1000 * temperature))],
        n_particles=N,
        density=1.2,
        temperature=temperature,
        time_step=STEP,
    )
    _, configuration, report = next(lineages)
    return configuration, report


def reference_energy(temperature):
    """Through RUMD's and BOTAN's values from T = 0.44 to 2, which lie on it to 0.006."""
    return -8.644 + 2.632 * temperature**0.6


def reference_pressure(temperature):
    """P = a + b T^(3/5) through 10.19 at T = 1.028 (Pedersen et al. 2018) and 2.895 at 0.44 (BOTAN)."""
    low, high = 0.44**0.6, 1.028**0.6
    return 2.895 + (10.19 - 2.895) * (temperature**0.6 - low) / (high - low)


@pytest.mark.parametrize(("temperature", "time"), [(1.0, 50.0), (0.8, 80.0)])
def test_energy_and_pressure_are_the_published_ones(temperature, time):
    start, report = liquid(temperature)
    assert report["equilibrated"], report["reasons"]
    steps = range(20, round(time / STEP), 20)
    seen = engine.evolve(
        [start],
        get_mixture("kob-andersen"),
        steps=steps,
        time_step=STEP,
        thermostat=Thermostat(temperature, 0.5, (19,)),
    )
    series = np.array([(one.potential_energy, one.pressure) for one in seen])
    correlation = report["tau_alpha"] / (20 * STEP)
    results = []
    for column, key in zip(series.T, ("energy_per_particle", "pressure"), strict=True):
        # The continued run and the one that showed equilibrium, weighted by their lengths.
        halves, before = compare_halves(column, correlation), report[key]
        weight = time / (time + report["run_time"])
        mean = weight * halves["mean"] + (1 - weight) * before["mean"]
        results.append((mean, np.hypot(weight * halves["error"], (1 - weight) * before["error"])))
    (energy, energy_error), (pressure, pressure_error) = results
    expected = reference_energy(temperature), reference_pressure(temperature)
    print(
        f"\nT = {temperature}: U/N = {energy:.4f} ± {energy_error:.4f}, reference {expected[0]:.4f}; "
        f"P = {pressure:.3f} ± {pressure_error:.3f}, reference {expected[1]:.3f}; "
        f"τ_α = {report['tau_alpha']:.2f}"
    )
    assert energy_error < 0.008, "too short a run to show anything to 0.01"
    assert abs(energy - expected[0]) < 0.01 + energy_error
    # Between its two reference points the curve of the pressure is good to a per cent or so.
    assert abs(pressure - expected[1]) < 0.1 + 3 * pressure_error


@pytest.mark.parametrize(("truncation", "most"), [("shifted", 1e-3), ("force-shifted", 2e-4)])
def test_energy_is_conserved_over_20000_steps(truncation, most):
    start, _ = liquid(0.8)
    mixture = get_mixture("kob-andersen", truncation)
    energies = [
        seen.potential_energy + 1.5 * seen.temperature * (N - 1) / N
        for seen in engine.evolve([start], mixture, steps=range(0, 20_001, 100), time_step=STEP)
    ]
    # Velocity Verlet's energy wobbles by 1e-4 without going anywhere: averages of 20 values tell drift.
    drift = np.mean(energies[-20:]) - np.mean(energies[:20])
    print(f"\n{truncation}: E/N drifts by {drift:.1e} in 20,000 steps")
    assert abs(drift) < most


@pytest.mark.parametrize("ensemble", ["NVE", "NVT"])
def test_replicas_have_the_temperature_of_their_momenta_at_every_time(ensemble):
    temperature, replicas = 0.8, 24
    start, _ = liquid(temperature)
    mixture, generator = get_mixture("kob-andersen"), np.random.default_rng(5)
    systems = [start.with_velocities(draw_velocities(start, mixture, temperature, generator)) for _ in range(replicas)]
    coupled = Thermostat(temperature, 1.0, tuple(range(1, replicas + 1)))
    steps = (0, 10, 20, 50, 100, 200)
    observations = list(
        engine.evolve(systems, mixture, steps=steps, time_step=STEP, thermostat=coupled if ensemble == "NVT" else None)
    )
    seen = np.array([one.temperature for one in observations]).reshape(replicas, len(steps)).mean(axis=0)
    # Drawn momenta scatter by T √(2/3N); the parent's own U/N, off its mean, is shared out among all
    # degrees of freedom.
    draw = temperature * np.sqrt(2 / (3 * (N - 1) * replicas))
    parent = abs(observations[0].potential_energy - reference_energy(temperature)) / (1.5 + 1.72)
    allowed = 0.01 * temperature + 3 * draw + parent
    print(f"\n{ensemble}: T = {np.round(seen, 4)} at steps {steps}, allowed {temperature} ± {allowed:.4f}")
    assert np.abs(seen - temperature).max() < allowed


def test_replicas_share_the_parents_positions_and_nothing_else():
    start, _ = liquid(0.8)
    mixture, generator = get_mixture("kob-andersen"), np.random.default_rng(6)
    systems = [start.with_velocities(draw_velocities(start, mixture, 0.8, generator)) for _ in range(2)]
    a0, a1, b0, b1 = engine.evolve(systems, mixture, steps=(0, 400), time_step=STEP)
    assert np.array_equal(a0.positions, b0.positions)
    assert abs(np.corrcoef(a0.velocities.ravel(), b0.velocities.ravel())[0, 1]) < 5 / np.sqrt(3 * N)
    assert np.abs(a1.positions - b1.positions).max() > 0.1
    reversed_ = replace(start, positions=a1.positions, velocities=-a1.velocities, images=None)
    (back,) = engine.evolve([reversed_], mixture, steps=(400,), time_step=STEP)
    # Rounding grows by chaos, e-fold in some 0.3 time units: 1e-16 stays far below 1e-6 in 4.
    assert np.abs(back.positions - a0.positions).max() < 1e-6
