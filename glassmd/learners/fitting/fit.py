"""A learner's fit: what it has taken, and what it does next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from glassmd.learners.labels import LabelSums
from glassmd.learners.part import Advance, Coming, Part, Taken, Tensors, of_prefix, with_prefix
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey

__all__ = ["Fit"]


class _Taking(NamedTuple):
    """Samples on their way in, one of each process at most: everything that changes with them, as it will be."""

    turn: list[Coming]
    uncounted: set[SampleKey]
    labels: LabelSums
    holding: list[Any]


class Fit:
    """The parts of a learner, each with every sample.

    A sample is taken as a whole or not at all, wherever an exception strikes, and once, however often it is given: what
    changes is worked out first, one assignment makes it so, and carrying it over can be repeated.

    Args:
        taken: Where the samples are kept account of.
        parts: Of the learner. They finish in this order, and the first that has something to do does it.
    """

    def __init__(self, taken: Taken, parts: Sequence[Part]) -> None:
        self.taken, self.parts = taken, list(parts)
        self._clock = next((part for part in parts if part.paces), self.parts[0])
        self._coming: _Taking | None = None

    @property
    def step(self) -> int:
        """Optimiser steps so far, or solutions where there are none."""
        return self._clock.step

    @property
    def last_step(self) -> int:
        """The step after which no other follows; 0 where samples alone decide."""
        return self._clock.last_step

    @property
    def redrawn(self) -> int:
        """Of the steps, those on samples drawn again for want of others, beyond what was asked for."""
        return self._clock.redrawn

    @property
    def hungry(self) -> bool:
        """Whether another sample would change what the learner says."""
        return any(part.hungry for part in self.parts)

    def take(self, sample: Sample, *, learn: bool = True) -> None:
        """Have a sample, or the same one grown; giving it again changes nothing.

        Args:
            sample: With the replicas so far.
            learn: False: it tells how noisy labels are, and nothing else.
        """
        self.take_turn([Coming(sample.key, sample.blocks, learn)], sample)

    def take_turn(self, turn: Sequence[Coming], sample: Sample | None) -> None:
        """Have several samples, one of each process at most; all processes are asked together.

        Args:
            turn: The samples.
            sample: That of this process, if it has one.
        """
        self._settle()
        taken, processes = self.taken, self.taken.processes
        turn = [coming for coming in turn if self._had(coming) != coming.blocks]
        if not turn:
            return
        own = next((coming for coming in turn if coming.owner == processes.rank), None)
        labels = taken.labels if processes.first else LabelSums.none(*taken.labels.count.shape)
        before, uncounted = None, None
        if own is not None and sample is not None:
            version = self._had(own)
            if version is not None:
                before = taken.recall(own.key, version)
                labels = labels.added(before, -1, learn=own.learn)
            labels = labels.added(sample, learn=own.learn)
            uncounted = not taken.mask(sample).any()
        learning = [coming for coming in turn if coming.learn]
        if own not in learning:
            sample = before = None
        holding = [part.taking(sample, before, learning) if learning else None for part in self.parts]
        told = processes.gather(None if uncounted is None else bool(uncounted))
        nothing = {coming.key for coming in turn if told[coming.owner]}
        self._coming = _Taking(turn, nothing, labels.added_up(processes), holding)
        self._settle()

    def _had(self, coming: Coming) -> tuple[int, ...] | None:
        return (self.taken.blocks if coming.learn else self.taken.heard).get(coming.key)

    def _settle(self) -> None:
        coming = self._coming
        if coming is None:
            return
        if any(one.learn for one in coming.turn):
            for part, holding in zip(self.parts, coming.holding, strict=True):
                part.take(holding)
        self.taken.labels = coming.labels
        self.taken.uncounted |= coming.uncounted
        for one in coming.turn:
            (self.taken.blocks if one.learn else self.taken.heard)[one.key] = one.blocks
            self.taken.owners[one.key] = one.owner
        self._coming = None

    def advance(self, reservoir: Reservoir, *, final: bool) -> Advance | None:
        """Do the next thing that is due; None where nothing is."""
        for part in self.parts:
            if part.due(reservoir, final=final):
                done = part.advance(reservoir)
                return done if part is self._clock else done._replace(milestone=False, samples=0)
        return None

    def shake(self, number: int) -> None:
        """From now on other random numbers than those that led here."""
        for part in self.parts:
            part.shake(number)

    def finish(self) -> None:
        """Whatever is left to do when neither samples nor advances follow."""
        for part in self.parts:
            part.finish()

    def keep(self) -> None:
        """The weights as they are now are the best so far."""
        for part in self.parts:
            part.keep()

    @property
    def kept(self) -> Tensors:
        """The best weights so far by name, of the parts that have some."""
        return {name: tensor for part in self.parts for name, tensor in part.kept.items()}

    def tensors(self) -> Tensors:
        """What a checkpoint needs beside the learner's weights."""
        self._settle()
        found = with_prefix(self.taken.labels.tensors(), "labels.")
        for number, part in enumerate(self.parts):
            found.update(with_prefix(part.tensors(), f"{number}."))
        return found

    def state(self) -> dict[str, Any]:
        """The same, JSON types only."""
        self._settle()
        return {
            "taken": [[key.run, key.lineage, key.parent, *blocks] for key, blocks in self.taken.blocks.items()],
            "heard": [[key.run, key.lineage, key.parent, *blocks] for key, blocks in self.taken.heard.items()],
            "uncounted": [[key.run, key.lineage, key.parent] for key in sorted(self.taken.uncounted)],
            "parts": [part.state() for part in self.parts],
        }

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Return to a checkpoint; the learner's weights are there. All sums are the first process's."""
        self.taken.owners.clear()
        self.taken.uncounted = {SampleKey(*key) for key in state.get("uncounted", ())}  # not told by earlier versions
        self.taken.labels = LabelSums.of_tensors(of_prefix(tensors, "labels."))
        for name, known in (("taken", self.taken.blocks), ("heard", self.taken.heard)):
            known.clear()
            known.update((SampleKey(run, lineage, parent), tuple(of)) for run, lineage, parent, *of in state[name])
        for number, (part, of_part) in enumerate(zip(self.parts, state["parts"], strict=True)):
            part.restore(of_prefix(tensors, f"{number}."), of_part)
