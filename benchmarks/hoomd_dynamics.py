"""Parts c and d of hoomd_physics.py: what the thermostat does to the dynamics, and LAMMPS's propensities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from liquid import replicas
from numpy.typing import NDArray

from glassmd.analysis.dynamics import allowed_wave_vectors, remove_drift, self_intermediate_scattering
from glassmd.configuration import Configuration
from glassmd.engines import Engine, Thermostat
from glassmd.engines.hoomd import HoomdEngine
from glassmd.engines.lammps import LammpsEngine
from glassmd.metrics import intraclass_correlation, pearson, reliability
from glassmd.mixtures import get_mixture
from glassmd.simulation.equilibration import Protocol, equilibrate_together

MIXTURE = get_mixture("kob-andersen", "force-shifted")  # conserves the energy well without a thermostat
TIME_STEP, WAVE_NUMBER, RESAMPLED = 0.005, 7.25, 1000

FloatArray = NDArray[np.float64]


@cache
def parent_of(device: Any, temperature: float, n_particles: int, tau_alphas: float) -> Configuration:
    """One equilibrated liquid, the parent of all replicas."""
    lineages = equilibrate_together(
        HoomdEngine(device),
        MIXTURE,
        [np.random.default_rng(64)],
        n_particles=n_particles,
        density=MIXTURE.density,
        temperature=temperature,
        time_step=TIME_STEP,
        protocol=Protocol(tau_alphas=tau_alphas, max_time=40 * tau_alphas),
    )
    _, liquid, report = next(lineages)
    print(f"parent: equilibrated {report['equilibrated']}, τ_α = {report['tau_alpha']}", flush=True)
    return liquid


def ensemble(
    engine: Engine, parent: Configuration, temperature: float, numbers: range, times: Sequence[float], relaxation: Any
) -> tuple[FloatArray, FloatArray]:
    """(n_replicas, n_times, n_A, 3) displacements of A and (n_replicas, n_times) kinetic temperatures."""
    steps = [round(time / TIME_STEP) for time in times]
    bath = None if relaxation is None else Thermostat(temperature, relaxation, tuple(numbers))
    systems = replicas(parent, MIXTURE, temperature, numbers)
    ends = np.empty((len(numbers), len(times), parent.n_particles, 3))
    kinetic = np.empty((len(numbers), len(times)))
    for seen in engine.evolve(systems, MIXTURE, steps=steps, time_step=TIME_STEP, thermostat=bath):
        ends[seen.system, steps.index(seen.step)] = seen.positions
        kinetic[seen.system, steps.index(seen.step)] = seen.temperature
    moved = remove_drift(ends - parent.unwrapped, np.asarray(MIXTURE.masses)[parent.species])
    return moved[:, :, parent.of_species("A")], kinetic


def thermostats(
    device: Any, *, temperature: float, n_particles: int, n_replicas: int, times: Sequence[float],
    relaxation_times: Sequence[float], packed: int, tau_alphas: float,
) -> dict[str, Any]:  # fmt: skip
    """Mean |Δr| and F_s of A with and without a thermostat: the same parent and the same momenta.

    Differences are taken replica by replica before they are averaged, so that what the momenta share drops out.
    """
    parent = parent_of(device, temperature, n_particles, tau_alphas)
    engine = HoomdEngine(device, packed=packed)
    vectors = allowed_wave_vectors(parent.box, WAVE_NUMBER, most=60)
    rows: list[dict[str, Any]] = []
    free: dict[str, FloatArray] = {}
    for relaxation in (None, *relaxation_times):
        moved, kinetic = ensemble(engine, parent, temperature, range(n_replicas), times, relaxation)
        values = {
            "mean_displacement": np.linalg.norm(moved, axis=-1).mean(axis=-1),
            "F_s": self_intermediate_scattering(moved, vectors),
            "kinetic_temperature": kinetic,
        }
        free = free or values
        row: dict[str, Any] = {"thermostat_time": relaxation}
        for name, value in values.items():
            row[name] = _mean_and_error(value)
            row[f"{name}_minus_constant_energy"] = _mean_and_error(value - free[name])
        rows.append(row)
        print(f"c: thermostat time {relaxation}: {row['mean_displacement']}, F_s {row['F_s']}", flush=True)
    return {
        "temperature": temperature,
        "mixture": f"{MIXTURE.name} ({MIXTURE.truncation})",
        "n_particles": n_particles,
        "replicas": n_replicas,
        "species": "A",
        "wave_number": WAVE_NUMBER,
        "times": list(times),
        "rows": rows,
    }


def _mean_and_error(values: FloatArray) -> dict[str, list[float]]:
    """Per time, over replicas."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return {"mean": np.round(values.mean(axis=0), 5).tolist(), "error": np.round(error, 5).tolist()}


