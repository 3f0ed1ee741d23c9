"""A copy of a run directory on a machine that does not see it: as much of it as the work there needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassmd.ledger.parcel import Parcel, parcel_of
from glassmd.ledger.run import RunDirectory
from glassmd.storage import alive, sealed, write_json

__all__ = ["Mirror", "mirror"]

_PREFIX = "glassmd-mirror-"


@contextmanager
def mirror(identity: Mapping[str, Any]) -> Iterator[Mirror]:
    """A mirror in a temporary folder of its own, gone after the block; so are those of processes that were killed.

    Args:
        identity: Content of the other's `run.json`.
    """
    place = Path(tempfile.gettempdir())  # which machines may share: each removes its own
    own = f"{_PREFIX}{os.uname().nodename}-"
    for left in place.glob(f"{own}*"):
        number = left.name.removeprefix(own).partition("-")[0]
        if number.isdigit() and not alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{own}{os.getpid()}-"))
    try:
        yield Mirror(folder, identity)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Mirror:
    """A run directory that takes entries of another one, and gives back those that were made in it.

    Args:
        folder: Where it lies; nobody else uses it.
        identity: Content of the other's `run.json`; its checksum is made anew.

    Attributes:
        run: The copy.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        write_json(folder / "run.json", sealed(identity), durable=False)
        self.run = RunDirectory.open(folder)
        self._known: set[str] = set()
        self._position = 0

    def receive(self, parcels: Iterable[Parcel]) -> None:
        """Have entries of the other.

        Raises:
            SegmentError: One was damaged on its way, or is of another run.
            StorageError: The disk is full.
        """
        for parcel in parcels:
            self.run.adopt(parcel)
            self._known.add(parcel.name)

    def made(self) -> list[Parcel]:
        """Entries that were made here since the last call.

        Raises:
            SegmentError: One is damaged.
        """
        self.run.poll()
        lines, self._position = self.run.since(self._position)
        found = []
        for name, kind in ((line.key.name, line.key.kind) for line in lines):
            if name not in self._known and (entry := self.run.entry(kind, name)) is not None:
                found.append(parcel_of(entry))
        self._known.clear()  # what was heard of is not heard of again
        return found
