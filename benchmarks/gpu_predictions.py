"""Predictions of snapshots of up to a million particles, on the CPU and on CUDA.

    python benchmarks/gpu_predictions.py RUN
    python benchmarks/gpu_predictions.py RUN --device cpu --quick       small ones, to see that it works

Snapshots are copies of the first parent of RUN side by side. A prediction is the description of the surroundings, on
the CPU on any device, and what the network makes of it; both are timed, with the peak of the memory that torch has
taken on the device. The weights are fresh ones: they cost as much as trained ones. Where a snapshot finds no room, the
result says so.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from command import cuda_or_cpu, folder_of, numbers, parser_of, run
from liquid import tiled
from record import record

from glassmd.graphs import batch_graphs
from glassmd.learners import make_model
from glassmd.mixtures import mixture_of
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import open_run
from glassmd.structure import Structure

MIB = 2**20


def predicted(name: str, structure: Structure, devices: list[str]) -> list[dict[str, Any]]:
    """One snapshot, described once, on every device."""
    torch.manual_seed(0)
    model = make_model(name, n_times=1).eval()
    began = time.perf_counter()
    data = batch_graphs([model.encode(structure)])
    described = time.perf_counter() - began
    found, values = [], {}
    for device in devices:
        one: dict[str, Any] = {
            "learner": name,
            "n_particles": structure.thermal.n_particles,
            "device": device,
            "described_s": round(described, 2),
        }
        try:
            model.to(device)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with torch.no_grad():
                for attempt in ("first", "again"):
                    began = time.perf_counter()
                    values[device] = model(data.clone().to(device)).cpu()
                    one[f"network_{attempt}_s"] = round(time.perf_counter() - began, 3)
                    if device == "cpu" and one["network_first_s"] > 5:
                        break
            if device == "cuda":
                one["peak_allocated_MiB"] = round(torch.cuda.max_memory_allocated() / MIB)
        except torch.cuda.OutOfMemoryError:
            one["failed"] = "out of memory"
            torch.cuda.empty_cache()
        found.append(one)
    if len(values) == 2:
        apart, spread = (values["cuda"] - values["cpu"]).abs().max(), values["cpu"].std()
        found[-1]["largest_difference_to_the_cpu"] = f"{float(apart / spread):.1e} of the spread"
    return found


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument("run", type=Path, help="run directory whose first parent is repeated")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one, beside the CPU")
    parser.add_argument("--copies", type=numbers, help="along every edge; default: 1,3,6")
    parser.add_argument("--learners", default="bapst,se3,botan")
    parser.add_argument("--largest-on-cpu", type=int, default=5000, help="particles; larger ones on CUDA alone")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds; what comes later is left out")
    options = parser.parse_args()
    device = cuda_or_cpu(options.device)
    torch.set_num_threads(available_cores())
    opened, began = open_run(options.run), time.monotonic()
    parent = opened.samples()[0].parent
    mixture, temperature = mixture_of(opened.identity["mixture"]), float(opened.identity["temperature"])
    result: dict[str, Any] = {"benchmark": "gpu_predictions", "device": device, "predictions": [], "left_out": []}
    for copies in options.copies or ([1] if options.quick else [1, 3, 6]):
        snapshot = tiled(parent, copies)
        for name in options.learners.split(","):
            if time.monotonic() - began > options.limit:
                result["left_out"].append({"learner": name, "n_particles": snapshot.n_particles})
                continue
            devices = ["cpu"] if snapshot.n_particles <= options.largest_on_cpu or device == "cpu" else []
            devices += ["cuda"] if device == "cuda" else []
            # A thermal snapshot stands for its minimum: the same number of particles, about as many neighbours.
            structure = Structure(snapshot, mixture, temperature, inherent=snapshot.unwrapped)
            result["predictions"] += predicted(name.strip(), structure, devices)
            print(result["predictions"][-1], flush=True)
            record(f"gpu_predictions_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
