"""A step of `glassnet` alone, and beside as many busy simulating processes as there are cores.

    python benchmarks/beside_workers.py [--particles 400] [--steps 150] [--rounds 3] [--out FOLDER]

The same steps on the same samples are taken alone and beside a pool of workers, in turns: with the niceness that
`train --stream` gives them, and without. Samples lie in memory, encoded, before the clock starts; torch has one thread.
Told are seconds per step and the replica-steps that the workers committed meanwhile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record

from glassmd.settings import RunSettings, TrainSettings
from glassmd.simulation.creation import make_run
from glassmd.simulation.pool import Pool, simulate
from glassmd.stream.dataset import open_run
from glassmd.stream.structures import Structures
from glassmd.training.loop import Trainer
from glassmd.training.session import _NICE
from glassmd.training.source import SampleSource

WARM = 10  # steps before the clock starts


def trainer_of(path: Path, out: Path) -> Trainer:
    """A trainer with everything encoded, and no validation or checkpoint to come."""
    run = open_run(path)
    structures = Structures([run], ("thermal",))
    source = SampleSource([run], requests=structures.requests)
    often = 10**9
    settings = TrainSettings(
        input=["thermal"], max_steps=often, validate_every=often, checkpoint_every=often, train_device="cpu"
    )
    trainer = Trainer(source, settings, out, structures=structures)
    trainer._look()
    trainer.reservoir.no_more()
    while trainer.step < WARM:
        trainer.fit.advance(trainer.reservoir, final=True)
    return trainer


def seconds_per_step(trainer: Trainer, steps: int) -> float:
    """Mean over so many steps."""
    began, last = time.perf_counter(), trainer.step + steps
    while trainer.step < last:
        trainer.fit.advance(trainer.reservoir, final=True)
    return (time.perf_counter() - began) / steps


def beside(trainer: Trainer, steps: int, busy: RunSettings, folder: Path, nice: int) -> tuple[float, float]:
    """Seconds per step, and the workers' replica-steps per second meanwhile."""
    run = make_run(busy, folder)
    with Pool(run, busy, busy.workers, nice=nice) as pool:
        while pool.progress().replica_steps == 0:  # all equilibrated, and at work on replicas
            pool.poll()
            time.sleep(0.2)
        before, began = pool.progress().replica_steps, time.perf_counter()
        found = seconds_per_step(trainer, steps)
        done = pool.progress().replica_steps - before
        return found, done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=400)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    liquid: dict[str, Any] = {"particles": told.particles, "temperature": 1.5, "engine": "lammps"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(RunSettings(lineages=4, parents=2, replicas=2, held_out_replicas=2, **liquid), folder / "run")
        trainer = trainer_of(folder / "run", folder / "model")
        busy = RunSettings(lineages=200, parents=500, replicas=2, held_out_replicas=2, workers=cores, **liquid)
        alone, rows = [], {"nice": [], "as all": []}
        for turn in range(told.rounds):
            alone.append(seconds_per_step(trainer, told.steps))
            for how, nice in (("nice", _NICE), ("as all", 0)):
                rows[how].append(beside(trainer, told.steps, busy, folder / f"busy-{turn}-{nice}", nice))
    step = statistics.median(alone)
    medians = {how: [statistics.median(of) for of in zip(*found, strict=True)] for how, found in rows.items()}
    record(
        "beside_workers",
        {
            "what": __doc__.splitlines()[0],
            "particles": told.particles,
            "workers": cores,
            "step_alone_s": round(step, 5),
            "step_beside_over_alone": {how: round(found[0] / step, 3) for how, found in medians.items()},
            "replica_steps_per_second_meanwhile": {how: round(found[1]) for how, found in medians.items()},
            "niceness": _NICE,
        },
        told.out,
    )


if __name__ == "__main__":
    main()
