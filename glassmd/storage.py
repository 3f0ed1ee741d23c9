"""Files that appear whole or not at all, and claims that vanish with the process that made them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassmd.errors import RunError, storage_errors

__all__ = [
    "claim",
    "is_special",
    "publish",
    "read_json",
    "remove_leftovers",
    "sha256_of",
    "sync_directory",
    "write_json",
    "write_text",
]


def sync_directory(directory: Path) -> None:
    """Make renames inside `directory` survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path, *, exclusive: bool = False) -> bool:
    """Flush `temporary` to disk and give it its final name in one step.

    Args:
        temporary: A finished file in the same file system.
        final: Its name from now on; an older file there is replaced.
        exclusive: Keep an older file instead, and drop `temporary`.

    Returns:
        Whether `temporary` became `final`.

    Raises:
        StorageError: The disk is full or not writable.
    """
    with storage_errors(final):
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if exclusive:
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
        else:
            temporary.replace(final)
        sync_directory(final.parent)
    return True


def temporary_name(final: Path) -> Path:
    """A name beside `final` that no other process uses; leftovers start with a dot and end in `.tmp`."""
    return final.with_name(f".{final.name}.{os.uname().nodename}-{os.getpid()}.tmp")


def remove_leftovers(directory: Path) -> None:
    """Remove what processes of this machine that are no more left half written."""
    for path in directory.rglob(".*.tmp"):
        owner, _, number = path.name.removesuffix(".tmp").rpartition("-")
        if owner.endswith(f".{os.uname().nodename}") and number.isdigit() and not _alive(int(number)):
            path.unlink(missing_ok=True)


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str, *, exclusive: bool = False) -> bool:
    """Write a whole text file or none; see :func:`publish`."""
    temporary = temporary_name(path)
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            return publish(temporary, path, exclusive=exclusive)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any], *, exclusive: bool = False) -> bool:
    """Write a JSON object, whole or not at all; floats keep every digit."""
    return write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", exclusive=exclusive)


def is_special(path: Path) -> bool:
    """Whether something is there that is neither file nor folder: a pipe or a device may never end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: The file is missing, no regular one, or not a JSON object.
    """
    if is_special(path):
        raise RunError(f"{path} is no regular file", "JSON written by glassmd", "check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"found no {path}", "a file written by glassmd", "check the path") from error
    except (ValueError, OSError) as error:
        raise RunError(f"could not read {path}: {error}", "JSON written by glassmd") from error
    if not isinstance(content, dict):
        raise RunError(f"found {type(content).__name__} in {path}", "a JSON object")
    return content


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a claim on a piece of work while the block runs.

    The claim is a kernel lock on the file `path`: it goes when its process goes, however that ends, and it
    works between machines on file systems that forward locks (NFS, Lustre with `flock`, GPFS). Where locks
    are not forwarded two workers may do the same piece: the later file then replaces the earlier, and unless both
    are equal to the last bit, as they are from one engine on one kind of machine, its checksum tells.

    Yields:
        Whether the claim was granted.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            granted = True
        except BlockingIOError:
            granted = False
        yield granted
    finally:
        os.close(handle)
