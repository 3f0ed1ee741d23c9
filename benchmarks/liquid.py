"""Configurations to measure with: as dense as a liquid, or simulated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines import Engine, Thermostat
from glassmd.mixtures import Mixture
from glassmd.settings import RunSettings
from glassmd.simulation.preparation import typical_liquid
from glassmd.simulation.seeds import Purpose, momentum_seed
from glassmd.simulation.start import draw_velocities


def liquid_like(n_particles: int, seed: int = 0) -> Configuration:
    """Particles of density 1.2, 80:20, on a cubic lattice, each moved by up to a quarter of its spacing."""
    generator = np.random.default_rng(seed)
    per_side = int(np.ceil(n_particles ** (1 / 3)))
    length = (n_particles / 1.2) ** (1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = generator.permutation(sites)[:n_particles]
    positions = (sites + generator.uniform(-0.25, 0.25, sites.shape)) * length / per_side
    species = (np.arange(n_particles) >= 0.8 * n_particles).astype(int)
    return Configuration(box=np.full(3, length), species=species, positions=positions)


def simulated_liquid(
    engine: Engine, n_particles: int, temperature: float, truncation: str = "shifted", steps: int = 1000
) -> Configuration:
    """A melt that has run at T for some steps; equilibrium to the last digit changes no speed."""
    settings = RunSettings(particles=n_particles, temperature=temperature, truncation=truncation)
    liquid = typical_liquid(engine, settings)
    bath = Thermostat(temperature, 0.5, (1,))
    (end,) = engine.evolve([liquid], settings.liquid(), steps=[steps], time_step=settings.time_step, thermostat=bath)
    return Configuration(
        liquid.box, liquid.species, end.positions, liquid.species_names, end.velocities
    ).with_images_zero()


def tiled(liquid: Configuration, times: int) -> Configuration:
    """A liquid of times³ copies of `liquid`, which forget each other as soon as they get velocities of their own."""
    shifts = np.stack(np.meshgrid(*[np.arange(times)] * 3, indexing="ij"), -1).reshape(-1, 1, 3) * liquid.box
    positions = (liquid.positions + shifts).reshape(-1, 3)
    return Configuration(
        liquid.box * times, np.tile(liquid.species, times**3), positions, liquid.species_names
    ).with_images_zero()


def replicas(
    parent: Configuration, mixture: Mixture, temperature: float, numbers: Sequence[int], seed: int = 0
) -> list[Configuration]:
    """Replicas with the momenta that `glassmd simulate` draws for the first parent of a run with this seed."""
    seeds = [momentum_seed(seed, Purpose.REPLICA, 0, 0, number) for number in numbers]
    return [
        parent.with_velocities(draw_velocities(parent, mixture, temperature, np.random.default_rng(one)))
        for one in seeds
    ]
