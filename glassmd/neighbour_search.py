"""The search for neighbours, in one place: every pair within a cutoff, by vesin.

vesin is imported by whoever searches: it brings torch, which a simulating worker does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["HalfList", "pairs_within"]

FloatArray = NDArray[np.float64]


class HalfList(NamedTuple):
    """Every pair once: vesin's arrays, and `search`, to whose memory they belong.

    `forth` holds vectors from i to j (n_pairs, d) or distances (n_pairs,).
    """

    i: NDArray[np.integer[Any]]
    j: NDArray[np.integer[Any]]
    forth: FloatArray
    search: Any


def pairs_within(
    points: FloatArray,
    box: FloatArray,
    cutoff: float,
    *,
    with_vectors: bool = False,
    periodic: Sequence[bool] | None = None,
) -> HalfList:
    """Every pair with r < `cutoff` once, unsorted, and every image of it within the cutoff.

    On the CPU, in one thread.

    Args:
        points: (n_particles, d) finite, d = 2 or 3, σ_AA.
        box: (d,) edge lengths, σ_AA.
        cutoff: Above 0, σ_AA.
        with_vectors: Vectors rather than distances.
        periodic: Along which axes; all by default.

    Example:
        >>> found = pairs_within(np.array([[0.1, 0.0], [8.9, 0.0]]), np.array([9.0, 9.0]), 2.0)
        >>> found.forth.round(6).tolist()
        [0.2]
        >>> len(pairs_within(np.array([[0.1, 0.0], [8.9, 0.0]]), np.array([9.0, 9.0]), 2.0, periodic=(False, True)).i)
        0
    """
    from vesin import NeighborList

    n, d = points.shape
    along = tuple(periodic or (True,) * d)
    cell = np.diag(box)
    if d == 2:  # vesin knows three dimensions: a plane without periodicity across it
        points, cell = np.column_stack([points, np.zeros(n)]), np.diag([*box, 1.0])
        along = (*along, False)
    search = NeighborList(cutoff=cutoff, full_list=False, n_threads=1)
    i, j, forth = search.compute(points, cell, along, "ijD" if with_vectors else "ijd", copy=False)
    return HalfList(i, j, forth[:, :d] if with_vectors else forth, search)
