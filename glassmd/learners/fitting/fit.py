"""A learner's fit: what it has taken, and what it does next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from glassmd.learners.labels import LabelSums
from glassmd.learners.part import Advance, Part, Taken, Tensors, of_prefix, with_prefix
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Blocks, Sample, SampleKey

__all__ = ["Fit"]


class _Taking(NamedTuple):
    """One sample on its way in: everything that changes with it, as it will be."""

    key: SampleKey
    blocks: Blocks
    learn: bool
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
        self._settle()
        had = self.taken.blocks if learn else self.taken.heard
        version = had.get(sample.key)
        if version == sample.blocks:
            return
        before = None if version is None else self.taken.recall(sample.key, version)
        labels = self.taken.labels
        if before is not None:
            labels = labels.added(before, -1, learn=learn)
        self._coming = _Taking(
            sample.key,
            sample.blocks,
            learn,
            labels.added(sample, learn=learn),
            [part.taking(sample, before) if learn else None for part in self.parts],
        )
        self._settle()

    def _settle(self) -> None:
        coming = self._coming
        if coming is None:
            return
        if coming.learn:
            for part, holding in zip(self.parts, coming.holding, strict=True):
                part.take(holding)
        self.taken.labels = coming.labels
        (self.taken.blocks if coming.learn else self.taken.heard)[coming.key] = coming.blocks
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
            "parts": [part.state() for part in self.parts],
        }

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Return to a checkpoint; the learner's weights are there."""
        self.taken.labels = LabelSums.of_tensors(of_prefix(tensors, "labels."))
        for name, known in (("taken", self.taken.blocks), ("heard", self.taken.heard)):
            known.clear()
            known.update((SampleKey(run, lineage, parent), tuple(of)) for run, lineage, parent, *of in state[name])
        for number, (part, of_part) in enumerate(zip(self.parts, state["parts"], strict=True)):
            part.restore(of_prefix(tensors, f"{number}."), of_part)
