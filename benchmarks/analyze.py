"""`glassmd analyze` on a long trajectory: MB of file per second on one core and memory, against freud and gsd alone.

    python benchmarks/analyze.py FOLDER [--gigabytes 2] [--out FOLDER]

A trajectory of `examples/own_trajectory/with_lammps.py` (N = 1000) is repeated, with later steps, until the GSD file
and the dump (`xu yu zu vx vy vz`) are as long as asked for. `glassmd analyze` does everything it does. Beside it, in
the same run: gsd reads the frames that make up as many lags from as many beginnings, numpy takes their mean squared
displacement and F_s at as many wave vectors, and freud the partial and total g(r) of as many configurations.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import freud
import gsd.hoomd
import numpy as np
from record import RESULTS, record

from glassmd.analysis.dynamics import allowed_wave_vectors
from glassmd.analysis.lags import plan_lags

WRITER = Path(__file__).parents[1] / "examples" / "own_trajectory" / "with_lammps.py"
STEPS = 50  # between frames
OPTIONS = ["--mixture", "kob-andersen", "--temperature", "0.8", "--time-step", "0.005", "--json"]
CONFIGURATIONS, REACH, BINS, Q = 50, 4.7, 235, {0: 7.25, 1: 5.75}


def written(folder: Path, gigabytes: float) -> tuple[Path, Path]:
    """A GSD file and a dump of about that size."""
    folder.mkdir(parents=True, exist_ok=True)
    one, text = folder / "one.gsd", folder / "one.dump"
    long, long_text = folder / "long.gsd", folder / "long.dump"
    if not one.exists() or not text.exists():
        subprocess.run([sys.executable, str(WRITER), str(one), "--dump", str(text)], check=True)
    if not long.exists():
        with gsd.hoomd.open(one, "r") as source, gsd.hoomd.open(folder / "part", "w") as target:
            frames, number = list(source), 0
            while (folder / "part").stat().st_size < gigabytes * 1e9:
                for frame in frames:
                    frame.configuration.step = STEPS * number
                    target.append(frame)
                    number += 1
        (folder / "part").rename(long)
    if not long_text.exists():
        repeat_text(text, folder / "part", gigabytes)
        (folder / "part").rename(long_text)
    return long, long_text


def repeat_text(text: Path, out: Path, gigabytes: float) -> None:
    """The dump again and again, with seven of its columns and with later steps."""
    blocks = []
    with text.open() as file:
        while head := list(islice(file, 9)):
            columns = head[8].split()[2:]
            kept = [columns.index(name) for name in ("id", "type", "xu", "yu", "zu", "vx", "vy", "vz")]
            rows = (line.split() for line in islice(file, int(head[3])))
            body = "".join(" ".join(row[k] for k in kept) + "\n" for row in rows)
            blocks.append("".join(head[2:8]) + "ITEM: ATOMS id type xu yu zu vx vy vz\n" + body)
    number = 0
    with out.open("w") as file:
        while file.tell() < gigabytes * 1e9:
            for block in blocks:
                file.write(f"ITEM: TIMESTEP\n{STEPS * number}\n{block}")
                number += 1


def ran(command: list[str]) -> dict[str, float]:
    """Seconds and peak memory of a command on one core."""
    before = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
    assert status == 0, command
    return {"seconds": time.perf_counter() - before, "peak_mb": used.ru_maxrss / 1024}


def alone(path: Path) -> None:
    """The same work without glassmd: g(r) by freud, displacements by numpy."""
    with gsd.hoomd.open(path, "r") as file:
        first = file[0]
        box, species = first.configuration.box, first.particles.typeid
        edges = box[:3].astype(float)
        for k in np.linspace(0, len(file) - 1, CONFIGURATIONS).round().astype(int):
            at = file[int(k)].particles.position
            of = [at[species == 0], at[species == 1]]
            rdf = freud.density.RDF(bins=BINS, r_max=REACH)
            for points, others, same in ((of[0], of[0], 1), (of[0], of[1], 0), (of[1], of[1], 1), (at, at, 1)):
                search = {"r_max": REACH, "exclude_ii": bool(same)}
                rdf.compute((box, points), query_points=others, neighbors=search)
        plan = plan_lags(np.arange(len(file), dtype=float))
        vectors = {kind: allowed_wave_vectors(edges, q, most=36).astype(np.float32) for kind, q in Q.items()}
        unwrapped: dict[int, Any] = {}
        last = dict(zip(plan.pairs[:, 0].tolist(), plan.pairs[:, 1].tolist(), strict=True))
        for begin, end, _ in plan.pairs.tolist():
            for k in (begin, end):
                if k not in unwrapped:
                    particles = file[k].particles
                    unwrapped[k] = particles.position + particles.image * edges
            moved = unwrapped[end] - unwrapped[begin]
            moved = moved - moved.mean(axis=0)
            for kind in (0, 1):
                of_kind = moved[species == kind].astype(np.float32)
                (of_kind**2).sum(axis=1).mean(), np.cos(of_kind @ vectors[kind].T).mean()
            for k in [k for k in unwrapped if last.get(k, -1) < end and k != end]:
                del unwrapped[k]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    if told.alone:
        alone(told.folder)
        return
    long, long_text = written(told.folder, told.gigabytes)
    glassmd = [str(Path(sys.executable).with_name("glassmd")), "analyze"]
    rows: dict[str, Any] = {}
    for name, path, command in (
        ("analyze GSD", long, [*glassmd, str(long), *OPTIONS]),
        ("freud, numpy and gsd alone, GSD", long, [sys.executable, __file__, str(long), "--alone"]),
        ("analyze dump", long_text, [*glassmd, str(long_text), *OPTIONS]),
    ):
        megabytes = path.stat().st_size / 1e6
        found = ran(command)
        rows[name] = {"megabytes": round(megabytes), **{key: round(value, 1) for key, value in found.items()}}
        rows[name]["mb_per_second"] = round(megabytes / found["seconds"], 1)
        print(name, rows[name], flush=True)
    ratio = rows["analyze GSD"]["seconds"] / rows["freud, numpy and gsd alone, GSD"]["seconds"]
    record("analyze", {"what": __doc__.splitlines()[0], **rows, "analyze_over_alone": round(ratio, 2)}, told.out)


if __name__ == "__main__":
    main()
