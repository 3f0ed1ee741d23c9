"""A run as small pieces of work, each committed on its own, and several of a kind done together.

Lineages are equilibrated liquids; parent 0 of a lineage is the end of its equilibration and parent k+1 the end
of replica 0 of parent k, evolved further if parents are to lie further apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from glassmd.engines.base import Engine
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.simulation.batch import Check, Outcome, settings_of
from glassmd.simulation.block import replicas_of
from glassmd.simulation.isoconfigurational import run_blocks
from glassmd.simulation.parents import equilibrate_lineages, make_next_parents

__all__ = ["Task", "execute", "tasks_of"]


@dataclass(frozen=True)
class Task:
    """A piece of work with a name of its own: a parent to make or a block of replicas to run."""

    kind: Literal["parents", "segments"]
    key: ParentKey | SegmentKey

    @property
    def name(self) -> str:
        """Name of the files that it commits and of its claim."""
        return self.key.name

    @property
    def activity(self) -> str:
        """What is done; tasks of one activity can be done together."""
        if isinstance(self.key, SegmentKey):
            return "replicas"
        return "equilibration" if self.key.parent == 0 else "spacing"

    def systems(self, run: RunDirectory) -> int:
        """How many systems it evolves at once."""
        return len(replicas_of(self.key, settings_of(run))) if isinstance(self.key, SegmentKey) else 1

    def done(self, run: RunDirectory) -> bool:
        """Whether it is committed."""
        return run.done(self.key)

    def ready(self, run: RunDirectory) -> bool:
        """Whether what it starts from is committed."""
        key = self.key
        if isinstance(key, SegmentKey):
            return run.done(key.of)
        return key.parent == 0 or run.done(SegmentKey(key.lineage, key.parent - 1, 0))


def tasks_of(run: RunDirectory) -> list[Task]:
    """All work of a run in the order in which it is useful: all lineages' first parents, then their second ones.

    One training lineage goes first, so that a trainer has something to start with; then validation, the other
    training lineages and the test lineages.
    """
    settings = settings_of(run)
    training = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "train"]
    held_out = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "validation"]
    tests = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "test"]
    tasks = []
    for parent in range(settings.parents):
        for lineage in [*training[:1], *held_out, *training[1:], *tests]:
            tasks.append(Task("parents", ParentKey(lineage, parent)))
            tasks += [Task("segments", SegmentKey(lineage, parent, block)) for block in range(run.n_blocks(lineage))]
    return tasks


def execute(tasks: Sequence[Task], run: RunDirectory, engine: Engine, check: Check) -> Iterator[Outcome]:
    """Do pieces of work, those of one activity together, and commit each as soon as all its systems are finished.

    Files, seeds and sidecars are those that each would have alone; only the last digits of a trajectory may
    depend on the company, where the engine's do.

    Args:
        tasks: Each ready and claimed.
        run: Where to commit.
        engine: Evolves all systems of one activity in one call.
        check: Called about once a second; what it raises ends it: what is committed stays.

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
    if first := [key for key in parents if key.parent == 0]:
        yield from equilibrate_lineages(first, run, engine, check)
    if later := [key for key in parents if key.parent > 0]:
        yield from make_next_parents(later, run, engine, check)
    if blocks:
        yield from run_blocks(blocks, run, engine, check)
