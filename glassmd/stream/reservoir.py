"""A bounded memory of samples between a simulation that produces and a trainer that draws.

After Melissa's reservoir (Meyer et al., SC '23): batches are drawn at random with replacement; when the
reservoir is full a sample that was drawn before makes room, never one that nobody has seen; training starts at
a watermark; a limit on how often a sample is used holds the trainer back until the simulation has caught up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from glassmd.stream.samples import Sample, SampleKey

__all__ = ["Reservoir"]


@dataclass
class _Place:
    sample: Sample
    drawn: int = 0


class Reservoir:
    """Samples to draw from.

    Args:
        capacity: Samples kept at once.
        watermark: Samples that must have arrived before the first draw.
        max_reuse: Draws per sample produced before :attr:`ready` turns false; None for no limit.
        generator: Source of the draws; part of :meth:`state`.
    """

    def __init__(
        self,
        capacity: int,
        watermark: int = 1,
        max_reuse: float | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.capacity, self.watermark, self.max_reuse = capacity, watermark, max_reuse
        self.generator = generator or np.random.default_rng()
        self._places: list[_Place] = []
        self.produced = 0
        self.drawn = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def samples(self) -> list[Sample]:
        """What is in it now."""
        return [place.sample for place in self._places]

    @property
    def ready(self) -> bool:
        """Whether a batch may be drawn now."""
        if not self._places or self.produced < self.watermark:
            return False
        return self.max_reuse is None or self.drawn < self.max_reuse * self.produced

    def add(self, sample: Sample) -> bool:
        """Take a sample in; one that is here already grows in place.

        Returns:
            False if it is full of samples that nobody has seen; offer the sample again later.
        """
        for place in self._places:
            if place.sample.key == sample.key:
                place.sample = sample
                return True
        if len(self._places) >= self.capacity:
            seen = [index for index, place in enumerate(self._places) if place.drawn]
            if not seen:
                return False
            del self._places[seen[int(self.generator.integers(len(seen)))]]
        self._places.append(_Place(sample))
        self.produced += 1
        return True

    def draw(self, count: int) -> list[Sample]:
        """Draw `count` samples at random with replacement."""
        chosen = self.generator.integers(len(self._places), size=count)
        for index in chosen:
            self._places[index].drawn += 1
        self.drawn += count
        return [self._places[index].sample for index in chosen]

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the samples themselves (JSON types only)."""
        return {
            "places": [
                [place.sample.key.run, place.sample.key.lineage, place.sample.key.parent, place.drawn]
                for place in self._places
            ],
            "produced": self.produced,
            "drawn": self.drawn,
            "generator": self.generator.bit_generator.state,
        }

    def restore(self, state: dict[str, Any], samples: dict[SampleKey, Sample]) -> None:
        """Return to a state, given the samples that it names."""
        self._places = [
            _Place(samples[SampleKey(run, lineage, parent)], drawn) for run, lineage, parent, drawn in state["places"]
        ]
        self.produced, self.drawn = state["produced"], state["drawn"]
        self.generator.bit_generator.state = state["generator"]
