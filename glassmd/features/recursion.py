r"""Averages over a particle's surroundings: recursive generations, and coarse-graining over a length.

Generations (E. Boattini, F. Smallenburg and L. Filion, PRL 127, 088007 (2021)): with the weight e^{−r_ij / r_c} of
every particle within r_c, the particle itself included,

    x⁽ⁿ⁾_i = Σ_j e^{−r_ij / r_c} x⁽ⁿ⁻¹⁾_j / Σ_j e^{−r_ij / r_c}

Coarse-graining (G. Jung, G. Biroli and L. Berthier, PRL 130, 238202 (2023)): the same average with e^{−r_ij / ξ} for
several lengths ξ. Both are sparse matrices times the descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from glassmd.errors import InputError
from glassmd.features.neighbours import Neighbours, neighbour_blocks, spatial_order

__all__ = ["averaging_matrix", "coarse_grain", "generations"]

_FARTHEST = 7.0
"""No particle beyond this distance is averaged over, σ_AA: some 1,700 neighbours in Kob and Andersen's liquid."""


def averaging_matrix(
    neighbours: Neighbours, length: float, *, of_species: int | None = None, dtype: Any = np.float32
) -> sparse.csr_array:
    """Weights e^{−r / length} of the particle and of its neighbours, normalised to 1.

    Args:
        neighbours: As far as the average shall reach.
        length: σ_AA.
        of_species: Average over the particles of this species only; a particle with none of them near gets zeros.
        dtype: Of the weights.

    Returns:
        (n_particles, n_particles); multiply descriptors (n_particles, n_features) by it.

    Example:
        >>> from glassmd.features.neighbours import find_neighbours
        >>> pair = find_neighbours([[0, 0], [1, 0]], [9, 9], [0, 1], cutoff=2)
        >>> averaging_matrix(pair, 1 / np.log(3)).toarray().round(6).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    n = neighbours.n_particles
    weights = np.exp(-neighbours.distances / length)
    own = np.ones(n)
    if of_species is not None:
        weights = np.where(neighbours.species[neighbours.neighbour] == of_species, weights, 0.0)
        own = (neighbours.species == of_species).astype(np.float64)
    total = own + np.bincount(neighbours.centre, weights, n)
    scale = 1 / np.where(total > 0, total, 1.0)
    starts = neighbours.starts[:: neighbours.n_species]
    table = sparse.csr_array(((weights * scale[neighbours.centre]).astype(dtype), neighbours.neighbour, starts), (n, n))
    return (table + sparse.diags_array((own * scale).astype(dtype), format="csr")).tocsr()


def generations(
    base: NDArray[np.float32], neighbours: Neighbours, count: int, *, per_species: bool = False
) -> list[NDArray[np.float32]]:
    """The descriptors averaged once, twice, … over the neighbours and the particle itself.

    Args:
        base: (n_particles, n_features).
        neighbours: Searched as far as r_c, which is `neighbours.cutoff`.
        count: How many generations.
        per_species: Average over each species separately in every generation, and go on from the average over all.

    Returns:
        `count` arrays (n_particles, n_features), or with `per_species` (n_particles, n_species · n_features).
    """
    if count == 0:
        return []
    length = neighbours.cutoff
    everyone = averaging_matrix(neighbours, length)
    kinds = range(neighbours.n_species) if per_species else ()
    of_each = [averaging_matrix(neighbours, length, of_species=kind) for kind in kinds]
    found = []
    for _ in range(count):
        found.append(np.hstack([table @ base for table in of_each]) if per_species else everyone @ base)
        base = everyone @ base if per_species else found[-1]
    return found


def coarse_grain(
    values: ArrayLike,
    lengths: Sequence[float],
    positions: ArrayLike,
    box: ArrayLike,
    species: ArrayLike | None = None,
    n_species: int | None = None,
    *,
    reach: float = 4.0,
) -> NDArray[np.float64]:
    """Average values over the surroundings with weights e^{−r / ξ}, the particle itself included.

    Args:
        values: (n_particles,) or (n_particles, n_values).
        lengths: ξ, σ_AA; 0 leaves the values as they are.
        positions: (n_particles, d), σ_AA.
        box: (d,), σ_AA.
        species: (n_particles,) int: average over each species separately. Not given: over all.
        n_species: Of the mixture; the largest index plus one when not given.
        reach: Particles farther than this many ξ, or than 7 σ_AA, do not count.

    Returns:
        (n_particles, n_lengths, n_sets, n_values) float64: n_sets is the number of species, or 1.

    Raises:
        InputError: A negative length, or values of another number of particles.

    Example:
        >>> coarse_grain([1.0, 3.0], [0.0, 1 / np.log(3)], [[0, 0], [1, 0]], [9, 9])[0, :, 0, 0].round(6).tolist()
        [1.0, 1.5]
    """
    points, table = np.asarray(positions, np.float64), np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if len(table) != len(points) or any(length < 0 for length in lengths):
        raise InputError(
            f"found {len(table)} values for {len(points)} particles and lengths {list(lengths)}",
            "one value a particle, lengths of at least 0",
        )
    kinds = np.zeros(len(points), np.int64) if species is None else np.asarray(species, np.int64)
    n_sets = 1 if species is None else n_species or int(kinds.max()) + 1
    order = spatial_order(points, np.asarray(box, np.float64))
    cuts = [min(reach * length, _FARTHEST) for length in lengths]
    # One set of columns for each species, zero for the other particles, and their number: one product does it all.
    member = np.eye(n_sets)[kinds[order]]
    columns = np.concatenate([table[order], np.ones((len(points), 1))], axis=1)
    columns = (member[:, :, None] * columns[:, None, :]).reshape(len(points), -1)
    result = np.empty((len(points), len(lengths), n_sets, table.shape[1]))
    for near in neighbour_blocks(points[order], box, kinds[order], max([*cuts, 0.1]), n_sets, with_vectors=False):
        own, who, pairs = columns[near.block], order[near.block], near
        for which in np.argsort(cuts)[::-1].tolist():  # the longest first: the shorter ones are among its pairs
            pairs = pairs if cuts[which] >= pairs.cutoff else pairs.within(max(cuts[which], 1e-9))
            sums = own
            if lengths[which] > 0:
                weights = np.exp(-pairs.distances / lengths[which])
                starts, shape = pairs.starts[::n_sets], (len(who), len(points))
                sums = own + sparse.csr_array((weights, pairs.neighbour, starts), shape) @ columns
            sums = sums.reshape(len(who), n_sets, -1)
            total = sums[:, :, -1:]
            result[who, which] = sums[:, :, :-1] / np.where(total > 0, total, 1.0)
    return result
