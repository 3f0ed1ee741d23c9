"""A run as a stream of samples: what is there, and what appears while others simulate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, RunError
from glassmd.fields import GSD_REPLICA, GSD_TIME
from glassmd.ledger.run import Entry, ParentKey, RunDirectory, SegmentKey
from glassmd.moments import Moments
from glassmd.simulation.structures import Request
from glassmd.stream.samples import Blocks, Sample, SampleKey, moments_of_segment, targets_of
from glassmd.target import PROPENSITY, TARGETS, Target
from glassmd.time_unit import REDUCED, TAU_ALPHA, TimeUnit, in_tau_alphas

__all__ = ["Run", "SegmentReader", "open_run"]

_BEGUN = 64
"""Parents whose replicas are summed up in memory while more are to come; others are read again."""


class SegmentReader:
    """Turns the segments of a run into samples.

    Read is not consumed: a sample is handed out by every :meth:`poll` until :meth:`acknowledge` says that whoever asked
    has it. Samples grow: when more replicas of a parent commit, its sample is made anew with all of them.

    Args:
        run: The run.
        requests: Structures without which a sample is not handed out.
        parents: Read these only; all by default.

    Attributes:
        n_segments: Segments acknowledged so far.
    """

    def __init__(
        self, run: Run, requests: Sequence[Request] = (), parents: Collection[ParentKey] | None = None
    ) -> None:
        self._parents_read = parents
        self.run, self._requests = run, tuple(requests)
        self._settled: list[Request] = []
        self._position = 0
        self.n_segments = 0
        self._acknowledged: dict[ParentKey, Blocks] = {}
        self._waiting: dict[ParentKey, Blocks] = {}
        self._begun: OrderedDict[ParentKey, _Begun] = OrderedDict()

    def state(self) -> list[list[int]]:
        """Segments acknowledged so far, for :meth:`restore` (JSON types only)."""
        return [[*parent, block] for parent, blocks in sorted(self._acknowledged.items()) for block in blocks]

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Return to a position.

        Raises:
            RunError: One of its segments is gone.
        """
        self.run.poll()
        self._acknowledged, self._waiting, self._position = {}, {}, 0
        for key in (SegmentKey(*numbers) for numbers in state):
            self._known(key)
            self._acknowledged[key.of] = (*self._acknowledged.get(key.of, ()), key.block)
        self.n_segments = len(state)

    def poll(self) -> Iterator[Sample]:
        """One sample per parent with replicas that nobody has acknowledged, in the order of their keys."""
        for parent, blocks in self.waiting():
            yield self.sample(parent, blocks)

    def waiting(self) -> Iterator[tuple[ParentKey, Blocks]]:
        """What :meth:`poll` hands out, before anything is read: the parents, with all of their segments."""
        self._hear()
        for parent in sorted(self._waiting):
            if self._has_structures(parent):
                yield parent, _merged(self._acknowledged.get(parent, ()), self._waiting[parent])

    def committed(self, parent: ParentKey, blocks: Blocks) -> float:
        """When the last of some segments and of the structures of a parent was committed, seconds since the epoch."""
        keys = [SegmentKey(*parent, block) for block in blocks], [one.key(parent) for one in self._settled]
        return max(self.run.committed(key) for of in keys for key in of)

    def acknowledge(self, sample: Sample) -> None:
        """Whoever asked has this sample."""
        self.settle(ParentKey(sample.key.lineage, sample.key.parent), sample.blocks)

    def settle(self, parent: ParentKey, blocks: Blocks) -> None:
        """Whoever asked has these segments of a parent, or wants none of them."""
        before = self._acknowledged.get(parent, ())
        self._acknowledged[parent] = _merged(before, blocks)
        self.n_segments += len(self._acknowledged[parent]) - len(before)
        left = tuple(block for block in self._waiting.get(parent, ()) if block not in blocks)
        if left:
            self._waiting[parent] = left
        else:
            self._waiting.pop(parent, None)

    def sample(self, parent: ParentKey, blocks: Blocks) -> Sample:
        """A parent with the replicas of some of its segments: the same whenever they are asked for.

        Args:
            parent: Its key.
            blocks: Numbers of the segments, in increasing order.

        Raises:
            RunError: A segment is gone, or starts elsewhere than the others.
            SegmentError: A segment is damaged.
        """
        begun = self._begun.pop(parent, None)
        if begun is None or begun.blocks != blocks[: len(begun.blocks)]:
            begun = None
        for block in blocks[len(begun.blocks) if begun else 0 :]:
            entry = self._known(SegmentKey(*parent, block))
            configuration, moments = moments_of_segment(entry, self.run.target)
            if begun is None:
                begun = _Begun((block,), configuration, moments, entry)
                continue
            if not np.array_equal(begun.parent.positions, configuration.positions):
                raise RunError(
                    f"{entry.path} starts from another configuration than the other blocks of its parent",
                    "one parent for all blocks",
                    "delete the segment and simulate again",
                )
            begun = _Begun((*begun.blocks, block), begun.parent, begun.moments.merge(moments), entry)
        assert begun is not None, "a sample without segments"
        if len(blocks) < self.run.n_blocks(parent.lineage):  # more is to come
            self._begun[parent] = begun
            if len(self._begun) > _BEGUN:
                self._begun.popitem(last=False)
        return Sample(
            key=SampleKey(self.run.identity["id"], parent.lineage, parent.parent),
            parent=begun.parent,
            times=np.asarray(self.run.in_unit(begun.entry.sidecar["times"]), np.float64),
            propensity=begun.moments.mean,
            variance=begun.moments.variance,
            n_replicas=begun.moments.count,
            blocks=blocks,
            role=self.run.role(parent.lineage),
            temperature=float(begun.entry.sidecar["temperature"]),
            target=self.run.target,
            replicas_known=begun.entry.sidecar.get("n_replicas", 0) is not None,
        )

    def sees(self, parent: ParentKey, blocks: Blocks) -> bool:
        """Whether some segments of a parent are there, and its structures."""
        self.run.poll()
        there = all(self.run.done(SegmentKey(*parent, block)) for block in blocks)
        return there and self._has_structures(parent)

    def lacking(self) -> list[ParentKey]:
        """Parents whose replicas are there and whose structures are not."""
        self._hear()
        return [parent for parent in sorted(self._waiting) if not self._has_structures(parent)]

    def _hear(self) -> None:
        self.run.poll()
        lines, self._position = self.run.since(self._position)
        for key in (line.key for line in lines if isinstance(line.key, SegmentKey)):
            wanted = self._parents_read is None or key.of in self._parents_read
            if wanted and key.block not in self._acknowledged.get(key.of, ()):
                self._waiting[key.of] = _merged(self._waiting.get(key.of, ()), (key.block,))

    def _has_structures(self, parent: ParentKey) -> bool:
        if len(self._settled) < len(self._requests):
            settled = [request.settled(self.run) for request in self._requests]
            self._settled = [request for request in settled if request is not None]
        known = self.run.index.get
        return len(self._settled) == len(self._requests) and all(known(one.key(parent)) for one in self._settled)

    def _known(self, key: SegmentKey) -> Entry:
        entry = self.run.entry("segments", key.name)
        if entry is None:
            raise RunError(
                f"found no segment {key.name} in {self.run.path}",
                "every segment that training has seen",
                "restore the run, or train into another --out",
            )
        return entry


