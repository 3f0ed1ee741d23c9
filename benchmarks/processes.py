"""Two gloo processes against one process with twice the batch: losses, scores and steps per second.

    python benchmarks/processes.py [--particles 400] [--bapst 100] [--glassnet 400] [--seeds 0,1,2] [--out FOLDER]

Everything has one thread, so that two processes have two cores where one has one. `bapst` has no dropout: its losses
are the same up to rounding, which grows with the steps. How fast it grows by itself is shown by one process with two
threads, whose sums are taken in another order. `glassnet` has dropout, and is compared by the scores of several seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, record

from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.training.journal import read_metrics

BATCH = 2  # of one process; each of two has half of it
LEAST_STEPS = 20  # on whose losses rounding is compared


def trained(run: Path, out: Path, learner: str, steps: int, *, seed: int, processes: int, threads: int = 1) -> Any:
    """The result of a training, with its losses and its steps per second from the second on."""
    told = {
        "batch_size": BATCH // processes, "train_threads": threads, "train_device": "cpu", "validation_share": 0.2,
        "validate_every": steps, "checkpoint_every": steps,
    }  # fmt: skip
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *(launcher if processes > 1 else []), "glassmd_cli", "train", str(run)]
    command += ["--model", learner, "--input", "thermal", "--max-steps", str(steps), "--seed", str(seed)]
    command += [flag for key, value in told.items() for flag in ("--set", f"{key}={value}")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen([*command, "--out", str(out), "--json"], env=environment, stdout=subprocess.PIPE)
    first, journal = None, out / "status.json"
    while process.poll() is None:  # encoding, and the first step, are not what is compared
        if first is None and journal.exists() and json.loads(journal.read_text())["step"] > 0:
            first = time.perf_counter(), int(json.loads(journal.read_text())["step"])
        time.sleep(0.02)
        if first is not None and (out / "checkpoints").is_dir() and any((out / "checkpoints").glob("step-*")):
            break
    seconds = time.perf_counter() - first[0] if first else float("nan")
    output = process.communicate()[0]
    assert process.returncode == 0, command
    found = json.loads(output)
    found["losses"] = [line["loss"] for line in read_metrics(out / "metrics.jsonl") if line["kind"] == "train"]
    found["steps_per_second"] = (steps - first[1]) / seconds if first else float("nan")
    return found


def scores(found: Any) -> list[float]:
    """ρ_A per time on the validation lineages."""
    return [float(value) for value in found["validation"]["A"]["pearson"]]


def difference(one: Any, other: Any) -> dict[str, Any]:
    """Of losses, relative, and of scores."""
    losses = np.abs(np.array(one["losses"]) / np.array(other["losses"]) - 1)
    return {
        f"loss_of_{LEAST_STEPS}_steps": float(f"{losses[:LEAST_STEPS].max():.2g}"),
        "loss_of_all_steps": float(f"{losses.max():.2g}"),
        "score": float(f"{np.abs(np.array(scores(one)) - scores(other)).max():.2g}"),
    }


def bapst(run: Path, folder: Path, steps: int) -> dict[str, Any]:
    """One training each way, and one with sums in another order."""
    two = trained(run, folder / "b2", "bapst", steps, seed=0, processes=2)
    one = trained(run, folder / "b1", "bapst", steps, seed=0, processes=1)
    other = trained(run, folder / "b1t", "bapst", steps, seed=0, processes=1, threads=2)
    return {
        "steps": steps,
        "loss_first_and_last": [one["losses"][0], one["losses"][-1]],
        "score_A": {"two processes": scores(two), "one": scores(one)},
        "two_processes_minus_one": difference(two, one),
        "two_threads_minus_one": difference(other, one),
        "speed_of_two_over_one": round(two["steps_per_second"] / one["steps_per_second"], 2),
    }


def glassnet(run: Path, folder: Path, steps: int, seeds: list[int]) -> dict[str, Any]:
    """Several seeds each way."""
    found: dict[str, list[Any]] = {"two processes": [], "one": []}
    for seed in seeds:
        for count, name in ((2, "two processes"), (1, "one")):
            out = folder / f"g{count}-{seed}"
            found[name].append(trained(run, out, "glassnet", steps, seed=seed, processes=count))
    every = {name: np.array([scores(one) for one in of]) for name, of in found.items()}
    late = {name: np.mean([np.mean(one["losses"][-steps // 4 :]) for one in of]) for name, of in found.items()}
    speeds = {name: np.median([one["steps_per_second"] for one in of]) for name, of in found.items()}
    return {
        "steps": steps,
        "seeds": seeds,
        "score_A": {name: np.round(of.mean(axis=0), 4).tolist() for name, of in every.items()},
        "sd_between_seeds": {name: np.round(of.std(axis=0, ddof=1), 4).tolist() for name, of in every.items()},
        "mean_loss_of_the_last_quarter": {name: round(float(of), 4) for name, of in late.items()},
        "speed_of_two_over_one": round(float(speeds["two processes"] / speeds["one"]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=400)
    parser.add_argument("--bapst", type=int, default=100, help="steps")
    parser.add_argument("--glassnet", type=int, default=400, help="steps")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    liquid: dict[str, Any] = {"particles": told.particles, "temperature": 1.0, "times": [0.1, 1.0], "engine": "lammps"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        simulate(RunSettings(lineages=6, parents=2, replicas=8, held_out_replicas=16, **liquid), run)
        learners = {
            "bapst": bapst(run, folder, told.bapst),
            "glassnet": glassnet(run, folder, told.glassnet, [int(seed) for seed in told.seeds.split(",")]),
        }
    figures = {"what": __doc__.splitlines()[0], **liquid, "batch": BATCH, "learners": learners}
    record("processes", figures, told.out)


if __name__ == "__main__":
    main()
