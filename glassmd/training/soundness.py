"""Whether losses and weights are numbers, read no more often than a GPU can afford."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch

from glassmd.learners.base import PropensityModel
from glassmd.training.journal import Journal
from glassmd.training.progress import TrainingProgress

__all__ = ["Soundness"]

_READ = 0.5  # seconds for which losses of steps on a GPU stay there: reading one waits for all steps before it


class _Loss(NamedTuple):
    """Of a step: where it was computed, with what the journal says beside it."""

    step: int
    value: torch.Tensor
    samples: int
    learning_rate: float | None


class Soundness:
    """Reads the losses of steps, and finds those that are no numbers.

    Args:
        model: Whose weights are looked at.
        device: Where steps are taken.
        progress: Has the last loss that was read.

    Attributes:
        lost: The last step after which something was no number, and its loss.
    """

    def __init__(self, model: PropensityModel, device: torch.device, progress: TrainingProgress) -> None:
        self._model, self._device, self._progress = model, device, progress
        self._unread: list[_Loss] = []
        self._read = time.monotonic()
        self.lost = 0, math.nan

    def note(self, step: int, loss: torch.Tensor, samples: int, learning_rate: float | None) -> None:
        """A step was taken."""
        self._unread.append(_Loss(step, loss, samples, learning_rate))

    @property
    def due(self) -> bool:
        """Whether it is time to read what was noted."""
        return self._device.type == "cpu" or time.monotonic() - self._read > _READ

    def read(self, journal: Journal) -> bool:
        """Write the losses of the last steps down; whether they are numbers."""
        unread, self._unread, self._read = self._unread, [], time.monotonic()
        values = torch.stack([loss.value for loss in unread]).tolist() if unread else []
        for loss, value in zip(unread, values, strict=True):
            self._progress.loss = value
            if not math.isfinite(value):
                self.lost = loss.step, value
                return False
            journal.train(loss.step, value, loss.samples, loss.learning_rate)
        return True

    def sound(self, journal: Journal, step: int) -> bool:
        """Whether losses and weights are numbers after a step."""
        if not self.read(journal):
            return False
        if all(bool(torch.isfinite(parameter).all()) for parameter in self._model.parameters()):
            return True
        self.lost = step, math.nan
        return False
