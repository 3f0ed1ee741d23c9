"""The critical assessment of the learners: every number and figure of docs/assessment.md.

Needs the ten published configurations as a run with replicas, and for `temperature` a run at another temperature,
both with their inputs computed. Everything is leave-configurations-out; A particles; one thread.

python benchmarks/assessment.py RUN [--hot RUN] [--parts ridge networks inputs noise temperature cost]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from assessment_data import load
from assessment_figures import draw
from assessment_noise import cost, noise
from assessment_parts import CELLS, FULL, grown, inputs, networks, single, summary, temperature
from record import RESULTS, record

from glassmd.inputs import protocol_of

PARTS = ("ridge", "networks", "inputs", "noise", "temperature", "cost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the ten published configurations, imported, with their inputs")
    parser.add_argument("--hot", type=Path, help="a run at another temperature, with its inputs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=150, help="of the networks")
    parser.add_argument("--folds", type=int, default=2, help="whose test configurations the networks predict")
    parser.add_argument("--cells", type=int, default=len(CELLS), help="how many of the networks' cells")
    given = parser.parse_args()
    directory, liquids = load(given.run)
    state = {"configurations": len(liquids), "n_particles": len(liquids[0].species), "species": "A"}
    state |= {"temperature": directory.identity["temperature"], "time": liquids[0].times.tolist()}
    for part in (part for part in PARTS if part in given.parts):
        began, told = time.perf_counter(), dict[str, Any]()
        if part == "ridge":
            told = {"full": grown(liquids, FULL), "inherent": grown(liquids, "inherent")}
            told |= {"single": single(liquids)}
        elif part == "networks":
            told = networks(liquids, given.steps, given.folds, CELLS[: given.cells])
        elif part == "inputs":
            told = inputs(liquids)
        elif part == "noise":
            told = noise(RESULTS)
        elif part == "cost":
            told = cost(directory, liquids)
        elif given.hot is not None:
            hot_directory, hot = load(given.hot)
            told = {
                "hot": {
                    "temperature": hot_directory.identity["temperature"],
                    "parents": len(hot),
                    "n_particles": len(hot[0].species),
                    "tau_alpha": [
                        one.sidecar["equilibration"]["tau_alpha"] for one in hot_directory.entries("parents")
                    ],
                    "cage": protocol_of(hot_directory).to_dict(),
                }
            }
            told |= {"hot_replicas": [one.distances.shape[1] for one in hot]}
            told |= {
                f"hot_ceiling, t = {t:g}": summary([max(one.reliability(k), 0.0) ** 0.5 for one in hot])
                for k, t in enumerate(hot[0].times)
            }
            told |= {"rho": temperature(liquids, hot)}
        if told:
            seconds = round(time.perf_counter() - began, 1)
            record(f"assessment_{part}", {**state, **told, "seconds": seconds}, show=False)
    draw(RESULTS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
