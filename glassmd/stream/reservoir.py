"""What batches are drawn from: a bounded number of samples in memory, and the keys of all others, which are on disk.

After Melissa's reservoir (Meyer et al., SC '23): batches are drawn at random with replacement; only a sample that was
drawn makes room for another; training starts at a watermark; a band for the draws per sample says which side waits for
the other. Here nothing is lost that leaves: it is read again when its turn comes. What has just come is drawn first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
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

    One thread draws, adds and asks for the state; :meth:`sample` may be called by another.

    Args:
        capacity: Samples kept in memory.
        recall: Reads a sample again, as the learner has taken it.
        watermark: Samples that must have arrived before the first draw.
        max_reuse: Draws per sample produced before :attr:`ready` turns false; None for no limit.
        min_reuse: Draws per sample produced without which :attr:`flooded` is true; None for no limit.
        redraw: Draws per sample produced beyond `max_reuse` before :attr:`drawable` turns false.
        generator: Source of the draws; part of :meth:`state`.

    Attributes:
        drawn: Draws so far that :attr:`ready` had allowed.
        redrawn: Those beyond them.
        first_drawn: Samples that were drawn for the first time since they came; whoever reads it empties it.
    """

    def __init__(
        self,
        capacity: int,
        recall: Callable[[SampleKey], Sample],
        watermark: int = 1,
        max_reuse: float | None = None,
        generator: np.random.Generator | None = None,
        min_reuse: float | None = None,
        redraw: float = 0.0,
    ) -> None:
        self.capacity, self.watermark = capacity, watermark
        self.max_reuse, self.min_reuse, self.redraw = max_reuse, min_reuse, redraw
        self.generator = generator or np.random.default_rng()
        self._recall = recall
        self._places: list[_Place] = []
        self._here: dict[SampleKey, _Place] = {}
        self._outside: set[SampleKey] = set()
        self._unseen: deque[SampleKey] = deque()
        self._seen: deque[SampleKey] = deque()
        self._fresh: list[SampleKey] = []
        self._since = 0
        self.drawn = self.redrawn = 0
        self.first_drawn: list[SampleKey] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def produced(self) -> int:
        """Samples that have arrived."""
        return len(self._places) + len(self._outside)

    @property
    def filled(self) -> bool:
        """Whether there is enough to draw from."""
        return bool(self._places) and self.produced >= self.watermark

    @property
    def drawable(self) -> bool:
        """Whether a batch may be drawn now, as one more than was allowed if need be."""
        return self.ready or (self.filled and self.redrawn < self.redraw * self.produced)

    @property
    def ready(self) -> bool:
        """Whether a batch may be drawn now within `max_reuse`."""
        return self.filled and (self.max_reuse is None or self.drawn < self.max_reuse * self.produced)

    @property
    def flooded(self) -> bool:
        """Whether more samples arrive than are drawn."""
        if self.min_reuse is None or not self.filled:
            return False
        return self.drawn + self.redrawn < self.min_reuse * self.produced

    def no_more(self) -> None:
        """Nothing is waited for any more: no other sample will arrive."""
        self.watermark, self.max_reuse, self.min_reuse = 0, None, None

    def add(self, sample: Sample) -> None:
        """Take a sample in; one that is here already grows in place, and what finds no room waits on disk."""
        self.admit(sample.key, sample)

    def admit(self, key: SampleKey, sample: Sample | None) -> None:
        """The same of a sample that may not have been read yet: it is when it is drawn."""
        if key in self._here:
            with self._lock:
                self._here[key].sample = sample
        elif key in self._outside:
            return
        elif len(self._places) < self.capacity:
            self._put(len(self._places), _Place(key, sample))
        else:
            self._outside.add(key)
            self._unseen.append(key)

    def draw(self, count: int) -> list[SampleKey]:
        """Draw `count` samples at random with replacement, those first that were never drawn since they came.

        A draw while :attr:`ready` is false is one more than was allowed.
        """
        paced, keys = self.ready, []
        for _ in range(count):
            fresh = len(self._fresh)
            index = int(self.generator.integers(fresh or len(self._places)))
            keys.append(self._fresh.pop(index) if fresh else self._places[index].key)
            if fresh:
                self.first_drawn.append(keys[-1])
        for key in keys:
            self._here[key].drawn += 1
        if paced:
            self.drawn += count
        else:
            self.redrawn += count
        self._since += count
        while self._since >= STAY:
            self._since -= STAY
            self._exchange()
        return keys

    def sample(self, key: SampleKey) -> Sample:
        """A sample that was drawn, with the replicas that it has by now."""
        place = self._here.get(key)
        with self._lock:
            if place is not None and place.sample is not None:
                return place.sample
        sample = self._recall(key)
        with self._lock:
            if place is not None and place.sample is None:
                place.sample = sample
        return sample

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
        self._fresh.append(place.key)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the samples themselves (JSON types only)."""
        return {
            "places": [[*_told(place.key), place.drawn] for place in self._places],
            "unseen": [_told(key) for key in self._unseen],
            "seen": [_told(key) for key in self._seen],
            "fresh": [_told(key) for key in self._fresh],
            "since": self._since,
            "drawn": self.drawn,
            "redrawn": self.redrawn,
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
        self._fresh = [SampleKey(*key) for key in state.get("fresh", [])]  # not told by earlier versions
        self._since, self.drawn, self.redrawn = state["since"], state["drawn"], state.get("redrawn", 0)
        self.generator.bit_generator.state = state["generator"]


def _told(key: SampleKey) -> list[Any]:
    return [key.run, key.lineage, key.parent]
