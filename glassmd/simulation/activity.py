"""Who is at work on a run and at what: each worker says so in a file of its own, `RUN/workers/NAME.json`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from glassmd.errors import RunError
from glassmd.ledger.run import RunDirectory
from glassmd.simulation.protocol import LineageProgress
from glassmd.status import RecentRate, StatusFile, at_work
from glassmd.storage import read_json

__all__ = ["Activity", "WorkerStatus", "workers_of"]


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker says of itself.

    Attributes:
        task: What it does: the name of an entry and how many are made with it, or what it waits for.
        activity: What kind of entry: `equilibration`, `spacing`, `replicas` or a structure; empty while it waits.
        since: When it began that, seconds since the epoch.
        steps: Steps of single systems that it has simulated.
        seconds: Since it began to work.
        rate: Replica-steps per second over the last minute; None at the beginning.
        engine: What it simulates with, and on what.
        lineages: Those that it equilibrates now, by number.
        pid: Of its process.
        host: Its machine.
        started: When its process began, seconds since the epoch.
        updated: When it said this.
        name: Of its file.
        at_work: Whether it is still there; else it ended without a word.
    """

    task: str
    activity: str
    since: float
    steps: int
    seconds: float
    rate: float | None
    engine: str
    pid: int
    host: str
    started: float
    updated: float
    lineages: dict[int, LineageProgress] = field(default_factory=dict)
    name: str = ""
    at_work: bool = True


class EngineAtWork(Protocol):
    """What is told of an engine, which may be on another machine."""

    name: str
    device: str
    replica_steps: int


class Activity:
    """Says what a worker is doing, about once a second.

    Args:
        run: The run.
        name: Of the worker.
        engine: What it simulates with.
    """

    def __init__(self, run: RunDirectory, name: str, engine: EngineAtWork) -> None:
        self._file = StatusFile(run.home / "workers" / f"{name}.json")
        self._engine, self._first = engine, engine.replica_steps
        self._began, self._rate = time.monotonic(), RecentRate()
        self._task, self._activity, self._since = "", "", time.time()
        self._lineages: dict[int, LineageProgress] = {}

    def begin(self, task: str, activity: str = "") -> None:
        """It does something else now, unless it is the same."""
        if task != self._task:
            self._task, self._activity, self._since = task, activity, time.time()
            self._lineages.clear()
        self.tell()

    def left(self, task: str) -> None:
        """Part of what it does is done; this is left."""
        self._task = task
        self.tell()

    def lineage(self, number: int, progress: LineageProgress) -> None:
        """How far one of the lineages is that it equilibrates."""
        self._lineages[number] = progress

    def lineages_are(self, lineages: Mapping[int, LineageProgress]) -> None:
        """How far all of those are that it equilibrates, by number."""
        self._lineages = dict(lineages)

    def ended(self, number: int) -> None:
        """A lineage is not equilibrated by this worker any more."""
        self._lineages.pop(number, None)

    def tell(self) -> None:
        """Write it down if it is time to."""
        self._file.offer(self._content)

    def end(self) -> None:
        """The worker ends."""
        self._file.remove()

    def _content(self) -> dict[str, Any]:
        steps = self._engine.replica_steps - self._first
        return {
            "task": self._task,
            "activity": self._activity,
            "since": self._since,
            "steps": steps,
            "seconds": time.monotonic() - self._began,
            "rate": self._rate.of(steps),
            "engine": f"{self._engine.name} on {self._engine.device}",
            "lineages": {number: asdict(progress) for number, progress in self._lineages.items()},
        }


_STATUS = TypeAdapter(WorkerStatus)


def workers_of(run: RunDirectory) -> tuple[list[WorkerStatus], list[str]]:
    """What the workers of a run say of themselves, dead ones included; what cannot be read of it, in a line each."""
    found, problems = [], []
    for path in sorted((run.home / "workers").glob("*.json")):
        try:
            content = read_json(path)
            status = _STATUS.validate_python({**content, "name": path.stem})
            found.append(replace(status, at_work=at_work(content)))
        except (RunError, ValidationError, OverflowError):
            with suppress(OSError):
                if path.exists():  # else its worker has ended meanwhile
                    problems.append(f"{path} is no status of a worker: it is damaged, or of another release")
    return found, problems
