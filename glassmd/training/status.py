"""`MODEL/status.json`: what a training tells whoever looks at its directory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from glassmd.metrics import SpeciesScores
from glassmd.status import RecentRate, StatusFile
from glassmd.training.progress import TrainingProgress, Values

__all__ = ["STATUS", "Status"]

STATUS = "status.json"
"""Name of the file."""

_FEW = 10  # steps that an estimate of the end is made from


class Status:
    """Keeps the progress of a training and writes it down about once a second.

    Args:
        directory: Model directory.
        progress: Of the training; times are filled in here.
        writes: Whether it is written down by this process.
    """

    def __init__(self, directory: Path, progress: TrainingProgress, *, writes: bool = True) -> None:
        self._progress, self._file, self._writes = progress, StatusFile(directory / STATUS), writes
        self._began, self._rate = time.monotonic(), RecentRate(progress.asked, _FEW)

    def tell(self, *, at_once: bool = False) -> None:
        """Write it down if it is time to."""
        progress = self._progress
        progress.seconds = time.monotonic() - self._began
        rate, left = self._rate.of(progress.asked), progress.max_steps - progress.asked
        progress.seconds_left = left / rate if rate and progress.max_steps else 0.0 if progress.complete else None
        if self._writes:
            self._file.offer(lambda: asdict(progress), at_once=at_once)

    def validated(self, step: int, scores: Mapping[str, SpeciesScores], loss: float | None) -> None:
        """The held-out lineages have been scored at a step, by species in the loss."""
        progress = self._progress
        progress.validated, progress.validation_loss = step, loss
        progress.pearson = {name: _values(found.mean) for name, found in scores.items()}
        progress.ceiling = {name: _values(found.ceiling) for name, found in scores.items()}

    @contextmanager
    def session(self) -> Iterator[None]:
        """While the block runs the training is at work; it says at the end how that was."""
        progress = self._progress
        self._began, self._rate, progress.state = time.monotonic(), RecentRate(progress.asked, _FEW), "working"
        self.tell(at_once=True)
        try:
            yield
        except BaseException as error:
            progress.state = f"stopped: {error}".strip(": ")
            raise
        else:
            progress.state, progress.waiting = "done", ""
        finally:
            self.tell(at_once=True)


def _values(values: np.typing.NDArray[np.float64]) -> Values:
    return [float(value) if math.isfinite(value) else None for value in values]
