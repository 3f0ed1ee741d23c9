"""Where exported files go: a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glassmd.errors import RunError, StorageError, storage_errors
from glassmd.storage import temporary_name

__all__ = ["new_folder"]


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which is called `out` when the block has ended, and gone if it raises.

    Raises:
        RunError: `out` is there already, or lies in a run.
        StorageError: The disk is full or not writable.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} is there already", "a new or empty directory", "choose another --out")
    if any((folder / "run.json").exists() for folder in out.resolve().parents):
        raise RunError(f"found --out {out} in a run", "a place outside of runs", "choose another --out")
    temporary = temporary_name(out.absolute())
    with storage_errors(out):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            if out.exists() and not out.is_dir():
                raise StorageError(f"could not write {out}: a file is in the way", "a new directory")
            temporary.replace(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
