"""Encoding a sample for `glassnet` and `ridge` in this checkout against another one, on one core.

    python benchmarks/encoding.py --against CHECKOUT [--particles 4096,1000] [--rounds 5] [--out FOLDER]

CHECKOUT is a folder with another version of the sources, such as `git worktree add --detach ../before COMMIT` leaves.
Both encode the same made-up structures in processes of their own, in turns: particles of a liquid's density, inherent
and cage positions a tenth of a diameter away, rattling of 32 replicas. Told are seconds of processor time for a sample
when everything is loaded, medians of five, and the largest difference of what comes out in units of a column's spread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from liquid import liquid_like
from record import RESULTS, record
from turns import ratio, take_turns

HERE = Path(__file__).resolve().parents[1]
LEARNERS = "glassnet", "ridge"
REPLICAS = 32

ENCODE = """
import json, statistics, sys, time
import numpy as np, torch
from glassmd.configuration import Configuration
from glassmd.learners import make_model
from glassmd.mixtures import get_mixture
from glassmd.structure import Rattling, Structure

torch.set_num_threads(1)
found, (path, learner, out) = np.load(sys.argv[1]), sys.argv[1:]
thermal = Configuration(box=found["box"], species=found["species"], positions=found["thermal"])
rattling = Rattling.of_replicas(found["means"], found["covariances"])
model = make_model(learner, n_times=1, inputs=["thermal", "inherent", "cage"])

def encode():
    structure = Structure(
        thermal, get_mixture("kob-andersen"), 0.44, found["inherent"], found["cage"], rattling.debye_waller, rattling
    )
    started = time.process_time()
    data = model.encode(structure)
    return time.process_time() - started, data

_, data = encode()
seconds = statistics.median(encode()[0] for _ in range(5))
np.savez(out, **{k: v.numpy() for k, v in data.to_dict().items() if isinstance(v, torch.Tensor)})
print(json.dumps(seconds))
"""


def made_up(path: Path, n_particles: int) -> None:
    """A structure with everything that a learner may see."""
    generator, thermal = np.random.default_rng(0), liquid_like(n_particles)
    shape = thermal.positions.shape
    shake = generator.normal(size=(REPLICAS, *shape, 4)) * 0.05
    np.savez(
        path,
        box=thermal.box,
        species=thermal.species,
        thermal=thermal.positions,
        inherent=thermal.unwrapped + 0.1 * generator.normal(size=shape),
        cage=thermal.unwrapped + 0.1 * generator.normal(size=shape),
        means=0.05 * generator.normal(size=(REPLICAS, *shape)),
        covariances=np.einsum("rnik,rnjk->rnij", shake, shake),
    )


def encoded(checkout: Path, structure: Path, learner: str, out: Path) -> float:
    """Samples per second of processor time."""
    places = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, str(structure), learner, str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        cwd=checkout, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return 1 / float(json.loads(done.stdout.splitlines()[-1]))


def _ordered(path: Path) -> dict[str, Any]:
    """Arrays of an encoded sample, those of bonds by sender and receiver."""
    found = dict(np.load(path))
    if "edge_index" in found:
        order = np.lexsort(found["edge_index"])
        for name, values in found.items():
            if name == "edge_index":
                found[name] = values[:, order]
            elif len(values) == len(order):
                found[name] = values[order]
    return found


def difference(one: Path, other: Path) -> float:
    """Largest difference of any number, in units of its column's deviation; bonds may come in another order."""
    a, b, worst = _ordered(one), _ordered(other), 0.0
    for name in a:
        first, second = np.asarray(a[name], np.float64), np.asarray(b[name], np.float64)
        if first.shape != second.shape:
            return float("inf")
        if a[name].dtype.kind == "f":
            worst = max(worst, float((np.abs(first - second) / (first.std(axis=0) + 1e-12)).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="checkout of another version")
    parser.add_argument("--particles", default="4096,1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    before = told.against.resolve()
    commit = subprocess.run(
        ["git", "-C", str(before), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for n in map(int, told.particles.split(",")):
            made_up(structure := Path(name) / f"{n}.npz", n)
            for learner in LEARNERS:
                out = {kind: Path(name) / f"{kind}.npz" for kind in ("now", "before")}
                rates = take_turns(
                    {
                        "now": lambda s=structure, x=learner, o=out: encoded(HERE, s, x, o["now"]),
                        "before": lambda s=structure, x=learner, o=out: encoded(before, s, x, o["before"]),
                    },
                    told.rounds,
                )
                rows.append(
                    {
                        "learner": learner,
                        "particles": n,
                        "seconds": {kind: round(1 / float(np.median(of)), 4) for kind, of in rates.items()},
                        "time_now_over_before": ratio(rates, "before", "now"),
                        "largest_difference": float(f"{difference(out['now'], out['before']):.2g}"),
                    }
                )
                print(rows[-1], flush=True)
    what = __doc__.splitlines()[0]
    record("encoding", {"what": what, "against": commit.stdout.strip() or str(before), "samples": rows}, told.out)


if __name__ == "__main__":
    main()
