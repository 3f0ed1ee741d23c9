"""A run directory: the file system is the ledger.

::

    RUN/
      run.json                        identity: mixture, temperature, settings or origin
      parents/L0000-P0000.gsd .json   parent configurations; parent 0 carries its lineage's equilibration report
      segments/L0000-P0000-B0000.gsd .json
      engines/hoomd-gpu-….json        what was measured on a device: systems packed, neighbour list's buffer
      claims/                         locks of work in progress
      workers/                        what each process is doing, for the progress display

A file counts once its sidecar (JSON with its checksum) has appeared. Names follow from lineage, parent and
block, so whoever comes next sees what exists; nothing is produced twice or lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glassmd.errors import RunError, SegmentError, StorageError
from glassmd.fields import SCHEMA_VERSION
from glassmd.mixtures import Mixture
from glassmd.settings import RunSettings, build_settings
from glassmd.storage import claim, read_json, sha256_of, write_json
from glassmd.trajectory import Frame, read_frames, write_frames

__all__ = ["Entry", "ParentKey", "RunDirectory", "SegmentKey"]

Kind = Literal["parents", "segments"]

GROWABLE = ("lineages", "parents")
"""Settings that a later call may raise: a run grows by lineages and parents, never changes otherwise."""

RUNTIME = ("engine", "device", "packed", "neighbor_buffer", "workers", "walltime", "accept_unequilibrated")
"""Settings that say how to run and not what: they may differ between calls."""


_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class ParentKey(NamedTuple):
    """A parent configuration: number `parent` of lineage number `lineage`."""

    lineage: int
    parent: int

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"L{self.lineage:04d}-P{self.parent:04d}"


class SegmentKey(NamedTuple):
    """Block number `block` of the replicas of a parent."""

    lineage: int
    parent: int
    block: int

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"L{self.lineage:04d}-P{self.parent:04d}-B{self.block:04d}"

    @property
    def of(self) -> ParentKey:
        """The parent."""
        return ParentKey(self.lineage, self.parent)


@dataclass(frozen=True)
class Entry:
    """A committed file: its place and its sidecar."""

    path: Path
    sidecar: dict[str, Any]

    @property
    def key(self) -> SegmentKey:
        """Which segment it is (block 0 for a parent)."""
        return SegmentKey(self.sidecar["lineage"], self.sidecar["parent"], self.sidecar.get("block", 0))

    def read(self, frames: Sequence[int] | None = None) -> list[Frame]:
        """Verify the checksum and read frames.

        Raises:
            SegmentError: The file is missing or is not the one that was committed.
        """
        self.verify()
        return read_frames(self.path, self.sidecar["mixture"]["species"], frames)

    def verify(self) -> None:
        """Raise :class:`SegmentError` unless size and checksum are the committed ones."""
        todo = f"delete {self.path} and {self.path.with_suffix('.json').name}, then simulate again to make it anew"
        if not self.path.exists():
            raise SegmentError(f"found no {self.path}", "the file its sidecar describes", todo)
        size = self.path.stat().st_size
        if size != self.sidecar["size"]:
            raise SegmentError(f"{self.path} has {size} bytes", f"{self.sidecar['size']}", todo)
        digest = sha256_of(self.path)
        if digest != self.sidecar["sha256"]:
            raise SegmentError(
                f"{self.path} has checksum {digest[:12]}…",
                f"{self.sidecar['sha256'][:12]}… as committed",
                todo,
            )


class RunDirectory:
    """A run directory that exists; see :meth:`create` and :meth:`open`.

    Attributes:
        path: The directory.
        identity: Content of `run.json`.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self._settings: tuple[dict[str, Any], RunSettings] | None = None
        self._entries: dict[Path, Entry] = {}  # sidecars never change, so each is read once

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """Open a run directory.

        Raises:
            RunError: There is none, or a newer program wrote it.
        """
        path = Path(path)
        if not (path / "run.json").is_file():
            raise RunError(
                f"found no run in {path}",
                "a directory with run.json",
                f"try glassmd simulate --out {path} or glassmd import",
            )
        identity = read_json(path / "run.json")
        version = identity.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RunError(f"{path} has schema version {version}", f"{SCHEMA_VERSION}", "update glassmd")
        missing = [key for key in ("id", "mixture", "temperature", "times") if key not in identity]
        if missing:
            raise RunError(f"{path}/run.json lacks {missing}", "a file written by glassmd", "restore it")
        if not (isinstance(identity["id"], str) and _ID.fullmatch(identity["id"])):  # it names folders
            raise RunError(
                f"{path}/run.json has id {str(identity['id'])[:80]!r}",
                "lowercase letters, digits and dashes, 64 at most",
                "restore it",
            )
        return cls(path, identity)

    @classmethod
    def create(
        cls,
        path: Path | str,
        mixture: Mixture,
        *,
        temperature: float,
        times: Sequence[float],
        n_particles: int,
        density: float,
        settings: RunSettings | None = None,
        chosen: Mapping[str, Any] | None = None,
        origin: str = "simulated",
    ) -> RunDirectory:
        """Make a run directory, or open it if it exists and is the same run.

        `chosen` are settings that nobody asked for: a new run stores them, one that is there keeps its own.

        Raises:
            RunError: The directory holds a run made with other settings or another mixture.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file", "a directory or a new name", "choose another --out")
        identity = {
            "schema_version": SCHEMA_VERSION,
            "id": secrets.token_hex(8),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "origin": origin,
            "mixture": mixture.identity(),
            "temperature": temperature,
            "density": density,
            "n_particles": n_particles,
            "times": [float(t) for t in times],
            "settings": None if settings is None else settings.model_dump(),
        }
        if not (path / "run.json").exists():
            if path.is_dir() and any(not found.name.endswith(".tmp") for found in path.iterdir()):
                raise RunError(
                    f"{path} is not empty and holds no run",
                    "an empty or new directory",
                    "choose another --out",
                )
            with_chosen = None if settings is None else {**settings.model_dump(), **(chosen or {})}
            write_json(path / "run.json", {**identity, "settings": with_chosen}, exclusive=True)
        run = cls.open(path)
        run._adopt(identity)
        return run

    def _adopt(self, wanted: dict[str, Any]) -> None:
        """Check that `wanted` is this run, and let the run grow."""
        for key in ("mixture", "temperature", "times", "n_particles", "density", "origin"):
            if self.identity[key] != wanted[key]:
                found, now = self.identity[key], wanted[key]
                if key == "mixture":
                    key = "mixture or truncation"
                    found, now = (f"{m['name']} ({m['truncation']})" for m in (found, now))
                raise RunError(
                    f"{self.path} was made with {key} {found}",
                    f"{now} as asked for now",
                    "choose another --out",
                )
        if self.identity.get("settings") is None or wanted["settings"] is None:
            return
        grown = self.grown(wanted["settings"])
        if any(grown[key] != self.identity["settings"].get(key) for key in GROWABLE):
            self.identity = {**self.identity, "settings": grown}
            write_json(self.path / "run.json", self.identity)

    def grown(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of this run after it has grown to those asked for.

        Raises:
            RunError: They differ in more than a run can grow by.
        """
        stored = self.identity["settings"]
        # Runs of earlier releases lack settings that came later.
        stored = {key: field.get_default() for key, field in RunSettings.model_fields.items()} | stored
        grown = dict(stored)
        for key, value in asked.items():
            if key in RUNTIME or stored.get(key) == value or (key == "block" and value is None):
                continue
            if key in GROWABLE and value > stored[key]:
                grown[key] = value
                continue
            raise RunError(
                f"{self.path} was made with {key} = {stored.get(key)}",
                f"{value} as asked for now",
                f"give {key} = {stored.get(key)} or choose another --out",
            )
        return grown

    @property
    def settings(self) -> RunSettings | None:
        """The settings of a simulated run; None for imported data."""
        stored = self.identity.get("settings")
        if stored is None:
            return None
        if self._settings is None or self._settings[0] is not self.identity:
            self._settings = self.identity, build_settings(RunSettings, stored, f"{self.path}/run.json: ")
        return self._settings[1]

    @property
    def times(self) -> list[float]:
        """Output times, √(mσ²/ε)."""
        return list(self.identity["times"])

    def file(self, kind: Kind, name: str) -> Path:
        """Where a committed GSD file lies."""
        return self.path / kind / f"{name}.gsd"

    def entry(self, kind: Kind, name: str) -> Entry | None:
        """A committed file, or None while there is none."""
        path = self.file(kind, name)
        if path not in self._entries:
            sidecar = path.with_suffix(".json")
            if not sidecar.exists():
                return None
            content = read_json(sidecar)
            missing = [k for k in ("sha256", "size", "lineage", "parent", "mixture") if k not in content]
            if missing:
                raise SegmentError(f"{sidecar} lacks {missing}", "a sidecar written by glassmd", "delete it")
            self._entries[path] = Entry(path, content)
        return self._entries[path]

    def entries(self, kind: Kind) -> list[Entry]:
        """Everything committed so far of one kind, in the order of names."""
        names = sorted(path.stem for path in (self.path / kind).glob("L*.json"))
        return [entry for name in names if (entry := self.entry(kind, name)) is not None]

    def commit(self, kind: Kind, key: ParentKey | SegmentKey, frames: list[Frame], facts: dict[str, Any]) -> bool:
        """Write a GSD file and its sidecar; the sidecar's appearance is the commit.

        Returns:
            False if somebody else had committed the same file before.
        """
        path = self.file(kind, key.name)
        if self.entry(kind, key.name) is not None:
            return False
        write_frames(path, frames)
        sidecar = {
            "schema_version": SCHEMA_VERSION,
            "sha256": sha256_of(path),
            "size": path.stat().st_size,
            **key._asdict(),
            "mixture": self.identity["mixture"],
            "temperature": self.identity["temperature"],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        return write_json(path.with_suffix(".json"), sidecar, exclusive=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold the claim on a piece of work; yields whether it was granted."""
        with claim(self.path / "claims" / f"{name}.lock") as granted:
            yield granted

    def role(self, lineage: int) -> str | None:
        """`train`, `validation` or `test`; None where the run does not say (imported data)."""
        settings = self.settings
        return None if settings is None else settings.role(lineage)

    @property
    def expected_segments(self) -> list[SegmentKey]:
        """Every segment that the settings ask for (for imported data: what is there)."""
        settings = self.settings
        if settings is None:
            return [entry.key for entry in self.entries("segments")]
        return [
            SegmentKey(lineage, parent, block)
            for lineage in range(settings.lineages)
            for parent in range(settings.parents)
            for block in range(self.n_blocks(lineage))
        ]

    def n_blocks(self, lineage: int) -> int:
        """Blocks of replicas per parent of a lineage."""
        settings = self.settings
        if settings is None or settings.block is None:
            return 1
        return -(-settings.n_replicas(lineage) // settings.block)

    @property
    def complete(self) -> bool:
        """Whether every expected segment is committed."""
        self.refresh()
        return all(self.entry("segments", key.name) is not None for key in self.expected_segments)

    def refresh(self) -> None:
        """Read `run.json` again: somebody may have let the run grow."""
        self.identity = RunDirectory.open(self.path).identity

    def verify(self) -> int:
        """Check every committed file against its checksum; return how many there are."""
        entries = [*self.entries("parents"), *self.entries("segments")]
        for entry in entries:
            entry.verify()
        return len(entries)

    def prepared(self, engine: str, device: str) -> dict[str, Any] | None:
        """What was measured for an engine on a device, or None while nothing was."""
        path = self._prepared(engine, device)
        return read_json(path) if path.exists() else None

    def record_prepared(self, engine: str, device: str, prepared: dict[str, Any]) -> None:
        """Keep what was measured."""
        write_json(self._prepared(engine, device), {"device": device, **prepared})

    def _prepared(self, engine: str, device: str) -> Path:
        return self.path / "engines" / f"{engine}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"

    def fingerprint(self, lineage: int) -> str:
        """What tells one liquid from another whatever run it is in: the checksum of its parent 0."""
        entry = self.entry("parents", ParentKey(lineage, 0).name)
        return "" if entry is None else str(entry.sidecar["sha256"])

    def report_status(self, name: str, content: dict[str, Any]) -> None:
        """Tell the progress display what a worker is doing; a full disk is no reason to stop for that."""
        try:
            write_json(self.path / "workers" / f"{name}.json", content)
        except StorageError:
            return
