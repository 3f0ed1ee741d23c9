"""What to do next: as much unclaimed work of a run as an engine does at once, claimed for whoever does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from glassmd.errors import EquilibrationError
from glassmd.ledger.run import RunDirectory
from glassmd.simulation.tasks import Agenda, Task

__all__ = ["Batches", "named"]


class Batches:
    """Chooses and claims work.

    Args:
        run: The run.
        agenda: What is left to do of it.

    Attributes:
        refused: Lineages that are no equilibrated liquids: the other lineages are none the worse for it.
    """

    def __init__(self, run: RunDirectory, agenda: Agenda) -> None:
        self._run, self._agenda = run, agenda
        self._put_aside: set[str] = set()
        self._given: set[str] = set()
        self.refused: dict[int, EquilibrationError] = {}

    @property
    def left(self) -> int:
        """Tasks that somebody has to do; those of refused lineages nobody can."""
        return len(self._agenda) - (self._agenda.of_lineages(self.refused) if self.refused else 0)

    def put_aside(self, names: Iterable[str]) -> None:
        """Equilibrations that others have overtaken: they wait until the replicas of those are done."""
        self._put_aside.update(names)

    def claim(self, packed: int, workers: int, claims: ExitStack) -> list[Task]:
        """The next task, and those like it that fit into an engine beside it.

        Args:
            packed: Systems that the engine simulates at once.
            workers: How many there are: nobody takes more than a fair share of what is to be done.
            claims: Holds the claims.
        """
        batch: list[Task] = []
        room = min(packed, self._fair_share(packed, workers))
        for task in self._in_order():
            if room <= 0 or (batch and task.key.parent > batch[0].key.parent + 1):
                break
            if task.key.lineage in self.refused:
                continue
            systems = task.systems(self._run, self._agenda.requests)
            if batch and (task.activity != batch[0].activity or systems > room):
                continue
            if self._claim(task, claims):
                batch.append(task)
                room -= systems
        return batch

    def _in_order(self) -> Iterator[Task]:
        """Equilibrations that were put aside wait until the replicas of the others' parents are done."""
        aside = []
        for task in list(self._agenda.ready()) if self._put_aside else self._agenda.ready():
            if task.name in self._put_aside:
                aside.append(task)
                continue
            if aside and task.key.parent > aside[0].key.parent:
                yield from aside
                aside = []
            yield task
        yield from aside

    def _fair_share(self, packed: int, workers: int) -> int:
        """Systems of the work that is ready, divided by the workers; no more are counted than the engine takes."""
        if workers == 1 or packed == 1:
            return packed
        ready, enough = 0, packed * workers
        for task in self._agenda.ready():
            ready += task.systems(self._run, self._agenda.requests)
            if ready >= enough:
                break
        return max(1, -(-ready // workers))

    def _claim(self, task: Task, claims: ExitStack) -> bool:
        """Hold the claim on a task until `claims` is closed, unless somebody else has it or has done it."""
        if task.name in self._given:  # a file system without locks refuses nobody
            return False
        with ExitStack() as attempt:
            if not attempt.enter_context(self._run.claim(task.name)):
                return False
            if self._run.done(task.key):
                self._run.index.poll(thorough=True)  # whoever made it may have died before telling
                return False
            self._given.add(task.name)
            claims.callback(self._given.discard, task.name)
            claims.push(attempt.pop_all())
            return True


def named(names: list[str]) -> str:
    """Several tasks in few words.

    Example:
        >>> named(["L0000-P0000-B0000", "L0000-P0000-B0001"])
        'L0000-P0000-B0000 and 1 more'
    """
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
