"""Gives the work of a run to workers on a Ray cluster, and commits what they make where the run directory is.

A process of its own beside whoever asked, as simulating workers of one machine are. It claims work as they do, so that
plain workers on the same run directory may be at it, too. What a machine that dies was doing is given to another.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import ray

from glassmd.errors import GlassmdError, Interrupted, raised_elsewhere
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.ledger.keys import Key, ParentKey, StructureKey, key_of
from glassmd.ledger.parcel import parcel_of
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.apart import tell
from glassmd.simulation.batches import Batches, named
from glassmd.simulation.cluster.calls import Losses, LostError
from glassmd.simulation.cluster.connection import connected
from glassmd.simulation.cluster.simulator import Done, Start
from glassmd.simulation.cluster.workers import RemoteWorker, State, leave_for_trainers, needs_of, room
from glassmd.simulation.parents import unfinished_file
from glassmd.simulation.tasks import Agenda, Task, Wanted
from glassmd.simulation.worker import accept_as_they_are
from glassmd.storage import write_bytes

__all__ = ["Dispatcher", "main"]

_WAIT = 0.2  # seconds between two looks where nothing is answered
_GROW = 1.0  # seconds between two looks for room for more workers
_PATIENCE = 20.0  # seconds that workers have to give back what they have when they are stopped
_START = "their start"


class Dispatcher:
    """Works on a run with as many workers as a cluster has room for.

    Args:
        run: The run.
        settings: Of the run, with the run-time settings of now.
        stop: Polled several times a second.
        name: Workers' names begin with it.
        only: Make these structures, and nothing else.
    """

    def __init__(
        self, run: RunDirectory, settings: RunSettings, stop: StopRequest, name: str, only: Wanted | None = None
    ) -> None:
        self._run, self._settings, self._stop, self._name, self._only = run, settings, stop, name, only
        self._workers: list[RemoteWorker] = []
        self._needs = needs_of(settings)
        self._started, self._grown = 0, float("-inf")
        self._losses = Losses("workers")

    def work(self) -> None:
        """Have whatever is left done; return when everything is committed.

        Raises:
            EquilibrationError: All but refused lineages are done.
            GlassmdError: What a worker raised.
            Interrupted: A stop was requested; what workers had made is committed.
        """
        agenda = Agenda(self._run, self._only)
        self._agenda, self._batches = agenda, Batches(self._run, agenda)
        try:
            while self._batches.left and (self._only is not None or not self._run.spent):
                self._stop.check()
                self._grow()
                self._give()
                self._take()
                agenda.look()
        except (Interrupted, StoppedAtOnce):
            _ = self._stop.reason  # heard, so that nothing is raised in what follows
            self._give_back()
            raise
        finally:
            for worker in self._workers:
                worker.end()
        if self._batches.refused:
            raise next(iter(self._batches.refused.values()))

    def _grow(self) -> None:
        """Start workers where there is room; ask for one where there is none, so that the cluster knows."""
        if time.monotonic() - self._grown < _GROW:
            return
        self._grown = time.monotonic()
        self._losses.look()
        if self._made_room():
            return
        if any(worker.state is State.STARTING for worker in self._workers):
            return
        most = self._settings.workers or self._batches.left
        wanted = max(room(*self._needs), not self._workers)
        for _ in range(min(wanted, most - len(self._workers))):
            name = f"{self._name}-{self._started}"
            self._workers.append(RemoteWorker(self._run, self._settings, name, *self._needs))
            self._started += 1

    def _made_room(self) -> bool:
        """Whether trainers wait for machines that they can have: workers leave these, but for the last one."""
        at_work = [worker for worker in self._workers if worker.node]
        own = {"CPU": self._needs[0], "GPU": self._needs[1]}
        numbers = leave_for_trainers([(worker.node, own) for worker in at_work]) if at_work else None
        if numbers is None or len(numbers) == len(at_work):
            return False
        for worker in [one for one in self._workers if not one.node]:  # it would take what becomes free
            self._dismiss(worker)
        for worker in [at_work[number] for number in numbers]:
            if worker.state is not State.WORKING:
                self._dismiss(worker)
            elif not worker.leaving:
                worker.ask_to_stop()
        return True

    def _dismiss(self, worker: RemoteWorker) -> None:
        self._workers.remove(worker)
        worker.end()

    def _give(self) -> None:
        """Give work to those that have none."""
        why = self._run.paused
        for worker in self._workers:
            if worker.state is not State.IDLE:
                continue
            if why is not None:
                worker.idle(f"paused: {why}")
                continue
            batch = self._batches.claim(worker.packed, len(self._workers), worker.claims)
            if batch:
                worker.begin(batch, self._start(batch), named([task.name for task in batch]))
            else:
                worker.idle("waiting for other workers")

    def _start(self, batch: list[Task]) -> Start:
        """What a batch needs on a machine that does not see the run directory."""
        needed: dict[Key, None] = {}
        for task in batch:
            if task.after is not None:
                needed |= {ParentKey(task.key.lineage, 0): None, task.after: None}
        names = [task.name for task in batch]
        structures = {task.key.structure for task in batch if isinstance(task.key, StructureKey)}
        requests = {name: self._agenda.requests[name].to_dict() for name in structures}
        kept = {task.name: path for task in batch if (path := unfinished_file(self._run, task.name)).exists()}
        unfinished = {name: path.read_bytes() for name, path in kept.items()}
        entries = [self._run.entry(key.kind, key.name) for key in needed]  # imported lineages may lack a first parent
        return Start(names, [parcel_of(entry) for entry in entries if entry is not None], requests, unfinished)

    def _take(self) -> None:
        """Take what was answered, and see how far the others are."""
        waited = {worker.waits_for: worker for worker in self._workers if worker.waits_for is not None}
        if not waited:
            time.sleep(_WAIT)
            return
        answered, _ = ray.wait(list(waited), num_returns=1, timeout=_WAIT)
        answered += ray.wait([one for one in waited if one not in answered], timeout=0)[0] if len(waited) > 1 else []
        for reference in answered:
            self._answered(waited[reference])
        for worker in self._workers:
            self._keep(worker.tell())

    def _answered(self, worker: RemoteWorker) -> None:
        given = list(worker.batch)
        try:
            done = worker.answer()
            if done is not None:
                self._commit(done, given, put_aside=not worker.leaving)
                worker.claims.close()
                worker.refuse(done)
                if worker.leaving:
                    self._dismiss(worker)
            elif worker.state is State.IDLE:
                self._losses.done([_START])
        except LostError as error:
            self._dismiss(worker)
            self._losses.add(given or [_START], [worker.node] if worker.node else [], str(error))

    def _commit(self, done: Done, given: list[str], *, put_aside: bool) -> None:
        self._losses.done(done.steps)
        self._keep(done.unfinished)
        for parcel in done.parcels:
            self._run.adopt(parcel)
            unfinished_file(self._run, parcel.name).unlink(missing_ok=True)
        for name, why in done.refused.items():
            error: Any = raised_elsewhere(why)
            self._batches.refused[key_of(name).lineage] = error
        if done.error is None and put_aside:
            self._batches.put_aside(name for name in given if name not in done.steps and name not in done.refused)

    def _keep(self, unfinished: dict[str, bytes]) -> None:
        for name, content in unfinished.items():
            write_bytes(unfinished_file(self._run, name), content)

    def _give_back(self) -> None:
        """Have what workers have made so far, which is little else than equilibrations as far as they are."""
        deadline = time.monotonic() + _PATIENCE
        working = [worker for worker in self._workers if worker.state is State.WORKING]
        for worker in working:
            worker.ask_to_stop()
        for worker in working:
            left = max(0.0, deadline - time.monotonic())
            if ray.wait([worker.waits_for], timeout=left)[0]:
                self._answered(worker)


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.simulation.cluster.dispatcher RUN --cluster ADDRESS …`, as a pool starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="cluster")
    parser.add_argument("--parent", type=int, default=None, help="stop when this process ends")
    parser.add_argument("--settings", default="{}", help="JSON of the run-time settings of now")
    parser.add_argument("--only", type=Path, default=None, help="JSON of the structures to make, and nothing else")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended, as JSON")
    options = parser.parse_args(arguments)
    try:
        run = RunDirectory.open(options.run)
        settings = (run.settings or RunSettings()).model_copy(update=json.loads(options.settings))
        if settings.accept_unequilibrated:
            accept_as_they_are(run)
        stop = StopRequest(parent_process=options.parent).install()
        only = None if options.only is None else Wanted.from_json(options.only.read_text())
        with connected(settings.cluster):
            Dispatcher(run, settings, stop, options.name, only).work()
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except GlassmdError as error:
        return tell(options.report, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