def propensities(
    device: Any, *, temperature: float, n_particles: int, n_replicas: int, times: Sequence[float], packed: int,
    tau_alphas: float,
) -> dict[str, Any]:  # fmt: skip
    """Propensities of A from both engines, with different momenta, at constant energy.

    If both simulate the same liquid, ρ between them is the reliability of a label of R replicas. It is also
    compared with what random halves of all replicas of both engines give: the p-value is the share of halves
    that agree no better than the engines do.
    """
    parent = parent_of(device, temperature, n_particles, tau_alphas)
    engines: list[Engine] = [HoomdEngine(device, packed=packed), LammpsEngine()]
    found = []
    for index, engine in enumerate(engines):
        print(f"d: {n_replicas} replicas with {engine.name}", flush=True)
        numbers = range(index * n_replicas, (index + 1) * n_replicas)
        moved, _ = ensemble(engine, parent, temperature, numbers, times, None)
        found.append(np.linalg.norm(moved, axis=-1))
    rows = [_agreement(found[0][:, t], found[1][:, t], time) for t, time in enumerate(times)]
    for row in rows:
        print(f"d: {row}", flush=True)
    return {
        "temperature": temperature,
        "mixture": f"{MIXTURE.name} ({MIXTURE.truncation})",
        "n_particles": n_particles,
        "replicas_per_engine": n_replicas,
        "ensemble": "NVE",
        "species": "A",
        "rows": rows,
    }


def _agreement(one: FloatArray, other: FloatArray, time: float) -> dict[str, Any]:
    """Two engines' (n_replicas, n_A) displacements at one time."""
    count, generator = len(one), np.random.default_rng(0)
    pooled = np.concatenate([one, other])
    both = reliability(pooled.mean(axis=0), pooled.var(axis=0, ddof=1), 2 * count)
    kappa = intraclass_correlation(both, 2 * count)
    draws, halves = [], []
    for _ in range(RESAMPLED):
        first, second = (x[generator.integers(count, size=count)].mean(axis=0) for x in (one, other))
        draws.append(pearson(first, second))
        order = generator.permutation(2 * count)
        halves.append(pearson(pooled[order[:count]].mean(axis=0), pooled[order[count:]].mean(axis=0)))
    rho = pearson(one.mean(axis=0), other.mean(axis=0))
    means = one.mean(axis=1), other.mean(axis=1)
    error = np.sqrt(sum(m.var(ddof=1) / count for m in means))
    return {
        "time": time,
        "rho": round(rho, 4),
        "rho_error_bootstrap": round(float(np.std(draws)), 4),
        "expected": round(count * kappa / (1 + (count - 1) * kappa), 4),
        "single_replica_correlation": round(kappa, 4),
        "halves_of_both": {"mean": round(float(np.mean(halves)), 4), "sd": round(float(np.std(halves)), 4)},
        "p_value": round(float(np.mean(np.array(halves) <= rho)), 3),
        "mean_propensity": [round(float(m.mean()), 5) for m in means],
        "mean_propensity_difference": round(float(means[0].mean() - means[1].mean()), 5),
        "mean_propensity_difference_error": round(float(error), 5),
    }
