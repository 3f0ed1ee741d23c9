"""The critical assessment of the learners: every number and figure of docs/assessment.md.

Needs the ten published configurations as a run with replicas, and for `temperature` and `equivariant` a simulated run
at another temperature, both with their inputs computed. What is tested was never trained on; A particles; one thread.

python benchmarks/assessment.py RUN [--hot RUN] [--parts ridge networks inputs noise temperature cost equivariant]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from assessment_data import Liquid, load
from assessment_equivariant import PARENTS_REPLICAS, spent
from assessment_figures import draw
from assessment_noise import cost, noise
from assessment_parts import CELLS, FULL, grown, inputs, networks, single, summary, temperature
from record import RESULTS, record

from glassmd.ledger.run import RunDirectory
from glassmd.simulation.structures import protocol_of

Loaded = tuple[RunDirectory, list[Liquid]]

PARTS = ("ridge", "networks", "inputs", "noise", "temperature", "cost", "equivariant")
HOT = ("temperature", "equivariant")
TIME = 4.0  # of the equivariant learner's labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the ten published configurations, imported, with their inputs")
    parser.add_argument("--hot", type=Path, help="a run at another temperature, with its inputs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=150, help="of the networks")
    parser.add_argument("--folds", type=int, default=2, help="whose test configurations the networks predict")
    parser.add_argument("--cells", type=int, help="how many of the networks' cells")
    parser.add_argument("--seeds", type=int, default=2, help="of the equivariant part")
    given = parser.parse_args()
    parts = [part for part in PARTS if part in given.parts and (given.hot or part not in HOT)]
    cold = load(given.run) if set(parts) - {"equivariant"} else None
    hot = load(given.hot) if set(parts) & set(HOT) else None
    for part in parts:
        began = time.perf_counter()
        if part == "equivariant" and hot is not None:
            told = _state(*hot) | equivariant_part(hot[1], given.steps, given.seeds, given.cells)
        elif cold is not None:
            told = _state(*cold) | cold_part(part, given, cold, hot)
        seconds = round(time.perf_counter() - began, 1)
        record(f"assessment_{part}", {**told, "seconds": seconds}, show=False)
    draw(RESULTS)


def _state(directory: RunDirectory, liquids: list[Liquid]) -> dict[str, Any]:
    return {
        "configurations": len(liquids),
        "n_particles": len(liquids[0].species),
        "species": "A",
        "temperature": directory.identity["temperature"],
        "time": liquids[0].times.tolist(),
    }


def cold_part(part: str, given: argparse.Namespace, cold: Loaded, hot: Loaded | None) -> dict[str, Any]:
    """Of the ten configurations, for `temperature` beside another run."""
    directory, liquids = cold
    if part == "ridge":
        found = {"full": grown(liquids, FULL), "inherent": grown(liquids, "inherent")}
        return {**found, "single": single(liquids)}
    if part == "networks":
        return networks(liquids, given.steps, given.folds, CELLS[: given.cells])
    if part == "inputs":
        return inputs(liquids)
    if part == "noise":
        return noise(RESULTS)
    if part == "cost" or hot is None:
        return cost(directory, liquids)
    return _described(*hot) | {"rho": temperature(liquids, hot[1])}


def _described(directory: RunDirectory, liquids: list[Liquid]) -> dict[str, Any]:
    """The other run of `temperature`."""
    parents = [one.sidecar for one in directory.entries("parents")]
    taus = [one["equilibration"]["tau_alpha"] for one in parents if "equilibration" in one]
    ceilings = {
        f"hot_ceiling, t = {t:g}": summary([max(one.reliability(k), 0.0) ** 0.5 for one in liquids])
        for k, t in enumerate(liquids[0].times)
    }
    return {
        "hot": {
            "temperature": directory.identity["temperature"],
            "parents": len(liquids),
            "n_particles": len(liquids[0].species),
            "tau_alpha": taus,
            "cage": protocol_of(directory).to_dict(),
        },
        "hot_replicas": [one.distances.shape[1] for one in liquids],
        **ceilings,
    }


def equivariant_part(liquids: list[Liquid], steps: int, seeds: int, cells: int | None) -> dict[str, Any]:
    """At one output time of the hot run."""
    times = liquids[0].times.tolist()
    k = min(range(len(times)), key=lambda j: abs(times[j] - TIME))
    return {"learned_time": times[k], **spent(liquids, k, steps, seeds, PARENTS_REPLICAS[:cells])}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
