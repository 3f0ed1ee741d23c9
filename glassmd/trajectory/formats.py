"""Which format a file has, by its content, and what reads it."""

from __future__ import annotations

from lzma import LZMAError
from pathlib import Path

from glassmd.errors import TrajectoryError
from glassmd.storage import is_special
from glassmd.trajectory.blocks import open_binary
from glassmd.trajectory.gsd_reading import GsdSource
from glassmd.trajectory.raw import FrameSource

__all__ = ["READABLE", "format_of", "open_source"]

READABLE = "GSD, LAMMPS dump, LAMMPS data or extended XYZ"

_GSD = (0x65DF65DF65DF65DF).to_bytes(8, "little")
_OTHERS = {b"PK\x03\x04": "a numpy archive (npz)", b"\x93NUMPY": "a numpy array", b"\x80": "a pickle", b"CDF": "NetCDF",
           b"\x89HDF": "HDF5", b"{": "JSON"}  # fmt: skip
_HEAD = 4096


def format_of(path: Path) -> str:
    """The format of a file: `gsd`, `lammps-dump`, `lammps-data` or `extxyz`, by its content.

    Raises:
        TrajectoryError: There is no such file, it is empty, or it is of another kind, which the message names.
    """
    if path.is_dir():
        raise TrajectoryError(f"{path} is a directory", f"a file: {READABLE}", "name the file in it")
    if not path.exists():
        raise TrajectoryError(f"found no file {path}", READABLE, "check the path")
    if is_special(path):
        raise TrajectoryError(f"{path} is no regular file", READABLE, "write it to a file first")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise TrajectoryError(f"{path} is empty (0 bytes)", READABLE, "write it again")
    if head.startswith(_GSD):
        return "gsd"
    try:
        with open_binary(path) as unpacked:
            head = unpacked.read(_HEAD)
    except (OSError, EOFError, LZMAError) as error:
        raise TrajectoryError(f"{path} cannot be unpacked ({error})", READABLE, "copy it again") from error
    found = _text_format(head)
    if found == "xyz":
        raise TrajectoryError(f"{path} is an XYZ file without a box", 'Lattice="…" in its second line', "write it, too")
    if found is None:
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise TrajectoryError(
                    f"{path} looks like {name}", READABLE, "published data are read by glassmd import --format NAME"
                )
        raise TrajectoryError(f"{path} is of no format that glassmd reads", READABLE, "write it as one of these")
    return found


def _text_format(head: bytes) -> str | None:
    lines = head.decode("utf-8", "replace").splitlines()
    if lines and lines[0].startswith("ITEM:"):
        return "lammps-dump"
    if len(lines) > 1 and lines[0].strip().isdigit():
        if "lattice=" in lines[1].lower():
            return "extxyz"
        return "xyz"
    words = [line.split("#")[0].split() for line in lines[1:40]]
    if any(len(line) == 2 and line[0].isdigit() and line[1] == "atoms" for line in words):
        return "lammps-data"
    return None


def open_source(path: Path) -> FrameSource:
    """Open a file for reading with what reads its format.

    Raises:
        TrajectoryError: It cannot be read, or what reads it is not installed.
    """
    found = format_of(path)
    if found == "gsd":
        return GsdSource(path)
    from glassmd.trajectory.foreign import ForeignSource

    return ForeignSource(path, found)
