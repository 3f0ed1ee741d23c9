"""A learner that was trained while its data were made against the same learner, trained on the same data afterwards.

    python benchmarks/online_against_offline.py FOLDER [--seeds 1,2,3] [--redraw 0] [--out FOLDER]

The runs are those of `glassmd demo` (a liquid in the plane, N = 1000, three times, `glassnet`) with other seeds, on all
cores, so that the trainer waits for samples; with --redraw it takes more steps on those that are there instead, so many
per sample. Both are scored on the lineage that neither has seen. Started again in FOLDER, it goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, record

from glassmd.demo import demo_settings
from glassmd.evaluation import evaluate
from glassmd.settings import Settings
from glassmd.simulation.preparation import available_cores
from glassmd.training.session import train, train_stream


def settings_of(seed: int, redraw: float) -> Settings:
    """Those of the demonstration."""
    known = demo_settings()
    run = known.run.model_copy(update={"seed": seed, "workers": available_cores()})
    return Settings(run=run, train=known.train.model_copy(update={"redraw": redraw, "train_device": "cpu"}))


def measured(folder: Path, seed: int, redraw: float) -> dict[str, Any]:
    """ρ_A per time of both, and how the stream went."""
    settings, stream = settings_of(seed, redraw), folder / f"seed-{seed}"
    online, offline = stream / f"online-{redraw:g}", stream / "offline"
    told = train_stream(settings, online, run_directory=stream / "run")
    train([stream / "run"], offline, settings)
    rho = {}
    for name, model in (("online", online), ("offline", offline)):
        found = evaluate(model, [stream / "run"], subset="test")
        rho[name] = found["species"]["A"]["pearson_per_configuration"]["mean"]
    kept = ("steps", "steps_redrawn", "idle_share", "commit_to_batch", "overlap_seconds", "seconds")
    return {"seed": seed, **rho, "times": found["times"], **{key: told[key] for key in kept}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--redraw", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    rows = []
    for seed in map(int, told.seeds.split(",")):
        rows.append(measured(told.folder, seed, told.redraw))
        print(rows[-1], flush=True)
    apart = np.array([row["online"] for row in rows]) - np.array([row["offline"] for row in rows])
    name = "online_against_offline" + (f"_redraw_{told.redraw:g}" if told.redraw else "")
    record(
        name,
        {
            "what": __doc__.splitlines()[0],
            "seeds": rows,
            "online_minus_offline": {
                "mean": np.round(apart.mean(axis=0), 4).tolist(),
                "sd_between_seeds": np.round(apart.std(axis=0, ddof=1), 4).tolist() if len(rows) > 1 else None,
            },
        },
        told.out,
    )


if __name__ == "__main__":
    main()
