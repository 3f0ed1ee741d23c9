"""How far the inputs of one structure lie from each other, and how far particles shake in their cages.

A particle that sits far from its cage's centre has that way to go back: at short times it moves by it, whatever the
structure (R. M. Alkemade, F. Smallenburg and L. Filion, J. Chem. Phys. 158, 134512 (2023)). The Debye-Waller factor is
the mean square deviation from the cage position (A. Widmer-Cooper and P. Harrowell, PRL 96, 185701 (2006)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import minimum_image
from glassmd.features.bonds import base_input
from glassmd.features.neighbours import Neighbours, find_neighbours
from glassmd.features.recursion import AVERAGING, generations

if TYPE_CHECKING:
    from glassmd.structure import Structure

__all__ = ["displacement_features", "n_displacement_features"]

_PAIRS = (("inherent", "thermal"), ("cage", "thermal"), ("cage", "inherent"))


def n_displacement_features(inputs: Sequence[str], *, count: int = 5) -> int:
    """Columns of :func:`displacement_features` of structures with Debye-Waller factors."""
    return (math.comb(len(inputs), 2) + ("cage" in inputs)) * (count + 1)


def displacement_features(
    structure: Structure, *, inputs: Sequence[str] | None = None, count: int = 5, pairs: Neighbours | None = None
) -> NDArray[np.float32]:
    """Distances between the inputs and the Debye-Waller factor, each with its recursive averages.

    Args:
        structure: Inputs of one liquid.
        inputs: Compare these only; everything available when not given. The Debye-Waller factor comes with "cage".
        count: Generations of averages, over the neighbours in the cage positions where there are some.
        pairs: Those neighbours, where they are known, as far as averages reach at least.

    Returns:
        (n_particles, n_columns) float32: the distances between inherent and thermal, cage and thermal, cage and
        inherent positions, σ_AA, as far as they are there, the factor, σ_AA², and the averages in the same order. No
        columns for a structure that has thermal positions only.
    """
    known = structure.available() if inputs is None else tuple(inputs)
    where = {name: structure.positions(name) for name in known}
    box, n = structure.thermal.box, structure.thermal.n_particles
    columns = [
        np.linalg.norm(minimum_image(where[one] - where[other], box), axis=1)
        for one, other in _PAIRS
        if one in where and other in where
    ]
    if "cage" in known and structure.debye_waller is not None:
        columns.append(structure.debye_waller)
    base = np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((n, 0), np.float32)
    if not columns or count == 0:
        return base
    if pairs is None:
        positions, n_species = where[base_input(known)], len(structure.mixture.species)
        pairs = find_neighbours(positions, box, structure.thermal.species, AVERAGING, n_species)
    return np.hstack([base, *generations(base, pairs.within(AVERAGING), count)])
