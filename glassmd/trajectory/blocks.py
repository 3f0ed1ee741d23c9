"""Where the frames of a text file begin, so that one can be read without those before it."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import TrajectoryError

__all__ = ["Blocks", "dump_blocks", "open_binary", "xyz_blocks"]

_OPENERS: dict[bytes, Callable[[str, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_CHUNK = 2**24
_BEGIN = b"ITEM: TIMESTEP"
_HEAD = 120  # bytes of a time and units


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked where it is packed by gzip, bzip2 or xz."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            unpacked: IO[bytes] = opener(str(path), "rb")
            return unpacked
    return path.open("rb")


class Blocks:
    """The complete frames of a text file.

    Args:
        path: The file.
        file: The same, open.
        offsets: (n_frames + 1,) of each frame and of the end of the last.
        steps: Of each frame, where the format has them at a fixed place.
        cut: Whether a frame follows that is not complete.

    Raises:
        TrajectoryError: There is none.
    """

    def __init__(
        self, path: Path, file: IO[bytes], offsets: list[int], steps: list[int] | None = None, *, cut: bool = False
    ) -> None:
        self._path, self._file, self._offsets = path, file, offsets
        self.cut = cut
        self.steps: NDArray[np.int64] | None = None if steps is None else np.array(steps, np.int64)
        if len(self) < 1:
            file.close()
            raise TrajectoryError(f"{path} holds no complete frame", "at least one", "write it again")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def text(self, number: int) -> str:
        """The lines of a frame."""
        start, end = self._offsets[number : number + 2]
        self._file.seek(start)
        return self._file.read(end - start).decode()


def dump_blocks(path: Path) -> Blocks:
    """The frames of a LAMMPS dump.

    Raises:
        TrajectoryError: It holds no complete frame.
    """
    file = open_binary(path)
    places = _places(file, _BEGIN)
    size = file.tell()
    offsets = [_begin(file, place) for place in places]
    complete = bool(offsets) and _complete(file, offsets[-1], size)
    if complete:
        offsets.append(size)
    steps = []
    for place in places[: len(offsets) - 1]:
        file.seek(place)
        file.readline()
        line = file.readline()
        if not line.strip().lstrip(b"-").isdigit():
            raise TrajectoryError(f"{path} has a step {line.decode(errors='replace').strip()!r}", "a whole number")
        steps.append(int(line))
    return Blocks(path, file, offsets, steps, cut=not complete)


def _places(file: IO[bytes], word: bytes) -> list[int]:
    """Where lines begin with a word."""
    found: list[int] = []
    start, rest = 0, b"\n"  # what is left of the chunk before, so that a word across both is seen
    while chunk := file.read(_CHUNK):
        text = rest + chunk
        place = text.find(b"\n" + word)
        while place >= 0:
            found.append(start + place + 1 - len(rest))
            place = text.find(b"\n" + word, place + 1)
        keep = len(word)
        start += len(chunk)
        rest = text[-keep:]
    return found


def _begin(file: IO[bytes], place: int) -> int:
    """Where a frame begins: LAMMPS writes its time, and once the units, before the step."""
    start = max(0, place - _HEAD)
    file.seek(start)
    before = file.read(place - start).splitlines(keepends=True)
    while len(before) >= 2 and before[-2] in (b"ITEM: TIME\n", b"ITEM: UNITS\n"):
        place -= len(before.pop()) + len(before.pop())
    return place


def _complete(file: IO[bytes], start: int, end: int) -> bool:
    """Whether the lines from `start` to `end` are a header and as many particles as it says, the last one ended."""
    file.seek(start)
    block = file.read(end - start)
    lines = block.split(b"\n")
    try:
        n = int(lines[1 + lines.index(b"ITEM: NUMBER OF ATOMS")])
        first = 1 + next(k for k, line in enumerate(lines) if line.startswith(b"ITEM: ATOMS"))
    except (ValueError, IndexError, StopIteration):
        return False
    return block.endswith(b"\n") and len(lines) - first - 1 == n


def xyz_blocks(path: Path) -> Blocks:
    """The frames of an (extended) XYZ file.

    Raises:
        TrajectoryError: It holds no complete frame, or a line that should be a number of particles is none.
    """
    file = open_binary(path)
    offsets = [0]
    while line := file.readline():
        if not line.strip():
            continue
        if not line.strip().isdigit():
            where = f"frame {len(offsets) - 1} of {path}"
            raise TrajectoryError(f"{where} begins with {line[:40]!r}", "the number of particles", "write it again")
        lines = list(islice(file, int(line) + 1))
        if len(lines) < int(line) + 1 or not lines[-1].endswith(b"\n"):
            return Blocks(path, file, offsets, cut=True)
        offsets.append(file.tell())
    return Blocks(path, file, offsets)
