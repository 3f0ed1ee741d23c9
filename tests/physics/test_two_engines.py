"""HOOMD-blue and LAMMPS, two programs that share no line of code, must be one physics."""

from functools import cache

import numpy as np
import pytest

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines import Thermostat, get_engine
from glassmd.errors import EngineError
from glassmd.metrics import intraclass_correlation, pearson, reliability
from glassmd.mixtures import MIXTURES, get_mixture
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.simulation.structures import CageProtocol, cages_of

try:
    ENGINES = {"lammps": get_engine("lammps"), "hoomd": get_engine("hoomd", "cpu", packed=8, buffer=0.3)}
except EngineError as error:
    pytest.skip(f"both engines are needed: {error}", allow_module_level=True)

pytestmark = pytest.mark.physics

STEP = 0.005
LIQUIDS = [(name, truncation) for name in MIXTURES for truncation in MIXTURES[name].truncations]


@cache
def melted(name, truncation, n_particles=300, temperature=1.5):
    """A liquid with velocities; at 300 particles every box holds twice the longest cutoff."""
    mixture, generator = get_mixture(name, truncation), np.random.default_rng(3)
    n_particles = n_particles if mixture.dimensions == 3 else n_particles // 2
    liquid = random_start(mixture, n_particles, mixture.density, generator)
    liquid = liquid.with_velocities(draw_velocities(liquid, mixture, temperature, generator))
    for time_step, steps in ((0.2 * STEP, 300), (STEP, 700)):
        bath = Thermostat(temperature, 0.1, (1,))
        (end,) = ENGINES["lammps"].evolve([liquid], mixture, steps=[steps], time_step=time_step, thermostat=bath)
        liquid = Configuration(liquid.box, liquid.species, end.positions, liquid.species_names, end.velocities)
    return liquid.with_images_zero()


@pytest.mark.parametrize("ensemble", ["NVE", "NVT"])
@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_the_same_start_and_seeds_are_the_same_trajectory(name, truncation, ensemble):
    mixture, start = get_mixture(name, truncation), melted(name, truncation)
    bath = Thermostat(1.5, 0.25, (12,)) if ensemble == "NVT" else None
    lammps, hoomd = (
        list(engine.evolve([start], mixture, steps=[0, 50, 100], time_step=STEP, thermostat=bath))
        for engine in (ENGINES["lammps"], ENGINES["hoomd"])
    )
    assert np.linalg.norm(hoomd[-1].positions - start.unwrapped, axis=1).mean() > 0.1, "nothing moved"
    for one, other in zip(lammps, hoomd, strict=True):
        # Rounding of 1e-15 grows by less than a factor e every 0.1 time units; 1e-5 at t = 0.5 is asked.
        assert np.abs(one.positions - other.positions).max() < 1e-9
        assert one.temperature == pytest.approx(other.temperature, rel=1e-8)
        assert one.potential_energy == pytest.approx(other.potential_energy, rel=1e-8)
        assert one.pressure == pytest.approx(other.pressure, rel=1e-8)


def propensities(engine, parent, mixture, temperature, steps, seed, replicas=32):
    """Mean and variance of |Δr| over replicas, (n_steps, n_particles) each."""
    generator = np.random.default_rng(seed)
    systems = [
        parent.with_velocities(draw_velocities(parent, mixture, temperature, generator)) for _ in range(replicas)
    ]
    bath = Thermostat(temperature, 2.0, tuple(range(seed, seed + replicas)))
    masses = np.asarray(mixture.masses)[parent.species]
    distances = np.empty((replicas, len(steps), parent.n_particles))
    for seen in engine.evolve(systems, mixture, steps=steps, time_step=STEP, thermostat=bath):
        moved = remove_drift(seen.positions - parent.unwrapped, masses)
        distances[seen.system, steps.index(seen.step)] = np.linalg.norm(moved, axis=1)
    return distances.mean(axis=0), distances.var(axis=0, ddof=1)


@pytest.mark.slow
def test_both_engines_halves_of_one_ensemble():
    """Propensities from different seeds agree as well as their known noise lets them, and no worse."""
    temperature, steps, replicas = 0.8, [20, 200], 32
    mixture = get_mixture("kob-andersen")
    parent = melted("kob-andersen", "shifted", 500, temperature)
    (one, variance), (other, _) = (
        propensities(ENGINES[name], parent, mixture, temperature, steps, seed, replicas)
        for name, seed in (("lammps", 1000), ("hoomd", 2000))
    )
    of_a = parent.of_species("A")
    for row, step in enumerate(steps):
        expected = reliability(one[row, of_a], variance[row, of_a], replicas)
        found = pearson(one[row, of_a], other[row, of_a])
        # Fisher: artanh ρ scatters by 1/√(n−3), and the estimate of the reliability by as much.
        error = np.sqrt(2 / (of_a.sum() - 3))
        assert abs(np.arctanh(found) - np.arctanh(expected)) < 4 * error, (step, found, expected)
        assert 0.01 < intraclass_correlation(expected, replicas) < 0.9
        # The mean over particles: each replica's mean is one sample of it.
        assert one[row, of_a].mean() == pytest.approx(other[row, of_a].mean(), rel=0.02)


@pytest.mark.slow
def test_both_engines_cages_are_those_of_one_ensemble():
    """Cages of two parents that HOOMD packs together, from other momenta than LAMMPS': apart by their errors."""
    temperature, replicas = 0.8, 32
    protocol = CageProtocol(replicas=replicas, time=0.5, after=0.1, spacing=0.05)
    mixture = get_mixture("kob-andersen")
    parents = [melted("kob-andersen", "shifted", 500, temperature), melted("kob-andersen", "shifted", 500, 1.0)]
    lammps, hoomd = (
        dict(cages_of(ENGINES[name], parents, mixture, temperature, protocol, seed=seed))
        for name, seed in (("lammps", 1), ("hoomd", 2))
    )
    for index in range(len(parents)):
        one, other = lammps[index], hoomd[index]
        variance = sum(cage.rattling.means.var(axis=0, ddof=1) / replicas for cage in (one, other))
        # t² with 2(R−1) degrees of freedom has mean 1.03. Particles move together: its mean over them scatters by
        # 0.09, and the ratios below by 1.2%, between seeds of LAMMPS alone. Four of each.
        squares = (other.positions - one.positions) ** 2 / variance
        assert squares.mean() == pytest.approx(1.03, abs=0.36)
        assert other.rattling.debye_waller.mean() == pytest.approx(one.rattling.debye_waller.mean(), rel=0.05)
