"""Data for `online.py`: one run per seed in which every way to spend a budget is a subset.

    python benchmarks/online_data.py FOLDER [--seeds 0,1,2] [--workers 2] [--share 1]

Kob-Andersen, N = 1000, T = 0.64, labels at 8, 12 and 16 (τ_α is 8.4 ± 0.2), cages of a tenth of the first. Eight
lineages to learn from, one for validation, two for testing. Of a training lineage the first 2 parents have 32 replicas,
as in the published protocol, the first 7 have 8, 13 have 4, 22 have 2 and 33 have 1: each of these is worth the same
number of replica-steps, cages included; `--share 0.5` makes what half of that needs. Start it again, or beside itself,
and it goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

from glassmd.engines import get_engine
from glassmd.interrupt import StopRequest
from glassmd.ledger.keys import Key, SegmentKey
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.creation import make_run
from glassmd.simulation.structures import ask
from glassmd.simulation.tasks import Agenda
from glassmd.simulation.worker import WAIT, Worker
from glassmd.stream.structures import Structures, cage_asked

PARENTS = {32: 2, 8: 7, 4: 13, 2: 22, 1: 33}
"""Parents of a training lineage by replicas of each."""

HELD_OUT = {"validation": 6, "test": 10}
"""Parents of another lineage."""

LEARNER = TrainSettings(cage_time=0.8, train_threads=1, train_device="cpu")


def run_settings(seed: int, **others: object) -> RunSettings:
    """Everything that any subset needs."""
    told = {"particles": 1000, "temperature": 0.64, "times": [8.0, 12.0, 16.0], "block": 1, "keep": "propensities"}
    lineages = {"lineages": 11, "validation_lineages": 1, "test_lineages": 2, "parents": 33}
    replicas = {"replicas": 32, "held_out_replicas": 16}
    return RunSettings(**{**told, **lineages, **replicas, "seed": seed, **others})  # type: ignore[arg-type]


def parents_of(replicas: int, share: float) -> int:
    """Parents of a training lineage for a share of the budget."""
    return max(1, round(PARENTS[replicas] * share))


def wanted(key: Key, settings: RunSettings, share: float) -> bool:
    """Whether any subset has an entry."""
    role = settings.role(key.lineage)
    if role != "train":
        return key.parent < HELD_OUT[role]
    block = key.block if isinstance(key, SegmentKey) else 0
    return any(key.parent < parents_of(replicas, share) and block < replicas for replicas in PARENTS)


class Some(Worker):
    """A worker that leaves out what nobody wants."""

    share = 1.0

    def _in_order(self, agenda):  # type: ignore[no-untyped-def]
        settings = self.run.settings
        return (task for task in super()._in_order(agenda) if wanted(task.key, settings, self.share))

    def work(self) -> None:
        """Do what is wanted."""
        agenda, settings = Agenda(self.run), self.run.settings
        while any(wanted(key, settings, self.share) for key in agenda._tasks):
            if not self._work_on(agenda):
                time.sleep(WAIT)
            agenda.look()


def simulate(path: Path, seed: int, name: str, share: float) -> None:
    """One worker."""
    run = make_run(run_settings(seed), path)
    structures = Structures([run], ("inherent", "cage"), cage_asked(Settings(run=run_settings(seed), train=LEARNER)))
    ask(run, structures.requests)
    worker = Some(run, get_engine("lammps", "cpu"), StopRequest().install(), name)
    worker.share = share
    worker.work()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0)
    told = parser.parse_args()
    for seed in map(int, told.seeds.split(",")):
        path = told.folder / f"seed-{seed}"
        names = [f"worker-{k}" for k in range(told.workers)]
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=simulate, args=(path, seed, name, told.share)) for name in names]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit(f"a worker of {path} failed")
        print(f"{path} is complete", flush=True)


if __name__ == "__main__":
    main()
