"""How to spend a budget of replica-steps: many replicas of few parents, or few of many, and where the next one goes.

    python benchmarks/online_data.py FOLDER/bank
    python benchmarks/online.py FOLDER [--stages arms,steer,figure] [--seeds 0,1,2] [--learners glassnet,cage]

`arms`: each way to spend the same budget (`online_data.PARENTS`) is a run directory of links into the bank; `glassnet`
and `cage` are trained on it and on the first half and quarter of its parents, and scored on the bank's test lineages.
The published protocol is the arm with 32 replicas, trained when all is there, and a quarter affords no parent of every
lineage with them; the others are what a stream has made in the end, and `online_against_offline.py` says how little the
order of arrival matters.
`steer`: streams with half of that budget, `--acquire uniform` and `uncertainty`, from the same equilibrated lineages
of another seed, scored on the same test lineages.
`figure`: `online.json` and `online.png`. Rows are kept in FOLDER/rows.jsonl as they come; started again, it goes on,
and seeds may be measured beside each other.

Seconds since nothing are those of two cores: of the published protocol those of the simulation, at the speed of the
bank, and then of the training (its median over the seeds); of a stream half of both together. The streams of `steer`
say how long they took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import axes_of, log_axis, save
from online_data import LEARNER, PARENTS, parents_of, run_settings
from record import RESULTS, record

from glassmd.evaluation import evaluate
from glassmd.ledger.keys import KINDS
from glassmd.ledger.run import ParentKey, SegmentKey
from glassmd.settings import RunSettings, Settings
from glassmd.stream.dataset import Run, open_run
from glassmd.training.session import train, train_stream

SHARES = 1.0, 0.5, 0.25
TRAINING, TAU_ALPHA = "train", 0  # role; which of the times is closest to τ_α
PUBLISHED = 32  # replicas per parent of the published protocol
CORES = 2
STEERED = {"parents": 16, "validation_lineages": 1, "test_lineages": 0, "lineages": 9, "held_out_replicas": 2}


def chosen(run: Run, replicas: int, share: float) -> Iterator[Any]:
    """Entries of an arm, test lineages left out."""
    for line in run.index.log:
        key = line.key
        role = run.role(key.lineage)
        if role == "test":
            continue
        if role == TRAINING:
            last = parents_of(replicas, share)
            if key.parent >= last or (isinstance(key, SegmentKey) and key.block >= replicas):
                continue
        yield line


def speed(bank: Path) -> float:
    """Replica-steps/s of one core while the bank was made."""
    told = [json.loads(path.read_text()) for path in sorted(bank.glob("segments/*.json"))[:200]]
    return float(np.median([one["steps"] / one["seconds"] for one in told]))


def seconds_since_nothing(row: dict[str, Any], rate: float) -> float:
    """Of two cores, at so many replica-steps/s of each."""
    simulation, training = row["replica_steps"] / rate, row["training_seconds"]
    return simulation / CORES + training if row["replicas"] == PUBLISHED else (simulation + training) / CORES


def linked(bank: Path, arm: Path, replicas: int, share: float) -> int:
    """Make an arm of links; the replica-steps behind it, equilibration and structures included."""
    run = open_run(bank)
    run.poll()
    shutil.rmtree(arm, ignore_errors=True)
    for kind in KINDS:
        (arm / kind).mkdir(parents=True)
    shutil.copy(bank / "run.json", arm)
    shutil.copytree(bank / "requests", arm / "requests")
    steps = 0
    for line in chosen(run, replicas, share):
        entry = run.entry(line.key.kind, line.key.name)
        assert entry is not None
        for path in (entry.path, entry.path.with_name(f"{line.key.name}.json")):
            os.link(path, arm / line.key.kind / path.name)
        steps += line.steps
    return steps


def scored(model: Path, bank: Path) -> dict[str, Any]:
    """ρ_A / ceiling per time on the test lineages, mean and standard error over configurations, and ρ_A."""
    found = evaluate(model, [bank], subset="test")
    of_a, n = found["species"]["A"], found["n_configurations"]
    share = of_a["pearson_over_ceiling"]
    return {
        "rho": of_a["pearson_per_configuration"]["mean"],
        "of_ceiling": share["mean"],
        "of_ceiling_error": [sd / n**0.5 for sd in share["sd"]],
        "configurations": n,
        "times": found["times"],
    }


class Rows:
    """What has been measured, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def has(self, **what: Any) -> bool:
        return any(all(row.get(key) == value for key, value in what.items()) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def arms(folder: Path, rows: Rows, seeds: list[int], learners: list[str], shares: list[float]) -> None:
    """Every way to spend the budget."""
    for seed in seeds:
        bank = folder / "bank" / f"seed-{seed}"
        for share in shares:
            for learner in learners:
                for replicas in (one for one in PARENTS if PARENTS[one] * share >= 1):
                    what = {"arm": "even", "seed": seed, "learner": learner, "replicas": replicas, "share": share}
                    if rows.has(**what):
                        continue
                    steps = linked(bank, arm := folder / f"arm-{seed}", replicas, share)
                    settings = LEARNER.model_copy(update={"model": learner})
                    shutil.rmtree(model := folder / f"model-{seed}", ignore_errors=True)
                    started = time.monotonic()
                    train([arm], model, Settings(run=RunSettings(seed=seed), train=settings))
                    facts = {"replica_steps": steps, "training_seconds": round(time.monotonic() - started, 1)}
                    rows.add({**what, **facts, **scored(model, bank)})


def steer(folder: Path, rows: Rows, seeds: list[int]) -> None:
    """Streams that end with their budget, evenly and where the learner knows least."""
    budgets = [row["replica_steps"] for row in rows.rows if row["arm"] == "even" and row["share"] == 0.5]
    budget = int(np.median(budgets))
    told = {**STEERED, "replicas": 4, "budget": budget, "workers": CORES}
    for seed in seeds:
        for acquire in ("uniform", "uncertainty"):
            what = {"arm": acquire, "seed": seed, "learner": "glassnet", "replicas": 4, "share": 0.5}
            if rows.has(**what):
                continue
            out = folder / f"{acquire}-{seed}"
            if acquire != "uniform" and not out.exists():
                equilibrated(folder / f"uniform-{seed}" / "run", out / "run")
            learner = LEARNER.model_copy(update={"acquire": acquire, "validate_every": 100, "redraw": 0.0})
            result = train_stream(Settings(run=run_settings(100 + seed, **told), train=learner), out)
            spent = open_run(result["run"])
            spent.poll()
            parents = {line.key.of for line in spent.index.log if isinstance(line.key, SegmentKey)}
            rows.add(
                {
                    **what,
                    "replica_steps": sum(spent.index.steps.values()),
                    "seconds": round(result["seconds"], 1),
                    "parents": len([key for key in parents if spent.role(key.lineage) == TRAINING]),
                    "replicas_by_parent": _counts(spent),
                    **scored(out, folder / "bank" / f"seed-{seed}"),
                }
            )


def equilibrated(made: Path, run: Path) -> None:
    """A run that has nothing but the equilibrated lineages of another, which is itself."""
    (run / "parents").mkdir(parents=True)
    shutil.copy(made / "run.json", run)
    for path in made.glob("parents/L*-P0000*"):
        shutil.copy(path, run / "parents")


def _counts(run: Run) -> list[int]:
    """How many training parents have one replica, two, and so on."""
    of: dict[ParentKey, int] = {}
    for line in run.index.log:
        if isinstance(line.key, SegmentKey) and run.role(line.key.lineage) == TRAINING:
            of[line.key.of] = of.get(line.key.of, 0) + line.replicas
    return np.bincount(list(of.values()))[1:].tolist() if of else []


def figure(folder: Path, rows: Rows, out: Path) -> None:
    """Means over seeds, with the spread between them as the error: against replicas, replica-steps and seconds."""
    # other jobs on the same cores may have slowed down some banks and trainings
    rate = max(speed(bank) for bank in sorted((folder / "bank").glob("seed-*")))
    for row in rows.rows:
        if row["arm"] == "even":
            alike = [other["training_seconds"] for other in rows.rows if _same_but_seed(row, other)]
            row["seconds"] = round(seconds_since_nothing({**row, "training_seconds": float(np.median(alike))}, rate))
    table, learners = [], sorted({row["learner"] for row in rows.rows}, reverse=True)
    drawn, axes = axes_of(3 * len(learners), rows=3)
    for number, learner in enumerate(learners):
        by_replicas, by_steps, by_seconds = axes[number :: len(learners)]
        points: dict[int, list[tuple[float, float, float, float]]] = {}
        for share, mark in zip(SHARES, ("o-", "s--", "^:"), strict=True):
            line = []
            for replicas in PARENTS:
                wanted = ("even", learner, replicas, share)
                found = [r for r in rows.rows if (r["arm"], r["learner"], r["replicas"], r["share"]) == wanted]
                if found:
                    measured = _mean([row["of_ceiling"][TAU_ALPHA] for row in found])
                    line.append((replicas, *measured))
                    seconds = float(np.mean([row["seconds"] for row in found]))
                    steps = float(np.mean([row["replica_steps"] for row in found])) / 1e6
                    points.setdefault(replicas, []).append((steps, seconds, *measured))
                    table.append(_summary("even", learner, replicas, share, found, _published(rows, found)))
            if line:
                x, y, error = zip(*line, strict=True)
                by_replicas.errorbar(x, y, error, fmt=mark, capsize=2, label=f"{share:g} of the budget")
        for replicas, of in points.items():
            steps_by_share, seconds_by_share, y, error = zip(*sorted(of), strict=True)
            name = f"{replicas}, then trained" if replicas == PUBLISHED else f"{replicas}, streamed"
            for axis, x in ((by_steps, steps_by_share), (by_seconds, seconds_by_share)):
                axis.errorbar(x, y, error, fmt="o-", capsize=2, ms=4, label=name)
        by_replicas.set_title(learner)
        log_axis(by_replicas, sorted(PARENTS))
        by_replicas.set_xlabel("replicas per training parent")
        by_steps.set_xlabel("replica-steps since nothing, millions")
        by_seconds.set_xlabel("seconds since nothing, two cores")
        for axis in (by_replicas, by_steps, by_seconds):
            axis.set_ylabel("ρ / ceiling of A at τ$_α$")
            axis.legend(fontsize=7)
    for acquire in ("uniform", "uncertainty"):
        found = [row for row in rows.rows if row["arm"] == acquire]
        if found:
            table.append(_summary(acquire, "glassnet", 4, 0.5, found, []))
    save(drawn, out / "online.png")
    facts = {"what": __doc__.splitlines()[0], "replica_steps_per_second_of_a_core": round(rate)}
    record("online", {**facts, "rows": table, "measured": rows.rows}, out, show=False)


def _mean(values: list[float]) -> tuple[float, float]:
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def _same_but_seed(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in ("arm", "learner", "share", "replicas"))


def _published(rows: Rows, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the published protocol on the same seeds, learner and share, in their order."""
    return [
        other
        for row in found
        for other in rows.rows
        if other["replicas"] == PUBLISHED and all(other[key] == row[key] for key in ("arm", "seed", "learner", "share"))
    ]


def _summary(
    arm: str, learner: str, replicas: int, share: float, found: list[dict[str, Any]], published: list[dict[str, Any]]
) -> dict[str, Any]:
    """Means over seeds, and the paired difference to the published protocol."""
    values = [row["of_ceiling"][TAU_ALPHA] for row in found]
    mean, error = _mean(values)
    paired = [a - b["of_ceiling"][TAU_ALPHA] for a, b in zip(values, published, strict=False)]
    difference = {"minus_published": [round(of, 4) for of in _mean(paired)]} if len(paired) == len(values) else {}
    return {
        "arm": arm, "learner": learner, "replicas": replicas, "share": share, "seeds": len(found),
        "rho_over_ceiling": round(mean, 4), "error": None if np.isnan(error) else round(error, 4),
        "replica_steps": round(float(np.mean([row["replica_steps"] for row in found]))),
        "seconds": round(float(np.mean([row["seconds"] for row in found]))),
        **difference,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", default="arms,steer,figure")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--learners", default="glassnet,cage")
    parser.add_argument("--shares", default="1,0.5")
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    torch.set_num_threads(1)
    rows, seeds = Rows(told.folder / "rows.jsonl"), [int(seed) for seed in told.seeds.split(",")]
    stages = told.stages.split(",")
    if "arms" in stages:
        arms(told.folder, rows, seeds, told.learners.split(","), [float(share) for share in told.shares.split(",")])
    if "steer" in stages:
        steer(told.folder, rows, seeds)
    if "figure" in stages:
        figure(told.folder, rows, told.out)


if __name__ == "__main__":
    main()
