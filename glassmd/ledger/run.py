"""A run directory: the file system is the ledger.

::

    RUN/
      README                          what lies here
      run.json                        identity: mixture, temperature, settings or origin
      parents/L0000-P0000.gsd .json   parent configurations; parent 0 carries its lineage's equilibration report
      structures/L0000-P0000-inherent.gsd .json       what was derived from a parent
      segments/L0000-P0000-B0000.gsd .json            blocks of replicas of a parent
      index/                          what each writer has committed, so that nobody has to look at every file
      requests/                       structures that somebody wants of every parent
      engines/hoomd-gpu-….json        what was measured on a device: systems packed, neighbour list's buffer
      claims/                         locks of work in progress
      workers/                        what each process is doing, for the progress display
      growing.json                    somebody reads frames of a trajectory into it: more is to come
      pause.json                      somebody cannot follow: begin nothing new for a minute
      worth.json                      where labels teach most: in what order to work

An entry counts once its sidecar (JSON with its checksum and its own) has appeared, which names the file with its data.
Names follow from lineage, parent and block, so whoever comes next sees what exists; nothing is produced twice or lost,
and of two writers of one entry the first wins and the second cannot touch it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glassmd.errors import RunError, SegmentError, StorageError
from glassmd.fields import RUN_SCHEMA_VERSION
from glassmd.ledger.entry import Entry
from glassmd.ledger.identity import GROWABLE, RUNTIME, check_same, grown_settings, read_identity
from glassmd.ledger.index import Committed, Index
from glassmd.ledger.keys import KINDS, Key, Kind, ParentKey, SegmentKey, StructureKey, key_of
from glassmd.ledger.parcel import Parcel
from glassmd.mixtures import Mixture
from glassmd.settings import RunSettings, build_settings
from glassmd.storage import claim, read_json, remove_leftovers, sealed, sha256_of, write_bytes, write_json, write_text
from glassmd.trajectory import Frame, write_frames

__all__ = ["PAUSE", "RUNTIME", "Entry", "ParentKey", "RunDirectory", "SegmentKey", "StructureKey"]

PAUSE = 60.0
"""Seconds that a request to pause holds, so that nobody waits for a trainer that has died."""

_README = """This is a run directory of glassmd: isoconfigurational data of a supercooled liquid.

run.json     what was simulated or imported
parents/     configurations that replicas started from
structures/  inherent structures and cages of parents
segments/    replicas of parents
index/       who committed what; may be deleted, it is made again from the .json files

