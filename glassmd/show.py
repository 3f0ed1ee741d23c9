"""Progress for whoever calls from Python: in a notebook, in a terminal, or to a function of theirs."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

__all__ = ["Counted", "bar", "duration", "remaining", "shown", "whole_lines"]

_EVERY = 0.5  # seconds between two changes of what is shown
_EVERY_LINE = 10.0  # seconds between two lines where none can be taken back


def bar(done: float, expected: float | None, width: int = 20) -> str:
    """A bar of text.

    Example:
        >>> bar(5, 20, 8), bar(1, 8, 4), bar(3, None, 4)
        ('━━──────', '╸───', '────')
    """
    share = 0.0 if not expected else min(1.0, max(0.0, done / expected))
    halves = int(2 * width * share)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(width, "─")


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> [duration(seconds) for seconds in (0.4, 59, 600, 5400, 180000)]
        ['0 s', '59 s', '10 min', '1.5 h', '2.1 days']
    """
    for limit, unit, name in ((100, 1, "s"), (5400, 60, "min"), (2 * 86400, 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.1f} {name}" if name == "h" and value < 10 else f"{value:.0f} {name}"
    return f"{seconds / 86400:.1f} days"


def remaining(seconds: float | None) -> str:
    """What is said of the time that something still takes; None: nobody can tell."""
    return "no estimate yet" if seconds is None else f"about {duration(seconds)} left"


@dataclass(frozen=True)
class Counted:
    """How far something is that goes frame by frame.

    Attributes:
        done: Frames.
        total: As many will be.
        seconds: Since the first.
        what: Is being done with the next one.
        share: Of the next one, done.
        left: Seconds that the others take, where somebody knows.
    """

    done: int
    total: int
    seconds: float
    what: str = ""
    share: float = 0.0
    left: float | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing follows."""
        return self.done >= self.total

    def __str__(self) -> str:
        said = (self.what or "1 frame") if self.total == 1 else f"{self.done:,}/{self.total:,} frames"
        left = self.left
        if not self.what and self.done and self.seconds > 2:
            left = self.seconds * (self.total / self.done - 1)
        until = f"in {duration(self.seconds)}" if self.complete else remaining(left)
        return f"{bar(self.done + self.share, self.total)} {said}, {until}"


def shown(show: Callable[..., None] | bool | None) -> Callable[..., None] | None:
    """What to call with the progress: one or more objects whose texts are lines, `complete` when nothing follows.

    Args:
        show: A function, which is called as it is. None shows progress where this is a notebook; True does in any
            case, on standard error where it is none; False never does.

    Returns:
        None where nothing is to be shown.

    Example:
        >>> shown(False) is None, shown(print) is print
        (True, True)
    """
    if callable(show):
        return show
    kernel = _kernel()
    if show is False or (show is None and kernel is None):
        return None
    return _Line(_Stream() if kernel is None else _Cell(kernel))


def _kernel() -> Any:
    """The module that displays in a notebook; None where there is none. IPython is not loaded for it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if getattr(shell, "kernel", None) is None else import_module("IPython.display")


class _Line:
    """Says how far something is, now and then, and at its end.

    Args:
        place: Where it is said.
    """

    def __init__(self, place: _Cell | _Stream) -> None:
        self._place, self._said = place, float("-inf")
        self._what: list[Any] = []

    def __call__(self, *progress: Any) -> None:
        parts = [part for part in progress if part is not None]
        ended = all(getattr(part, "complete", False) for part in parts)
        what = [getattr(part, "what", None) for part in parts]
        other = what != self._what and self._place.every <= _EVERY  # where a line takes the place of another
        if ended or other or time.monotonic() - self._said >= self._place.every:
            self._said, self._what = time.monotonic(), what
            self._place.say([str(part) for part in parts], ended=ended)


class _Cell:
    """An output of a notebook's cell that is updated in its place.

    Args:
        display: The module `IPython.display`.
    """

    every = _EVERY

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def say(self, lines: list[str], *, ended: bool) -> None:
        """Show these lines instead of those before."""
        content = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = self._display.display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class _Stream:
    """Standard error: a line that is written over in a terminal, one now and then elsewhere."""

    open_line: ClassVar[bool] = False

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self.every = _EVERY if self._terminal else _EVERY_LINE

    def say(self, lines: list[str], *, ended: bool) -> None:
        """Write these lines as one."""
        text = " | ".join(lines)
        if self._terminal:
            width = shutil.get_terminal_size().columns
            text = "\r" + text[: width - 1].ljust(width - 1) + ("\n" if ended else "")
            _Stream.open_line = not ended
        else:
            text += "\n"
        sys.stderr.write(text)
        sys.stderr.flush()


@contextmanager
def whole_lines() -> Iterator[None]:
    """Whoever writes to standard error after the block begins a line: progress that was cut short left one open."""
    try:
        yield
    finally:
        if _Stream.open_line:
            sys.stderr.write("\n")
            _Stream.open_line = False
