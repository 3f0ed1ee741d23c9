"""What has been committed, in the order in which it is heard of, at a cost that follows what is new.

::

    RUN/index/<writer>.log     the run's id, then a line per entry that this writer has committed

A line is a CRC-32 and a JSON array. Sidecars are the truth: an index only saves looking at them, and whatever it lacks,
because its writer was killed or somebody deleted or damaged it, is found by the names of the sidecars.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from glassmd.errors import SegmentError
from glassmd.ledger.keys import KINDS, Key, Kind, key_of

__all__ = ["Committed", "Index"]

_RESCAN_SHARE = 50  # between two looks at the names of all sidecars lies so much of what one takes, unless that is
_RESCAN_FREE = 0.02  # seconds or less
_STAMP_AGE = 10**9  # ns: a folder that changed so little time ago may change again without another stamp


class Committed(NamedTuple):
    """What is known of an entry without looking at its sidecar."""

    key: Key
    steps: int
    replicas: int


class Index:
    """The entries of a run, as far as this process has heard of them.

    Args:
        roots: Of the run; what its process writes goes to the last one.
        identity: Id of the run.
        describe: Gives what the index holds of an entry that is in no index, from its sidecar.

    Attributes:
        log: Entries in the order in which they were heard of; it only grows.
        steps: Steps of single systems behind them, by kind.
        damaged: Sidecars that could not be read, with what is wrong.
    """

    def __init__(self, roots: Sequence[Path], identity: str, describe: Callable[[Key], Committed]) -> None:
        self._roots, self._identity, self._describe = tuple(dict.fromkeys(roots)), identity, describe
        self._offsets: dict[Path, int] = {}
        self._own: Path | None = None
        self.log: list[Committed] = []
        self.damaged: dict[Key, SegmentError] = {}
        self._known: dict[Key, Committed] = {}
        self._counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.steps: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._unconfirmed: dict[Key, Committed] = {}  # indexed; whether the sidecar is there is seen at the first look
        self._scanned, self._scan_took = float("-inf"), 0.0
        self._stamps: dict[Path, int] | None = None

    def get(self, key: Key) -> Committed | None:
        """What is known of an entry."""
        return self._known.get(key)

    def count(self, kind: Kind) -> int:
        """Entries of a kind."""
        return self._counts[kind]

    def poll(self, *, thorough: bool = False) -> None:
        """Hear of what was committed since the last call.

        Args:
            thorough: Look at the names of all sidecars whatever that costs.
        """
        first = self._scanned == float("-inf")
        found = self._read_new()
        if first:
            self._unconfirmed = {line.key: line for line in found}
        else:
            for line in found:
                self._hear(line)
        since = time.monotonic() - self._scanned
        pause = 0.0 if self._scan_took < _RESCAN_FREE else _RESCAN_SHARE * self._scan_took
        if (thorough or since >= pause) and (stamps := self._folder_stamps()) != self._stamps:
            self._scan(stamps)

    def add(self, line: Committed) -> None:
        """Tell the others of an entry that this process has committed. A full disk is no reason to stop for that."""
        self._hear(line)
        try:
            if self._own is None:
                folder = self._roots[-1] / "index"
                folder.mkdir(parents=True, exist_ok=True)
                self._own = folder / f"{os.uname().nodename}-{os.getpid()}-{time.time_ns():x}.log"
                self._append(self._own, [self._identity])
            self._append(self._own, [line.key.name, line.steps, line.replicas])
        except OSError:
            return

    @staticmethod
    def _append(path: Path, content: list[Any]) -> None:
        text = json.dumps(content, separators=(",", ":")).encode()
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, b"%08x %b\n" % (zlib.crc32(text), text))
        finally:
            os.close(handle)

    def _hear(self, line: Committed) -> None:
        if line.key not in self._known:
            self._known[line.key] = line
            self.log.append(line)
            self._counts[line.key.kind] += 1
            self.steps[line.key.kind] += line.steps

    def _read_new(self) -> list[Committed]:
        found: list[Committed] = []
        files: list[tuple[Path, int]] = []
        for root in self._roots:
            with suppress(OSError):
                files += [(Path(entry.path), entry.stat().st_size) for entry in os.scandir(root / "index")]
        for path, size in files:
            offset = self._offsets.get(path, 0)
            if path.suffix != ".log" or size <= offset:
                continue
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    fresh = file.read()
            except OSError:
                continue
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            lines = whole.splitlines()
            if offset == 0 and lines and _content(lines[0]) != [self._identity]:
                self._offsets[path] = 2**62  # of another run, or damaged: the names of the sidecars tell
                continue
            found += [line for raw in lines[offset == 0 :] if (line := _line(raw)) is not None]
        return found

    def _folder_stamps(self) -> dict[Path, int]:
        stamps: dict[Path, int] = {}
        for folder in (root / kind for kind in KINDS for root in self._roots):
            with suppress(OSError):
                stamps[folder] = os.stat(folder).st_mtime_ns
        return stamps

    def _scan(self, stamps: dict[Path, int]) -> None:
        """Look at the names of all sidecars."""
        started = time.monotonic()
        for folder in stamps:
            # A folder that changes while it is read is read again the next time, for its stamp was taken before.
            found = (entry.name for entry in os.scandir(folder))
            names = sorted(name[:-5] for name in found if name[0] == "L" and name[-5:] == ".json")
            for name in names:
                try:
                    key = key_of(name)
                except SegmentError:
                    continue
                if key.kind != folder.name or key in self._known or key in self.damaged:
                    continue
                line = self._unconfirmed.get(key)
                try:
                    self._hear(line if line is not None else self._describe(key))
                except SegmentError as error:
                    self.damaged[key] = error
        self._unconfirmed = {}
        settled = all(time.time_ns() - stamp > _STAMP_AGE for stamp in stamps.values())
        self._stamps, self._scanned = stamps if settled else None, time.monotonic()
        self._scan_took = self._scanned - started


def _content(raw: bytes) -> Any:
    checksum, _, text = raw.partition(b" ")
    try:
        return json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
    except ValueError:
        return None


def _line(raw: bytes) -> Committed | None:
    content = _content(raw)
    if not (isinstance(content, list) and len(content) == 3):
        return None
    try:
        return Committed(key_of(str(content[0])), int(content[1]), int(content[2]))
    except (SegmentError, ValueError, TypeError):
        return None
