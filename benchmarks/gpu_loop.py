"""`glassmd train --stream` with simulation and training on one GPU, from given configurations.

    python benchmarks/gpu_loop.py RUN --device gpu
    python benchmarks/gpu_loop.py RUN --device cpu --quick      one short time, few steps, to see that it works

RUN is a run directory whose parents are simulated anew (the ten published configurations), to t = 13 and 130, with a
few replicas each. The engine makes minima and cages as well. What is kept: the overlap of simulation and training, who
waited for whom, segments per second, the learner's ρ beside the ceiling of the labels.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from command import folder_of, parser_of, run
from record import record

from glassmd.engines.hoomd import HoomdEngine
from glassmd.errors import Interrupted
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.summary import Progress
from glassmd.stream.dataset import open_run
from glassmd.training.progress import TrainingProgress
from glassmd.training.session import train_stream


class Watch:
    """What the training was doing, second by second."""

    def __init__(self) -> None:
        self.began = self._looked = time.monotonic()
        self.doing: Counter[str] = Counter()
        self.line: list[dict[str, Any]] = []

    def __call__(self, training: TrainingProgress, simulation: Progress | None) -> None:
        """Note the time since the last look."""
        now = time.monotonic()
        waiting = training.waiting.split(",")[0] if training.waiting else "steps and samples"
        self.doing[waiting] += now - self._looked
        self._looked = now
        if not self.line or now - self.began - self.line[-1]["seconds"] > 1.0:
            self.line.append(
                {
                    "seconds": round(now - self.began, 1),
                    "step": training.step,
                    "segments": None if simulation is None else simulation.segments[0],
                    "waiting": training.waiting,
                }
            )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, help="run directory with the parents")
    parser.add_argument("--replicas", type=int, default=4, help="of a training lineage")
    parser.add_argument("--held-out-replicas", type=int, default=16)
    parser.add_argument("--packed", type=int, help="systems in one simulation; default: measured when the run is made")
    parser.add_argument("--buffer", type=float, help="of the neighbour list, σ_AA; default: measured")
    parser.add_argument("--steps", type=int, help="of the optimiser; default: the learner's")
    parser.add_argument("--limit", type=float, help="seconds after which it is stopped; what it has then is kept")
    options = parser.parse_args()
    device = options.device
    name = HoomdEngine(device).device  # a missing engine or device ends it here
    opened = open_run(options.run)
    small = options.quick
    settings = Settings(
        run=RunSettings(
            start=[str(options.run)], temperature=float(opened.identity["temperature"]),
            truncation=opened.identity["mixture"]["truncation"], times=[0.1] if small else [13.0, 130.0],
            replicas=1 if small else options.replicas, held_out_replicas=2 if small else options.held_out_replicas,
            engine="hoomd", device=device, packed=1 if small else options.packed,
            neighbor_buffer=0.4 if small else options.buffer, workers=1, walltime=options.limit,
        ),
        train=TrainSettings(
            train_device="cuda" if device == "gpu" else "cpu", max_steps=5 if small else options.steps,
            input=["thermal", "inherent"] if small else None, hyperparameters={"width": 8} if small else {},
        ),
    )  # fmt: skip
    watch = Watch()
    result: dict[str, Any] = {
        "benchmark": "gpu_loop",
        "device": device,
        "device_name": name,
        "temperature": settings.run.temperature,
        "settings": {"run": settings.run.model_dump(exclude={"start"}), "train": settings.train.model_dump()},
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            result["found"] = train_stream(settings, Path(folder) / "model", show=watch)
        except Interrupted as stopped:
            result["stopped"] = str(stopped)
        engines = Path(folder) / "model" / "run" / "engines"
        result["measured_for_the_engine"] = [one.read_text(encoding="utf-8") for one in sorted(engines.glob("*.json"))]
    seconds = sum(watch.doing.values())
    result["trainer"] = {
        doing: {"seconds": round(spent, 1), "share": round(spent / seconds, 3)}
        for doing, spent in watch.doing.most_common()
    }
    result["line"] = watch.line
    if found := result.get("found"):
        found.pop("model_dir")
        found.pop("run")
        result["segments_per_second"] = round(found["segments"] / found["simulation_seconds"], 2)
        result["overlap_share"] = round(found["overlap_seconds"] / found["simulation_seconds"], 3)
    record(f"gpu_loop_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
