r"""Local physical quantities: energy, virial, force, curvature, coordination and the Voronoi cell.

========================  ==============================================================================================
`energy`                  U_i = ½ Σ_j u(r_ij); their sum is the potential energy. ε_AA
`virial`                  w_i = −1/(2d) Σ_j r_ij u'(r_ij); pressure times volume is N k_B T + Σ_i w_i. ε_AA
`force`                   |F_i|, ε_AA/σ_AA
`curvature`               ∇²_i U = Σ_j u'' + (d − 1) u'/r, the trace of the Hessian's block of i: d times Einstein's
                          squared frequency. ε_AA/σ_AA²
`stiffness`               smallest eigenvalue of that block: the direction in which i is held least. ε_AA/σ_AA²
`softness`                trace of the inverse of that block, its eigenvalues taken to be at least 10: mean square
                          displacement over k_B T in a cage that does not move. σ_AA²/ε_AA
`coordination(s)`         neighbours of species s, counted with weights that fall from 1 to 0 around 1.4 σ_is
`voronoi …`               :func:`glassmd.features.voronoi.voronoi_cells`
========================  ==============================================================================================

The potential and its truncation are the mixture's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassmd.features.neighbours import FloatArray, Neighbours
from glassmd.mixtures import Mixture
from glassmd.pair_potential import pair_potential

__all__ = ["energies_and_forces", "n_physical_quantities", "physical_quantities"]

_SOFTEST = 10.0
"""Least eigenvalue that counts in `softness`: a tenth of a typical one; instantaneous ones may be negative."""

_FIRST_MINIMUM = 1.4
"""Radius of the first shell in units of σ_ab: g_AA's first minimum in Kob and Andersen's liquid."""

_FADE = 0.1  # half width of the fall from 1 to 0, in units of σ_ab


def n_physical_quantities(n_species: int) -> int:
    """Columns of :func:`physical_quantities`: six of mechanics, one a species, four of the Voronoi cell."""
    return 6 + n_species + 4


def physical_quantities(neighbours: Neighbours, mixture: Mixture, cells: FloatArray) -> NDArray[np.float64]:
    """Every local physical quantity.

    Args:
        neighbours: Searched at least as far as the potential reaches and as the first shell does.
        mixture: Potential and species.
        cells: (n_particles, 4), those particles' rows of :func:`glassmd.features.voronoi.voronoi_cells`.

    Returns:
        (n_particles, 6 + n_species + 4) float64, in the order and the units of the table above.
    """
    return np.hstack([energies_and_forces(neighbours, mixture)[0], _coordination(neighbours, mixture), cells])


def energies_and_forces(neighbours: Neighbours, mixture: Mixture) -> tuple[FloatArray, FloatArray]:
    """Mechanical quantities, and the forces themselves.

    Args:
        neighbours: Searched at least as far as the potential reaches.
        mixture: Potential.

    Returns:
        (n_particles, 6): energy, virial, force, curvature, stiffness, softness; and the forces (n_particles, d),
        ε_AA/σ_AA.
    """
    d, n = neighbours.vectors.shape[1], neighbours.n_particles
    a, b = neighbours.species_of_ends
    reach = np.flatnonzero(neighbours.distances < mixture.r_cut[a, b])
    r, centre = neighbours.distances[reach], neighbours.centre[reach]
    unit = neighbours.vectors[reach] / r[:, None]
    u = pair_potential(r, a[reach], b[reach], mixture)
    tangent = u.slope / r

    def summed(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(centre, values, n))

    forces = np.stack([summed(u.slope * unit[:, k]) for k in range(d)], axis=1)
    block = np.zeros((n, d, d))
    for k in range(d):
        for m in range(k, d):
            value = (u.curvature - tangent) * unit[:, k] * unit[:, m] + (tangent if k == m else 0)
            block[:, k, m] = block[:, m, k] = summed(value)
    eigenvalues = np.linalg.eigvalsh(block)
    columns = [
        0.5 * summed(u.energy),
        -summed(r * u.slope) / (2 * d),
        np.linalg.norm(forces, axis=1),
        np.trace(block, axis1=1, axis2=2),
        eigenvalues[:, 0],
        (1 / np.maximum(eigenvalues, _SOFTEST)).sum(axis=1),
    ]
    return np.stack(columns, axis=1), forces


def _coordination(neighbours: Neighbours, mixture: Mixture) -> FloatArray:
    """(n_particles, n_species)."""
    a, b = neighbours.species_of_ends
    x = neighbours.distances / np.asarray(mixture.sigma)[a, b]
    fall = np.clip((_FIRST_MINIMUM + _FADE - x) / (2 * _FADE), 0, 1)
    return neighbours.sum_per_species(fall**2 * (3 - 2 * fall))
