"""Which library reads other programs' trajectories best: LAMMPS dumps and data files, extended XYZ.

    python benchmarks/readers.py [--python PYTHON ...] [--megabytes 50,500] [--out FOLDER]

Made-up files (`readers_data.py`) hold every style of coordinates and what is known to go wrong; each library that one
of the PYTHONs imports (this one alone, if none is named) reads each of them, in a process of its own, and what it tells
is compared with what is true. Then rates, in MB of the file per second of wall time, and the highest memory of the
process, for files of 1000 and of 10,000 particles, packed and not, and for a file ten times as long. Chemfiles is timed
with the types of the first frame alone: it tells them one call a particle, which takes thirty times as long.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from readers_data import CASES, Case, write
from record import RESULTS, record

WORKER = Path(__file__).with_name("readers_worker.py")
LIBRARIES = {
    "chemfiles": "chemfiles",
    "ase": "ase",
    "ase by frame": "ase",
    "MDAnalysis": "MDAnalysis",
    "ovito": "ovito",
}
"""Ways to read, and what each imports."""
PARTICLES, FRAMES = 100, 5
LONGEST = 300  # seconds


def ask(python: str, *words: str) -> dict[str, Any]:
    """What the worker found, or how it failed."""
    try:
        done = subprocess.run(
            [python, str(WORKER), *words], capture_output=True, text=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {LONGEST} s"}
    if done.returncode:
        return {"error": f"exit code {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def found(pythons: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The interpreter of each library that one of them imports, and what its import took."""
    chosen = {}
    for name, module in LIBRARIES.items():
        answers = ((python, ask(python, "import", module)) for python in pythons)
        answer = next(((python, of) for python, of in answers if "error" not in of), None)
        if answer is None:
            print(f"left out {name}: not installed", flush=True)
        else:
            chosen[name] = answer
    return chosen


def checks(pythons: dict[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """Each library on each case."""
    for k, case in enumerate(CASES):
        n_frames = 1 if case.kind == "data" else FRAMES
        path = write(case, folder / f"{k}{case.suffix}", PARTICLES, n_frames)
        for name, python in pythons.items():
            told = ask(python, "check", name, case.name, str(path), str(PARTICLES), str(n_frames))
            yield {"file": case.name, "expected_frames": n_frames, "library": name, **told}


def rates(pythons: dict[str, str], folder: Path, megabytes: list[float]) -> Iterator[dict[str, Any]]:
    """Seconds and memory of reading files through."""
    per_particle = 38e-6  # MB of a line
    files = [
        write(Case("timing"), folder / f"{n}.dump", n, max(2, round(megabytes[0] / per_particle / n)))
        for n in (1000, 10_000)
    ]
    files.append(
        write(Case("timing", kind="xyz"), folder / "1000.xyz", 1000, max(2, round(megabytes[0] / per_particle / 2000)))
    )
    packed = folder / "1000.dump.gz"
    with files[0].open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    files.append(packed)
    for more in megabytes[1:]:
        files.append(folder / f"1000 x {more / megabytes[0]:g}.dump")
        with files[-1].open("wb") as target:
            for _ in range(round(more / megabytes[0])):
                target.write(files[0].read_bytes())
    for path in files:
        size = path.stat().st_size / 1e6
        for name, python in pythons.items():
            told = ask(python, "time", name, "xyz" if path.suffix == ".xyz" else "dump", str(path))
            speed = (
                {}
                if "error" in told
                else {"mb_per_second": size / told["seconds"], "frames_per_second": told["frames"] / told["seconds"]}
            )
            rounded = {key: round(of, 2) if isinstance(of, float) else of for key, of in {**told, **speed}.items()}
            yield {"file": path.name, "megabytes": round(size, 1), "library": name, **rounded}


def line_of(row: dict[str, Any]) -> str:
    """What is not right of a check, in a line."""
    shown = {"positions", "cell", "origin", "species", "step"} if not row.get("error") else set()
    wrong = {key: of for key, of in row.items() if (key in shown and of != "right") or str(of).startswith("wrong")}
    read = f"{row.get('frames', 0)}/{row['expected_frames']}"
    return f"{row['file']:32} {row['library']:13} {read:5} {row.get('error') or wrong or 'right'}".replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="interpreter of an environment with some of the libraries")
    parser.add_argument("--megabytes", default="50,500", help="of the files that are timed; the first is written anew")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    libraries = found(told.python or [sys.executable])
    pythons = {name: python for name, (python, _) in libraries.items()}
    with tempfile.TemporaryDirectory() as name:
        seen = []
        for row in checks(pythons, Path(name)):
            print(line_of(row), flush=True)
            seen.append(row)
        timed = []
        for row in rates(pythons, Path(name), [float(of) for of in told.megabytes.split(",")]):
            print(row, flush=True)
            timed.append(row)
    figures = {
        "what": (__doc__ or "").splitlines()[0],
        "imports": {
            name: {key: round(of, 3) if isinstance(of, float) else of for key, of in row.items()}
            for name, (_, row) in libraries.items()
        },
        "checks": seen,
        "rates": timed,
    }
    record("readers", figures, told.out, show=False)


if __name__ == "__main__":
    main()
