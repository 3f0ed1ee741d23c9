"""The search for neighbours, in one place: every pair within a cutoff, by vesin.

vesin is imported by whoever searches: it brings torch, which a simulating worker does without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BoxPart", "HalfList", "box_parts", "neighbours_expected", "pairs_within", "wrapped"]

FloatArray = NDArray[np.float64]

PAIRS_AT_ONCE = 16_000_000
"""Pairs that are searched at once, each counted once: some 400 MB of distances, 650 MB of vectors."""


_GAP = 1.01
"""Between what lies on both sides of an axis that is not periodic, in cutoffs."""


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
    search: Any = None,
) -> HalfList:
    """Every pair with r < `cutoff` once, unsorted, and every image of it within the cutoff.

    On the CPU, in one thread.

    Args:
        points: (n_particles, d) finite, d = 2 or 3, σ_AA.
        box: (d,) edge lengths, σ_AA; those of axes that are not periodic do not matter.
        cutoff: Above 0, σ_AA.
        with_vectors: Vectors rather than distances.
        periodic: Along which axes; all by default.
        search: That of a list that is needed no more, whose memory is used again: the system need not hand out a
            gigabyte for every search of a series.

    Example:
        >>> found = pairs_within(np.array([[0.1, 0.0], [8.9, 0.0]]), np.array([9.0, 9.0]), 2.0)
        >>> found.forth.round(6).tolist()
        [0.2]
        >>> len(pairs_within(np.array([[0.1, 0.0], [8.9, 0.0]]), np.array([9.0, 9.0]), 2.0, periodic=(False, True)).i)
        0
    """
    from vesin import NeighborList

    n, d = points.shape
    along: tuple[bool, ...] = (True,) * d
    if periodic is not None and not all(periodic):  # vesin searches closed boxes quicker: nobody is near beyond a gap
        box = np.where(periodic, box, (np.ptp(points, axis=0) if n else 0.0) + _GAP * cutoff)
    cell = np.diag(box)
    if d == 2:  # vesin knows three dimensions: a plane without periodicity across it
        points, cell = np.column_stack([points, np.zeros(n)]), np.diag([*box, 1.0])
        along = (*along, False)
    if search is None:
        search = NeighborList(cutoff=cutoff, full_list=False, n_threads=1)
    search.cutoff = float(cutoff)
    i, j, forth = search.compute(points, cell, along, "ijD" if with_vectors else "ijd", copy=False)
    return HalfList(i, j, forth[:, :d] if with_vectors else forth, search)


def neighbours_expected(points: FloatArray, box: FloatArray, cutoff: float) -> float:
    """Neighbours of a particle, by the density."""
    n, d = points.shape
    return float(n / np.prod(box) * (math.pi, 4 / 3 * math.pi)[d - 2] * cutoff**d)


class BoxPart(NamedTuple):
    """A part of a box, cut along some axes.

    Attributes:
        place: (d,) which, along each axis.
        parts: (d,) into how many the box is cut.
    """

    place: NDArray[np.int64]
    parts: NDArray[np.int64]

    def inside(self, points: FloatArray, box: FloatArray) -> NDArray[np.bool_]:
        """(n_particles,) who is in it; every particle in the box is in one part."""
        found = np.ones(len(points), np.bool_)
        for k in np.flatnonzero(self.parts > 1):
            at = np.clip((points[:, k] / box[k] + 0.5) * self.parts[k], 0, self.parts[k] - 1).astype(np.int64)
            found &= at == self.place[k]
        return found

    def cut_out(
        self, points: FloatArray, box: FloatArray, halo: float
    ) -> tuple[NDArray[np.int32], FloatArray, FloatArray, tuple[bool, ...]]:
        """The part and what is around it.

        Args:
            points: (n_particles, d) in the box, σ_AA.
            box: (d,), σ_AA.
            halo: Everything as near as that to the part is cut out, too; along an axis on which it reaches around the
                box, everything, σ_AA.

        Returns:
            (n,) int32 numbers of the particles, first those of the part, each ascending; their positions (n, d) around
            the middle of the part, without jumps; (d,) edges of what was cut out, those of the box along axes that
            were not cut; along which axes it is periodic.
        """
        edge = box / self.parts
        cut = (self.parts > 1) & (edge + 2 * halo < box)
        middle = np.where(cut, (self.place + 0.5) * edge - box / 2, 0.0)
        near = np.ones(len(points), np.bool_)
        for k in np.flatnonzero(cut):
            apart = points[:, k] - middle[k]
            near &= np.abs(apart - box[k] * np.rint(apart / box[k])) <= edge[k] / 2 + halo * (1 + 1e-9)
        inside = self.inside(points, box)
        who = np.concatenate([np.flatnonzero(inside), np.flatnonzero(near & ~inside)]).astype(np.int32)
        moved = points[who] - middle
        for k in np.flatnonzero(cut):
            moved[:, k] -= box[k] * np.rint(moved[:, k] / box[k])
        return who, moved, np.where(cut, edge + 2 * halo, box), tuple((~cut).tolist())


def box_parts(points: FloatArray, box: FloatArray, cutoff: float, most: int | None = None) -> list[BoxPart]:
    """A box in as many parts as it takes for the pairs of each, and of what is around it, not to be too many at once.

    Args:
        points: (n_particles, d), σ_AA.
        box: (d,), σ_AA.
        cutoff: Of the pairs, σ_AA.
        most: Pairs, each counted once; :data:`PAIRS_AT_ONCE` by default.
    """
    most, per_volume = (
        most or PAIRS_AT_ONCE,
        len(points) / float(np.prod(box)) * neighbours_expected(points, box, cutoff) / 2,
    )
    parts = np.ones(len(box), np.int64)

    def around() -> FloatArray:
        return np.where(parts > 1, np.minimum(box / parts + 2 * cutoff, box), box)

    while float(np.prod(around())) * per_volume > most and float((box / parts).max()) > cutoff:
        parts[int(np.argmax(box / parts))] += 1
    return [BoxPart(np.array(place), parts) for place in product(*(range(count) for count in parts))]


def wrapped(positions: FloatArray, box: FloatArray) -> FloatArray:
    """Positions moved into [-L/2, L/2) by whole boxes, (n_particles, d), σ_AA.

    Example:
        >>> wrapped(np.array([[3.0, -7.5]]), np.array([5.0, 5.0])).tolist()
        [[-2.0, -2.5]]
    """
    inside = positions - box * np.floor(positions / box + 0.5)
    return np.where(inside >= box / 2, -box / 2, inside)  # rounding may leave a particle on the far face
