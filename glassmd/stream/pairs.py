"""How far neighbours part: the pair label of BOTAN, averaged over replicas.

Source: H. Shiba, M. Hanai, T. Suzumura & T. Shimokawabe, J. Chem. Phys. 158, 084503 (2023): for each pair closer than
the cutoff in the parent, ⟨|r_ij(t)| − |r_ij(0)|⟩ over the isoconfigurational ensemble.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, GSD_REPLICA, GSD_TIME
from glassmd.graphs import to_graph
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.trajectory import Frame

__all__ = ["PairChanges", "pair_changes", "pair_changes_of"]

CUTOFF = 2.0
"""Largest distance of a pair in the parent, σ_AA."""

_BLOCK = 1 << 17
"""Pairs of a block: its vectors at one time take 3 MB."""


@dataclass(frozen=True, eq=False)
class PairChanges:
    """Change of the distance of neighbours, averaged over the replicas so far.

    Attributes:
        pairs: (2, n_pairs) int32, particles i < j of each pair within the cutoff of the parent.
        mean: (n_times, n_pairs) float32, ⟨|r_ij(t)| − |r_ij(0)|⟩, σ_AA.
        n_replicas: Replicas behind the mean.
    """

    pairs: NDArray[np.int32]
    mean: NDArray[np.float32]
    n_replicas: int

    def merge(self, other: PairChanges) -> PairChanges:
        """The same over the replicas of both, which must be different ones of the same parent.

        Raises:
            InputError: Other pairs or other times.
        """
        if self.mean.shape != other.mean.shape or not np.array_equal(self.pairs, other.pairs):
            raise InputError(
                f"found pair changes of shapes {self.mean.shape} and {other.mean.shape}", "the same pairs and times"
            )
        total = self.n_replicas + other.n_replicas
        share = other.n_replicas / total
        return PairChanges(self.pairs, self.mean + np.float32(share) * (other.mean - self.mean), total)

    def at_times(self, measured: Sequence[float], times: Sequence[float]) -> PairChanges:
        """The same at other times than they were measured at: NaN where that is none of them."""
        known = {f"{time:g}": index for index, time in enumerate(measured)}
        rows = [known.get(f"{time:g}") for time in times]
        if rows == list(range(len(measured))):
            return self
        blank = np.full(self.mean.shape[1], np.nan, np.float32)
        return replace(self, mean=np.stack([blank if k is None else self.mean[k] for k in rows]))

    def of_edges(self, sender: NDArray[np.int64], receiver: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n_edges, n_times) labels of the edges of a graph, NaN for those that are none of the pairs.

        Args:
            sender: (n_edges,) particles.
            receiver: (n_edges,) particles.
        """
        n = int(max(sender.max(initial=0), receiver.max(initial=0), self.pairs.max(initial=0))) + 1
        keys = self.pairs[0].astype(np.int64) * n + self.pairs[1]
        order = np.argsort(keys)
        wanted = np.minimum(sender, receiver) * n + np.maximum(sender, receiver)
        place = np.searchsorted(keys, wanted, sorter=order)
        found = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(wanted), np.int64)
        known = keys[found] == wanted if len(order) else np.zeros(len(wanted), bool)
        labels = np.full((len(wanted), len(self.mean)), np.nan, np.float32)
        labels[known] = self.mean.T[found[known]]
        return labels


def pair_changes(parent: Configuration, replicas: Iterable[NDArray[np.float64]], cutoff: float = CUTOFF) -> PairChanges:
    """Average over replicas, one at a time.

    Args:
        parent: Where all replicas start.
        replicas: Unwrapped positions (n_times, n_particles, d) of each, σ_AA, continuous with `parent.unwrapped`.
        cutoff: Largest distance of a pair in the parent, σ_AA.

    Raises:
        InputError: No replicas, arrays of other shapes, or a box shorter than twice the cutoff, in which a particle
            sees several images of another.

    Example:
        >>> parent = Configuration(box=[9, 9], species=[0, 0], positions=[[-4, 0], [4, 0]])
        >>> apart = pair_changes(parent, [np.array([[[-3.5, 0.0], [4.0, 0.0]]])])
        >>> apart.pairs.tolist(), apart.mean.tolist()
        ([[0], [1]], [[0.5]])
    """
    if float(parent.box.min()) < 2 * cutoff:
        raise InputError(f"found a box of {parent.box.tolist()}", f"sides of at least twice the cutoff {cutoff:g}")
    graph = to_graph(parent, cutoff, self_edges=False)
    sender, receiver = graph[EDGE_INDEX].numpy()
    once = sender < receiver
    pairs = np.stack([sender[once], receiver[once]]).astype(np.int32)
    vectors = graph[EDGE_VECTOR].numpy()[once].astype(np.float64)
    start, mean, count = parent.unwrapped, np.zeros(0), 0
    for positions in replicas:
        if positions.ndim != 3 or positions.shape[1:] != start.shape:
            raise InputError(
                f"found positions of shape {positions.shape}", f"(n_times, {start.shape[0]}, {start.shape[1]})"
            )
        if count and len(positions) != len(mean):
            raise InputError(f"found a replica with {len(positions)} times", f"{len(mean)} as the others")
        change = np.stack([_changes(pairs, vectors, now - start) for now in positions])
        count += 1
        mean = change if count == 1 else mean + (change - mean) / count
    if not count:
        raise InputError("found no replicas", "at least one")
    return PairChanges(pairs, mean.astype(np.float32), count)


def pair_changes_of(run: RunDirectory, key: ParentKey, blocks: Collection[int]) -> PairChanges | None:
    """Of a run's parent, over the replicas of some of its segments.

    Args:
        run: Where the replicas are.
        key: Of the parent.
        blocks: Numbers of the segments.

    Returns:
        None where the run keeps no positions of replicas, or the box is too small for such pairs.

    Raises:
        SegmentError: A segment is damaged.
    """
    found: PairChanges | None = None
    for block in sorted(blocks):
        entry = run.entry("segments", SegmentKey(*key, block).name)
        if entry is None or entry.sidecar.get("holds") == "propensity":
            return None
        frames = entry.read()
        parent = frames[0].configuration
        if float(parent.box.min()) < 2 * CUTOFF:
            return None
        part = pair_changes(parent, _by_replica(frames[1:]))
        found = part if found is None else found.merge(part)
    return found


def _by_replica(frames: Sequence[Frame]) -> Iterator[NDArray[np.float64]]:
    """(n_times, n_particles, d) unwrapped positions of every replica, in the order of times."""
    replicas: dict[int, list[Frame]] = {}
    for frame in frames:
        replicas.setdefault(int(frame.log[GSD_REPLICA][0]), []).append(frame)
    for of_one in replicas.values():
        of_one.sort(key=lambda frame: float(frame.log[GSD_TIME][0]))
        yield np.stack([frame.configuration.unwrapped for frame in of_one])


def _changes(pairs: NDArray[np.int32], vectors: NDArray[np.float64], moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """|r_ij + Δ_j − Δ_i| − |r_ij| of every pair, (n_pairs,), σ_AA."""
    change = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        now = vectors[block] + moved[pairs[1, block]] - moved[pairs[0, block]]
        change[block] = np.linalg.norm(now, axis=1) - np.linalg.norm(vectors[block], axis=1)
    return change
