"""Frames written one after the other, in the format of the file's ending; the file appears whole or not at all."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from glassmd.errors import TrajectoryError, storage_errors
from glassmd.storage import publish, temporary_name
from glassmd.trajectory.frame import Frame
from glassmd.trajectory.gsd_writing import GsdFile
from glassmd.trajectory.text_writing import write_dump_frame, write_xyz_frame

__all__ = ["FrameWriter", "writable_format"]

_ENDINGS = {".gsd": "gsd", ".xyz": "extxyz", ".extxyz": "extxyz", ".dump": "lammps", ".lammpstrj": "lammps"}


def writable_format(path: Path) -> str:
    """`gsd`, `extxyz` or `lammps`, by the ending of a name; text may be packed (`.gz`).

    Raises:
        TrajectoryError: Another ending.

    Example:
        >>> writable_format(Path("a.dump.gz"))
        'lammps'
    """
    packed = path.suffix == ".gz"
    found = _ENDINGS.get(Path(path.stem).suffix if packed else path.suffix)
    if found is None or (packed and found == "gsd"):
        raise TrajectoryError(f"found a file named {path.name}", f"an ending of {', '.join(_ENDINGS)}", "try .gsd")
    return found


class FrameWriter:
    """Writes frames; as a context manager the file appears at its end, unless there was an error.

    Args:
        path: The file, whose ending is its format.

    Raises:
        TrajectoryError: An ending that no format has.
        StorageError: It cannot be written; no partial file is left behind.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._format = path, writable_format(path)
        self._temporary = temporary_name(path)
        self._file: GsdFile | IO[str]

    def __enter__(self) -> FrameWriter:
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._format == "gsd":
                self._file = GsdFile(self._temporary)
            else:
                self._file = (
                    gzip.open(self._temporary, "wt") if self._path.suffix == ".gz" else self._temporary.open("w")
                )
        return self

    def append(self, frame: Frame, like: Any = None) -> None:
        """Write one more frame.

        Args:
            frame: The frame.
            like: The frame of a GSD file that it is, whose other quantities are kept in a GSD file.
        """
        with storage_errors(self._path):
            if isinstance(self._file, GsdFile):
                self._file.append(frame, like)
            elif self._format == "extxyz":
                write_xyz_frame(self._file, frame)
            else:
                write_dump_frame(self._file, frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with storage_errors(self._path):
                self._file.close()
                if error is None:
                    publish(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
