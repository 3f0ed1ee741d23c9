"""What a process says of itself while it works: a JSON file that whoever watches may read at any time."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glassmd.errors import StorageError
from glassmd.storage import alive, plain, write_json

__all__ = ["RecentRate", "StatusFile", "at_work"]

EVERY = 1.0
"""Seconds between two writes; up to ten where writing takes more than a twentieth of the time."""

_MINUTE = 60.0
_FRESH = 5.0  # seconds: whoever wrote so lately is there, whatever the process ids of this machine say
_SILENT = 600.0  # seconds: a process of this machine may measure or minimise that long without a word
_SILENT_ELSEWHERE = 120.0  # seconds: of another machine nothing but the file tells, by a clock that may differ


class StatusFile:
    """Says what its process is doing, about once a second.

    A reader finds it whole; it need not survive a power cut. A full disk is no reason to stop.

    Args:
        path: JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = time.time()
        self._written, self._took = float("-inf"), 0.0

    def offer(self, content: Callable[[], Mapping[str, Any]], *, at_once: bool = False) -> None:
        """Write down what `content` returns if it is time to, with who says so and when.

        Args:
            content: JSON types; a number that is none becomes null.
            at_once: It is time now.
        """
        started = time.monotonic()
        if not at_once and started - self._written < max(EVERY, min(20 * self._took, 10 * EVERY)):
            return
        who = {"pid": os.getpid(), "host": os.uname().nodename, "started": self._started, "updated": time.time()}
        with suppress(StorageError, OSError):
            write_json(self.path, {**plain(content()), **who}, durable=False)
        self._written = time.monotonic()
        self._took = self._written - started

    def remove(self) -> None:
        """There is nothing to say any more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class RecentRate:
    """How fast something grows, over the last minute.

    Args:
        count: What it is now.
        least: Growth that a rate is taken over, however long that took: for what grows by one now and then.
    """

    def __init__(self, count: int = 0, least: int = 0) -> None:
        self._least, self._seen = least, deque([(time.monotonic(), count)])

    def of(self, count: int) -> float | None:
        """Per second, now that it is `count`; None within the first two seconds."""
        now = time.monotonic()
        if self._least and len(self._seen) == 1 and count == self._seen[0][1]:
            self._seen[0] = now, count  # waiting before the first says nothing of the pace
        if now - self._seen[-1][0] > 1.0 and (count != self._seen[-1][1] or not self._least):
            self._seen.append((now, count))
        while len(self._seen) > 1 and now - self._seen[1][0] > _MINUTE and count - self._seen[1][1] >= self._least:
            self._seen.popleft()
        then, before = self._seen[0]
        return (count - before) / (now - then) if now - then > 2.0 else None


def at_work(content: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a status is still there, as far as it can be told from here.

    Args:
        content: Of a :class:`StatusFile`.

    Example:
        >>> at_work({"pid": os.getpid(), "host": os.uname().nodename, "updated": time.time()})
        True
        >>> at_work({"pid": 1, "host": "elsewhere", "updated": 0.0})
        False
    """
    age = abs(time.time() - float(content["updated"]))
    if age < _FRESH:
        return True
    if content["host"] == os.uname().nodename:
        return age < _SILENT and alive(int(content["pid"]))
    return age < _SILENT_ELSEWHERE
