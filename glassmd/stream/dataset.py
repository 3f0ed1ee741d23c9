"""A run as a stream of samples: what is there, and what appears while others simulate."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import RunError
from glassmd.fields import GSD_REPLICA, GSD_TIME
from glassmd.ledger.run import Entry, ParentKey, RunDirectory, SegmentKey
from glassmd.moments import Moments
from glassmd.simulation.structures import Request
from glassmd.stream.samples import Sample, SampleKey, moments_of_segment

__all__ = ["Run", "SegmentReader", "open_run"]


class SegmentReader:
    """Turns the segments of a run into samples, each segment once.

    Samples grow: when more replicas of a parent commit, the parent's sample is made anew with all of them.

    Args:
        run: The run.
        requests: Structures without which a sample is not handed out.
        parents: Read these only; all by default.
    """

    def __init__(
        self, run: RunDirectory, requests: Sequence[Request] = (), parents: Collection[ParentKey] | None = None
    ) -> None:
        self._parents_read = parents
        self.run, self._requests = run, tuple(requests)
        self._settled: list[Request] = []
        self._seen: set[SegmentKey] = set()
        self._position = 0
        self._waiting: list[SegmentKey] = []
        self._parents: dict[ParentKey, Configuration] = {}
        self._moments: dict[ParentKey, Moments] = {}

    @property
    def n_segments(self) -> int:
        """Segments read so far."""
        return len(self._seen)

    def state(self) -> list[list[int]]:
        """Segments read so far, for :meth:`restore` (JSON types only)."""
        return [list(key) for key in sorted(self._seen)]

    def restore(self, state: list[list[int]]) -> list[Sample]:
        """Read the segments of a state again; one sample per parent, as it was then."""
        found: dict[ParentKey, Entry] = {}
        for key in (SegmentKey(*numbers) for numbers in state):
            entry = self._entry(key)
            self._read(key, entry)
            found[key.of] = entry
        return [self._sample(parent, entry) for parent, entry in found.items()]

    def poll(self) -> Iterator[Sample]:
        """Read what was committed since the last call; one sample per parent that gained replicas."""
        self._hear()
        fresh: dict[ParentKey, list[SegmentKey]] = {}
        waiting, self._waiting = sorted(self._waiting), []
        for key in waiting:
            if key in self._seen:
                continue
            if key.of in fresh or self._has_structures(key.of):
                fresh.setdefault(key.of, []).append(key)
            else:
                self._waiting.append(key)
        for parent, keys in fresh.items():
            for key in keys:
                entry = self._entry(key)
                self._read(key, entry)
            yield self._sample(parent, entry)

    def _hear(self) -> None:
        self.run.poll()
        lines, self._position = self.run.since(self._position)
        keys = (line.key for line in lines if isinstance(line.key, SegmentKey) and line.key not in self._seen)
        self._waiting += [key for key in keys if self._parents_read is None or key.of in self._parents_read]

    def lacking(self) -> list[ParentKey]:
        """Parents whose replicas are there and whose structures are not."""
        self._hear()
        parents = sorted({key.of for key in self._waiting})
        return [parent for parent in parents if not self._has_structures(parent)]

    def _has_structures(self, parent: ParentKey) -> bool:
        if len(self._settled) < len(self._requests):
            settled = [request.settled(self.run) for request in self._requests]
            self._settled = [request for request in settled if request is not None]
        known = self.run.index.get
        return len(self._settled) == len(self._requests) and all(known(one.key(parent)) for one in self._settled)

    def _entry(self, key: SegmentKey) -> Entry:
        entry = self.run.entry("segments", key.name)
        if entry is None:
            raise RunError(
                f"found no segment {key.name} in {self.run.path}",
                "every segment that training has seen",
                "restore the run, or train into another --out",
            )
        return entry

    def _read(self, key: SegmentKey, entry: Entry) -> None:
        parent = key.of
        configuration, moments = moments_of_segment(entry)
        known = self._parents.setdefault(parent, configuration)
        if not np.array_equal(known.positions, configuration.positions):
            raise RunError(
                f"{entry.path} starts from another configuration than the other blocks of its parent",
                "one parent for all blocks",
                "delete the segment and simulate again",
            )
        before = self._moments.get(parent)
        self._moments[parent] = moments if before is None else before.merge(moments)
        self._seen.add(key)

    def _sample(self, parent: ParentKey, entry: Entry) -> Sample:
        moments, configuration = self._moments[parent], self._parents[parent]
        if all(SegmentKey(*parent, block) in self._seen for block in range(self.run.n_blocks(parent.lineage))):
            del self._moments[parent], self._parents[parent]  # nothing can be added any more: forget it
        return Sample(
            key=SampleKey(self.run.identity["id"], parent.lineage, parent.parent),
            parent=configuration,
            times=np.asarray(entry.sidecar["times"], np.float64),
            propensity=moments.mean,
            variance=moments.variance,
            n_replicas=moments.count,
            role=self.run.role(parent.lineage),
            temperature=float(entry.sidecar["temperature"]),
        )


class Run(RunDirectory):
    """A run directory that can be read as a stream of samples.

    Example:
        ::

            run = glassmd.open_run("RUN")
            for sample in run.stream(follow=True):
                print(sample.key, sample.n_replicas, sample.propensity.mean(axis=1))
    """

    def stream(
        self,
        *,
        follow: bool = False,
        interval: float = 0.5,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Sample]:
        """Yield samples as segments commit.

        Args:
            follow: Wait for more until every segment of the run's settings is there; otherwise end with what
                is there now, one sample per parent. A parent is yielded again whenever it gains replicas.
            interval: Seconds between looks at the directory.
            check: Called before every look; what it raises ends the stream.
        """
        reader = SegmentReader(self)
        while True:
            if check is not None:
                check()
            complete = self.complete
            yield from reader.poll()
            if complete or not follow:
                return
            time.sleep(interval)

    def samples(self, parents: Collection[ParentKey] | None = None) -> list[Sample]:
        """What is there now, one sample per parent.

        Args:
            parents: Of these only; all by default.
        """
        return list(SegmentReader(self, parents=parents).poll())

    def replicas(self, parent: ParentKey) -> Iterator[tuple[int, float, NDArray[np.float64]]]:
        """The positions of a parent's replicas, one at a time: number, time, and (n_particles, d) unwrapped, σ_AA.

        Nothing where the run keeps propensities instead of positions.

        Raises:
            SegmentError: A segment is damaged.
        """
        for entry in self.entries("segments"):
            if entry.key.of == parent and entry.sidecar.get("holds") != "propensity":
                for frame in entry.read()[1:]:
                    yield int(frame.log[GSD_REPLICA][0]), float(frame.log[GSD_TIME][0]), frame.configuration.unwrapped


def open_run(path: Path | str) -> Run:
    """Open a run directory, simulated or imported.

    Raises:
        RunError: There is no run at `path`.
    """
    found = RunDirectory.open(path)
    return Run(found.path, found.identity)
