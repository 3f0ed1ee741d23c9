"""Who is near whom: every periodic pair within a cutoff, grouped by particle and by its neighbours' species.

Every image within the cutoff counts for itself. Where the pairs of all particles are too many at once, they are
searched in parts of the box (:func:`neighbour_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from glassmd.errors import InputError
from glassmd.neighbour_search import HalfList, box_parts, neighbours_expected, pairs_within, wrapped

__all__ = [
    "Neighbours",
    "checked",
    "find_neighbours",
    "half_list",
    "neighbour_blocks",
    "spatial_order",
]

FloatArray = NDArray[np.float64]

MAX_PAIRS_PER_PARTICLE = 20_000
"""Within 8 σ_AA a liquid has some 2,600 neighbours; far more means a wrong box or a wrong cutoff."""

_BLOCK = 256
"""Particles whose pairs are at work at a time."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """All pairs within a cutoff, each in both directions, sorted by the centre and then by the neighbour's species.

    Of all particles, or of a block of them (:func:`neighbour_blocks`), whose neighbours may be outside it.

    Attributes:
        species: int64, of all particles.
        n_species: How many species the mixture has; some may be absent here.
        cutoff: No pair is this far apart or farther, σ_AA.
        centre: (n_pairs,) int32, ascending; in a block counted from `first`.
        neighbour: (n_pairs,) int32.
        vectors: (n_pairs, d) float64, r_neighbour − r_centre, σ_AA; (0, d) where only distances were asked for.
        distances: (n_pairs,) float64, σ_AA.
        starts: (n_particles · n_species + 1,) int64: the neighbours of species s of particle i are the pairs from
            `starts[i · n_species + s]` on.
        first: Index of the block's first particle.
        among: (n_centres,) int64 numbers of the block's particles; None: successive ones from `first` on.
    """

    species: NDArray[np.int64]
    n_species: int
    cutoff: float
    centre: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    vectors: FloatArray
    distances: FloatArray
    starts: NDArray[np.int64]
    first: int = 0
    among: NDArray[np.int64] | None = None

    @property
    def n_particles(self) -> int:
        """Number of centres: all particles, or those of the block."""
        return (len(self.starts) - 1) // self.n_species

    @property
    def block(self) -> slice | NDArray[np.int64]:
        """Where the centres are among all particles."""
        return self.among if self.among is not None else slice(self.first, self.first + self.n_particles)

    @property
    def species_of_ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n_pairs,) species of the centre, and of the neighbour."""
        return self.species[self.block][self.centre], self.species[self.neighbour]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(n_pairs,) int64, centre · n_species + species of the neighbour, ascending."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def within(self, cutoff: float) -> Neighbours:
        """The pairs closer than a shorter cutoff, σ_AA.

        Raises:
            InputError: The cutoff is longer than the one that was searched.
        """
        if cutoff == self.cutoff:
            return self
        if cutoff > self.cutoff:
            raise InputError(f"found a cutoff of {cutoff:g}", f"at most {self.cutoff:g}, which was searched")
        near = np.flatnonzero(self.distances < cutoff)
        starts = np.searchsorted(near, self.starts)
        vectors = self.vectors[near] if len(self.vectors) else self.vectors
        parts = self.centre[near], self.neighbour[near], vectors, self.distances[near]
        return Neighbours(self.species, self.n_species, cutoff, *parts, starts, self.first, self.among)

    def sum_per_species(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over the neighbours of each species: (n_pairs,) or (n_pairs, k) to (n_particles, n_species[, k])."""
        ones = np.ones(len(values), dtype=values.dtype)
        gather = sparse.csr_array((ones, np.arange(len(values)), self.starts), (len(self.starts) - 1, len(values)))
        return np.asarray((gather @ values).reshape(self.n_particles, self.n_species, *values.shape[1:]))


def find_neighbours(
    positions: ArrayLike,
    box: ArrayLike,
    species: ArrayLike,
    cutoff: float,
    n_species: int | None = None,
    *,
    with_vectors: bool = True,
) -> Neighbours:
    """Every periodic pair with r < `cutoff`.

    Args:
        positions: (n_particles, d), σ_AA, inside the box or not.
        box: (d,) edge lengths, σ_AA.
        species: (n_particles,) int.
        cutoff: σ_AA.
        n_species: Of the mixture; the largest index plus one when not given.
        with_vectors: Keep the vectors of the pairs: most of the memory.

    Raises:
        InputError: Shapes that do not match, non-finite positions, a cutoff with absurdly many neighbours.

    Example:
        >>> pairs = find_neighbours([[0.1, 0, 0], [8.9, 0, 0], [5, 5, 5]], [9, 9, 9], [0, 1, 0], cutoff=2.0)
        >>> pairs.centre.tolist(), pairs.neighbour.tolist(), pairs.vectors[:, 0].round(6).tolist()
        ([0, 1], [1, 0], [-0.2, 0.2])
        >>> pairs.sum_per_species(np.ones(2)).tolist()
        [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    pairs = _unsorted_pairs(positions, box, species, cutoff, n_species, with_vectors)
    return _sorted_pairs(pairs, slice(None), slice(None), 0, len(pairs.species))


def neighbour_blocks(
    positions: ArrayLike,
    box: ArrayLike,
    species: ArrayLike,
    cutoff: float,
    n_species: int | None = None,
    *,
    with_vectors: bool = True,
    size: int = _BLOCK,
) -> Iterator[Neighbours]:
    """The pairs of :func:`find_neighbours`, in the same order, of `size` particles at a time.

    Everything is searched once, or, where that is more than :data:`PAIRS_AT_ONCE`, part after part of the box; then
    the blocks are of particles of a part, :attr:`Neighbours.block`, and all of them together are all particles. Sorted
    are the pairs of one block, which fit a core's cache where the particles are in :func:`spatial_order`.

    Example:
        >>> both = list(neighbour_blocks([[0.1, 0, 0], [8.9, 0, 0]], [9, 9, 9], [0, 1], cutoff=2.0, size=1))
        >>> [(one.first, one.centre.tolist(), one.neighbour.tolist()) for one in both]
        [(0, [0], [1]), (1, [0], [0])]
    """
    points, edges, kinds, count = _checked_species(positions, box, species, n_species)
    _require_believable(points, edges, cutoff, MAX_PAIRS_PER_PARTICLE)
    parts = box_parts(points, edges, cutoff)
    if len(parts) == 1:
        pairs = _unsorted_pairs(points, edges, kinds, cutoff, count, with_vectors)
        yield from _blocks(pairs, size)
    search = None
    for part in parts if len(parts) > 1 else ():
        who, moved, cell, periodic = part.cut_out(points, edges, cutoff)
        half = pairs_within(moved, cell, cutoff, with_vectors=with_vectors, periodic=periodic, search=search)
        search = half.search
        pairs = _Unsorted(half, kinds[who], count, points.shape[1], cutoff)
        inner = int(part.inside(points, edges).sum())
        for near in _blocks(pairs, size, inner):
            yield replace(near, species=kinds, neighbour=who[near.neighbour], among=who[near.block].astype(np.int64))


def _blocks(pairs: _Unsorted, size: int, count: int | None = None) -> Iterator[Neighbours]:
    """Of the first `count` particles."""
    n = len(pairs.species) if count is None else count
    i, j = pairs.half.i, pairs.half.j
    if count is None:
        (forward, ends), (backward, back_ends) = _by_block(i, n, size), _by_block(j, n, size)
    else:
        own, other = (np.flatnonzero(end < n).astype(np.int32) for end in (i, j))
        (forward, ends), (backward, back_ends) = _by_block(i[own], n, size), _by_block(j[other], n, size)
        forward, backward = own[forward], other[backward]
    for block, first in enumerate(range(0, n, size)):
        there = forward[ends[block] : ends[block + 1]]
        back = backward[back_ends[block] : back_ends[block + 1]]
        yield _sorted_pairs(pairs, there, back, first, min(first + size, n))


def half_list(points: FloatArray, box: FloatArray, cutoff: float, *, most: int, with_vectors: bool = True) -> HalfList:
    """Every periodic pair with r < `cutoff` once, unsorted.

    Args:
        points: (n_particles, d) finite, σ_AA.
        box: (d,), σ_AA.
        cutoff: σ_AA.
        most: Neighbours of a particle that are believed.
        with_vectors: Vectors rather than distances.

    Raises:
        InputError: A cutoff that is not above 0, or one with absurdly many neighbours.
    """
    _require_believable(points, box, cutoff, most)
    return pairs_within(points, box, cutoff, with_vectors=with_vectors)


def _require_believable(points: FloatArray, box: FloatArray, cutoff: float, most: int) -> None:
    expected = neighbours_expected(points, box, cutoff)
    if not cutoff > 0 or expected > most:
        raise InputError(
            f"found about {expected:.0f} neighbours within cutoff {cutoff:g} in a box of {box.tolist()}",
            f"a positive length with at most {most} neighbours",
            "check the box and the cutoff",
        )


class _Unsorted(NamedTuple):
    """Pairs in vesin's order, and what :class:`Neighbours` says besides."""

    half: HalfList
    species: NDArray[np.int64]
    n_species: int
    dimensions: int
    cutoff: float


def _unsorted_pairs(
    positions: ArrayLike, box: ArrayLike, species: ArrayLike, cutoff: float, n_species: int | None, with_vectors: bool
) -> _Unsorted:
    points, edges, kinds, count = _checked_species(positions, box, species, n_species)
    half = half_list(points, edges, cutoff, most=MAX_PAIRS_PER_PARTICLE, with_vectors=with_vectors)
    return _Unsorted(half, kinds, count, points.shape[1], cutoff)


def _checked_species(
    positions: ArrayLike, box: ArrayLike, species: ArrayLike, n_species: int | None
) -> tuple[FloatArray, FloatArray, NDArray[np.int64], int]:
    points, edges, kinds = checked(positions, box, species)
    count = int(kinds.max()) + 1 if n_species is None else n_species
    if kinds.min() < 0 or kinds.max() >= count:
        raise InputError(f"found species {np.unique(kinds).tolist()}", f"0 to {count - 1}")
    return points, edges, kinds, count


def _by_block(ends: NDArray[np.integer[Any]], n: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pairs by the block of one end, in their order: their indices, and where each block begins."""
    return _counting_sort(np.floor_divide(ends, size, dtype=np.int32, casting="unsafe"), -(-n // size))


def _counting_sort(keys: NDArray[np.int32], n_keys: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Indices in the order of the keys, equal ones in their order, and where each key begins (n_keys + 1,).

    The conversion of a sparse matrix is a counting sort.
    """
    index = np.arange(len(keys), dtype=np.int32)
    shape = (n_keys, max(len(keys), 1))
    table = sparse.coo_array((np.empty(len(keys), np.bool_), (keys, index)), shape).tocsr()
    return table.indices, table.indptr


def _sorted_pairs(
    pairs: _Unsorted, there: slice | NDArray[np.int32], back: slice | NDArray[np.int32], first: int, last: int
) -> Neighbours:
    """Pairs whose centre is one of `first` to `last`: `there` those with i in the block, `back` those with j in it."""
    (i, j, forth, _), s = pairs.half, pairs.n_species
    centre = np.concatenate([i[there].astype(np.int32), j[back].astype(np.int32)]) - np.int32(first)
    neighbour = np.concatenate([j[there].astype(np.int32), i[back].astype(np.int32)])
    rows = centre * np.int32(s) + pairs.species.astype(np.int32)[neighbour]
    order, starts = _counting_sort(rows, (last - first) * s)
    if forth.ndim == 1:
        vectors, distances = np.zeros((0, pairs.dimensions)), np.concatenate([forth[there], forth[back]])[order]
    else:
        vectors = np.concatenate([forth[there], -forth[back]])[order]
        distances = np.sqrt(np.einsum("pd,pd->p", vectors, vectors))
    return Neighbours(
        species=pairs.species,
        n_species=s,
        cutoff=pairs.cutoff,
        centre=centre[order],
        neighbour=neighbour[order],
        vectors=vectors,
        distances=distances,
        starts=starts.astype(np.int64),
        first=first,
    )


def checked(
    positions: ArrayLike, box: ArrayLike, species: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Positions inside the box, (n_particles, d), its edges, (d,), and species, (n_particles,).

    Raises:
        InputError: Shapes that do not match, or numbers that are not finite.
    """
    points, edges = np.asarray(positions, np.float64), np.asarray(box, np.float64)
    kinds = np.asarray(species, np.int64)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or len(points) == 0:
        raise InputError(f"found positions of shape {points.shape}", "(n_particles, 2) or (n_particles, 3)")
    if edges.shape != points.shape[1:] or kinds.shape != points.shape[:1]:
        raise InputError(
            f"found a box of shape {edges.shape} and species of shape {kinds.shape}",
            f"{points.shape[1:]} and {points.shape[:1]}",
        )
    if not (np.isfinite(points).all() and np.isfinite(edges).all() and (edges > 0).all()):
        raise InputError("found a position or a box edge that is no finite number", "finite positions, positive edges")
    return wrapped(points, edges), edges, kinds


def spatial_order(positions: FloatArray, box: FloatArray) -> NDArray[np.int64]:
    """An order in which neighbours in space are neighbours in memory: cubes of about 2 σ_AA, row after row.

    Args:
        positions: (n_particles, d), σ_AA.
        box: (d,) edge lengths, σ_AA.

    Example:
        >>> spatial_order(np.array([[0.0, 0], [4, 4], [0.1, 0.1]]), np.array([10.0, 10.0])).tolist()
        [0, 2, 1]
    """
    cells = np.maximum((box / 2.0).astype(int), 1)
    cell = np.minimum(((wrapped(positions, box) / box + 0.5) * cells).astype(int), cells - 1)
    flat = np.ravel_multi_index(tuple(cell.T), tuple(cells))
    return np.asarray(np.argsort(flat, kind="stable"))
