"""Predictions of snapshots of up to a million particles, on the CPU and on CUDA.

    python benchmarks/gpu_predictions.py RUN
    python benchmarks/gpu_predictions.py RUN --device cpu --quick       a small one, to see that it works

Snapshots are copies of the first parent of RUN side by side. A prediction is what `glassmd predict` has a learner do,
in parts where the whole takes more than `--memory`: describe surroundings, on the CPU on any device, and compute. The
weights are fresh ones: they cost as much as trained ones. On CUDA a snapshot is predicted as one, if 64 GiB are enough,
and with the default memory, in the wave or the tiles that it takes then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
TILED = 200_000
"""Particles above which tiles would take minutes."""


class Row(NamedTuple):
    """How a snapshot is predicted."""

    device: str
    memory: float  # GiB
    at_once: bool  # where a learner has a quicker way for large ones, without it


def predicted(model: PropensityModel, structure: Structure, row: Row) -> tuple[dict[str, Any], torch.Tensor | None]:
    """One snapshot one way: seconds and memory, and the values."""
    found: dict[str, Any] = {
        "learner": model.name, "n_particles": structure.thermal.n_particles, "device": row.device,
        "memory_GiB": row.memory, "without_a_wave": row.at_once,
    }  # fmt: skip
    model.at_once = math.inf if row.at_once else type(model).at_once  # type: ignore[misc]
    try:
        model.to(row.device)
        if row.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for attempt in ("first", "again"):
            began = time.perf_counter()
            said = in_parts(model, structure, row.memory * GIB)
            found[f"{attempt}_s"] = round(time.perf_counter() - began, 3)
            if found["first_s"] > 5:
                break
        found["parts"] = said.parts
        if row.device == "cuda":
            found["peak_allocated_MiB"] = round(torch.cuda.max_memory_allocated() / MIB)
    except (GlassmdError, torch.OutOfMemoryError) as error:
        found["failed"] = str(error).splitlines()[0][:200]
        if row.device == "cuda":
            torch.cuda.empty_cache()
        return found, None
    if said.parts == 1 and row.at_once:
        began = time.perf_counter()
        model.encode(structure)
        found["of_which_described_s"] = round(time.perf_counter() - began, 3)
    return found, said.values


def ways(model: PropensityModel, n_particles: int, device: str, largest_on_cpu: int) -> Iterator[Row]:
    """In which ways a snapshot is predicted."""
    if n_particles <= largest_on_cpu or device == "cpu":
        yield Row("cpu", MEMORY, at_once=False)
    if device == "cuda":
        yield Row("cuda", LARGEST, at_once=True)
        if type(model).at_once < math.inf or n_particles <= TILED:  # tiles are described on one core
            yield Row("cuda", MEMORY, at_once=False)


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
            torch.manual_seed(0)
            model, first = make_model(name.strip(), n_times=1).eval(), None
            for row in ways(model, snapshot.n_particles, device, options.largest_on_cpu):
                if time.monotonic() - began > options.limit:
                    result["left_out"].append([name, snapshot.n_particles, *row])
                    continue
                found, values = predicted(model, structure, row)
                if first is not None and values is not None:
                    apart = float((values - first).abs().max() / first.std())
                    found["largest_difference_to_the_first_way"] = f"{apart:.1e} of the spread"
                first = values if first is None else first
                result["predictions"].append(found)
                print(found, flush=True)
                record(f"gpu_predictions_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
