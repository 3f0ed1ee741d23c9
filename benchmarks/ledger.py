"""What the ledger costs: opening a run, polling it, choosing the next task and `info`, from 10³ to 10⁵ entries.

    python benchmarks/ledger.py [--entries 1000,10000,100000] [--out FOLDER]

The runs are synthetic: sidecars and index of a run of one block per parent, with data files of
eight particles. Every figure is of a fresh process, whose memory is that of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
from record import RESULTS, record

from glassmd.configuration import Configuration
from glassmd.fields import GSD_PROPENSITY, GSD_PROPENSITY_VARIANCE
from glassmd.ledger.index import Committed
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.storage import sealed
from glassmd.trajectory import Frame, write_frames

PARENTS = 50  # per lineage

MEASURE = """
import json, resource, sys, time
from pathlib import Path
def timed(call, repeats=1):
    started = time.perf_counter()
    for _ in range(repeats):
        found = call()
    return found, (time.perf_counter() - started) / repeats
path, what = Path(sys.argv[1]), sys.argv[2]
figures = {}
if what == "info":
    from glassmd.report.information import information
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        _, figures["info_s"] = timed(lambda: information(path))
    except Exception as error:
        figures["info_error"] = f"{type(error).__name__}: {str(error)[:80]}"
else:
    from glassmd.ledger.run import RunDirectory
    from glassmd.simulation.tasks import Agenda
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    def opened():
        run = RunDirectory.open(path)
        run.poll()
        return run
    run, figures["open_s"] = timed(opened)
    figures["entries"] = len(run.index.log)
    time.sleep(1.2)
    run.poll()
    _, figures["poll_without_news_ms"] = timed(run.poll, 20)
    agenda, figures["agenda_s"] = timed(lambda: Agenda(run))
    def following():
        agenda.look()
        return next(iter(agenda.ready()), None)
    task, following_s = timed(following, 20)
    figures["poll_without_news_ms"] *= 1000
    figures["next_task_ms"] = 1000 * following_s
    figures["left"] = len(agenda)
    figures["next_task"] = None if task is None else task.name
figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
figures["memory_before_mb"] = base / 1024
print(json.dumps(figures))
"""


def synthetic(path: Path, entries: int) -> None:
    """A run of so many entries, a fifth of whose replicas are not there yet, as its workers would have left it."""
    lineages = max(3, entries // (2 * PARENTS))
    settings = RunSettings(
        particles=1000, temperature=0.64, lineages=lineages, parents=PARENTS, replicas=4, block=4, held_out_replicas=4,
        validation_lineages=1, test_lineages=1,
    )  # fmt: skip
    run = RunDirectory.create(
        path,
        get_mixture("kob-andersen"),
        temperature=0.64,
        times=settings.times,
        n_particles=1000,
        density=1.2,
        settings=settings,
    )
    facts = {
        "engine": "none", "engine_version": "1", "device": "cpu", "seconds": 1.0, "steps": 1000, "holds": "propensity",
        "times": settings.times, "dynamics": {"mean_displacement": [[0.1] * 3] * 2, "scattering": [[0.5] * 3] * 2},
        "potential_energy": [[-6.0] * 3] * 4, "pressure": [[5.0] * 3] * 4, "kinetic_temperature": [[0.64] * 3] * 4,
    }  # fmt: skip
    for kind in ("parents", "segments"):
        (path / kind).mkdir()
    data = {"parents": b"0123456789", "segments": _labels(path, settings.times)}
    number = 0
    for lineage in range(lineages):
        for parent in range(PARENTS):
            keys = [ParentKey(lineage, parent), SegmentKey(lineage, parent, 0)]
            for key in keys[: 1 if number % 5 == 4 else 2]:
                replicas = [] if isinstance(key, ParentKey) else [0, 1, 2, 3]
                of_kind = {"equilibration": {"equilibrated": True, "tau_alpha": 16.0}} if not replicas else {}
                content = {
                    "schema_version": 2, "run": run.identity["id"], "kind": key.kind, "file": f"{key.name}.gsd",
                    "sha256": sha256(data[key.kind]).hexdigest(),
                    "size": len(data[key.kind]), **key._asdict(), "mixture": run.identity["mixture"],
                    "temperature": 0.64, **facts, "replicas": replicas, **of_kind,
                }  # fmt: skip
                base = path / key.kind / key.name
                base.with_suffix(".gsd").write_bytes(data[key.kind])
                base.with_suffix(".json").write_text(json.dumps(sealed(content), indent=1))
                run.index.add(Committed(key, 1000, len(replicas)))
            number += 1


def _labels(path: Path, times: list[float]) -> bytes:
    """A segment that holds propensities of eight particles, which every parent has."""
    generator = np.random.default_rng(0)
    liquid = Configuration([10.0] * 3, [0] * 6 + [1] * 2, generator.uniform(-5, 5, (8, 3)), ("A", "B"))
    log = {}
    for time_ in times:
        log[GSD_PROPENSITY.format(time=time_)] = generator.uniform(0.1, 0.3, 8).astype(np.float32)
        log[GSD_PROPENSITY_VARIANCE.format(time=time_)] = np.full(8, 1e-3, np.float32)
    write_frames(path / "labels.gsd", [Frame(liquid, 0, log)])
    raw = (path / "labels.gsd").read_bytes()
    (path / "labels.gsd").unlink()
    return raw


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", default="1000,10000,100000")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    rows = []
    for entries in map(int, given.entries.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            started = time.perf_counter()
            synthetic(path, entries)
            row = {"entries_asked": entries, "made_s": time.perf_counter() - started}
            for what in ("ledger", "info"):
                command = [sys.executable, "-c", MEASURE, str(path), what]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found = json.loads(out.strip().splitlines()[-1])
                row |= {f"{key}_of_info" if key in row else key: value for key, value in found.items()}
            print(row, flush=True)
            rows.append(row)
    record("ledger", {"runs": rows}, given.out or RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
