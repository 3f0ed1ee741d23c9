"""What a bond is like: its length in the cage, how the inputs differ on it, and how it shakes.

For particles i and j, with û the unit vector from i to j between the base positions (cage where there are some, else
inherent, else thermal) and s the displacement of another input from them:

==========================  =====================================================================
Gaussians of r              a radial basis of the length
r' − r                      by how much the length differs in each other input
s_i·û and s_j·û             which of the two ends that is due to
√(ûᵀC_iû) and √(ûᵀC_jû)     how far each end shakes along the bond, where there are cages
√⟨((m_j−m_i)·û)²⟩           how much the bond's length differs between short replicas
==========================  =====================================================================

Units are chosen so that the numbers are of order one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassmd.features.neighbours import find_neighbours
from glassmd.features.rattling import ShakenBonds

if TYPE_CHECKING:
    from glassmd.structure import Structure

__all__ = ["base_input", "bond_features", "n_bond_features"]

_CENTRES = (0.7, 0.79, 0.88, 0.97, 1.06, 1.15, 1.25, 1.35, 1.45, 1.55, 1.65)  # σ_AA
_WIDTH = 0.09  # σ_AA
_DISPLACED = 0.1  # σ_AA: inputs differ by this much
_SHAKES = 0.08  # σ_AA: particles shake along one direction by this much at T = 0.44
_LIMIT = 6.0  # a bond that a hop has torn counts as this much


def base_input(inputs: Sequence[str]) -> str:
    """The positions that make the graph: those that say most.

    Example:
        >>> base_input(("thermal", "inherent"))
        'inherent'
    """
    return next(name for name in ("cage", "inherent", "thermal") if name in inputs)


def n_bond_features(inputs: tuple[str, ...], n_species: int) -> int:
    """Columns of :func:`bond_features`."""
    others = len(inputs) - 1
    return len(_CENTRES) + 1 + 3 * others + 3 * ("cage" in inputs) + n_species**2


def bond_features(
    structure: Structure, inputs: tuple[str, ...], cutoff: float, shaken: ShakenBonds | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs closer than `cutoff` in the base positions, and what describes them.

    Args:
        structure: With `inputs`.
        inputs: Which of them are seen.
        cutoff: σ_AA.
        shaken: Bonds of this structure as far as `cutoff` at least, where they are known.

    Returns:
        (2, n_edges) int64, sender j and receiver i, ascending in the receiver; (n_edges, n_columns) float32 of order
        one.
    """
    base = base_input(inputs)
    species, n_species = structure.thermal.species, len(structure.mixture.species)
    if "cage" in inputs and structure.rattling is not None:
        shaken = (shaken or ShakenBonds.of(structure, cutoff)).within(cutoff)
        near = shaken.pairs
    else:
        shaken = None
        near = find_neighbours(structure.positions(base), structure.thermal.box, species, cutoff, n_species)
    i, j, r = near.centre, near.neighbour, near.distances
    along = near.vectors / r[:, None]
    columns = [np.exp(-((r[:, None] - np.array(_CENTRES)) ** 2) / (2 * _WIDTH**2)), ((r - 1.2) / 0.3)[:, None]]
    for name in inputs:
        if name != base:
            apart = structure.positions(name) - structure.positions(base) - structure.drift(name, base)
            length = np.linalg.norm(near.vectors + apart[j] - apart[i], axis=1)
            ends = [np.einsum("pa,pa->p", apart[end], along) for end in (i, j)]
            columns.append(np.stack([length - r, *ends], axis=1) / _DISPLACED)
    if shaken is not None:
        columns.append(np.sqrt(np.maximum(shaken.shaking * (1, 1, 4), 0.0)) / _SHAKES - 1)
    kinds = np.eye(n_species**2)[n_species * species[i] + species[j]]
    bonds = np.hstack([np.clip(np.hstack(columns), -_LIMIT, _LIMIT), kinds]).astype(np.float32)
    return np.stack([j, i]).astype(np.int64), bonds
