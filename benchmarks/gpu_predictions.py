"""Predictions of snapshots of up to a million particles, on the CPU and on CUDA.

    python benchmarks/gpu_predictions.py RUN
    python benchmarks/gpu_predictions.py RUN --device cpu --quick       a small one, to see that it works

Snapshots are copies of the first parent of RUN side by side. A prediction is what `glassmd predict` has a learner do,
in parts where the whole takes more than `--memory`: describe surroundings, on the CPU on any device, and compute. The
weights are fresh ones: they cost as much as trained ones. On CUDA every snapshot is predicted with each of these
memories, the largest first; with the default, one part after another is brought there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from command import cuda_or_cpu, folder_of, numbers, parser_of, run
from liquid import tiled
from record import record

from glassmd.errors import GlassmdError
from glassmd.learners import make_model
from glassmd.learners.base import PropensityModel
from glassmd.learners.tiles import GIB, MEMORY, in_parts
from glassmd.mixtures import mixture_of
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import open_run
from glassmd.structure import Structure

MIB = 2**20
LARGEST = 64.0
"""GiB: as much as a large GPU has room for."""


def predicted(model: PropensityModel, structure: Structure, device: str, memory: float) -> dict[str, Any]:
    """One snapshot on one device: seconds and memory, and the values under "values", which nobody writes down."""
    found: dict[str, Any] = {"device": device, "memory_GiB": memory}
    try:
        model.to(device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for attempt in ("first", "again"):
            began = time.perf_counter()
            said = in_parts(model, structure, memory * GIB)
            found[f"{attempt}_s"] = round(time.perf_counter() - began, 3)
            if found["first_s"] > 5:
                break
        found |= {"parts": said.parts, "values": said.values}
        if device == "cuda":
            found["peak_allocated_MiB"] = round(torch.cuda.max_memory_allocated() / MIB)
    except (GlassmdError, torch.OutOfMemoryError) as error:
        found["failed"] = str(error).splitlines()[0][:200]
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def compared(name: str, structure: Structure, plan: list[tuple[str, float]]) -> dict[str, Any]:
    """One snapshot by one learner, on every device with every memory."""
    torch.manual_seed(0)
    model = make_model(name, n_times=1).eval()
    began = time.perf_counter()
    if structure.thermal.n_particles * model.footprint(structure.mixture, structure.thermal.density) < LARGEST * GIB:
        model.encode(structure)
        described = round(time.perf_counter() - began, 2)
    else:
        described = None
    rows = [predicted(model, structure, device, memory) for device, memory in plan]
    values = [row.pop("values", None) for row in rows]
    for row, own in zip(rows, values, strict=True):
        if own is not None and values[0] is not None and own is not values[0]:
            apart = float((own - values[0]).abs().max() / values[0].std())
            row["largest_difference_to_the_first_row"] = f"{apart:.1e} of the spread"
    return {"learner": name, "n_particles": structure.thermal.n_particles, "described_s": described, "rows": rows}


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
        # A thermal snapshot stands for its minimum and for its cage: as many neighbours, about.
        like = {"inherent": snapshot.unwrapped, "cage": snapshot.unwrapped}
        structure = Structure(snapshot, mixture, temperature, **like)
        for name in options.learners.split(","):
            small = snapshot.n_particles <= options.largest_on_cpu
            plan = [("cpu", MEMORY)] if small or device == "cpu" else []
            plan += [("cuda", LARGEST), ("cuda", MEMORY)] if device == "cuda" else []
            if time.monotonic() - began > options.limit:
                result["left_out"].append({"learner": name, "n_particles": snapshot.n_particles})
                continue
            result["predictions"].append(compared(name.strip(), structure, plan))
            print(result["predictions"][-1], flush=True)
            record(f"gpu_predictions_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
