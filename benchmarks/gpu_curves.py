"""Learning curves of networks on a GPU: ρ on lineages left out, against steps and seconds.

    python benchmarks/gpu_curves.py RUN --learners bapst,se3 --seconds 60
    python benchmarks/gpu_curves.py RUN --device cpu --quick    a few steps, to see that it works

RUN is a run directory (the ten published configurations). Two lineages are left out, those of the first fold of
`glassmd evaluate --compare`. Every training stops after so many seconds, or at its suggested number of steps.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from command import cuda_or_cpu, folder_of, parser_of, run
from record import record

from glassmd.comparison.folds import folds_of
from glassmd.errors import Interrupted
from glassmd.interrupt import StopRequest
from glassmd.settings import Settings, TrainSettings
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import Run, open_run
from glassmd.training.progress import TrainingProgress
from glassmd.training.session import train


def curve(opened: Run, name: str, device: str, plan: dict[str, Any]) -> dict[str, Any]:
    """One training."""
    fold = folds_of([opened], opened.samples())[0]
    settings = TrainSettings(
        model=name, max_steps=plan["steps"], validate_every=plan["validate_every"],
        checkpoint_every=plan["validate_every"], train_device="cuda" if device == "cuda" else "cpu",
        train_threads=available_cores(),
    )  # fmt: skip
    clock: list[tuple[float, int]] = []
    began = time.monotonic()

    def watch(progress: TrainingProgress, _: Any) -> None:
        clock.append((time.monotonic() - began, progress.step))

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        stopped = False
        try:
            train([opened.path], out, Settings(train=settings), held_out=fold.held_out,
                  stop=StopRequest(walltime=plan["seconds"]), show=watch)  # fmt: skip
        except Interrupted:
            stopped = True
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first = next((seconds for seconds, step in clock if step > 0), None)
    steps = max((step for _, step in clock), default=0)
    return {
        "learner": name,
        "left_out": sorted(lineage for _, lineage in fold.held_out),
        "stopped_by_the_clock": stopped,
        "steps": steps,
        "seconds_until_the_first_step": None if first is None else round(first, 1),
        "steps_per_second": None if first is None else round(steps / max(1e-9, clock[-1][0] - first), 2),
        "validation": [
            {
                "step": line["step"],
                "seconds": round(next((s for s, step in clock if step >= line["step"]), clock[-1][0]), 1),
                "pearson": line["pearson"],
            }
            for line in lines
            if line["kind"] == "validation"
        ],
        "loss": [line["loss"] for line in lines if line["kind"] == "train"][:: max(1, steps // 50)],
    }


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--learners", default="bapst,se3")
    parser.add_argument("--seconds", type=float, default=60.0, help="of every training")
    parser.add_argument("--validate-every", type=int, default=100)
    options = parser.parse_args()
    device = cuda_or_cpu(options.device)
    plan = {
        "seconds": options.seconds,
        "validate_every": 2 if options.quick else options.validate_every,
        "steps": 4 if options.quick else None,
    }
    opened = open_run(options.run)
    result: dict[str, Any] = {
        "benchmark": "gpu_curves",
        "device": device,
        "temperature": opened.identity["temperature"],
        "plan": plan,
        "curves": [],
    }
    for name in options.learners.split(","):
        result["curves"].append(curve(opened, name.strip(), device, plan))
        record(f"gpu_curves_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
