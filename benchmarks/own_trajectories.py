"""A learner from trajectories alone against the same learner from a run with as many parents of one replica each.

    python benchmarks/own_trajectories.py FOLDER [--parents 40] [--model cage] [--out FOLDER]

Kob-Andersen, N = 1000, T = 0.8. Five trajectories of t = 200 are written by `examples/own_trajectory/with_lammps.py`;
`glassmd train` learns from frames of four. Beside it, a run of four lineages with as many parents per lineage, one
replica each. Both are scored on frames of the fifth trajectory with 16 replicas each. Started again in FOLDER, it goes
on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, record

from glassmd.evaluation import evaluate
from glassmd.importers.trajectories import FrameChoice
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.pool import simulate
from glassmd.training.session import train
from glassmd.trajectory import Frame, write_frames
from glassmd.trajectory.trajectory import open_trajectory

WRITER = Path(__file__).parents[1] / "examples" / "own_trajectory" / "with_lammps.py"
TEMPERATURE, TIME = 0.8, 2.5  # τ_α of A is 2.57
LENGTH, EVERY = 200.0, 0.25
TEST_PARENTS, TEST_REPLICAS = 12, 16


def trajectories(folder: Path) -> list[Path]:
    """Five files, those that are missing written now."""
    paths = [folder / f"liquid{seed}.gsd" for seed in range(1, 6)]
    for seed, path in enumerate(paths, start=1):
        if not path.exists():
            unfinished = path.with_suffix(".part")
            subprocess.run([sys.executable, str(WRITER), str(unfinished), "--seed", str(seed)], check=True)
            unfinished.rename(path)
    return paths


def test_run(folder: Path, path: Path, settings: RunSettings) -> Path:
    """Frames of a trajectory with replicas of our own."""
    start, run = folder / "start.gsd", folder / "test"
    with open_trajectory(path, mixture=settings.liquid(), time_step=settings.time_step) as one:
        spacing = (len(one) - 1) // TEST_PARENTS
        frames = [Frame(one[k].configuration, one[k].step) for k in range(0, spacing * TEST_PARENTS, spacing)]
    if not start.exists():
        write_frames(start, frames)
    told = {"start": [str(start)], "temperature": TEMPERATURE, "times": [TIME], "replicas": TEST_REPLICAS}
    simulate(RunSettings(**told, time_step=settings.time_step), run)
    return run


def score(model: Path, run: Path) -> dict[str, Any]:
    """ρ and ρ/ceiling of A at the one time."""
    found = evaluate(model, [run])["species"]["A"]
    return {
        "pearson": found["pearson_per_configuration"]["mean"][0],
        "ceiling": found["ceiling"][0],
        "over_ceiling": found["pearson_over_ceiling"]["mean"][0],
        "over_ceiling_sd": found["pearson_over_ceiling"]["sd"][0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parents", type=int, default=40)
    parser.add_argument("--model", default="cage")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    run = RunSettings(
        mixture="kob-andersen",
        temperature=TEMPERATURE,
        times=[TIME],
        lineages=4,
        validation_lineages=0,
        test_lineages=0,
        parents=told.parents,
        replicas=1,
    )
    settings = Settings(run=run, train=TrainSettings(model=told.model))
    *learned, unseen = trajectories(told.folder)
    test = test_run(told.folder, unseen, run)
    stride = -(-round((LENGTH - TIME) / EVERY + 1) // told.parents)
    choice = FrameChoice(time_step=run.time_step, stride=stride)
    models = {"trajectories": told.folder / f"{told.model}-trajectories", "run": told.folder / f"{told.model}-run"}
    rows = {}
    for name, model in models.items():
        if name == "trajectories":
            data = list(map(Path, learned))
        else:
            simulate(run, told.folder / "run")
            data = [told.folder / "run"]
        result = train(data, model, settings, frames=choice)
        rows[name] = {"samples": result["samples_seen"], "seconds": round(result["seconds"], 1), **score(model, test)}
        print(name, rows[name], flush=True)
    record(
        "own_trajectories",
        {
            "what": __doc__.splitlines()[0],
            "model": told.model,
            "test": {"parents": TEST_PARENTS, "replicas": TEST_REPLICAS, "time": TIME},
            **rows,
            "difference_over_ceiling": rows["trajectories"]["over_ceiling"] - rows["run"]["over_ceiling"],
        },
        told.out,
    )


if __name__ == "__main__":
    main()
