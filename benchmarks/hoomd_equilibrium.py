"""Parts a and b of hoomd_physics.py: energies and pressures of packed liquids, and their temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines import Thermostat
from glassmd.engines.hoomd import HoomdEngine
from glassmd.engines.thermostat import degrees_of_freedom
from glassmd.mixtures import get_mixture
from glassmd.simulation.equilibration import Protocol, equilibrate_together
from glassmd.simulation.equilibrium_run import compare_halves
from glassmd.simulation.start import draw_velocities, random_start

MIXTURE = get_mixture("kob-andersen")
TIME_STEP, EVERY = 0.005, 20
"""Steps between samples."""


def reference_energy(temperature: float) -> float:
    """U/N through RUMD's and BOTAN's values from T = 0.44 to 2, which lie on it to 0.006."""
    return float(-8.644 + 2.632 * temperature**0.6)


def reference_pressure(temperature: float) -> float:
    """P = a + b T^(3/5) through 10.19 at T = 1.028 (Pedersen et al. 2018) and 2.895 at 0.44 (BOTAN)."""
    low, high = 0.44**0.6, 1.028**0.6
    return float(2.895 + (10.19 - 2.895) * (temperature**0.6 - low) / (high - low))


def energies(
    device: Any, *, temperatures: Sequence[float], n_particles: int, n_liquids: int, tau_alphas: float
) -> dict[str, Any]:
    """U/N and pressure of independent liquids in one simulation, each equilibrated first.

    Every liquid is shown to be equilibrated (20 τ_α at least, two halves that agree) and then runs on for
    `tau_alphas` of them, over which the averages are taken. Errors are those of its blocks.
    """
    rows = []
    engine = HoomdEngine(device, packed=n_liquids)
    for temperature in temperatures:
        liquids, reports = _equilibrated(engine, temperature, n_particles, n_liquids, tau_alphas)
        tau_alpha = float(np.mean([report["tau_alpha"] or 1.0 for report in reports]))
        time = max(25.0, tau_alphas * tau_alpha)
        seen = _series(engine, liquids, Thermostat(temperature, 0.5, tuple(range(n_liquids))), round(time / TIME_STEP))
        halves = [
            [compare_halves(one[:, column], tau_alpha / (EVERY * TIME_STEP)) for one in seen] for column in range(2)
        ]
        (energy, energy_error), (pressure, pressure_error) = (_over_liquids(of_all) for of_all in halves)
        off = energy - reference_energy(temperature), pressure - reference_pressure(temperature)
        row = {
            "temperature": temperature,
            "equilibrated": all(report["equilibrated"] for report in reports),
            "tau_alpha": round(tau_alpha, 2),
            "run_time": time,
            "energy_per_particle": _rounded(energy, energy_error, reference_energy(temperature), off[0]),
            "pressure": _rounded(pressure, pressure_error, reference_pressure(temperature), off[1]),
            "within": bool(abs(off[0]) < 0.01 and abs(off[1]) < 0.1),
        }
        print(f"a: {row}", flush=True)
        rows.append(row)
    return {
        "n_particles": n_particles,
        "liquids_packed": n_liquids,
        "asked": "U/N within 0.01 of -8.644 + 2.632 T^(3/5), pressure within 0.1 of a + b T^(3/5)",
        "rows": rows,
    }


def _over_liquids(halves: Sequence[dict[str, float]]) -> tuple[float, float]:
    """Mean over independent liquids and its error from those of each."""
    means, errors = [one["mean"] for one in halves], [one["error"] for one in halves]
    return float(np.mean(means)), float(np.linalg.norm(errors) / len(halves))


def _rounded(mean: float, error: float, reference: float, off: float) -> dict[str, float]:
    named = {"mean": mean, "error": error, "reference": reference, "difference": off}
    return {name: round(float(value), 4) for name, value in named.items()}


def _equilibrated(
    engine: HoomdEngine, temperature: float, n_particles: int, n_liquids: int, tau_alphas: float
) -> tuple[list[Configuration], list[dict[str, Any]]]:
    found = sorted(
        equilibrate_together(
            engine,
            MIXTURE,
            [np.random.default_rng([round(1000 * temperature), number]) for number in range(n_liquids)],
            n_particles=n_particles,
            density=MIXTURE.density,
            temperature=temperature,
            time_step=TIME_STEP,
            protocol=Protocol(tau_alphas=tau_alphas, max_time=40 * tau_alphas),
        ),
        key=lambda one: one[0],
    )
    return [liquid for _, liquid, _ in found], [report for _, _, report in found]


def _series(engine: HoomdEngine, liquids: Sequence[Configuration], bath: Thermostat, steps: int) -> NDArray[np.float64]:
    """(n_liquids, n_samples, 3) U/N, pressure and kinetic temperature at every EVERY-th step."""
    series: list[list[tuple[float, float, float]]] = [[] for _ in liquids]
    for seen in engine.evolve(
        liquids, MIXTURE, steps=range(EVERY, steps + 1, EVERY), time_step=TIME_STEP, thermostat=bath
    ):
        series[seen.system].append((seen.potential_energy, seen.pressure, seen.temperature))
        if seen.system == 0 and seen.step % (EVERY * max(1, steps // (10 * EVERY))) == 0:
            print(f"   step {seen.step} of {steps}", flush=True)
    return np.array(series)


def temperatures(
    device: Any, *, temperature: float, n_particles: int, n_replicas: int, steps: int, thermostat_time: float
) -> dict[str, Any]:
    """Each replica's time-averaged kinetic temperature in every quarter of a long run.

    The canonical ensemble itself makes averages over a time t scatter by 2 √(τ / (N_f t)) of T: the energy that a
    stochastic thermostat of time τ has given away by chance takes it so long to get back (the equation of
    :mod:`glassmd.engines.thermostat`, integrated over t). Figures within it say nothing against the thermostat.
    """
    engine = HoomdEngine(device, packed=n_replicas)
    parent = _cooled(engine, temperature, n_particles)
    generator = np.random.default_rng(2)
    systems = [
        parent.with_velocities(draw_velocities(parent, MIXTURE, temperature, generator)) for _ in range(n_replicas)
    ]
    bath = Thermostat(temperature, thermostat_time, tuple(range(100, 100 + n_replicas)))
    kinetic = _series(engine, systems, bath, steps)[:, :, 2]
    quarters = kinetic[:, : kinetic.shape[1] // 4 * 4].reshape(n_replicas, 4, -1)
    off = quarters.mean(axis=2) / temperature - 1
    degrees = degrees_of_freedom(n_particles, 3)
    long = 2 * np.sqrt(thermostat_time / (degrees * steps * TIME_STEP / 4))
    scatter = min(long, np.sqrt(2 / degrees))  # no average scatters more than one value
    result = {
        "temperature": temperature,
        "n_particles": n_particles,
        "replicas": n_replicas,
        "steps": steps,
        "thermostat_time": thermostat_time,
        "relative_deviation": np.round(off, 5).tolist(),
        "canonical_scatter_of_a_quarter": round(float(scatter), 5),
        "largest": round(float(np.abs(off).max()), 5),
        "mean_of_all": round(float(off.mean()), 5),
        "asked": 0.01,
        "within": bool(np.abs(off).max() < 0.01),
    }
    print(f"b: largest deviation {result['largest']:.2%}, canonical scatter {scatter:.2%}", flush=True)
    return result


def _cooled(engine: HoomdEngine, temperature: float, n_particles: int) -> Configuration:
    """A liquid that came from a melt in steps of some 15 time units each; it ages slowly, which is no matter here."""
    generator = np.random.default_rng(1)
    liquid = random_start(MIXTURE, n_particles, MIXTURE.density, generator)
    liquid = liquid.with_velocities(draw_velocities(liquid, MIXTURE, 2.0, generator))
    for stage, step, steps in ((2.0, 0.001, 500), (2.0, 0.005, 1000), (1.0, 0.005, 3000), (temperature, 0.005, 6000)):
        (end,) = engine.evolve(
            [liquid], MIXTURE, steps=[steps], time_step=step, thermostat=Thermostat(stage, 0.5, (3,))
        )
        liquid = Configuration(
            liquid.box, liquid.species, end.positions, liquid.species_names, end.velocities
        ).with_images_zero()
    return liquid
