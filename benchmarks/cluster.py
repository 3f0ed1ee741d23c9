"""A Ray cluster against the processes of this machine: what killing nodes changes, and what Ray costs.

    python benchmarks/cluster.py kills      [--kills 10] [--out FOLDER]
    python benchmarks/cluster.py trainings  [--kills 10] [--out FOLDER]
    python benchmarks/cluster.py overhead   [--segments 200] [--rounds 1] [--out FOLDER]

`kills`: a run of 40 segments on three nodes (processes of this machine, without a directory in common), of which one is
killed (SIGKILL to all its processes) at random moments, each time after another one has joined; and the same run,
undisturbed, on this machine alone. Told are the checksums that differ. `trainings`: the same with a training beside it
(`train --stream`), and which steps were taken how often by what the model directory tells of them.

`overhead`: segments of about two seconds each, by as many workers as there are cores, through the pool of one machine
and through Ray. The rate is that of the commits between the first and the last.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' nodes

from record import RESULTS, record

from glassmd.ledger.keys import KINDS
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import open_run
from glassmd.training.journal import read_metrics
from tests.ray_nodes import Nodes

FORTY = RunSettings(
    particles=500, temperature=1.0, lineages=4, parents=4, replicas=8, held_out_replicas=32, block=8, times=[0.1, 10.0],
    accept_unequilibrated=True, max_equilibration_time=20.0, engine="lammps", seed=3,
)  # fmt: skip


def checksums(path: Path) -> dict[str, str]:
    """Of the data of every entry."""
    run = open_run(path)
    return {entry.key.name: str(entry.sidecar["sha256"]) for kind in KINDS for entry in run.entries(kind)}


def flags(settings: RunSettings) -> list[str]:
    """The command-line options that say the same."""
    told = {name: getattr(settings, name) for name in settings.model_fields_set}
    values = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in told.items()}
    words = [f"{name}={str(value).lower() if value is True else value}" for name, value in values.items()]
    return [part for word in words for part in ("--set", word)]


def kills(folder: Path, count: int, command: list[str], out: Path) -> dict[str, Any]:
    """A run whose nodes are killed, against one that is left alone.

    Args:
        folder: For the other one.
        count: How often a node is killed.
        command: What makes the run, to which the address of the cluster is added.
        out: The run that it makes.
    """
    simulate(FORTY.model_copy(update={"workers": os.cpu_count()}), folder / "alone", show=False)
    chance, killed, began = random.Random(7), [], time.monotonic()
    with Nodes(3) as nodes:
        asked = [sys.executable, "-m", "glassmd_cli", *command, "--cluster", nodes.address]
        process = subprocess.Popen(asked, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(killed) < count:
            time.sleep(chance.uniform(2.0, 6.0))
            nodes.join()
            nodes.kill(chance.randrange(3))
            killed.append(round(time.monotonic() - began, 1))
        code = process.wait()
    expected, found = checksums(folder / "alone"), checksums(out)
    segments = sum(name.count("-B") for name in found)
    return {
        "exit_code": code,
        "killed_after_seconds": killed,
        "seconds": time.monotonic() - began,
        "segments": segments,
        "entries": len(found),
        "missing": sorted(expected.keys() - found.keys()),
        "different": sorted(name for name in found if found[name] != expected.get(name)),
    }


def trainings(folder: Path, count: int) -> dict[str, Any]:
    """The same with a trainer on one of the nodes."""
    model, steps = folder / "model", 400
    trained = ["model=bapst", f"max_steps={steps}", "validate_every=100", "checkpoint_every=10", "redraw=0"]
    asked = ["train", "--stream", *flags(FORTY), *(part for word in trained for part in ("--set", word))]
    found = kills(folder, count, [*asked, "--out", str(model)], model / "run")
    taken = [line["step"] for line in read_metrics(model / "metrics.jsonl") if "loss" in line]
    return {**found, "steps": len(taken), "each_step_once": taken == list(range(1, steps + 1))}


def overhead(folder: Path, segments: int, rounds: int) -> dict[str, Any]:
    """Segments per second through the pool of one machine and through Ray, in turns."""
    lineages = 10
    settings = RunSettings(
        particles=1000, temperature=1.0, lineages=lineages + 1, validation_lineages=0, test_lineages=1, parents=1,
        replicas=segments // lineages, held_out_replicas=1, block=1, times=[16.0], accept_unequilibrated=True,
        max_equilibration_time=20.0, engine="lammps", workers=os.cpu_count(), seed=5,
    )  # fmt: skip
    found: dict[str, Any] = {"segments": segments, "workers": os.cpu_count()}
    rates: dict[str, list[float]] = {"pool": [], "ray": []}
    for number, name in ((number, name) for number in range(rounds) for name in rates):
        path, cluster = folder / f"{name}-{number}", "local" if name == "ray" else None
        simulate(settings.model_copy(update={"cluster": cluster}), path, show=False)
        run = open_run(path)
        entries = [entry for entry in run.entries("segments") if entry.key.lineage > 0]
        times = sorted(run.committed(entry.key) for entry in entries)
        rates[name].append((len(times) - 1) / (times[-1] - times[0]))
        found[f"seconds_per_segment_{name}"] = sum(float(one.sidecar["seconds"]) for one in entries) / len(entries)
        print(name, rates[name][-1], flush=True)
    return {**found, "segments_per_second": rates, "ray_over_pool": sum(rates["ray"]) / sum(rates["pool"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "trainings", "overhead"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.what == "kills":
            asked = ["simulate", *flags(FORTY), "--out", str(folder / "killed")]
            record("cluster_kills", kills(folder, options.kills, asked, folder / "killed"), options.out)
        elif options.what == "trainings":
            record("cluster_trainings", trainings(folder, options.kills), options.out)
        else:
            record("cluster_overhead", overhead(folder, options.segments, options.rounds), options.out)


if __name__ == "__main__":
    main()
