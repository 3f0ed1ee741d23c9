"""A run as small pieces of work, each committed on its own, and several of a kind done together.

Lineages are equilibrated liquids; parent 0 of a lineage is the end of its equilibration and parent k+1 the end
of replica 0 of parent k, evolved further if parents are to lie further apart.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from glassmd.engines.base import Engine
from glassmd.ledger.keys import Key
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey, StructureKey
from glassmd.simulation.batch import Check, Outcome, settings_of
from glassmd.simulation.block import replicas_of
from glassmd.simulation.isoconfigurational import run_blocks
from glassmd.simulation.parents import equilibrate_lineages, make_next_parents
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.structures import Request, make_structures, requests_of

__all__ = ["Agenda", "Task", "Wanted", "execute", "tasks_of"]


Rank = tuple[float, int, int, int]

_ALL = 2**20
"""More systems than any engine takes at once."""


@dataclass(frozen=True)
class Wanted:
    """Some structures of some parents.

    Attributes:
        requests: Which structures, and how they are made.
        parents: Of which parents.
    """

    requests: tuple[Request, ...]
    parents: frozenset[ParentKey]

    def missing(self, run: RunDirectory) -> int:
        """How many of them are not committed."""
        return sum(not run.done(request.key(parent)) for request in self.requests for parent in self.parents)

    def to_json(self) -> str:
        """For :meth:`from_json`."""
        return json.dumps({"requests": [one.to_dict() for one in self.requests], "parents": sorted(self.parents)})

    @classmethod
    def from_json(cls, text: str) -> Wanted:
        """What :meth:`to_json` gave."""
        content = json.loads(text)
        requests = tuple(Request.from_dict(one) for one in content["requests"])
        return cls(requests, frozenset(ParentKey(*numbers) for numbers in content["parents"]))


@dataclass(frozen=True)
class Task:
    """A piece of work that commits one entry: a parent, a structure of a parent or a block of its replicas."""

    key: ParentKey | StructureKey | SegmentKey

    @property
    def name(self) -> str:
        """Name of the files that it commits and of its claim."""
        return self.key.name

    @property
    def activity(self) -> str:
        """What is done; tasks of one activity can be done together."""
        if isinstance(self.key, SegmentKey):
            return "replicas"
        if isinstance(self.key, StructureKey):
            return self.key.structure
        return "equilibration" if self.key.parent == 0 else "spacing"

    def systems(self, run: RunDirectory, requests: Mapping[str, Request]) -> int:
        """How many systems it evolves at once; for `requests` see :attr:`Agenda.requests`."""
        if isinstance(self.key, StructureKey):
            protocol = requests[self.key.structure].protocol
            return _ALL if protocol is None else protocol.replicas  # minima are found one after the other
        return len(replicas_of(self.key, settings_of(run))) if isinstance(self.key, SegmentKey) else 1

    @property
    def after(self) -> ParentKey | SegmentKey | None:
        """The entry that it starts from; None where it starts from nothing."""
        key = self.key
        if not isinstance(key, ParentKey):
            return key.of
        return None if key.parent == 0 else SegmentKey(key.lineage, key.parent - 1, 0)


class Worth:
    """What a learner would gain from a task for the steps that it takes.

    A learner that is uncertain of a parent's propensity with variance s², where replicas differ with variance v, gains
    ½ ln(1 + n s²/v) from n replicas, if its uncertainty is Gaussian and that of each particle its own: a replica is
    worth what it adds to that. A parent is worth its first replica, with the price of its structures.

    Args:
        run: Of the tasks.
        told: s²/v of parents and of lineages; see :meth:`RunDirectory.tell_worth`.
    """

    def __init__(self, run: RunDirectory, told: tuple[Mapping[str, float], Mapping[str, float]]) -> None:
        self.told = told
        self._parents, self._lineages = told
        self._settings = settings_of(run)
        known = [*self._lineages.values()] or [*self._parents.values()] or [1.0]
        self._usual = sum(known) / len(known)
        made = {line.key.of for line in run.index.log if isinstance(line.key, StructureKey)}
        label = self._settings.steps()[-1]
        self._structures = run.index.steps["structures"] / len(made) / label if made else 1.0

    def of(self, key: Key) -> float:
        """Gain per replica-step, in units of a replica's; more than any where nothing can be compared.

        That is so for lineages that are held out, which say how good a learner is, and for first parents.
        """
        parent = key if isinstance(key, ParentKey) else key.of
        if self._settings.role(key.lineage) != "train" or (isinstance(key, ParentKey) and key.parent == 0):
            return math.inf
        usual = self._lineages.get(str(key.lineage), self._usual)
        ratio = self._parents.get(parent.name, usual)
        if not isinstance(key, SegmentKey):
            return 0.5 * math.log1p(usual) / (1 + self._structures)
        replicas = replicas_of(key, self._settings)
        gain = 0.5 * (math.log1p(replicas.stop * ratio) - math.log1p(replicas.start * ratio))
        return gain / len(replicas)


class Agenda:
    """What is left to do of a run, kept up to date at a cost that follows what is new.

    Args:
        run: The run.
        only: Make these structures and nothing else, instead of what the settings and requests ask for.

    Where a learner says what tasks are worth, those that teach most for their steps come first; see :class:`Worth`.

    Attributes:
        requests: By the name at the end of a structure's key: how it is made.
    """

    def __init__(self, run: RunDirectory, only: Wanted | None = None) -> None:
        self._run, self._only = run, only
        self._rank: dict[Key, Rank] = {}
        self._even: dict[Key, tuple[int, int, int]] = {}
        self._worth: Worth | None = None
        self._tasks: dict[Key, Task] = {}
        self._waiting: dict[Key, list[Task]] = {}
        self._ready: list[tuple[Rank, Task]] = []
        self._asked: set[Request] = set()
        self._position = 0
        self._parents: list[ParentKey] = []
        self.requests: dict[str, Request] = {}
        run.poll()
        for number, task in enumerate(tasks_of(run) if only is None else ()):
            self._enter(task, (task.key.parent, 1, number))
        if only is not None:
            self.requests = {request.name: request for request in only.requests}
        self.look()

    def __len__(self) -> int:
        """Tasks that are left."""
        return len(self._tasks)

    def look(self) -> None:
        """Hear of what was committed and of what was asked for."""
        self._run.poll()
        lines, self._position = self._run.since(self._position)
        parents = None if self._only is None else self._only.parents
        heard = (line.key for line in lines if isinstance(line.key, ParentKey))
        new = [parent for parent in heard if parents is None or parent in parents]
        for line in lines:
            self.finished(line.key)
        self._look_for_requests()
        for parent in new:
            self._parents.append(parent)
            for request in self.requests.values():
                self._want(request, parent)
        self._look_for_worth()

    def _look_for_worth(self) -> None:
        """Put tasks into another order where somebody has said what they are worth."""
        told = self._run.worth() if self._only is None else None
        if told is None or (self._worth is not None and self._worth.told == told):
            return
        self._worth = Worth(self._run, told)
        self._rank = {key: self._ranked(task) for key, task in self._tasks.items()}
        self._ready = sorted(((self._rank[task.key], task) for _, task in self._ready), key=lambda pair: pair[0])

    def _ranked(self, task: Task) -> Rank:
        return (0.0 if self._worth is None else -self._worth.of(task.key), *self._even[task.key])

    def _look_for_requests(self) -> None:
        for request in requests_of(self._run) if self._only is None else ():
            if request in self._asked or (settled := request.settled(self._run)) is None:
                continue
            self._asked.add(request)
            if settled.name not in self.requests:
                self.requests[settled.name] = settled
                for parent in self._parents:
                    self._want(settled, parent)

    def _want(self, request: Request, parent: ParentKey) -> None:
        # A structure is wanted with the first replicas of its parent, and takes less time than they do.
        self._enter(Task(request.key(parent)), (parent.parent, 0, parent.lineage))

    def _enter(self, task: Task, even: tuple[int, int, int]) -> None:
        if task.key in self._tasks or self._run.index.get(task.key) is not None:
            return
        self._tasks[task.key], self._even[task.key] = task, even
        self._rank[task.key] = rank = self._ranked(task)
        if task.after is None or self._run.index.get(task.after) is not None:
            insort(self._ready, (rank, task), key=lambda pair: pair[0])
        else:
            self._waiting.setdefault(task.after, []).append(task)

    def finished(self, key: Key) -> None:
        """An entry is there: nobody has to make it any more, and others can start from it."""
        if self._tasks.pop(key, None) is not None:
            rank, _ = self._rank.pop(key), self._even.pop(key)
            at = bisect_left(self._ready, rank, key=lambda pair: pair[0])
            while at < len(self._ready) and self._ready[at][0] == rank:
                if self._ready[at][1].key == key:
                    del self._ready[at]
                    break
                at += 1
        for task in self._waiting.pop(key, ()):
            if task.key not in self._tasks:  # of several writers one is heard late: what followed is there already
                continue
            insort(self._ready, (self._rank[task.key], task), key=lambda pair: pair[0])

    def of_lineages(self, lineages: Container[int]) -> int:
        """Tasks that are left of some lineages."""
        return sum(key.lineage in lineages for key in self._tasks)

    def ready(self) -> Iterator[Task]:
        """Tasks that can be done now, the most useful first."""
        for _, task in self._ready:
            yield task


def tasks_of(run: RunDirectory) -> list[Task]:
    """All work of a run in the order in which it is useful: all lineages' first parents, then their second ones.

    One training lineage goes first, so that a trainer has something to start with; then validation, the other
    training lineages and the test lineages.
    """
    settings = run.settings
    if settings is None:
        return []  # imported data are complete
    training = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "train"]
    held_out = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "validation"]
    tests = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "test"]
    tasks = []
    for parent in range(settings.parents):
        for lineage in [*training[:1], *held_out, *training[1:], *tests]:
            tasks.append(Task(ParentKey(lineage, parent)))
            tasks += [Task(SegmentKey(lineage, parent, block)) for block in range(run.n_blocks(lineage))]
    return tasks


def execute(
    tasks: Sequence[Task],
    run: RunDirectory,
    engine: Engine,
    check: Check,
    requests: Mapping[str, Request] | None = None,
    tell: Callable[[int, LineageProgress], None] | None = None,
) -> Iterator[Outcome]:
    """Do pieces of work, those of one activity together, and commit each as soon as all its systems are finished.

    Files, seeds and sidecars are those that each would have alone; only the last digits of a trajectory may
    depend on the company, where the engine's do.

    Args:
        tasks: Each ready and claimed.
        run: Where to commit.
        engine: Evolves all systems of one activity in one call.
        check: Called about once a second; what it raises ends it: what is committed stays.
        requests: How structures are made, by the name at the end of their keys.
        tell: Called with the number of a lineage that is being equilibrated and how far it is, whenever it was seen.

    Yields:
        One outcome per task, in any order; none for an equilibration that was put aside while others have ended. A
        lineage that is no equilibrated liquid is refused there, where that was not accepted, and stops no other.

    Raises:
        EngineError: The engine failed.
        Interrupted: From `check`.
        RunError: What a task starts from is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    blocks = [task.key for task in tasks if isinstance(task.key, SegmentKey)]
    parents = [task.key for task in tasks if isinstance(task.key, ParentKey)]
    structures = [task.key for task in tasks if isinstance(task.key, StructureKey)]
    if first := [key for key in parents if key.parent == 0]:
        yield from equilibrate_lineages(first, run, engine, check, tell)
    if later := [key for key in parents if key.parent > 0]:
        yield from make_next_parents(later, run, engine, check)
    if structures:
        yield from make_structures(structures, requests or {}, run, engine, check)
    if blocks:
        yield from run_blocks(blocks, run, engine, check)
