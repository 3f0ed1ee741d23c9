"""An equilibration that takes long, kept on disk so that what interrupts it costs a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import storage_errors
from glassmd.storage import publish, temporary_name

__all__ = ["Unfinished"]


class Unfinished:
    """Keeps what one lineage has done so far.

    What goes on from there follows the undisturbed trajectory: the thermostat's numbers are a function of the kept
    seed and step. Only rounding differs, which a liquid amplifies until, after some ten times its own time unit,
    the trajectory is another one of the same liquid.

    Args:
        path: npz file; it appears whole or not at all.
        every: Seconds between two writes; longer where writing takes more than 2% of the time.
    """

    def __init__(self, path: Path, every: float = 60.0) -> None:
        self.path, self.every = path, every
        self._written, self._took = time.monotonic(), 0.0

    def offer(self, state: Callable[[], dict[str, NDArray[Any]]]) -> None:
        """Write down what `state` returns if it is time to.

        Raises:
            StorageError: The disk is full or not writable.
        """
        if time.monotonic() - self._written >= max(self.every, min(50 * self._took, 20 * self.every)):
            self.write(state())

    @property
    def worth_keeping(self) -> bool:
        """Whether there is half a minute's work to lose; less is soon done again, and then to the last bit."""
        return time.monotonic() - self._written >= 0.5 * self.every

    def write(self, state: dict[str, NDArray[Any]]) -> None:
        """Write it down now.

        Raises:
            StorageError: The disk is full or not writable.
        """
        started = time.monotonic()
        temporary = temporary_name(self.path)
        with storage_errors(self.path):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, **state)
                publish(temporary, self.path)
            finally:
                temporary.unlink(missing_ok=True)
        self._written = time.monotonic()
        self._took = self._written - started

    def load(self, names: tuple[str, ...] = ()) -> dict[str, NDArray[Any]] | None:
        """What was written, or None where there is nothing that can be read or it lacks one of `names`."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                if missing := set(names) - set(file.files):
                    raise ValueError(f"{self.path} was written by another release: it lacks {missing}")
                return {name: file[name] for name in file.files}
        except (OSError, EOFError, ValueError, BadZipFile):
            return None

    def forget(self) -> None:
        """The equilibration is committed: remove the file."""
        self.path.unlink(missing_ok=True)
