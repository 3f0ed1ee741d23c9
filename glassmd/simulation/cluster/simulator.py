"""What simulates on a machine of a cluster: a process with a mirror of the run and an engine of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from glassmd.errors import GlassmdError, Interrupted
from glassmd.ledger.keys import key_of
from glassmd.ledger.mirror import mirror
from glassmd.ledger.parcel import Parcel
from glassmd.settings import RunSettings, build_settings
from glassmd.simulation.parents import unfinished_file
from glassmd.simulation.preparation import available_cores, engine_of, prepared_engine
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.structures import Request
from glassmd.simulation.tasks import Task, execute
from glassmd.storage import write_bytes

__all__ = ["Done", "Opened", "Seen", "Simulator", "Start", "who_is_there"]


class Start(NamedTuple):
    """What a batch of tasks starts from.

    Attributes:
        names: Of the entries to make.
        parcels: Entries that they start from.
        requests: By the name at the end of a structure's key: how it is made (JSON types only).
        unfinished: By name of a parent: its equilibration as far as it was kept, the bytes of a file.
    """

    names: list[str]
    parcels: list[Parcel]
    requests: dict[str, dict[str, Any]]
    unfinished: dict[str, bytes]


class Opened(NamedTuple):
    """An engine that is open.

    Attributes:
        name: Of the engine.
        device: It computes on.
        packed: Systems that it takes at once.
        prepared: By name of a file: what was measured for engines of the run.
    """

    name: str
    device: str
    packed: int
    prepared: dict[str, bytes]


class Done(NamedTuple):
    """What became of a batch.

    Attributes:
        parcels: The entries that were made.
        steps: By name of an entry that was made: steps of single systems.
        refused: By name: why it was not made, as :meth:`glassmd.errors.GlassmdError.to_dict` says it.
        unfinished: As in :class:`Start`, of what was stopped or put aside.
        error: Why everything ended; None where nothing did. A stop is no error.
    """

    parcels: list[Parcel]
    steps: dict[str, int]
    refused: dict[str, dict[str, str]]
    unfinished: dict[str, bytes]
    error: dict[str, str] | None


class Seen(NamedTuple):
    """How far a batch is.

    Attributes:
        steps: Of single systems that the engine has evolved since it was opened.
        lineages: Those that are equilibrated now, by number (JSON types only).
        unfinished: As in :class:`Start`, of those that were kept since the last look.
    """

    steps: int
    lineages: dict[int, dict[str, Any]]
    unfinished: dict[str, bytes]


def who_is_there() -> dict[str, Any]:
    """What an actor says of its machine: `version` of glassmd, `host` and `node`, its number in the cluster."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return {"version": version("glassmd"), "host": os.uname().nodename, "node": node}


class Simulator:
    """Simulates what it is given; made an actor by whoever has Ray.

    One thread works while others look after it. Nothing is shared with other machines but what goes through calls, and
    nothing stays on this one.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lineages: dict[int, LineageProgress] = {}
        self._unfinished: list[Path] = []
        self._kept: dict[Path, float] = {}

    def hello(self) -> dict[str, Any]:
        """See :func:`who_is_there`."""
        return who_is_there()

    def open(self, identity: Mapping[str, Any], settings: Mapping[str, Any], prepared: Mapping[str, bytes]) -> Opened:
        """Open the engine of a run.

        Args:
            identity: Of the run.
            settings: Of the run, with the run-time settings of now (JSON types only).
            prepared: By name of a file: what was measured for engines of the run before.

        Raises:
            EngineError: The engine or its device cannot be had.
        """
        self._identity = identity
        chosen = build_settings(RunSettings, settings, "")
        sharing = max(1, available_cores() // chosen.worker_cpus)  # of this machine: each has its own cores
        chosen = chosen.model_copy(update={"workers": sharing})
        with mirror(identity) as here:
            here.run.write_prepared(prepared)
            if here.run.settings is None:  # imported data: nothing was measured for them
                self._engine = engine_of(chosen)
            else:
                self._engine = prepared_engine(here.run, chosen, check=self._check)
            engine = self._engine
            return Opened(engine.name, engine.device, engine.packed, here.run.all_prepared())

    def work(self, start: Start) -> Done:
        """Do a batch of tasks of one activity; what was made before a stop or an error is given back."""
        tasks = [Task(key_of(name)) for name in start.names]
        requests = {name: Request.from_dict(told) for name, told in start.requests.items()}
        steps: dict[str, int] = {}
        refused: dict[str, dict[str, str]] = {}
        error = None
        with mirror(self._identity) as here:
            try:
                here.receive(start.parcels)
                firsts = [task.name for task in tasks if task.activity == "equilibration"]
                self._unfinished = [unfinished_file(here.run, name) for name in firsts]
                for name, content in start.unfinished.items():
                    write_bytes(unfinished_file(here.run, name), content, durable=False)
                for outcome in execute(tasks, here.run, self._engine, self._check, requests, self._tell):
                    if outcome.refused is None:
                        steps[outcome.key.name] = outcome.steps
                    else:
                        refused[outcome.key.name] = outcome.refused.to_dict()
            except Interrupted:
                pass
            except GlassmdError as reason:
                error = reason.to_dict()
            self._kept.clear()  # nobody may have had the answer to the last look
            found = Done(here.made(), steps, refused, self._changed(), error)
            self._unfinished = []
            self._lineages.clear()
        return found

    def look(self) -> Seen:
        """How far it is."""
        lineages = {number: asdict(progress) for number, progress in list(self._lineages.items())}
        return Seen(self._engine.replica_steps, lineages, self._changed())

    def stop(self) -> None:
        """End what is done now, and everything that is still asked for, soon."""
        self._stop.set()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped by whoever asked for the work")

    def _tell(self, number: int, progress: LineageProgress) -> None:
        self._lineages[number] = progress

    def _changed(self) -> dict[str, bytes]:
        """Equilibrations that were kept since the last call."""
        found = {}
        for path in self._unfinished:
            try:
                changed = path.stat().st_mtime
                if changed != self._kept.get(path):
                    found[path.name.split(".")[0]], self._kept[path] = path.read_bytes(), changed
            except OSError:  # none yet, or it is finished
                continue
        return found
