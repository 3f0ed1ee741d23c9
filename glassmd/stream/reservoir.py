"""What batches are drawn from: a bounded number of samples in memory, and the keys of all others, which are on disk.

After Melissa's reservoir (Meyer et al., SC '23): batches are drawn at random with replacement; only a sample that was
drawn makes room for another; training starts at a watermark; a limit on how often a sample is used holds the trainer
back until the simulation has caught up. Here nothing is lost that leaves: it is read again when its turn comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassmd.stream.samples import Sample, SampleKey

__all__ = ["Reservoir"]

STAY = 4
"""Draws, on average, that a sample stays for while others wait: reading one costs about as much as a step."""


@dataclass
class _Place:
    key: SampleKey
    sample: Sample | None
    drawn: int = 0


class Reservoir:
    """Samples to draw from.

    Args:
        capacity: Samples kept in memory.
        recall: Reads a sample again, as the learner has taken it.
        watermark: Samples that must have arrived before the first draw.
        max_reuse: Draws per sample produced before :attr:`ready` turns false; None for no limit.
        generator: Source of the draws; part of :meth:`state`.
    """

    def __init__(
        self,
        capacity: int,
        recall: Callable[[SampleKey], Sample],
        watermark: int = 1,
        max_reuse: float | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.capacity, self.watermark, self.max_reuse = capacity, watermark, max_reuse
        self.generator = generator or np.random.default_rng()
        self._recall = recall
        self._places: list[_Place] = []
        self._here: dict[SampleKey, _Place] = {}
        self._outside: set[SampleKey] = set()
        self._unseen: deque[SampleKey] = deque()
        self._seen: deque[SampleKey] = deque()
        self._since = 0
        self.drawn = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def produced(self) -> int:
        """Samples that have arrived."""
        return len(self._places) + len(self._outside)

    @property
    def ready(self) -> bool:
        """Whether a batch may be drawn now."""
        if not self._places or self.produced < self.watermark:
            return False
        return self.max_reuse is None or self.drawn < self.max_reuse * self.produced

    def no_more(self) -> None:
        """Nothing is waited for any more: no other sample will arrive."""
        self.watermark, self.max_reuse = 0, None

    def add(self, sample: Sample) -> None:
        """Take a sample in; one that is here already grows in place, and what finds no room waits on disk."""
        if sample.key in self._here:
            self._here[sample.key].sample = sample
        elif sample.key in self._outside:
            return
        elif len(self._places) < self.capacity:
            self._put(len(self._places), _Place(sample.key, sample))
        else:
            self._outside.add(sample.key)
            self._unseen.append(sample.key)

    def draw(self, count: int) -> list[Sample]:
        """Draw `count` samples at random with replacement; until :meth:`used` only the generator has changed."""
        return [self._sample(self._places[index]) for index in self.generator.integers(len(self._places), size=count)]

    def used(self, samples: Sequence[Sample]) -> None:
        """A step was taken with samples that were drawn."""
        for sample in samples:
            self._here[sample.key].drawn += 1
        self.drawn += len(samples)
        self._since += len(samples)
        while self._since >= STAY:
            self._since -= STAY
            self._exchange()

    def _sample(self, place: _Place) -> Sample:
        if place.sample is None:
            place.sample = self._recall(place.key)
        return place.sample

    def _exchange(self) -> None:
        """One that was drawn makes room for one that waits, those that nobody has seen first."""
        waiting = self._unseen or self._seen
        seen = [index for index, place in enumerate(self._places) if place.drawn] if waiting else []
        if seen:
            index = seen[int(self.generator.integers(len(seen)))]
            key, leaving = waiting.popleft(), self._places[index].key
            self._outside.remove(key)
            self._outside.add(leaving)
            self._seen.append(leaving)
            del self._here[leaving]
            self._put(index, _Place(key, None))

    def _put(self, index: int, place: _Place) -> None:
        self._places[index : index + 1] = [place]
        self._here[place.key] = place

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the samples themselves (JSON types only)."""
        return {
            "places": [[*_told(place.key), place.drawn] for place in self._places],
            "unseen": [_told(key) for key in self._unseen],
            "seen": [_told(key) for key in self._seen],
            "since": self._since,
            "drawn": self.drawn,
            "generator": self.generator.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a state; samples that are not in memory any more are read when they are drawn."""
        known = {key: place.sample for key, place in self._here.items()}
        keys = [(SampleKey(run, lineage, parent), drawn) for run, lineage, parent, drawn in state["places"]]
        self._places = [_Place(key, known.get(key), drawn) for key, drawn in keys]
        self._here = {place.key: place for place in self._places}
        self._unseen, self._seen = (deque(SampleKey(*key) for key in state[name]) for name in ("unseen", "seen"))
        self._outside = {*self._unseen, *self._seen}
        self._since, self.drawn = state["since"], state["drawn"]
        self.generator.bit_generator.state = state["generator"]


def _told(key: SampleKey) -> list[Any]:
    return [key.run, key.lineage, key.parent]
