"""GSD files that appear whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
from numpy.typing import NDArray

from glassmd.errors import storage_errors
from glassmd.fields import GSD_TIME
from glassmd.storage import publish, temporary_name
from glassmd.trajectory.frame import Frame

__all__ = ["GsdFile", "write_frames"]


def _snapshot(frame: Frame) -> gsd.hoomd.Frame:
    configuration = frame.configuration
    n, d = configuration.positions.shape
    raw = gsd.hoomd.Frame()
    raw.configuration.step = frame.step
    raw.configuration.dimensions = d
    raw.configuration.box = [*configuration.box, *([0.0] if d == 2 else []), 0.0, 0.0, 0.0]
    raw.particles.N = n
    raw.particles.types = list(configuration.species_names)
    raw.particles.typeid = configuration.species.astype(np.uint32)
    position, image = np.zeros((n, 3), np.float32), np.zeros((n, 3), np.int32)
    position[:, :d], image[:, :d] = configuration.positions, configuration.images
    raw.particles.position, raw.particles.image = position, image
    if configuration.velocities is not None:
        velocity = np.zeros((n, 3), np.float32)
        velocity[:, :d] = configuration.velocities
        raw.particles.velocity = velocity
    raw.log = {name: np.asarray(value) for name, value in frame.log.items()}
    return raw


def _nothing(name: str, like: NDArray[Any]) -> NDArray[Any]:
    """What the first frame says of a log that only later ones have.

    The time since the parent is 0 there; other numbers are NaN, or −1 where they are whole, and bytes are 0.
    """
    if name == GSD_TIME:
        return np.zeros_like(like)
    if np.issubdtype(like.dtype, np.floating):
        return np.full_like(like, np.nan)
    return np.full_like(like, -1 if np.issubdtype(like.dtype, np.signedinteger) else 0)


def _with_all_logs(frames: Sequence[Frame]) -> Iterator[Frame]:
    """The frames as they are written: the first has every log of any frame, others what differs from the first.

    gsd takes what a frame lacks from the first one; where that lacks it too, it cannot read the frames in any order,
    and `gsd.hoomd.read_log` leaves the log out without a word.
    """
    if not frames:
        return
    logs = [{name: np.asarray(value) for name, value in frame.log.items()} for frame in frames]
    first = dict(logs[0])
    for log in logs[1:]:
        first |= {name: _nothing(name, value) for name, value in log.items() if name not in first}
    yield replace(frames[0], log=first)
    for frame, log in zip(frames[1:], logs[1:], strict=True):
        yield replace(frame, log={name: value for name, value in log.items() if not _same(value, first[name])})


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class GsdFile:
    """A GSD file that frames are appended to.

    Args:
        path: The file, made anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = gsd.hoomd.open(str(path), "w")

    def append(self, frame: Frame, like: gsd.hoomd.Frame | None = None) -> None:
        """Write one more frame.

        Args:
            frame: The frame.
            like: One of another file whose quantities are kept; species, step and log are those of `frame`.
        """
        if len(self._file) == 0 and frame.step == 0:  # gsd leaves it out, and then cannot read the log
            self._file.file.write_chunk("configuration/step", np.zeros(1, np.uint64))
        raw = _snapshot(frame)
        if like is not None:
            like.particles.types, like.particles.typeid = raw.particles.types, raw.particles.typeid
            like.configuration.step, like.log = raw.configuration.step, raw.log
            raw = like
        self._file.append(raw)

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()


def write_frames(path: Path | str, frames: Iterable[Frame]) -> None:
    """Write a GSD file that appears whole or not at all (single precision, as every GSD reader expects).

    Any reader finds every log in every frame, in whatever order it reads them: the first frame has −1 or NaN for what
    only later ones say, and time 0. A log that a later frame lacks is that of the first frame.

    Raises:
        StorageError: The disk is full or not writable; no partial file is left behind.
    """
    path = Path(path)
    temporary = temporary_name(path)
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(GsdFile(temporary)) as file:
                for frame in _with_all_logs(list(frames)):
                    file.append(frame)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
