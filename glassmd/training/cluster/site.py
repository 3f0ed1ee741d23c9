"""What trains on a machine of a cluster: mirrors of the runs, a model directory, and a training process beside them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from glassmd.ledger.mirror import mirror
from glassmd.ledger.parcel import Parcel
from glassmd.ledger.run import PAUSE
from glassmd.simulation.apart import start_process, told
from glassmd.simulation.cluster.simulator import who_is_there
from glassmd.storage import sealed, write_bytes, write_json

__all__ = ["ASKED", "Files", "News", "TrainingSite", "changed_files"]

_HOLDS_A_WHILE = "pause.json"

ASKED = (_HOLDS_A_WHILE, "worth.json")
"""Files of a run by which a trainer speaks to whoever simulates."""

_OWN = (".lock", "run", "encodings")
"""What lies in a model directory and is nobody else's business."""

Files = dict[str, bytes]
"""By path relative to a folder."""


class News(NamedTuple):
    """What has happened at a site since somebody looked.

    Attributes:
        files: Of the model directory, new or changed, the oldest first.
        names: Of all of them.
        asked: By run: what the trainer asks of whoever simulates; None where it takes that back.
        made: By run: entries that were made here.
        code: Exit code of the training; None while it is at work.
        error: Why it ended, as :meth:`glassmd.errors.GlassmdError.to_dict` says it.
        result: What it returned.
    """

    files: Files
    names: list[str]
    asked: list[dict[str, bytes | None]]
    made: list[list[Parcel]]
    code: int | None = None
    error: dict[str, str] | None = None
    result: dict[str, Any] | None = None


def changed_files(folder: Path, known: dict[str, tuple[int, int]]) -> tuple[Files, list[str]]:
    """Files below a folder that are new or changed, the oldest first, and the names of all.

    Args:
        folder: Model directory; what is of its process alone is left out.
        known: Time and size by name as they were; brought up to date.
    """
    seen: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name.split("/")[0] not in _OWN and not path.name.endswith(".tmp"):
            with suppress(OSError):  # gone meanwhile
                if path.is_file():
                    seen[name] = (path.stat().st_mtime_ns, path.stat().st_size)
    files: Files = {}
    for name in sorted(seen, key=lambda one: seen[one]):
        if seen[name] != known.get(name):
            with suppress(OSError):
                files[name], known[name] = (folder / name).read_bytes(), seen[name]
    return files, list(seen)


class TrainingSite:
    """Trains on mirrors of runs; made an actor by whoever has Ray."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[str, tuple[int, int]] = {}
        self._error: dict[str, str] | None = None

    def hello(self) -> dict[str, Any]:
        """Who is there: release, machine, its number in the cluster, its address and a port of it that is free."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        return {**who_is_there(), "address": ray.util.get_node_ip_address(), "port": port}

    def open(self, identities: Sequence[Mapping[str, Any]], files: Files) -> None:
        """Have mirrors of runs, and a model directory as it was saved elsewhere.

        Args:
            identities: Of the runs.
            files: Of the model directory.
        """
        self._mirrors = [self._stack.enter_context(mirror(identity)) for identity in identities]
        self._folder = self._mirrors[0].run.path / "training"
        self._out = self._folder / "model"
        for name, content in files.items():
            write_bytes(self._out / name, content, durable=False)
        changed_files(self._out, self._known)

    def receive(self, number: int, identity: Mapping[str, Any], parcels: Sequence[Parcel], files: Files) -> None:
        """Have what is new of a run.

        Args:
            number: Of the run.
            identity: Of the run, which may have grown.
            parcels: Entries.
            files: Of the folder with requests.
        """
        here = self._mirrors[number]
        for name, content in files.items():
            write_bytes(here.run.path / "requests" / name, content, durable=False)
        here.receive(parcels)
        if identity != here.run.identity:
            here.run.identity = dict(identity)
            write_json(here.run.path / "run.json", sealed(identity), durable=False)

    def start(self, what: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Begin to train.

        Args:
            what: `settings`, `follow` and `held_out` (JSON types only).
            environment: Variables that the process should have, such as those of torch.distributed.
        """
        asked = {
            **what,
            "runs": [str(one.run.path) for one in self._mirrors],
            "out": str(self._out),
            "result": str(self._folder / "result.json"),
            "parent": os.getpid(),
        }
        write_json(self._folder / "what.json", asked, durable=False)
        module = "glassmd.training.apart"
        with (self._folder / "log").open("ab") as log:
            self._process, self._report = start_process([module, str(self._folder / "what.json")], log, environment)

    def look(self) -> News:
        """What has happened since the last call."""
        code = None if self._process is None else self._process.poll()  # before the files, which are then all there
        files, names = changed_files(self._out, self._known)
        asked = []
        for here in self._mirrors:
            found: dict[str, bytes | None] = dict.fromkeys(ASKED)
            for name in ASKED:
                path = here.run.path / name
                with suppress(OSError):
                    if name != _HOLDS_A_WHILE or time.time() - path.stat().st_mtime < PAUSE:
                        found[name] = path.read_bytes()
            asked.append(found)
        made = [here.made() for here in self._mirrors]
        if code is None:
            return News(files, names, asked, made)
        if self._error is None and code not in (0, 75):
            reason = told(self._report)
            self._error = None if reason is None else reason.to_dict()
        result = None
        with suppress(OSError, ValueError):
            result = json.loads((self._folder / "result.json").read_text(encoding="utf-8"))
        return News(files, names, asked, made, code, self._error, result)

    def stop(self) -> None:
        """Ask the training to stop; :meth:`look` tells when it has."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def last_words(self) -> str:
        """The end of what the process printed."""
        with suppress(OSError):
            return (self._folder / "log").read_text(errors="replace")[-2000:]
        return ""

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)
