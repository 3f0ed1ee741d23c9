"""A simulation and the training that learns from it, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from glassmd.simulation.pool import Pool
from glassmd.simulation.summary import Progress
from glassmd.training.progress import TrainingProgress

__all__ = ["Beside", "Show"]

Show = Callable[[TrainingProgress, Progress | None], None]

_LOOK = 0.3  # seconds between two looks at the workers
_WAIT = 0.2  # the same where there is nothing else to do


class Beside:
    """Looks after the workers while a trainer is at work, and notes when which of them was.

    Args:
        pool: The workers.
        show: Called with the progress of both sides.

    Attributes:
        steps_before: Steps that the training had taken when it was taken up.
    """

    def __init__(self, pool: Pool, show: Show | None) -> None:
        self._pool, self._show = pool, show
        self._started, self._looked = time.monotonic(), 0.0
        self._first_step: float | None = None
        self._last_commit: float | None = None
        self._trained: float | None = None
        self._steps_during = 0
        self.steps_before = 0

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def watch(self, progress: TrainingProgress) -> None:
        """The trainer has taken a step, or waits."""
        steps = progress.step - self.steps_before
        if self._first_step is None and steps > 0:
            self._first_step = self.seconds()
        if self._last_commit is None:
            self._steps_during = steps
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            if not self._pool.poll() and self._last_commit is None:
                self._last_commit = self.seconds()
            if self._show is not None:
                self._show(progress, self._pool.progress())

    def wait(self, progress: TrainingProgress, check: Callable[[], None]) -> None:
        """All optimiser steps are done: let the simulation finish its run.

        Args:
            progress: Of the training.
            check: Called now and then; what it raises ends the wait.
        """
        self._trained = self.seconds()
        while self._pool.poll():
            check()
            if self._show is not None:
                progress.waiting = "the simulation to finish"
                self._show(progress, self._pool.progress())
            time.sleep(_WAIT)
        if self._last_commit is None:
            self._last_commit = self.seconds()

    def facts(self) -> dict[str, Any]:
        """What `glassmd train --stream --json` prints of it."""
        begin, end, last = self._first_step, self._last_commit, self._pool.progress()
        both = 0.0 if begin is None or end is None else max(0.0, min(end, self._trained or self.seconds()) - begin)
        return {
            "simulation_seconds": end,
            "overlap_seconds": both,
            "steps_while_simulating": self._steps_during,
            "segments": last.segments[0],
            "replica_steps_per_second": last.replica_steps / end if end else 0.0,
        }
