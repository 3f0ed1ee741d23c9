"""One simulating process: takes as much unclaimed work as its engine simulates at once, until none is left."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from glassmd.engines.base import Engine
from glassmd.errors import DeviceLostError, GlassmdError, Interrupted
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.ledger.run import RUNTIME, RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.activity import Activity
from glassmd.simulation.apart import tell
from glassmd.simulation.batches import Batches, named
from glassmd.simulation.preparation import engine_of, prepared_engine
from glassmd.simulation.tasks import Agenda, Wanted, execute

__all__ = ["Worker", "main"]

WAIT = 0.2
"""Seconds before looking again when all that is left is claimed by others or waits for them."""


class Worker:
    """Works on a run directory, alone or beside others; they share nothing but the directory.

    Args:
        run: The run.
        engine: Simulates.
        stop: Polled about once a second.
        name: Names this worker's status file.
        accept_unequilibrated: Use lineages that were not shown to be equilibrated.
        show: Called about once a second.
        workers: How many there are: nobody takes more than a fair share of what is to be done.
        only: Make these structures, and nothing else.
    """

    def __init__(
        self,
        run: RunDirectory,
        engine: Engine,
        stop: StopRequest,
        name: str = "worker",
        *,
        accept_unequilibrated: bool = False,
        show: Callable[[], None] | None = None,
        workers: int = 1,
        only: Wanted | None = None,
    ) -> None:
        self.run, self.engine, self.stop = run, engine, stop
        self._activity = Activity(run, name, engine)
        self._workers, self._only = workers, only
        self._show = show
        self.steps = 0
        if accept_unequilibrated:
            accept_as_they_are(run)

    def work(self) -> None:
        """Do whatever is left; return when everything is committed.

        Raises:
            EquilibrationError: All but refused lineages are done.
            Interrupted: A stop was requested; what is committed stays.
        """
        agenda = Agenda(self.run, self._only)
        batches = Batches(self.run, agenda)
        try:
            while batches.left and (self._only is not None or not self.run.spent):
                if (why := self.run.paused) is not None:
                    self._activity.begin(f"paused: {why}")
                    self._check()
                    time.sleep(WAIT)
                elif not self._work_on(agenda, batches):
                    self._activity.begin("waiting for other workers")
                    self._check()
                    time.sleep(WAIT)
                agenda.look()
            if batches.refused:
                raise next(iter(batches.refused.values()))
        finally:
            self._activity.end()

    def _work_on(self, agenda: Agenda, batches: Batches) -> bool:
        """Do as much work together as the engine takes at once; whether there was anything to do."""
        self._check()
        with ExitStack() as claims:
            batch = batches.claim(self.engine.packed, self._workers, claims)
            left = [task.name for task in batch]
            if batch:
                self._activity.begin(named(left), batch[0].activity)
            for outcome in execute(batch, self.run, self.engine, self._check, agenda.requests, self._activity.lineage):
                if outcome.refused is None:
                    self.steps += outcome.steps
                else:
                    batches.refused[outcome.key.lineage] = outcome.refused
                left.remove(outcome.key.name)
                self._activity.ended(outcome.key.lineage)
                if left:
                    self._activity.left(named(left))
            batches.put_aside(left)
        return bool(batch)

    def _check(self) -> None:
        self.stop.check()
        self._activity.tell()
        if self._show is not None:
            self._show()


def accept_as_they_are(run: RunDirectory) -> None:
    """Use lineages that were not shown to be equilibrated, in this process."""
    if (settings := run.identity["settings"]) is not None:
        run.identity = {**run.identity, "settings": {**settings, "accept_unequilibrated": True}}


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.simulation.worker RUN --name NAME --parent PID`, as the pool starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="worker")
    parser.add_argument("--parent", type=int, default=None, help="stop when this process ends")
    parser.add_argument("--settings", default="{}", help="JSON of the run-time settings of now")
    parser.add_argument("--only", type=Path, default=None, help="JSON of the structures to make, and nothing else")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended, as JSON")
    parser.add_argument("--gpu", type=int, default=None, help="number of the GPU where there are several")
    parser.add_argument("--nice", type=int, default=0, help="how far others go before it")
    options = parser.parse_args(arguments)
    os.nice(options.nice)
    try:
        run = RunDirectory.open(options.run)
        settings = (run.settings or RunSettings()).model_copy(update=json.loads(options.settings))
        stop = StopRequest(parent_process=options.parent).install()
        if run.settings is None:  # imported data: nothing was measured for them
            engine = engine_of(settings, options.gpu)
        else:
            engine = prepared_engine(run, settings, options.gpu, check=stop.check)
        Worker(
            run,
            engine,
            stop,
            options.name,
            accept_unequilibrated=settings.accept_unequilibrated,
            workers=settings.workers or 1,
            only=None if options.only is None else Wanted.from_json(options.only.read_text()),
        ).work()
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except DeviceLostError as error:
        sys.stderr.write(f"{options.name}: {error}\n")
        return error.exit_code  # without a report: the pool starts another worker in its place
    except GlassmdError as error:
        return tell(options.report, error)
    return 0


def settings_flags(settings: RunSettings, workers: int | None) -> list[str]:
    """Command-line arguments that hand the run-time settings to one of so many workers."""
    now = settings.model_dump(include=set(RUNTIME)) | {"workers": workers}
    return ["--settings", json.dumps(now)]


if __name__ == "__main__":
    sys.exit(main())
