"""From the displacements of replicas to the numbers that are learned.

====================  ================================================================================================
target                mean over replicas of
====================  ================================================================================================
propensity            the length of Δr_i
squared-displacement  its square
bond-breaking         n_i(t)/n_i(0), the fraction of the initial neighbours that are still neighbours
cage-relative         the length of Δr_i − (1/n_i(0)) Σ_j Δr_j, j the initial neighbours
====================  ================================================================================================

Δr is the displacement in the frame of the centre of mass. Initial neighbours are nearer than :data:`NEIGHBOUR` σ_ab in
the parent, and stay neighbours while they are nearer than :data:`KEPT` σ_ab: two lengths, so that a vibration across
one breaks no bond. docs/targets.md has both beside g_ab(r).

Sources: A. Widmer-Cooper, P. Harrowell & H. Fynewever, Phys. Rev. Lett. 93, 135701 (2004) for the propensity;
R. Yamamoto & A. Onuki, Phys. Rev. E 58, 3515 (1998) for bonds; S. Mazoyer, F. Ebert, G. Maret & P. Keim, EPL 88, 66004
(2009) for the motion against the cage, which long waves in two dimensions do not reach (S. Vivek et al., PNAS 114, 1850
(2017); B. Illing et al., ibid. 1856).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from glassmd.configuration import Configuration, minimum_image
from glassmd.errors import InputError
from glassmd.features.neighbours import half_list
from glassmd.target import BOND_BREAKING, CAGE_RELATIVE, PROPENSITY, Target

__all__ = ["KEPT", "NEIGHBOUR", "Reduction", "reduced"]

FloatArray = NDArray[np.float64]

NEIGHBOUR: Final = 1.45
"""Largest distance of initial neighbours, σ_ab: in the first minimum of g_ab(r) of Kob and Andersen's mixtures."""

KEPT: Final = 1.7
"""Distance from which on they are neighbours no more, σ_ab."""

_MOST = 2000  # neighbours of a particle that are believed: a liquid has thirteen


@dataclass(frozen=True, eq=False)
class _Bonds:
    """Initial neighbours, each pair once.

    Attributes:
        i: (n_bonds,) particles.
        j: (n_bonds,) particles.
        vectors: (n_bonds, d) r_j − r_i in the parent, σ_AA.
        kept: (n_bonds,) distance from which on they are neighbours no more, σ_AA.
        count: (n_particles,) initial neighbours.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    vectors: FloatArray
    kept: FloatArray
    count: NDArray[np.int64]

    @classmethod
    def of(cls, parent: Configuration, sigma: FloatArray) -> _Bonds:
        """Those of a parent, by cells."""
        near = half_list(parent.positions, parent.box, NEIGHBOUR * float(sigma.max()), most=_MOST)
        i, j = near.i.astype(np.int64), near.j.astype(np.int64)
        sizes = sigma[parent.species[i], parent.species[j]]
        bonded = np.flatnonzero((np.einsum("bd,bd->b", near.forth, near.forth) < (NEIGHBOUR * sizes) ** 2) & (i != j))
        i, j = i[bonded], j[bonded]
        count = np.bincount(i, minlength=parent.n_particles) + np.bincount(j, minlength=parent.n_particles)
        return cls(i, j, near.forth[bonded], KEPT * sizes[bonded], count)


class Reduction:
    """Makes the values of one target out of displacements from one parent.

    Args:
        target: Which.
        parent: Where all replicas start.
        sigma: (n_species, n_species) diameters σ_ab, σ_AA.

    Raises:
        InputError: A parent with absurdly many neighbours: a wrong box.

    Example:
        >>> parent = Configuration(box=[9, 9], species=[0, 0, 0], positions=[[-1, 0], [0, 0], [1, 0]])
        >>> moved = np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
        >>> Reduction("bond-breaking", parent, [[1.0]])(moved).tolist()
        [1.0, 0.5, 0.0]
        >>> Reduction("cage-relative", parent, [[1.0]])(moved).tolist()
        [0.0, 1.0, 2.0]
    """

    def __init__(self, target: Target, parent: Configuration, sigma: ArrayLike) -> None:
        self.target, self._parent = target, parent
        if target in (BOND_BREAKING, CAGE_RELATIVE):
            bonds = self._bonds = _Bonds.of(parent, np.asarray(sigma, np.float64))
            rows, columns = np.concatenate([bonds.i, bonds.j]), np.concatenate([bonds.j, bonds.i])
            share = 1.0 / bonds.count[rows]
            self._mean = sparse.csr_array((share, (rows, columns)), (parent.n_particles, parent.n_particles))

    def __call__(self, displacements: FloatArray) -> FloatArray:
        """(n_particles,) values of one replica at one time.

        Args:
            displacements: (n_particles, d) unwrapped, without the drift of the centre of mass, σ_AA.
        """
        if self.target == BOND_BREAKING:
            return self._share_kept(displacements)
        if self.target == CAGE_RELATIVE:
            displacements = displacements - self._mean @ displacements
        length = np.linalg.norm(displacements, axis=1)
        return np.asarray(length if self.target in (PROPENSITY, CAGE_RELATIVE) else length**2)

    def _share_kept(self, moved: FloatArray) -> FloatArray:
        """n_i(t)/n_i(0); 1 of a particle without neighbours, which has none to lose."""
        bonds, n = self._bonds, self._parent.n_particles
        now = minimum_image(bonds.vectors + moved[bonds.j] - moved[bonds.i], self._parent.box)
        kept = np.einsum("bd,bd->b", now, now) < bonds.kept**2
        left = np.bincount(bonds.i[kept], minlength=n) + np.bincount(bonds.j[kept], minlength=n)
        return np.where(bonds.count > 0, left / np.maximum(bonds.count, 1), 1.0)


def reduced(target: Target, parent: Configuration, displacements: ArrayLike, sigma: ArrayLike) -> FloatArray:
    """Values of a target for many replicas and times at once.

    Args:
        target: Which.
        parent: Where all replicas start.
        displacements: (..., n_particles, d) unwrapped, without the drift of the centre of mass, σ_AA.
        sigma: (n_species, n_species) diameters σ_ab, σ_AA.

    Returns:
        (..., n_particles), in the target's unit; their mean over replicas is the label.

    Raises:
        InputError: Displacements of other particles.

    Example:
        >>> parent = Configuration(box=[9, 9], species=[0, 0], positions=[[0, 0], [1, 0]])
        >>> moved = np.zeros((5, 3, 2, 2))  # five replicas at three times
        >>> reduced("squared-displacement", parent, moved, [[1.0]]).shape
        (5, 3, 2)
    """
    moved = np.asarray(displacements, np.float64)
    if moved.shape[-2:] != parent.positions.shape:
        raise InputError(f"found displacements of shape {moved.shape}", f"(..., {parent.positions.shape})")
    of_one = Reduction(target, parent, sigma)
    flat = moved.reshape(-1, *parent.positions.shape)
    return np.array([of_one(one) for one in flat]).reshape(moved.shape[:-1])
