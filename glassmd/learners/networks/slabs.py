"""A snapshot in slabs for :mod:`glassmd.learners.networks.sweep`: who is in them, and who is whose neighbour.

A column of the box is unrolled along its longest axis, x, and cut into slabs. It begins and ends with images of as
many particles as the network sees across the box's face; a column that is not the whole box across, too, has particles
of its neighbours around it. Such a particle is needed until a step of the network that is the earlier the farther it is
from the particles that are predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.neighbour_search import pairs_within, wrapped

__all__ = ["FINENESS", "SEARCHED", "Column", "Edges", "Slabs", "columns_of", "mean_edges"]

FloatArray = NDArray[np.float64]

FINENESS = 8
"""Slabs within the cutoff: thin ones keep fewer edges waiting, and each costs some milliseconds."""

_SORTED = 2.0
"""Edge of the cubes in whose order the particles of a slab are, σ_AA: neighbours in space are near in memory."""

SEARCHED = 1.0
"""Thickness of what is searched for neighbours at once, in cutoffs, without what lies around it."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Column:
    """A part of the box that reaches through it along x.

    Attributes:
        axis: That axis, the longest one.
        low: (d,) where it begins, σ_AA; the box spans [-L/2, L/2).
        high: (d,) where it ends.
        periodic: (d,) whether it is the whole box along an axis; False along x, which is unrolled.
    """

    axis: int
    low: FloatArray
    high: FloatArray
    periodic: tuple[bool, ...]


def columns_of(box: FloatArray, parts: Sequence[int]) -> list[Column]:
    """The columns of a box that is cut into so many parts along each axis, 1 along the longest."""
    axis = int(np.argmax(box))
    whole = tuple(count == 1 and k != axis for k, count in enumerate(parts))
    count = np.array(parts)

    def face(place: FloatArray) -> FloatArray:
        return np.where(place == count, box / 2, box * (place / count) - box / 2)

    places = [np.array(place, np.float64) for place in product(*map(range, parts))]
    return [Column(axis, face(place), face(place + 1), whole) for place in places]


