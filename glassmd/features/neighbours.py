"""Who is near whom: every periodic pair within a cutoff, grouped by particle and by its neighbours' species.

vesin finds the pairs, every image within the cutoff for itself, so that a small box shows each particle the
surroundings it has in the endless periodic liquid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from vesin import NeighborList

from glassmd.errors import InputError

__all__ = ["Family", "Neighbours", "find_neighbours", "spatial_order", "wrapped"]

FloatArray = NDArray[np.float64]

MAX_PAIRS_PER_PARTICLE = 20_000
"""Within 8 σ_AA a liquid has some 2,600 neighbours; far more means a wrong box or a wrong cutoff."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """All pairs within a cutoff, each in both directions, sorted by the centre and then by the neighbour's species.

    Attributes:
        species: (n_particles,) int64.
        n_species: How many species the mixture has; some may be absent here.
        cutoff: No pair is this far apart or farther, σ_AA.
        centre: (n_pairs,) int32, ascending.
        neighbour: (n_pairs,) int32.
        vectors: (n_pairs, d) float64, r_neighbour − r_centre, σ_AA; (0, d) where only distances were asked for.
        distances: (n_pairs,) float64, σ_AA.
        starts: (n_particles · n_species + 1,) int64: the neighbours of species s of particle i are the pairs from
            `starts[i · n_species + s]` on.
    """

    species: NDArray[np.int64]
    n_species: int
    cutoff: float
    centre: NDArray[np.int32]
    neighbour: NDArray[np.int32]
    vectors: FloatArray
    distances: FloatArray
    starts: NDArray[np.int64]

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return len(self.species)

    @property
    def dimensions(self) -> int:
        """d, 2 or 3."""
        return int(self.vectors.shape[1])

    @property
    def rows(self) -> NDArray[np.int64]:
        """(n_pairs,) int64, centre · n_species + species of the neighbour, ascending."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def within(self, cutoff: float) -> Neighbours:
        """The pairs closer than a shorter cutoff, σ_AA.

        Raises:
            InputError: The cutoff is longer than the one that was searched.
        """
        if cutoff > self.cutoff:
            raise InputError(f"found a cutoff of {cutoff:g}", f"at most {self.cutoff:g}, which was searched")
        near = np.flatnonzero(self.distances < cutoff)
        starts = np.searchsorted(near, self.starts)
        vectors = self.vectors[near] if len(self.vectors) else self.vectors
        parts = self.centre[near], self.neighbour[near], vectors, self.distances[near]
        return Neighbours(self.species, self.n_species, cutoff, *parts, starts)

    def sum_per_species(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over the neighbours of each species: (n_pairs,) or (n_pairs, k) to (n_particles, n_species[, k])."""
        ones = np.ones(len(values), dtype=values.dtype)
        gather = sparse.csr_array((ones, np.arange(len(values)), self.starts), (len(self.starts) - 1, len(values)))
        return np.asarray((gather @ values).reshape(self.n_particles, self.n_species, *values.shape[1:]))


class Family(Protocol):
    """A family of descriptors that are sums over neighbours."""

    @property
    def cutoff(self) -> float:
        """How far neighbours matter, σ_AA."""

    def names(self, species: Sequence[str]) -> list[str]:
        """One name a column."""

    def compute(self, neighbours: Neighbours) -> NDArray[np.float32]:
        """(n_particles, n_columns)."""


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
    points, edges, kinds = _checked(positions, box, species)
    n, d = points.shape
    count = int(kinds.max()) + 1 if n_species is None else n_species
    if kinds.min() < 0 or kinds.max() >= count:
        raise InputError(f"found species {int(kinds.max())}", f"an index below {count}")
    expected = n / float(np.prod(edges)) * (math.pi, 4 / 3 * math.pi)[d - 2] * cutoff**d
    if not cutoff > 0 or expected > MAX_PAIRS_PER_PARTICLE:
        raise InputError(
            f"found about {expected:.0f} neighbours within {cutoff:g} in a box of {edges.tolist()}",
            f"a positive cutoff with at most {MAX_PAIRS_PER_PARTICLE} neighbours",
            "check the box and the cutoff",
        )
    cell = np.diag(edges)
    if d == 2:  # vesin knows three dimensions: a plane without periodicity across it
        points, cell = np.column_stack([points, np.zeros(n)]), np.diag([*edges, 1.0])
    search = NeighborList(cutoff=cutoff, full_list=False, n_threads=1)
    i, j, forth = search.compute(points, cell, (True, True, d == 3), "ijD" if with_vectors else "ijd", copy=False)
    pairs = i.astype(np.int32), j.astype(np.int32)
    return _sorted_pairs(*pairs, forth[:, :d] if with_vectors else forth, d, kinds, count, cutoff)


def _sorted_pairs(
    i: NDArray[np.int32],
    j: NDArray[np.int32],
    forth: FloatArray,
    d: int,
    species: NDArray[np.int64],
    n_species: int,
    cutoff: float,
) -> Neighbours:
    """Both directions of the pairs i < j, by counting sort: the conversion of a sparse matrix is one.

    `forth` holds their vectors (n, d) or their distances (n,).
    """
    centre, neighbour = np.concatenate([i, j]), np.concatenate([j, i])
    rows = centre * np.int32(n_species) + species.astype(np.int32)[neighbour]
    n_rows, n_pairs = len(species) * n_species, len(rows)
    index = np.arange(n_pairs, dtype=np.int32)
    table = sparse.coo_array((np.empty(n_pairs, np.bool_), (rows, index)), (n_rows, max(n_pairs, 1))).tocsr()
    order = table.indices
    backward = order >= len(i)
    along = forth[order - len(i) * backward]
    if forth.ndim == 2:
        along *= (1.0 - 2.0 * backward)[:, None]
    return Neighbours(
        species=species,
        n_species=n_species,
        cutoff=cutoff,
        centre=centre[order],
        neighbour=neighbour[order],
        vectors=along if forth.ndim == 2 else np.zeros((0, d)),
        distances=along if forth.ndim == 1 else np.sqrt(np.einsum("pd,pd->p", along, along)),
        starts=table.indptr.astype(np.int64),
    )


def _checked(
    positions: ArrayLike, box: ArrayLike, species: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
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


def wrapped(positions: FloatArray, box: FloatArray) -> FloatArray:
    """Positions moved into [-L/2, L/2) by whole boxes, (n_particles, d), σ_AA.

    Example:
        >>> wrapped(np.array([[3.0, -7.5]]), np.array([5.0, 5.0])).tolist()
        [[-2.0, -2.5]]
    """
    inside = positions - box * np.floor(positions / box + 0.5)
    return np.where(inside >= box / 2, -box / 2, inside)  # rounding may leave a particle on the far face


def spatial_order(positions: FloatArray, box: FloatArray, side: float = 2.0) -> NDArray[np.int64]:
    """An order in which neighbours in space are neighbours in memory: cubes of about `side`, row after row.

    Sums over neighbours then find what they need in the processor's caches, whatever the number of particles.

    Args:
        positions: (n_particles, d), σ_AA.
        box: (d,) edge lengths, σ_AA.
        side: σ_AA.

    Example:
        >>> spatial_order(np.array([[0.0, 0], [4, 4], [0.1, 0.1]]), np.array([10.0, 10.0])).tolist()
        [0, 2, 1]
    """
    cells = np.maximum((box / side).astype(int), 1)
    cell = np.minimum(((wrapped(positions, box) / box + 0.5) * cells).astype(int), cells - 1)
    flat = np.ravel_multi_index(tuple(cell.T), tuple(cells))
    return np.asarray(np.argsort(flat, kind="stable"))
