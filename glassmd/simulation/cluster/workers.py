"""Simulating actors of a Ray cluster, as whoever gives them work has them: each is started, works, or is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError

from glassmd.errors import DeviceLostError, GlassmdError, RunError, raised_elsewhere
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.activity import Activity
from glassmd.simulation.cluster.calls import LostError, answer
from glassmd.simulation.cluster.connection import require_resources
from glassmd.simulation.cluster.simulator import Done, Opened, Seen, Simulator, Start
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.tasks import Task

__all__ = [
    "TRAINERS", "RemoteWorker", "State", "leave_for", "leave_for_trainers", "needs_of", "room", "same_release",
]  # fmt: skip

TRAINERS = "glassmd trainers of "
"""How the name of a placement group begins that holds the machines of trainers."""

_THREADS = 4  # of an actor: one works, the others look after it


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


Resources = dict[str, float]
"""By name, such as CPU."""


def leave_for_trainers(held: Sequence[tuple[str, Resources]]) -> set[int] | None:
    """Which workers have to leave their machines so that trainers that wait get theirs.

    Args:
        held: By worker: its machine, and what it has there.

    Returns:
        Their numbers, none where there is room; None where nobody waits, or has to wait for somebody else.
    """
    groups = [one for one in ray.util.placement_group_table().values() if one["name"].startswith(TRAINERS)]
    waiting = [list(one["bundles"].values()) for one in groups if one["state"] in ("PENDING", "RESCHEDULING")]
    if not waiting:
        return None
    found = [leave_for(bundles, available_resources_per_node(), held) for bundles in waiting]
    return next((one for one in found if one is not None), None)


def leave_for(
    bundles: Sequence[Resources], free: Mapping[str, Resources], held: Sequence[tuple[str, Resources]]
) -> set[int] | None:
    """The fewest workers, those of one machine first, without which all bundles have room; None where none are enough.

    Args:
        bundles: What trainers wait for.
        free: By machine.
        held: As for :func:`leave_for_trainers`.

    Example:
        >>> leave_for([{"CPU": 2.0}], {"a": {"CPU": 0.0}}, [("a", {"CPU": 1.0})] * 3)
        {0, 1}
        >>> leave_for([{"GPU": 1.0}], {"a": {"CPU": 2.0}}, [("a", {"CPU": 1.0})]) is None
        True
    """

    def fit(leaving: set[int]) -> bool:
        left = {node: dict(there) for node, there in free.items()}
        for number in leaving:
            node, own = held[number]
            for name, amount in own.items():
                left.setdefault(node, {})[name] = left.get(node, {}).get(name, 0.0) + amount
        for bundle in sorted(bundles, key=lambda one: -sum(one.values())):
            place = next((one for one in left.values() if all(one.get(k, 0.0) >= x for k, x in bundle.items())), None)
            if place is None:
                return False
            for name, amount in bundle.items():
                place[name] -= amount
        return True

    leaving: set[int] = set()
    for number in sorted(range(len(held)), key=lambda one: held[one][0]):
        if fit(leaving):
            break
        leaving.add(number)
    if not fit(leaving):
        return None
    for number in sorted(leaving):
        if fit(leaving - {number}):
            leaving.remove(number)
    return leaving


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
        leaving: Whether it was asked to give back what it has and will get no more.
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
    leaving: bool = False
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
            LostError: It is gone.
        """
        found = answer(self.waits_for, self._host)
        self.waits_for = None
        if self.state is State.STARTING:
            same_release(found)
            self._host, self.node = found["host"], found["node"]
            told = self.run.identity, self.settings.model_dump(exclude={"cluster"}), self.run.all_prepared()
            self.state, self.waits_for = State.OPENING, self._actor.open.options(name="an engine opens").remote(*told)
            return None
        self._looking = None
        if self.state is State.OPENING:
            opened = Opened(*found)
            if self.run.settings is not None:
                self.run.write_prepared(opened.prepared)
            self.packed = opened.packed
            self._engine.name, self._engine.device = opened.name, f"{opened.device} of {self._host}"
            self._activity = Activity(self.run, self.name, self._engine)
            self.state = State.IDLE
            return None
        self.state, self.batch, done = State.IDLE, [], Done(*found)
        return done

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
            seen = Seen(*answer(self._looking))
        except (GlassmdError, LostError):  # its work will say so
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
            LostError: It was its device.
        """
        if done.error is None:
            return
        error = raised_elsewhere({**done.error, "found": f"{done.error['found']} (on {self._host})"})
        if isinstance(error, DeviceLostError):
            raise LostError(str(error)) from error
        raise error

    def ask_to_stop(self) -> None:
        """It should give back what it has, and gets no more."""
        self.leaving = True
        self._actor.stop.options(name="stop").remote()

    def end(self) -> None:
        """It is needed no more."""
        self.claims.close()
        if self._activity is not None:
            self._activity.end()
        with suppress(RayError, ValueError):  # it may be gone
            ray.kill(self._actor)