Each .gsd file has a .json file beside it that describes it, with checksums: edit neither.
An entry is removed by deleting its .json file; simulating again makes it anew.
Look at it with `glassmd info`, check every file with `glassmd info --verify`.
GSD files open in OVITO and with the gsd package.
"""


class RunDirectory:
    """A run directory that exists; see :meth:`create` and :meth:`open`.

    Attributes:
        path: The directory.
        identity: Content of `run.json`.
        shortest: √(mσ²/ε), the shortest time that somebody wants to predict; None: the first of its times.
    """

    shortest: float | None = None

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self._settings: tuple[dict[str, Any], RunSettings] | None = None
        self._roles: dict[int, str | None] = {}
        self.index = Index((path, self.home), str(identity["id"]), self._described)

    def __repr__(self) -> str:
        mixture = self.identity["mixture"]
        return f"<{type(self).__name__} {self.path}: {mixture['name']} at T = {self.identity['temperature']:g}>"

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """Open a run directory.

        Raises:
            RunError: There is none, or a newer program wrote it.
        """
        path = Path(path)
        if path.is_file():
            todo = f"try glassmd import {path} --format … --out RUN first"
            raise RunError(f"{path} is a file", "a run directory", todo)
        if not (path / "run.json").is_file():
            raise RunError(
                f"found no run in {path}",
                "a directory with run.json",
                f"try glassmd simulate --out {path} or glassmd import",
            )
        return cls(path, read_identity(path / "run.json"))

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
            "schema_version": RUN_SCHEMA_VERSION,
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
            others = path.is_dir() and any(not found.name.endswith(".tmp") for found in path.iterdir())
            if others and not (path / "run.json").exists():  # else somebody has made the same run meanwhile
                raise RunError(
                    f"{path} is not empty and holds no run",
                    "an empty or new directory",
                    "choose another --out",
                )
            with_chosen = None if settings is None else {**settings.model_dump(), **(chosen or {})}
            write_json(path / "run.json", sealed({**identity, "settings": with_chosen}), exclusive=True)
            write_text(path / "README", _README, exclusive=True)
        run = cls.open(path)
        run._adopt(identity)
        return run

    def _adopt(self, wanted: dict[str, Any]) -> None:
        """Check that `wanted` is this run, and let the run grow."""
        check_same(self.path, self.identity, wanted)
        if self.identity.get("settings") is None or wanted["settings"] is None:
            return
        grown = grown_settings(self.path, self.identity["settings"], wanted["settings"])
        if any(grown[key] != self.identity["settings"].get(key) for key in GROWABLE):
            self.identity = {**self.identity, "settings": grown}
            if self.identity["schema_version"] >= RUN_SCHEMA_VERSION:
                self.identity = sealed(self.identity)
            write_json(self.path / "run.json", self.identity)

    @property
    def home(self) -> Path:
        """Where what is made for a run goes: into it, or where it may only be read into the user's cache directory."""
        if os.access(self.path, os.W_OK):
            return self.path
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "glassmd" / "runs" / str(self.identity["id"])

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
        """Where a committed GSD file lies, unless its sidecar names another."""
        return self._folder(kind) / f"{name}.gsd"

    def _folder(self, kind: Kind) -> Path:
        """Where entries of a kind are written."""
        return (self.home if kind == "structures" else self.path) / kind

    def _sidecar(self, key: Key) -> Path:
        """Where the sidecar of an entry lies: beside the run where that may only be read and does not have it."""
        inside = self.path / key.kind / f"{key.name}.json"
        return inside if key.kind != "structures" or inside.exists() else self._folder(key.kind) / inside.name

    def entry(self, kind: Kind, name: str) -> Entry | None:
        """A committed file, or None while there is none."""
        key = key_of(name)
        if self.index.get(key) is None and not self._sidecar(key).exists():
            return None
        return self._entry(key)

    def poll(self) -> None:
        """Hear of what was committed since the last call; :attr:`index` has it.

        Raises:
            SegmentError: A sidecar is damaged.
        """
        self.index.poll()
        for error in self.index.damaged.values():
            raise error

    def done(self, key: Key) -> bool:
        """Whether an entry is committed, as far as this process has heard or its sidecar is there."""
        return self.index.get(key) is not None or self._sidecar(key).exists()

    def committed(self, key: Key) -> float:
        """When an entry was committed, seconds since the epoch by the clock of the file system.

        Raises:
            FileNotFoundError: It is not.
        """
        return self._sidecar(key).stat().st_mtime

    def entries(self, kind: Kind) -> list[Entry]:
        """Everything committed so far of one kind, in the order of names."""
        self.poll()
        keys = sorted(line.key for line in self.index.log if line.key.kind == kind)
        return [self._entry(key) for key in keys]

    def since(self, position: int) -> tuple[list[Committed], int]:
        """What was heard of from a position in :attr:`index` on, and the position after it; see :meth:`poll`."""
        return self.index.log[position:], len(self.index.log)

    def commit(self, key: Key, frames: list[Frame], facts: dict[str, Any]) -> bool:
        """Write a GSD file and its sidecar; the sidecar's appearance is the commit.

        Returns:
            False if somebody else has committed the same entry before. Theirs is not touched.
        """
        content = {
            "schema_version": RUN_SCHEMA_VERSION,
            "run": self.identity["id"],
            "kind": key.kind,
            **key._asdict(),
            "mixture": self.identity["mixture"],
            "temperature": self.identity["temperature"],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        return self._commit(key, lambda own: write_frames(own, frames), content)

    def adopt(self, parcel: Parcel) -> bool:
        """Commit an entry that was committed to a copy of this run elsewhere, as it is.

        Returns:
            False if somebody else has committed the same entry before. Theirs is not touched.

        Raises:
            SegmentError: It was damaged on its way, or is of another run.
        """
        content = parcel.checked(str(self.identity["id"]), protected=self._protected)
        return self._commit(parcel.key, lambda own: write_bytes(own, parcel.data), content)

    def _commit(self, key: Key, write: Callable[[Path], object], content: Mapping[str, Any]) -> bool:
        """Write the data to a file of its own, then the sidecar that names it."""
        sidecar = self._sidecar(key)
        if sidecar.exists():
            return False
        data = _write_own(self.file(key.kind, key.name), write)
        try:
            described = {**content, "file": data.name, "sha256": sha256_of(data), "size": data.stat().st_size}
            committed = write_json(sidecar, sealed(described), exclusive=True)
        except BaseException as error:
            if not sidecar.exists():  # else it may name these data: what came after the commit failed, or was stopped
                data.unlink(missing_ok=True)
            elif isinstance(error, FileNotFoundError):  # somebody else won, and has tidied up; see remove_leftovers
                return False
            raise
        if committed:
            self.index.add(_committed(key, described))
        else:
            data.unlink(missing_ok=True)  # nobody else's: it was made under a name that was free
        return committed

    def remove_leftovers(self) -> None:
        """Remove what killed processes of this machine left half written, and data that no sidecar will ever name.

        Where an entry is committed, nobody else can commit it any more: its other data are a loser's.
        """
        for root in {self.path, self.home}:
            remove_leftovers(root)
        for kind in KINDS:
            found: dict[str, list[Path]] = {}
            for path in self._folder(kind).glob("L*.gsd"):
                found.setdefault(path.name.split(".")[0], []).append(path)
            for name, files in found.items():
                with suppress(SegmentError, OSError):  # a name that is not ours, a damaged sidecar, a run only read
                    if len(files) > 1 and (entry := self.entry(kind, name)) is not None:
                        for path in set(files) - {entry.path}:
                            path.unlink(missing_ok=True)

    def _described(self, key: Key) -> Committed:
        return _committed(key, self._entry(key).sidecar)

    def _entry(self, key: Key) -> Entry:
        return Entry(
            self._sidecar(key).parent.parent,
            key,
            str(self.identity["id"]),
            self._protected,
        )

    @property
    def _protected(self) -> bool:
        """Whether its sidecars carry their own checksums."""
        return bool(self.identity["schema_version"] >= RUN_SCHEMA_VERSION)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold the claim on a piece of work; yields whether it was granted."""
        with claim(self.home / "claims" / f"{name}.lock") as granted:
            try:
                yield granted
            finally:
                if granted:  # one that is taken again while it is given up costs double work at the most
                    with suppress(OSError):
                        (self.home / "claims" / f"{name}.lock").unlink(missing_ok=True)

    def role(self, lineage: int) -> str | None:
        """`train`, `validation` or `test`; None where the run does not say (most imported data).

        Imported data have roles where they came with them; which of those for training are for validation is then left
        to whoever trains, unless the data say that as well.
        """
        settings = self.settings
        if settings is not None:
            return settings.role(lineage)
        if lineage not in self._roles:
            parents = (line.key for line in self.index.log if isinstance(line.key, ParentKey))
            first = min((key for key in parents if key.lineage == lineage), default=None)
            if first is None:
                return None
            self._roles[lineage] = self._entry(first).sidecar.get("role")
        return self._roles[lineage]

    @property
    def expected_segments(self) -> list[SegmentKey]:
        """Every segment that the settings ask for (for imported data: what is there)."""
        settings = self.settings
        if settings is None:
            return [entry.key for entry in self.entries("segments") if isinstance(entry.key, SegmentKey)]
        return [
            SegmentKey(lineage, parent, block)
            for lineage in range(settings.lineages)
            for parent in range(settings.parents)
            for block in range(self.n_blocks(lineage))
        ]

    @property
    def n_expected_segments(self) -> int:
        """How many they are."""
        settings = self.settings
        if settings is None:
            return self.index.count("segments")
        return settings.parents * sum(self.n_blocks(lineage) for lineage in range(settings.lineages))

    def n_blocks(self, lineage: int) -> int:
        """Blocks of replicas per parent of a lineage."""
        settings = self.settings
        if settings is None or settings.block is None:
            return 1
        return -(-settings.n_replicas(lineage) // settings.block)

    @property
    def complete(self) -> bool:
        """Whether every expected segment is committed, or the budget is spent."""
        self.refresh()
        growing = self.growing  # before the last look
        self.poll()
        if growing:
            return False
        return self.spent or self.index.count("segments") >= self.n_expected_segments

    @property
    def spent(self) -> bool:
        """Whether as many steps are committed as the settings allow."""
        budget = None if self.settings is None else self.settings.budget
        return budget is not None and sum(self.index.steps.values()) >= budget

    @property
    def budget_share(self) -> float | None:
        """How much of the budget is spent, 0 to 1, what equilibration took left out of both; None without one."""
        budget = None if self.settings is None else self.settings.budget
        if budget is None:
            return None
        before = self.index.steps["parents"]
        return min(1.0, (sum(self.index.steps.values()) - before) / max(budget - before, 1))

    def refresh(self) -> None:
        """Read `run.json` again: somebody may have let the run grow."""
        self.identity = read_identity(self.path / "run.json")

    def verify(self) -> int:
        """Check every committed file against its checksum; return how many there are."""
        entries = [entry for kind in KINDS for entry in self.entries(kind)]
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

    def all_prepared(self) -> dict[str, bytes]:
        """What was measured for engines, by name of the file that it is kept in."""
        return {path.name: path.read_bytes() for path in (self.path / "engines").glob("*.json")}

    def write_prepared(self, prepared: Mapping[str, bytes]) -> None:
        """Keep what was measured for engines elsewhere, where nothing was measured here for the same choices."""
        for name, content in prepared.items():
            path = self.path / "engines" / name
            if not path.exists() or read_json(path).get("asked") != json.loads(content).get("asked"):
                write_bytes(path, content)

    def _prepared(self, engine: str, device: str) -> Path:
        return self.path / "engines" / f"{engine}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"

    def fingerprint(self, lineage: int) -> str:
        """What tells one liquid from another whatever run it is in: the checksum of its parent 0."""
        entry = self.entry("parents", ParentKey(lineage, 0).name)
        return "" if entry is None else str(entry.sidecar["sha256"])

    def tell_worth(self, of_parents: Mapping[str, float], of_lineages: Mapping[str, float]) -> None:
        """Say how much a replica of a parent would teach: whoever simulates begins with those that teach most.

        Args:
            of_parents: By name of a parent: variance of what a learner does not know over that between replicas.
            of_lineages: The same by number of a lineage, for parents that are not among them.
        """
        with suppress(StorageError):
            write_json(self.home / "worth.json", {"parents": dict(of_parents), "lineages": dict(of_lineages)})

    def worth(self) -> tuple[dict[str, float], dict[str, float]] | None:
        """What :meth:`tell_worth` was told last; None where nobody has said anything."""
        with suppress(OSError, RunError, KeyError, TypeError, ValueError, AttributeError):
            found = read_json(self.home / "worth.json")
            parents, lineages = ({k: float(x) for k, x in found[kind].items()} for kind in ("parents", "lineages"))
            return parents, lineages
        return None

    def grow(self) -> None:
        """Say that more is to come for :data:`PAUSE` seconds, so that nobody waits for a reader that has died."""
        with suppress(StorageError):
            write_json(self.home / "growing.json", {})

    def grown(self) -> None:
        """Nothing more is to come."""
        (self.home / "growing.json").unlink(missing_ok=True)

    @property
    def growing(self) -> bool:
        """Whether somebody reads frames of a trajectory that is still written into it."""
        with suppress(OSError):
            return time.time() - (self.home / "growing.json").stat().st_mtime < PAUSE
        return False

    def pause(self, why: str) -> None:
        """Ask whoever simulates to begin nothing new for :data:`PAUSE` seconds; a full disk is no reason to stop."""
        with suppress(StorageError):
            write_json(self.home / "pause.json", {"why": why})

    def unpause(self) -> None:
        """Nothing is asked for any more."""
        (self.home / "pause.json").unlink(missing_ok=True)

    @property
    def paused(self) -> str | None:
        """Why nothing new should be begun now; None where nobody has asked for that within :data:`PAUSE` seconds."""
        path = self.home / "pause.json"
        with suppress(OSError, RunError, KeyError):
            if time.time() - path.stat().st_mtime < PAUSE:
                return str(read_json(path)["why"])
        return None


def _committed(key: Key, sidecar: Mapping[str, Any]) -> Committed:
    return Committed(key, int(sidecar.get("steps", 0)), len(sidecar.get("replicas", ())))


def _write_own(final: Path, write: Callable[[Path], object]) -> Path:
    """Write a file that nobody else writes: `final` where that is free, else a name of its own."""
    own = final.with_name(f"{final.stem}.{secrets.token_hex(4)}.gsd")
    write(own)
    try:
        os.link(own, final)
    except OSError:
        return own
    own.unlink(missing_ok=True)
    return final
