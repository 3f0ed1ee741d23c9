"""What the learner eats of every sample, made once and kept while there is room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch_geometric.data import Data

from glassmd.learners.base import PropensityModel
from glassmd.stream.pairs import PairChanges
from glassmd.stream.samples import Sample, SampleKey
from glassmd.structure import Structure

__all__ = ["Encoder", "Encodings"]

KEPT_BYTES = 3 * 2**30
"""Memory for encoded samples: at N = 4096 a graph takes 5 MB, a thousand descriptors 16 MB."""


class Encodings:
    """Encoded samples, kept while there is room.

    Trainings of one learner with the same hyperparameters may share them: what is encoded does not depend on weights.

    Args:
        room: Bytes to keep; the longest unused sample goes first.

    Attributes:
        seconds: By sample, what encoding it took.
        spent: Seconds of all encoding so far.
    """

    def __init__(self, room: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[SampleKey, Data] = OrderedDict()
        self._room = room
        self.seconds: dict[SampleKey, float] = {}
        self.spent = 0.0

    def get(self, key: SampleKey, encode: Callable[[], Data]) -> Data:
        """What is kept of a sample, or what `encode` makes of it."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        started = time.perf_counter()
        data = encode()
        self.seconds[key] = time.perf_counter() - started
        self.spent += self.seconds[key]
        self._kept[key] = data
        self._room -= _size(data)
        while self._room < 0 and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._room += _size(oldest)
        return data

    def forget(self, key: SampleKey) -> None:
        """Drop what is kept of a sample."""
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._room += _size(dropped)


@runtime_checkable
class PairLabelled(Protocol):
    """A learner that takes labels of pairs beside those of particles."""

    def attach_labels(self, data: Data, changes: PairChanges) -> Data:
        """Put them into what it made of the parent."""


class Encoder:
    """Encodes samples for one learner.

    Args:
        model: The learner.
        structure_of: The structure of a sample, with the learner's inputs.
        encodings: Where they are kept; shared with nobody by default.
        pairs_of: Labels of a sample's pairs, for a learner that takes them; None where there are none.
    """

    def __init__(
        self,
        model: PropensityModel,
        structure_of: Callable[[Sample], Structure],
        encodings: Encodings | None = None,
        pairs_of: Callable[[Sample], PairChanges | None] = lambda sample: None,
    ) -> None:
        self._pairs_of = pairs_of
        self._model, self._structure_of = model, structure_of
        self._encodings = Encodings() if encodings is None else encodings

    def __call__(self, sample: Sample) -> Data:
        """The encoded sample; a sample that grew has the structure that it had."""
        return self._encodings.get(sample.key, lambda: self._encode(sample))

    def grown(self, sample: Sample) -> None:
        """Labels of its pairs are not what they were."""
        if isinstance(self._model, PairLabelled):
            self._encodings.forget(sample.key)

    def _encode(self, sample: Sample) -> Data:
        data = self._model.encode(self._structure_of(sample))
        if isinstance(self._model, PairLabelled):
            changes = self._pairs_of(sample)
            if changes is not None:
                self._model.attach_labels(data, changes)
        return data


def _size(data: Data) -> int:
    return sum(value.nbytes for value in data.to_dict().values() if isinstance(value, torch.Tensor))
