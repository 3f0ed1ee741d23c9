r"""Averages over a particle's surroundings: recursive generations, and coarse-graining over a length.

Generations (E. Boattini, F. Smallenburg and L. Filion, PRL 127, 088007 (2021)): with the weight e^{−r_ij / r_c} of
every particle within r_c, the particle itself included,

    x⁽ⁿ⁾_i = Σ_j e^{−r_ij / r_c} x⁽ⁿ⁻¹⁾_j / Σ_j e^{−r_ij / r_c}

Coarse-graining (G. Jung, G. Biroli and L. Berthier, PRL 130, 238202 (2023)): the same average with e^{−r_ij / ξ} for
several lengths ξ. Both are sparse matrices times the descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from glassmd.errors import InputError
from glassmd.features.neighbours import Neighbours, neighbour_blocks, spatial_order

__all__ = ["AVERAGING", "coarse_grain", "generations"]

AVERAGING = 2.1
"""Radius r_c of the generations, σ_AA: near the second minimum of g_AA."""

_FARTHEST = 7.0
"""No particle beyond this distance is averaged over, σ_AA: some 1,700 neighbours in Kob and Andersen's liquid."""


def generations(base: NDArray[np.float32], neighbours: Neighbours, count: int) -> list[NDArray[np.float32]]:
    """`count` arrays (n_particles, n_features): `base` averaged once, twice, … over the neighbours and the particle.

    The neighbours are searched as far as r_c, which is their cutoff.
    """
    averages, found = Averages(neighbours.n_particles), [base]
    averages.add(neighbours)
    for _ in range(count):
        found.append(averages.of(found[-1]))
    return found[1:]


class Averages:
    """The weights of one generation, of all particles a block at a time.

    Args:
        n_particles: All of them.
    """

    def __init__(self, n_particles: int) -> None:
        self._n, self._blocks = n_particles, list[tuple[slice | NDArray[np.int64], sparse.csr_array]]()

    def add(self, near: Neighbours) -> None:
        """The neighbours of a block, searched as far as r_c, which is their cutoff."""
        n, starts = near.n_particles, near.starts[:: near.n_species]
        weights = np.exp(-near.distances / near.cutoff)
        own = 1 / (1 + np.bincount(near.centre, weights, n))
        # a particle itself first, then its neighbours from the last to the first
        rows = starts + np.arange(n + 1)
        values, columns = np.empty(rows[-1], np.float32), np.empty(rows[-1], np.int32)
        values[rows[:-1]] = own
        columns[rows[:-1]] = np.arange(near.first, near.first + n) if near.among is None else near.among
        there = (rows[1:] - 1 + starts[:-1])[near.centre] - np.arange(len(weights))
        values[there], columns[there] = weights * own[near.centre], near.neighbour
        self._blocks.append((near.block, sparse.csr_array((values, columns, rows), (n, self._n))))

    def of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Averages of values, (n_particles, n_features)."""
        found = np.empty_like(values)
        for block, matrix in self._blocks:
            found[block] = matrix @ values
        return found


def coarse_grain(
    values: ArrayLike,
    lengths: Sequence[float],
    positions: ArrayLike,
    box: ArrayLike,
    *,
    reach: float = 4.0,
) -> NDArray[np.float64]:
    """Average values over the surroundings with weights e^{−r / ξ}, the particle itself included.

    Args:
        values: (n_particles,) or (n_particles, n_values).
        lengths: ξ, σ_AA; 0 leaves the values as they are.
        positions: (n_particles, d), σ_AA.
        box: (d,), σ_AA.
        reach: Particles farther than this many ξ, or than 7 σ_AA, do not count.

    Returns:
        (n_particles, n_lengths, n_values) float64.

    Raises:
        InputError: A negative length, or values of another number of particles.

    Example:
        >>> coarse_grain([1.0, 3.0], [0.0, 1 / np.log(3)], [[0, 0], [1, 0]], [9, 9])[0, :, 0].round(6).tolist()
        [1.0, 1.5]
    """
    points, table = np.asarray(positions, np.float64), np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if len(table) != len(points) or any(length < 0 for length in lengths):
        raise InputError(
            f"found {len(table)} values for {len(points)} particles and lengths {list(lengths)}",
            "one value a particle, lengths of at least 0",
        )
    order = spatial_order(points, np.asarray(box, np.float64))
    cuts = [min(reach * length, _FARTHEST) for length in lengths]
    columns = np.concatenate([table[order], np.ones((len(points), 1))], axis=1)  # the last one counts
    result, alike = np.empty((len(points), len(lengths), table.shape[1])), np.zeros(len(points), np.int64)
    for near in neighbour_blocks(points[order], box, alike, max([*cuts, 0.1]), with_vectors=False):
        own, who, pairs = columns[near.block], order[near.block], near
        for which in np.argsort(cuts)[::-1].tolist():  # the longest first: the shorter ones are among its pairs
            pairs = pairs if cuts[which] >= pairs.cutoff else pairs.within(max(cuts[which], 1e-9))
            sums = own
            if lengths[which] > 0:
                weights = np.exp(-pairs.distances / lengths[which])
                sums = (
                    own + sparse.csr_array((weights, pairs.neighbour, pairs.starts), (len(who), len(points))) @ columns
                )
            result[who, which] = sums[:, :-1] / sums[:, -1:]
    return result
