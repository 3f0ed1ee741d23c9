"""The physical descriptors of GlassMLP: density, energy, its variance and the Voronoi cell, over many lengths.

G. Jung, G. Biroli & L. Berthier, Phys. Rev. Lett. 130, 238202 (2023). With w_ij = exp(−r_ij / L), j of species s
(the particle itself included where it is of s), for every length L and for s = every species and all of them:

| symbol                                  | column              |
|-----------------------------------------|---------------------|
| ρ = Σ_j w_ij                            | local density       |
| Ē = Σ_j w_ij E_j / ρ                    | potential energy    |
| V̄ar = Σ_j w_ij (E_j − Ē)² / ρ           | its variance        |
| C̄ = Σ_j w_ij C_j / ρ                    | Voronoi surface     |
| V̄ = Σ_j w_ij V_j / ρ                    | Voronoi volume      |

In 2D, surface and volume are perimeter and area. The published set has the first four, up to half a box; the volume,
:data:`LENGTHS` and :data:`REACH` are our choice. The particle's own E, C and V stand before them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from glassmd.configuration import Configuration
from glassmd.features.neighbours import Neighbours, neighbour_blocks, spatial_order
from glassmd.features.physical import energies_and_forces
from glassmd.features.voronoi import voronoi_cells
from glassmd.mixtures import Mixture

__all__ = ["LENGTHS", "REACH", "n_descriptors", "physical_descriptors"]

LENGTHS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.2, 4.0)
"""Coarse-graining lengths, σ_AA."""

REACH = 7.0
"""Particles farther than this do not count, σ_AA."""

_OWN = 3
_COARSE = 5


def n_descriptors(n_species: int) -> int:
    """Columns of :func:`physical_descriptors`.

    Example:
        >>> n_descriptors(2)
        168
    """
    return _OWN + _COARSE * len(LENGTHS) * (n_species + 1)


def physical_descriptors(configuration: Configuration, mixture: Mixture) -> NDArray[np.float64]:
    """Own and coarse-grained quantities of every particle; the same in every orientation and order.

    Args:
        configuration: Particles in a periodic box.
        mixture: Whose potential makes the energies.

    Returns:
        (n_particles, n_descriptors) float64: ε_AA and σ_AA to the powers that the table implies.
    """
    n_species, box = len(mixture.species), configuration.box
    order = spatial_order(configuration.positions, box)
    points, species = configuration.positions[order], configuration.species[order].astype(np.int64)
    energy = np.empty(len(points))
    for near in neighbour_blocks(points, box, species, float(mixture.r_cut.max()), n_species):
        energy[near.block] = energies_and_forces(near, mixture)[0][:, 0]
    cells = voronoi_cells(points, box)[:, :2]
    own = np.column_stack([energy, cells])
    middle = own.mean(axis=0)  # so that the variance of the energy is no difference of large numbers
    centred = own - middle
    columns = np.column_stack([np.ones(len(own)), centred, centred[:, 0] ** 2])
    of_species = (species[:, None] == np.arange(n_species)).astype(float)
    table = (of_species[:, :, None] * columns[:, None, :]).reshape(len(own), -1)
    result = np.empty((len(points), n_descriptors(n_species)))
    for far in neighbour_blocks(points, box, species, REACH, n_species, with_vectors=False):
        coarse = [_coarse_grained(table, middle, far, length) for length in LENGTHS]
        result[order[far.block]] = np.hstack([own[far.block], *coarse])
    return result


def _coarse_grained(
    table: NDArray[np.float64], middle: NDArray[np.float64], near: Neighbours, length: float
) -> NDArray[np.float64]:
    """(n_centres, 5 (n_species + 1)) averages over one length of `table`, number and centred quantities by species."""
    n, n_species = near.n_particles, near.n_species
    weights = np.exp(near.distances / -length)
    matrix = sparse.csr_array((weights, near.neighbour, near.starts[::n_species]), (n, len(table)))
    sums = (table[near.block] + matrix @ table).reshape(n, n_species, -1)
    sums = np.concatenate([sums, sums.sum(axis=1, keepdims=True)], axis=1)
    density = sums[:, :, :1]
    means = sums[:, :, 1:] / np.where(density > 0, density, 1.0)
    energy, cells, square = means[:, :, :1], means[:, :, 1:3], means[:, :, 3:]
    parts = [density, energy + middle[0], np.maximum(square - energy**2, 0.0), cells + middle[1:]]
    return np.asarray(np.concatenate(parts, axis=2).reshape(n, -1))
