"""Where every lineage starts: a lattice with species at random, and velocities of a temperature."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.mixtures import Mixture

__all__ = ["draw_velocities", "random_start"]

FloatArray = NDArray[np.float64]

_BASIS = {
    2: ((1.0, 3.0**0.5), ((0.0, 0.0), (0.5, 0.5))),
    3: ((1.0, 1.0, 1.0), ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))),
}
"""Unit cells of the triangular and the fcc lattice: edge ratios and sites in units of the edges."""


def random_start(mixture: Mixture, n_particles: int, density: float, generator: np.random.Generator) -> Configuration:
    """Particles on lattice sites, with vacancies where their number does not fit, species at random.

    Args:
        mixture: Gives dimension and exact composition.
        n_particles: N.
        density: N/V, σ_AA^-d; the box is cubic (square).
        generator: Randomness of species and vacancies.

    Returns:
        A configuration without velocities. The sites are fcc (triangular in the plane), which keeps
        neighbours as far from each other as can be; the melt forgets them.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> start = random_start(get_mixture("kob-andersen"), 500, 1.2, np.random.default_rng(1))
        >>> np.bincount(start.species).tolist(), round(start.density, 3)
        ([400, 100], 1.2)
    """
    d = mixture.dimensions
    box = np.full(d, (n_particles / density) ** (1 / d))
    edges, basis = _BASIS[d]
    cells = _cells(n_particles, np.asarray(edges), len(basis))
    corners = np.array(list(itertools.product(*map(range, cells))), dtype=np.float64)
    sites = (corners[:, None, :] + np.asarray(basis)[None, :, :]).reshape(-1, d) / cells * box
    taken = generator.permutation(len(sites))[:n_particles]
    species = generator.permutation(np.repeat(np.arange(len(mixture.species)), mixture.counts(n_particles)))
    return Configuration(box=box, species=species, positions=sites[taken] - box / 2, species_names=mixture.species)


def _cells(n_particles: int, edges: FloatArray, per_cell: int) -> tuple[int, ...]:
    """Cells along each axis: the fewest that hold all particles, of a shape close to the ideal one."""
    ideal = (n_particles / per_cell * np.prod(edges)) ** (1 / len(edges)) / edges
    around = [range(max(1, int(x)), int(x) + 3) for x in ideal]
    fitting = [cells for cells in itertools.product(*around) if np.prod(cells) * per_cell >= n_particles]
    return min(fitting, key=lambda cells: (int(np.prod(cells)), float(np.ptp(cells / ideal))))


def draw_velocities(
    configuration: Configuration, mixture: Mixture, temperature: float, generator: np.random.Generator
) -> FloatArray:
    """Maxwell-Boltzmann velocities without centre-of-mass momentum.

    They are not rescaled: the kinetic temperature fluctuates between draws as it does in the canonical
    ensemble, by √(2/d(N−1)), and its mean, with d(N−1) degrees of freedom, is `temperature`.

    Args:
        configuration: Gives the species.
        mixture: Gives the masses.
        temperature: ε_AA.
        generator: Randomness.

    Returns:
        (n_particles, d) float64, √(ε/m).

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture, generator = get_mixture("kob-andersen"), np.random.default_rng(1)
        >>> start = random_start(mixture, 500, 1.2, generator)
        >>> bool(abs(draw_velocities(start, mixture, 0.5, generator).sum(axis=0)).max() < 1e-10)
        True
    """
    masses = np.asarray(mixture.masses)[configuration.species][:, None]
    velocities = generator.standard_normal(configuration.positions.shape) * np.sqrt(temperature / masses)
    return np.asarray(velocities - (masses * velocities).sum(axis=0) / masses.sum())