@dataclass(frozen=True, eq=False)
class _Begun:
    """A parent and the moments over its segments so far, in the order of their numbers."""

    blocks: Blocks
    parent: Configuration
    moments: Moments
    entry: Entry


def _merged(blocks: Blocks, others: Blocks) -> Blocks:
    return tuple(sorted({*blocks, *others}))


class Run(RunDirectory):
    """A run directory that can be read as a stream of samples.

    Attributes:
        tau_alpha: √(mσ²/ε), the unit of the times of its samples; None: these are in √(mσ²/ε).
        target: What the labels of its samples are; see :meth:`use_target`.
        first_time: The shortest time that is learned, in the unit of the times; see :meth:`use_times_from`.

    Example:
        ::

            run = glassmd.open_run("RUN")
            for sample in run.stream(follow=True):
                print(sample.key, sample.n_replicas, sample.propensity.mean(axis=1))
    """

    tau_alpha: float | None = None
    target: Target = PROPENSITY
    first_time: float | None = None

    @property
    def targets(self) -> list[Target]:
        """The targets that its samples can have labels of: all, but where labels are kept in place of positions."""
        settings = self.settings
        if settings is not None:
            return list(TARGETS if settings.keep == "positions" else (PROPENSITY,))
        known = {targets_of(entry.sidecar) for entry in self.entries("segments")}
        return [target for target in TARGETS if all(target in of for of in known)]

    def use_target(self, target: Target) -> None:
        """Have its samples come with labels of a target; with those of the propensity they come unless told.

        Raises:
            RunError: The run keeps labels in place of positions, and none of this target.
        """
        if target != PROPENSITY and target not in (there := self.targets):
            simulated = self.settings is not None
            again = "simulate with --set keep=positions" if simulated else "import positions of replicas"
            raise RunError(
                f"{self._without(target)} holds labels of {', '.join(there) or 'nothing'} and no positions of replicas",
                f"labels of {target}, or positions, from which it is computed",
                f"try --target {there[0]}, or {again}" if there else again,
            )
        self.target = target

    def _without(self, target: Target) -> Path:
        """The first segment without labels of a target; the run where there is none yet."""
        lacking = (entry.path for entry in self.entries("segments") if target not in targets_of(entry.sidecar))
        return next(lacking, self.path)

    @property
    def time_unit(self) -> TimeUnit:
        """Of the times of its samples."""
        return REDUCED if self.tau_alpha is None else TAU_ALPHA

    @property
    def sample_times(self) -> list[float]:
        """Times of its samples that are learned, in :attr:`time_unit`: from :meth:`use_times_from` on.

        Raises:
            InputError: In units of τ_α two of them are the same.
        """
        first = 0.0 if self.first_time is None else self.first_time * (1 - 1e-4)
        return [time for time in self.in_unit(self.times) if time >= first]

    def use_times_from(self, first: float) -> None:
        """Leave out shorter times than `first`, in :attr:`time_unit`; cages may last a tenth of it.

        Raises:
            InputError: No time is as long.
        """
        self.first_time = first
        self.shortest = first * (self.tau_alpha or 1.0)
        if not self.sample_times:
            longest = self.in_unit(self.times)[-1]
            raise InputError(
                f"found no time from {first:g} on in {self.path}", f"times up to {longest:g}", "change --set first_time"
            )

    def in_unit(self, times: Sequence[float]) -> list[float]:
        """Times, √(mσ²/ε), in the unit of those of its samples."""
        return list(times) if self.tau_alpha is None else in_tau_alphas(times, self.tau_alpha)

    def measured_tau_alpha(self) -> float | None:
        """√(mσ²/ε), mean over the lineages that were equilibrated here; None where none was."""
        found = [
            entry.sidecar.get("equilibration", {}).get("tau_alpha")
            for entry in self.entries("parents")
            if entry.key.parent == 0
        ]
        known = [float(value) for value in found if value is not None]
        return sum(known) / len(known) if known else None

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
            for sample in reader.poll():
                yield sample
                reader.acknowledge(sample)
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


def open_run(path: Path | str, target: Target = PROPENSITY) -> Run:
    """Open a run directory, simulated or imported.

    Args:
        path: The directory.
        target: Of the labels of its samples.

    Raises:
        RunError: There is no run at `path`, or it cannot have labels of the target.
    """
    found = RunDirectory.open(path)
    run = Run(found.path, found.identity)
    run.use_target(target)
    return run
