"""What a file looks like, to say so where it was given for something else."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Set
from pathlib import Path

from glassmd.errors import ImportDataError
from glassmd.storage import is_special

__all__ = ["looks_like", "refuse_other_format"]

_WHAT = {
    "botan": "a BOTAN file",
    "glassbench": "a GlassBench file",
    "deepmind": "a pickle of Bapst et al.",
    "deepmind-weights": "published weights of a network",
    "trajectory": "a trajectory",
}
_GSD = struct.pack("<Q", 0x65DF65DF65DF65DF)
_PICKLE = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def looks_like(path: Path) -> str | None:
    """The format, as `glassmd import --format` calls it, that a file looks like; None where it looks like none of them.

    Of a folder the first file that it holds tells.
    """
    if path.is_dir():
        path = min((found for found in path.rglob("*") if found.is_file()), default=path)
    if is_special(path) or not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK"):
        return _of_arrays(_names(path))
    if start.startswith(_PICKLE):
        return "deepmind"
    if start.startswith(_GSD) or start.startswith(b"ITEM:") or b"Lattice=" in start:
        return "trajectory"
    return None


def refuse_other_format(path: Path, wanted: str) -> None:
    """Refuse a file that looks like another format than the one that was named.

    Args:
        path: A file or a folder.
        wanted: The format that was named.

    Raises:
        ImportDataError: Saying which it looks like.
    """
    found = looks_like(path)
    if found is not None and found != wanted:
        raise ImportDataError(f"{path} looks like {_WHAT[found]}", _WHAT[wanted], f"try --format {found}")


def _names(path: Path) -> Set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return frozenset()


def _of_arrays(names: Set[str]) -> str | None:
    if any(name.startswith("Graph/") for name in names):
        return "deepmind-weights"
    if "md_prop" in names or {"box", "positions", "initial_positions"} <= names:
        return "glassbench"
    return "botan" if {"positions", "initial_positions"} <= names else None
