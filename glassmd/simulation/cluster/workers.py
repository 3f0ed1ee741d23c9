"""Simulating actors of a Ray cluster, as whoever gives them work has them: each is started, works, or is lost."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayError

from glassmd.errors import DeviceLostError, RunError, raised_elsewhere
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.activity import Activity
from glassmd.simulation.cluster.connection import require_resources
from glassmd.simulation.cluster.simulator import Done, Seen, Simulator, Start
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.tasks import Task

__all__ = ["RemoteWorker", "State", "WorkerLostError", "lives", "needs_of", "room", "same_release"]

_THREADS = 4  # of an actor: one works, the others look after it


class WorkerLostError(Exception):
    """The process or the machine of a worker is gone."""


class State(Enum):
    """What a worker waits for."""

    STARTING = "a machine"
    OPENING = "its engine"
    IDLE = "work"
    WORKING = "the end of its work"


def needs_of(settings: RunSettings) -> tuple[float, float]:
    """Cores and GPUs that a worker needs: as asked for, else a GPU where the cluster has some that the engine may use.

    Raises:
        EngineError: No machine of the cluster has so many.
    """
    gpus = settings.worker_gpus
    if gpus is None:
        there = ray.available_resources().get("GPU", 0.0) > 0  # a trainer may have the only one
        wanted = settings.device == "gpu" or (there and settings.device == "auto" and settings.engine != "lammps")
        gpus = 1.0 if wanted else 0.0
    require_resources(settings.worker_cpus, gpus, "a worker")
    return float(settings.worker_cpus), gpus


def room(cpus: float, gpus: float) -> int:
    """Workers that the cluster has room for now, beside those that are there."""
    free = ray.available_resources()
    found = free.get("CPU", 0.0) // cpus
    return int(min(found, free.get("GPU", 0.0) // gpus) if gpus else found)


def lives(node: str) -> bool:
    """Whether a machine is part of the cluster, as far as the cluster knows: it takes seconds to miss one."""
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def same_release(told: dict[str, Any]) -> None:
    """Refuse a machine with another release of glassmd.

    Args:
        told: `version` and `host`.

    Raises:
        RunError: It has one.
    """
    if told["version"] != version("glassmd"):
        raise RunError(
            f"found glassmd {told['version']} on {told['host']}",
            f"{version('glassmd')}, as here",
            "install the same release on every machine",
        )


class _Engine:
    """What an :class:`Activity` tells of an engine somewhere else."""

    def __init__(self) -> None:
        self.name, self.device, self.replica_steps = "", "", 0


@dataclass(eq=False)
class RemoteWorker:
    """An actor that simulates.

    Args:
        run: The run.
        settings: Of the run, with the run-time settings of now.
        name: Of the worker.
        cpus: Cores that it needs.
        gpus: GPUs that it needs.

    Attributes:
        state: What it waits for.
        batch: The names of what it works on.
        claims: On that.
        packed: Systems that its engine takes at once.
        node: Number of its machine in the cluster; empty while it has none.
    """

    run: RunDirectory
    settings: RunSettings
    name: str
    cpus: float
    gpus: float
    state: State = State.STARTING
    batch: list[str] = field(default_factory=list)
    claims: ExitStack = field(default_factory=ExitStack)
    packed: int = 1
    node: str = ""
    _looking: Any = None
    _host: str = ""

    def __post_init__(self) -> None:
        remote: Any = ray.remote
        kind = remote(num_cpus=self.cpus, num_gpus=self.gpus, max_concurrency=_THREADS, max_restarts=0)(Simulator)
        self._actor = kind.remote()
        self._engine = _Engine()
        self._activity: Activity | None = None
        self.waits_for = self._actor.hello.options(name="a worker starts").remote()

    def answer(self) -> Done | None:
        """Take what it waited for, which is there; what a batch came to, where that is it.

        Raises:
            GlassmdError: It cannot be used.
            WorkerLostError: It is gone.
        """
        found = self._get(self.waits_for)
        self.waits_for = None
        if self.state is State.STARTING:
            same_release(found)
            self._host, self.node = found["host"], found["node"]
            told = self.run.identity, self.settings.model_dump(exclude={"cluster"})
            self.state, self.waits_for = State.OPENING, self._actor.open.options(name="an engine opens").remote(*told)
            return None
        self._looking = None
        if self.state is State.OPENING:
            self._refuse(found.get("error"))
            self.packed = int(found["packed"])
            self._engine.name, self._engine.device = found["name"], f"{found['device']} of {self._host}"
            self._activity = Activity(self.run, self.name, self._engine)
            self.state = State.IDLE
            return None
        self.state, self.batch, done = State.IDLE, [], Done(*found)
        return done

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayError as error:
            if "ModuleNotFoundError" in str(error):  # of the module that an actor's class lives in
                raise RunError(
                    "found a machine of the cluster without glassmd, or with another release of it",
                    f"glassmd {version('glassmd')}, as here",
                    "install the same release on every machine",
                ) from error
            raise WorkerLostError(str(error)) from error

    def _refuse(self, why: dict[str, str] | None) -> None:
        """Raise what a worker was told to raise."""
        if why is None:
            return
        error = raised_elsewhere({**why, "found": f"{why['found']} (on {self._host})"})
        if isinstance(error, DeviceLostError):
            raise WorkerLostError(str(error)) from error
        raise error

    def begin(self, batch: list[Task], start: Start, what: str) -> None:
        """Have it do a batch of tasks."""
        self.batch, self.state = start.names, State.WORKING
        self.waits_for = self._actor.work.options(name=f"{batch[0].activity} {what}").remote(start)
        if self._activity is not None:
            self._activity.begin(what, batch[0].activity)

    def idle(self, why: str) -> None:
        """It has nothing to do."""
        if self._activity is not None:
            self._activity.begin(why)

    def tell(self) -> dict[str, bytes]:
        """Write down what it does, if it is time to; equilibrations that it has kept since the last call."""
        if self._activity is None:
            return {}
        self._activity.tell()
        if self.state is not State.WORKING:
            return {}
        if self._looking is None:
            self._looking = self._actor.look.options(name="progress").remote()
            return {}
        ready, _ = ray.wait([self._looking], timeout=0)
        if not ready:
            return {}
        try:
            seen = Seen(*ray.get(self._looking))
        except RayError:  # its work will say so
            return {}
        finally:
            self._looking = None
        self._engine.replica_steps = seen.steps
        self._activity.lineages_are({k: LineageProgress(**told) for k, told in seen.lineages.items()})
        return seen.unfinished

    def refuse(self, done: Done) -> None:
        """Raise what ended a batch.

        Raises:
            GlassmdError: What it was.
            WorkerLostError: It was its device.
        """
        self._refuse(done.error)

    def ask_to_stop(self) -> None:
        """It should give back what it has."""
        self._actor.stop.options(name="stop").remote()

    def end(self) -> None:
        """It is needed no more."""
        self.claims.close()
        if self._activity is not None:
            self._activity.end()
        with suppress(RayError, ValueError):  # it may be gone
            ray.kill(self._actor)