def mean_edges(density: float, d: int, cutoff: float, *, self_edges: bool) -> float:
    """Edges of a particle, by the density."""
    return density * (math.pi, 4 / 3 * math.pi)[d - 2] * cutoff**d + self_edges


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a slab, sorted by receiver.

    Attributes:
        sender: (n_edges,) int32 numbers of the ring.
        receiver: (n_edges,) int32 numbers in the slab.
        offsets: (n_receivers + 1,) int32 where the edges of each receiver begin.
        vectors: (n_edges, d) float32, r_receiver − r_sender, σ_AA.
    """

    sender: Tensor
    receiver: Tensor
    offsets: Tensor
    vectors: Tensor


class Slabs:
    """The particles of a column, sorted by slab, and in a slab by the step until which they are needed, last first.

    Args:
        positions: (n_particles, d) in the box, σ_AA.
        box: (d,), σ_AA.
        column: Which.
        cutoff: Of the edges, σ_AA.
        n_steps: Steps of the network.
        self_edges: Whether particles are neighbours of themselves.

    Attributes:
        who: (n,) int32 numbers of the particles, images included.
        starts: (n_slabs + 1,) where the slabs begin.
        needed: (n_slabs, n_steps + 1) how many of a slab's particles are needed at each step.
        reach: Slabs within the cutoff.
        ring: Particles of 2 reach + 1 slabs at most: particle k has number k modulo that.
    """

    def __init__(
        self, positions: FloatArray, box: FloatArray, column: Column, cutoff: float, n_steps: int, *, self_edges: bool
    ) -> None:
        self._box, self._column, self._cutoff, self._self_edges = box, column, cutoff, self_edges
        self.reach = FINENESS
        halo = n_steps * cutoff
        who, points = _unrolled(wrapped(positions, box), box, column, halo)
        far = np.zeros(len(who))
        for k, whole in enumerate(column.periodic):
            if not whole:
                outside = np.maximum(np.maximum(column.low[k] - points[:, k], points[:, k] - column.high[k]), 0.0)
                outside[(points[:, k] >= column.high[k]) & (outside == 0)] = _ROUNDING  # it is another column's
                far += outside**2
        last = n_steps - np.ceil(np.sqrt(far) / (cutoff * (1 + _ROUNDING))).astype(np.int32)
        width, first = cutoff / self.reach, column.low[column.axis] - halo
        n_slabs = math.ceil((column.high[column.axis] + halo - first) / width)
        slab = np.clip(((points[:, column.axis] - first) / width).astype(np.int32), 0, n_slabs - 1)
        others = [points[:, k] for k in range(len(box)) if k != column.axis]
        order = np.lexsort((*others[1:], np.floor(others[0] / _SORTED), -last, slab))
        order = order[last[order] >= 0]
        slab, last = slab[order], last[order]
        self.who, self._points = who[order], points[order]
        self.starts = np.searchsorted(slab, np.arange(n_slabs + 1))
        counts = np.bincount(slab * np.int64(n_steps + 1) + last, minlength=n_slabs * (n_steps + 1))
        self.needed = np.cumsum(counts.reshape(n_slabs, -1)[:, ::-1], axis=1)[:, ::-1]
        ends = np.minimum(np.arange(n_slabs) + 2 * self.reach + 1, n_slabs)
        self.ring = max(int((self.starts[ends] - self.starts[:n_slabs]).max()), 1)
        self._found: dict[int, Edges] = {}
        self._searched: Any = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def edges(self, slab: int) -> Edges:
        """Edges that the particles of a slab receive, as far as these are needed at the first step; ask in order."""
        if slab not in self._found:
            self._search(slab, min(slab + max(round(SEARCHED * self.reach), 1), len(self)))
        return self._found.pop(slab)

    def _search(self, first: int, last: int) -> None:
        """Find the edges of slabs `first` to `last`."""
        begin, end = (self.starts[k] for k in (max(first - self.reach, 0), min(last + self.reach, len(self))))
        points = self._points[begin:end]
        needed = np.zeros(end - begin, np.bool_)
        for slab in range(first, last):
            at = self.starts[slab] - begin
            needed[at : at + self.needed[slab, 1]] = True
        i, j, forth, self._searched = pairs_within(
            points, self._box, self._cutoff, with_vectors=True, periodic=self._column.periodic, search=self._searched
        )
        own = np.flatnonzero(needed) if self._self_edges else np.zeros(0, np.int64)
        there, back = np.flatnonzero(needed[j]), np.flatnonzero(needed[i])
        receiver = np.concatenate([own, j[there], i[back]]).astype(np.int32)
        sender = np.concatenate([own, i[there], j[back]]).astype(np.int32)
        forth = forth.astype(np.float32)
        vectors = np.concatenate([np.zeros((len(own), len(self._box)), np.float32), forth[there], -forth[back]])
        order = torch.argsort(torch.from_numpy(receiver), stable=True).numpy()  # torch has the radix sort
        receiver, sender, vectors = receiver[order], sender[order], vectors[order]
        sender = ((sender.astype(np.int64) + begin) % self.ring).astype(np.int32)
        for slab in range(first, last):
            at, count = int(self.starts[slab] - begin), int(self.needed[slab, 1])
            offsets = np.searchsorted(receiver, np.arange(at, at + count + 1, dtype=np.int32)).astype(np.int32)
            here = slice(int(offsets[0]), int(offsets[-1]))
            self._found[slab] = Edges(
                torch.from_numpy(sender[here].copy()),
                torch.from_numpy(receiver[here] - np.int32(at)),
                torch.from_numpy(offsets - offsets[0]),
                torch.from_numpy(vectors[here].copy()),
            )


def _unrolled(
    positions: FloatArray, box: FloatArray, column: Column, halo: float
) -> tuple[NDArray[np.int32], FloatArray]:
    """Numbers and positions of all images of particles within `halo` of a column, along the axes that are cut."""
    who, points = np.arange(len(positions), dtype=np.int32), positions
    for k, whole in enumerate(column.periodic):
        if whole:
            continue
        low, high = column.low[k] - halo, column.high[k] + halo
        parts = []
        for shift in range(math.floor((low + box[k] / 2) / box[k]), math.ceil((high + box[k] / 2) / box[k])):
            x = points[:, k] + shift * box[k]
            inside = np.flatnonzero((x >= low) & (x < high))
            moved = points[inside].copy()
            moved[:, k] = x[inside]
            parts.append((who[inside], moved))
        who, points = (np.concatenate(part) for part in zip(*parts, strict=True))
    return who, points
