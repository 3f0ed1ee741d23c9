"""Every exception that glassmd raises on purpose.

::

    GlassmdError                 one root: `except GlassmdError` catches all of them
    ├── InputError               what the user gave cannot be used               exit code 2
    │   ├── SettingsError        an unknown key, a value out of range
    │   ├── TrajectoryError      a file that is damaged or holds no periodic liquid
    │   ├── RunError             a run directory that is missing, foreign or made with other settings
    │   │   └── SegmentError     a committed file that does not match its checksum
    │   ├── ModelError           a model that is missing, damaged or does not fit the data
    │   ├── EngineError          an engine that is not installed or cannot do what is asked
    │   │   └── DeviceLostError  a GPU that this process can use no more; another process can
    │   ├── EquilibrationError   a lineage that is not an equilibrated liquid
    │   ├── ImportDataError      a published file that is not what its format says
    │   └── StorageError         the disk is full or not writable
    └── Interrupted              stopped early, everything finished is committed     exit code 75
        └── ProcessLostError     another process of the same training has ended

A message says what was found, what was expected and what to type next, in one line.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

__all__ = [
    "FULL",
    "DeviceLostError",
    "EngineError",
    "EquilibrationError",
    "GlassmdError",
    "ImportDataError",
    "InputError",
    "Interrupted",
    "ModelError",
    "ProcessLostError",
    "RunError",
    "SegmentError",
    "SettingsError",
    "StorageError",
    "TrajectoryError",
    "raised_elsewhere",
    "storage_errors",
]


class GlassmdError(Exception):
    """Root of the tree.

    Args:
        found: What was found, as a sentence without its full stop.
        expected: What was expected instead.
        todo: What to type or do next.

    Example:
        >>> print(InputError("found temperature -1", "a temperature above 0", "try --temperature 0.5"))
        found temperature -1; expected a temperature above 0; try --temperature 0.5
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, expected: str = "", todo: str = "") -> None:
        self.found, self.expected, self.todo = found, expected, todo
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        if todo:
            parts.append(todo)
        super().__init__("; ".join(part.strip().replace("\n", " ") for part in parts))

    def to_dict(self) -> dict[str, str]:
        """What another process needs to raise it (JSON types only); see :func:`raised_elsewhere`."""
        return {"kind": type(self).__name__, "found": self.found, "expected": self.expected, "todo": self.todo}


class InputError(GlassmdError):
    """What the user gave cannot be used."""

    exit_code = 2


class SettingsError(InputError):
    """An unknown key or a value out of range."""


class TrajectoryError(InputError):
    """A file that is damaged or does not hold a periodic liquid."""


class RunError(InputError):
    """A run directory that is missing, foreign or made with other settings."""


class SegmentError(RunError):
    """A committed file that does not match its checksum."""


class ModelError(InputError):
    """A model that is missing, damaged or does not fit the data."""


class EngineError(InputError):
    """An engine that is not installed or cannot do what is asked."""


class DeviceLostError(EngineError):
    """A GPU has failed in a way that no later call of this process gets over; a new process starts afresh."""


class EquilibrationError(InputError):
    """A lineage that has not been shown to be an equilibrated liquid."""


class ImportDataError(InputError):
    """A published file that is not what its format says."""


class StorageError(InputError):
    """The disk is full or not writable."""


class Interrupted(GlassmdError):  # noqa: N818  (it is not an error of anybody's)
    """Stopped early by a signal or the wall-clock limit; everything finished is committed."""

    exit_code = 75


class ProcessLostError(Interrupted):
    """Another process of the same training has ended without a word: what it knew is that of the last checkpoint."""


def raised_elsewhere(told: Mapping[str, str]) -> GlassmdError:
    """What another process raised, from its `to_dict`.

    Example:
        >>> raised_elsewhere(InputError("found nothing", "something").to_dict())
        InputError('found nothing; expected something')
    """
    kinds = [GlassmdError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    kind = {kind.__name__: kind for kind in kinds}.get(told["kind"], GlassmdError)
    return kind(told["found"], told["expected"], told["todo"])


FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up",
         errno.EFBIG: "a file may not grow further", errno.EROFS: "the file system is read-only",
         errno.EACCES: "permission denied", errno.ENOTDIR: "part of the path is a file",
         errno.EEXIST: "a file is in the way", errno.EISDIR: "a directory is in the way",
         errno.ENAMETOOLONG: "the name is too long"}  # fmt: skip
"""Why an operating system refuses to write, in words."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageError(
                f"could not write {path}: {FULL[error.errno]}",
                "room to write",
                "free some space and give the same command again: everything committed before is kept",
            ) from error
        raise
