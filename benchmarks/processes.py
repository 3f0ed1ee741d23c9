"""Two gloo processes against one process with twice the batch: losses, scores and steps per second.

    python benchmarks/processes.py [--particles 400] [--bapst 100] [--glassnet 400] [--seeds 0,1,2] [--out FOLDER]

Everything has one thread, so that two processes have two cores where one has one. `bapst` has no dropout: its losses
are the same up to rounding, which grows with the steps. How fast it grows by itself is shown by one process with two
threads, whose sums are taken in another order. `glassnet` has dropout, and is compared by the scores of several seeds.

Speed is told twice: by the clock, which means nothing while others use the cores, and by the processor time that a step
takes in the first process, which leaves out what it waits for.
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
LEAST_STEPS = 5  # on whose losses rounding is compared


def trained(run: Path, out: Path, learner: str, steps: int, *, seed: int, processes: int, threads: int = 1) -> Any:
    """The result of a training, with its losses, and the seconds of a step by the clock and of the processor."""
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
    seen: list[tuple[int, float, float]] = []
    while process.poll() is None:  # encoding, and the first step, are not what is compared
        if (out / "status.json").exists():
            status = json.loads((out / "status.json").read_text())
            if 0 < status["step"] < steps and (not seen or status["step"] > seen[-1][0]):
                seen.append((status["step"], status["updated"], processor_seconds(status["pid"])))
        time.sleep(0.02)
    output = process.communicate()[0]
    assert process.returncode == 0, command
    found = json.loads(output)
    found["losses"] = [line["loss"] for line in read_metrics(out / "metrics.jsonl") if line["kind"] == "train"]
    (begun, since, before), (ended, until, after) = seen[0], seen[-1]
    found["step_s"], found["step_processor_s"] = (
        (b - a) / (ended - begun) for a, b in ((since, until), (before, after))
    )
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def speeds(ones: list[Any], twos: list[Any]) -> dict[str, float]:
    """How many times as fast two processes are, by the clock and by the processor time of the first."""
    ratios = {
        key: float(np.median([of[key] for of in ones]) / np.median([of[key] for of in twos]))
        for key in ("step_s", "step_processor_s")
    }
    return {
        "speed_of_two_over_one_by_the_clock": round(ratios["step_s"], 2),
        "processor_time_of_a_step_of_one_over_that_of_the_first_of_two": round(ratios["step_processor_s"], 2),
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
        **speeds([one], [two]),
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
    return {
        "steps": steps,
        "seeds": seeds,
        "score_A": {name: np.round(of.mean(axis=0), 4).tolist() for name, of in every.items()},
        "sd_between_seeds": {name: np.round(of.std(axis=0, ddof=1), 4).tolist() for name, of in every.items()},
        "mean_loss_of_the_last_quarter": {name: round(float(of), 4) for name, of in late.items()},
        **speeds(found["one"], found["two processes"]),
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
