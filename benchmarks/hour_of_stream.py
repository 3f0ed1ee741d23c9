"""A long `glassmd train --stream` as users start it: is the trainer idle, does memory stay, how soon is a sample used?

    python benchmarks/hour_of_stream.py FOLDER [--minutes 60] [--out FOLDER]

Kob-Andersen, N = 1000, T = 0.8, four replicas of a parent to t = 4, one worker beside the trainer, `glassnet`, which
takes steps on what is there again while it waits. 0.25 GiB for what the learner eats and 200 samples in memory: both
are full after some minutes, and what comes then lies on disk. The run is far from its end when the wall clock stops it.
Memory of the trainer is noted every ten seconds; how it waited, and how long samples did, is what `metrics.jsonl` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from figures import axes_of, save
from record import RESULTS, record

SETTINGS = """
particles = 1000
temperature = 0.8
lineages = 10
parents = 500
replicas = 4
held_out_replicas = 8
times = [1.0, 4.0]
engine = "lammps"
workers = 1
seed = 1

[train]
max_steps = 4000
validate_every = 1000
checkpoint_every = 1000
memory = 0.25
reservoir = 200
"""

EVERY = 10.0
"""Seconds between two looks at the memory."""


def resident(pid: int) -> float:
    """MB that a process holds, and NaN when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), float("nan"))


def stream(folder: Path, minutes: float) -> list[tuple[float, float]]:
    """Run it; seconds and MB of the trainer."""
    settings = folder / "run.toml"
    settings.write_text(SETTINGS)
    program = Path(sys.executable).parent / "glassmd"
    command = [program, "train", "--stream", settings, "--out", folder / "model", "--walltime", f"{60 * minutes:g}"]
    began, memory = time.monotonic(), []
    with (folder / "log.txt").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while process.poll() is None:
            memory.append((time.monotonic() - began, resident(process.pid)))
            time.sleep(EVERY)
    if process.returncode != 75:
        raise SystemExit(f"it ended with exit code {process.returncode}: see {folder / 'log.txt'}")
    return memory[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    told.folder.mkdir(parents=True)
    memory = np.array(stream(told.folder, told.minutes))
    lines = [json.loads(line) for line in (told.folder / "model" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "stream"][-1]
    seconds, megabytes = memory.T
    half = seconds > seconds[-1] / 2
    slope, _ = np.polyfit(seconds[half], megabytes[half], 1)
    record(
        "hour_of_stream",
        {
            "what": __doc__.splitlines()[0],
            "minutes": round(float(seconds[-1]) / 60, 1),
            "steps": max(line["step"] for line in lines),
            "last_noted": {key: value for key, value in last.items() if key != "kind"},
            "memory_mb_by_minute": {
                str(minute): round(float(np.interp(60 * minute, seconds, megabytes)))
                for minute in range(5, int(seconds[-1] / 60) + 1, 5)
            },
            "memory_growth_in_second_half_mb_per_hour": round(3600 * float(slope), 1),
        },
        told.out,
    )
    figure, (axes,) = axes_of(1)
    axes.plot(seconds / 60, megabytes, lw=1)
    axes.set(xlabel="minutes", ylabel="memory of the trainer, MB", ylim=(0, None))
    save(figure, told.out / "hour_of_stream.png")


if __name__ == "__main__":
    main()
