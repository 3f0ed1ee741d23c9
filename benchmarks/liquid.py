"""A configuration as dense and as disordered as a liquid, of any size, without a simulation."""

from __future__ import annotations

import numpy as np

from glassmd.configuration import Configuration


def liquid_like(n_particles: int, seed: int = 0) -> Configuration:
    """Particles of density 1.2, 80:20, on a cubic lattice, each moved by up to a quarter of its spacing."""
    generator = np.random.default_rng(seed)
    per_side = int(np.ceil(n_particles ** (1 / 3)))
    length = (n_particles / 1.2) ** (1 / 3)
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = generator.permutation(sites)[:n_particles]
    positions = (sites + generator.uniform(-0.25, 0.25, sites.shape)) * length / per_side
    species = (np.arange(n_particles) >= 0.8 * n_particles).astype(int)
    return Configuration(box=[length] * 3, species=species, positions=positions)
