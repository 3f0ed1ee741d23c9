"""How particles shake in their cages, in which direction, and against which neighbour.

The Debye-Waller factor is the trace of the covariance C of a particle's position in its cage. Short replicas show
more at no further cost. Along the bond with a neighbour, û the unit vector between the cage positions:

====================  ==========================================================================
ûᵀ C_i û              how far the particle shakes towards the neighbour
ûᵀ C_j û              how far the neighbour shakes towards the particle
⟨((m_j − m_i)·û)²⟩    how much the length of the bond differs between replicas, m the replica's mean
====================  ==========================================================================

Each is summed over neighbours in Gaussian shells, by species, like a radial structure function. With them the square
roots of the eigenvalues of C (the axes of the ellipsoid that the particle fills), and how much the replicas differ:
a cage that some replicas have left shows. All of it with recursive averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import InputError
from glassmd.features.neighbours import FloatArray, Neighbours, find_neighbours
from glassmd.features.recursion import AVERAGING, generations

if TYPE_CHECKING:
    from glassmd.structure import Rattling, Structure

__all__ = ["ShakenBonds", "n_rattling_features", "rattling_features", "shaking_of_bonds"]

_SHELLS = ((0.85, 0.06), (0.95, 0.06), (1.05, 0.06), (1.15, 0.06), (1.25, 0.08), (1.4, 0.1), (1.6, 0.12), (1.85, 0.15),
           (2.1, 0.15))  # fmt: skip  # centre and width, σ_AA: first and second neighbours
_REACH = 2.3  # σ_AA
_BLOCK = 1024
"""Bonds whose replicas are at work at a time: they fit into a core's memory."""

_LEAST = 1e-6  # σ_AA²: below what a float32 position resolves in a box of 15


@dataclass(frozen=True)
class ShakenBonds:
    """Pairs of neighbours in the cage positions, and how they shake.

    Attributes:
        pairs: The neighbours.
        shaking: (n_pairs, 3), the rows of the module's table, σ_AA².
    """

    pairs: Neighbours
    shaking: FloatArray

    @classmethod
    def of(cls, structure: Structure, reach: float = 0.0) -> ShakenBonds:
        """Of the neighbours in the cage positions, as far as the shells are, or `reach`, σ_AA, if that is farther.

        Raises:
            InputError: There is no rattling.
        """
        if structure.rattling is None:
            raise InputError(
                "found a structure without rattling", "one with cage positions", "compute them: --input cage"
            )
        positions, kinds = structure.positions("cage"), structure.thermal.species
        n_species, cutoff = len(structure.mixture.species), max(reach, _REACH)
        pairs = find_neighbours(positions, structure.thermal.box, kinds, cutoff, n_species)
        along = pairs.vectors / pairs.distances[:, None]
        return cls(pairs, shaking_of_bonds(structure.rattling, pairs.centre, pairs.neighbour, along))

    def within(self, cutoff: float) -> ShakenBonds:
        """Those closer than a shorter cutoff, σ_AA.

        Raises:
            InputError: The cutoff is longer than the one that was searched.
        """
        return ShakenBonds(self.pairs.within(cutoff), self.shaking[self.pairs.distances < cutoff])


def rattling_features(structure: Structure, *, count: int = 3, bonds: ShakenBonds | None = None) -> NDArray[np.float32]:
    """Columns of the module's table, with recursive averages.

    Args:
        structure: With cage positions and rattling.
        count: Generations of averages.
        bonds: Of this structure, where they are known.

    Returns:
        (n_particles, n_columns) float32, σ_AA² and σ_AA.

    Raises:
        InputError: There is no rattling.
    """
    bonds = (bonds or ShakenBonds.of(structure)).within(_REACH)
    rattling, species, near = structure.rattling, structure.thermal.species, bonds.pairs
    assert rattling is not None  # or there would be no bonds
    r = near.distances
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(rattling.covariance), 0.0))
    columns = [axes, _between(rattling)]
    for centre, width in _SHELLS:
        weight = np.exp(-((r - centre) ** 2) / (2 * width**2))
        summed = near.sum_per_species(weight[:, None] * bonds.shaking)
        columns.append(summed.reshape(len(species), -1))
    base = np.hstack(columns).astype(np.float32)
    return np.hstack([base, *generations(base, near.within(AVERAGING), count)])


def n_rattling_features(n_species: int, dimensions: int, *, count: int = 3) -> int:
    """Columns of :func:`rattling_features`."""
    return (dimensions + 7 + 3 * len(_SHELLS) * n_species) * (count + 1)


def shaking_of_bonds(
    rattling: Rattling, i: NDArray[np.int32], j: NDArray[np.int32], along: NDArray[np.float64]
) -> FloatArray:
    """The three rows of the module's table, (n_bonds, 3), σ_AA², of bonds from i to j with unit vectors `along`."""
    d = along.shape[1]
    corners = [(a, b) for a in range(d) for b in range(a, d)]
    products = np.stack([along[:, a] * along[:, b] * (1 if a == b else 2) for a, b in corners], axis=1)
    covariance = np.stack([rattling.covariance[:, a, b] for a, b in corners], axis=1)
    own = [np.einsum("pk,pk->p", covariance[end], products) for end in (i, j)]
    means = np.ascontiguousarray(rattling.means.transpose(1, 2, 0), np.float32)  # (n_particles, d, n_replicas)
    unit, apart = along.astype(np.float32), np.empty(len(along))
    for start in range(0, len(along), _BLOCK):
        block = slice(start, start + _BLOCK)
        shift = np.einsum("par,pa->pr", means[j[block]] - means[i[block]], unit[block])
        apart[block] = np.einsum("pr,pr->p", shift, shift) / means.shape[2]
    return np.stack([*own, apart], axis=1)


def _between(rattling: Rattling) -> NDArray[np.float64]:
    """(n_particles, 7): how the replicas' variances and means are distributed."""
    within = rattling.variances
    apart = (rattling.means**2).sum(axis=-1)
    return np.stack(
        [
            within.max(axis=0),
            within.std(axis=0),
            np.log(within + _LEAST).mean(axis=0),
            np.median(within, axis=0),
            np.log(apart + _LEAST).mean(axis=0),
            apart.mean(axis=0),
            apart.max(axis=0),
        ],
        axis=1,
    )
