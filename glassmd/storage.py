"""Files that appear whole or not at all, and claims that vanish with the process that made them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.errors import InputError, RunError, SettingsError, storage_errors

__all__ = [
    "SEAL",
    "UNSEALED",
    "alive",
    "check_seal",
    "check_sealed_bytes",
    "claim",
    "is_special",
    "metadata_of",
    "plain",
    "publish",
    "read_json",
    "read_toml",
    "remove_leftovers",
    "sealed",
    "sealed_bytes",
    "sha256_of",
    "sync_directory",
    "write_bytes",
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


def publish(temporary: Path, final: Path, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Flush `temporary` to disk and give it its final name in one step.

    Args:
        temporary: A finished file in the same file system.
        final: Its name from now on; an older file there is replaced.
        exclusive: Keep an older file instead, and drop `temporary`.
        durable: Whether it has to survive a power cut, which waits for the disk.

    Returns:
        Whether `temporary` became `final`.

    Raises:
        StorageError: The disk is full or not writable.
    """
    with storage_errors(final):
        if durable:
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
        if durable:
            sync_directory(final.parent)
    return True


def temporary_name(final: Path) -> Path:
    """A name beside `final` that no other process uses; leftovers start with a dot and end in `.tmp`."""
    return final.with_name(f".{final.name}.{os.uname().nodename}-{os.getpid()}.tmp")


def remove_leftovers(directory: Path, *, below: bool = True) -> None:
    """Remove what processes of this machine that are no more left half written, in folders `below` it as well."""
    for path in directory.rglob(".*.tmp") if below else directory.glob(".*.tmp"):
        owner, _, number = path.name.removesuffix(".tmp").rpartition("-")
        if owner.endswith(f".{os.uname().nodename}") and number.isdigit() and not alive(int(number)):
            path.unlink(missing_ok=True)


def alive(process_id: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Write a whole text file or none; see :func:`publish`."""
    return write_bytes(path, text.encode(), exclusive=exclusive, durable=durable)


def write_bytes(path: Path, content: bytes, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Write a whole file or none; see :func:`publish`."""
    temporary = temporary_name(path)
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            return publish(temporary, path, exclusive=exclusive, durable=durable)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any], *, exclusive: bool = False, durable: bool = True) -> bool:
    """Write a JSON object, whole or not at all; floats keep every digit."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    return write_text(path, text, exclusive=exclusive, durable=durable)


def plain(value: Any) -> Any:
    """JSON types: arrays as lists, and null for what is not a number."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def is_special(path: Path) -> bool:
    """Whether something is there that is neither file nor folder: a pipe or a device may never end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_json(path: Path, *, error: type[InputError] = RunError, todo: str = "check the path") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: Where it is.
        error: What to raise.
        todo: What to do next.

    Raises:
        RunError: The file is missing, no regular one, or not a JSON object (or another `error`).
    """
    if is_special(path):
        raise error(f"{path} is no regular file", "JSON written by glassmd", todo)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        raise error(f"found no {path.name} in {path.parent}", "a file written by glassmd", todo) from reason
    except (ValueError, OSError, RecursionError) as reason:
        raise error(f"could not read {path}: {reason}", "JSON written by glassmd", todo) from reason
    if not isinstance(content, dict):
        raise error(f"found {type(content).__name__} in {path}", "a JSON object", todo)
    return content


def read_toml(path: Path, what: str, todo: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: Where it is.
        what: It is, such as a settings file.
        todo: What to do next.

    Raises:
        SettingsError: The file is missing, no regular one, or no TOML.
    """
    if is_special(path):
        raise SettingsError(f"{path} is no regular file", "a TOML file", "write it to a file first")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"found no {what} {path}", "a TOML file", todo) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise SettingsError(f"could not read {what} {path}: {error}", "a TOML file", todo) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SEAL = "checksum"
"""Key of a JSON object's own checksum."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same JSON object with the checksum of everything in it.

    Args:
        content: JSON types; an older checksum in it is replaced.

    Raises:
        ValueError: A number that JSON does not know.

    Example:
        >>> sealed({"a": 1})["checksum"][:12]
        '015abd7f5cc5'
    """
    return {**content, SEAL: _seal_of(content)}


def _seal_of(content: Mapping[str, Any]) -> str:
    # read back, so that it is the checksum of what a reader finds: its keys are text
    rest = json.loads(json.dumps({key: value for key, value in content.items() if key != SEAL}, allow_nan=False))
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def check_seal(
    path: Path, content: Mapping[str, Any], *, error: type[InputError] = RunError, todo: str = "restore the file"
) -> None:
    """Refuse a JSON object that is not as :func:`sealed` left it.

    Args:
        path: Where it was read.
        content: What was read.
        error: What to raise.
        todo: What to do next.

    Raises:
        RunError: It was damaged or edited, or its checksum is gone (or another `error`).
    """
    try:
        whole = SEAL in content and content[SEAL] == _seal_of(content)
    except (ValueError, RecursionError):  # numbers that nobody writes
        whole = False
    if not whole:
        found = "whose checksum is not that of its content" if SEAL in content else f"without its {SEAL!r}"
        raise error(f"found {path} {found}: it was damaged or edited", "it as glassmd wrote it", todo)


_OWN = re.compile(rb'\\"checksum\\": \\"([0-9a-f]{64})\\"')
UNSEALED = {SEAL: "0" * 64}
"""What the text in a safetensors header begins with before :func:`sealed_bytes` knows the checksum."""


def sealed_bytes(content: bytes) -> bytes:
    """A safetensors file in whose header, inside a JSON text, :data:`UNSEALED` stands, with its checksum there."""
    digest = hashlib.sha256(content).hexdigest().encode()
    start, end = _place_of_seal(content)
    assert content[start:end] == UNSEALED[SEAL].encode(), "a file is sealed once, and has a place for it"
    return content[:start] + digest + content[end:]


def check_sealed_bytes(path: Path, content: bytes, *, error: type[InputError], todo: str) -> None:
    """Refuse a file in which a bit is not as :func:`sealed_bytes` left it.

    Raises:
        InputError: It was damaged or edited (the `error` that is given).
    """
    start, end = _place_of_seal(content)
    whole = content[:start] + UNSEALED[SEAL].encode() + content[end:]
    if start == end or hashlib.sha256(whole).hexdigest().encode() != content[start:end]:
        raise error(f"{path} is damaged (its checksum is not that of its content)", "it as glassmd wrote it", todo)


def metadata_of(content: bytes) -> dict[str, str]:
    """Texts in the header of a safetensors file.

    Raises:
        ValueError: There is no header, or none with texts.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its header holds no texts")
    return metadata


def _place_of_seal(content: bytes) -> tuple[int, int]:
    header = content[: 8 + int.from_bytes(content[:8], "little")]
    return found.span(1) if (found := _OWN.search(header)) else (0, 0)


_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""What a file system without locks answers."""


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a claim on a piece of work while the block runs.

    The claim is a kernel lock on the file `path`: it goes when its process goes, however that ends, and it
    works between machines on file systems that forward locks (NFS, Lustre with `flock`, GPFS). Claims only save
    work: where locks are not forwarded, or there are none at all, two workers may do the same piece, and the ledger
    keeps what was committed first.

    Yields:
        Whether the claim was granted; always where the file system has no locks.
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
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            granted = True
        yield granted
    finally:
        os.close(handle)
