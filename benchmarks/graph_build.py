"""How long the graph of a configuration takes, on one core.

python benchmarks/graph_build.py
"""

from __future__ import annotations

import statistics
import time

import torch
from liquid import liquid_like
from record import record

from glassmd.graphs import to_graph

SIZES = {1000: 40, 4096: 40, 10_648: 15, 32_768: 8, 103_823: 5}  # cubes, and how often each is built
CUTOFF = 2.0


def measure(n_particles: int, repeats: int) -> dict[str, float]:
    configuration = liquid_like(n_particles)
    n_edges = to_graph(configuration, CUTOFF).num_edges
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        to_graph(configuration, CUTOFF)
        seconds.append(time.perf_counter() - start)
    return {
        "n_particles": n_particles,
        "n_edges": n_edges,
        "best_ms": round(min(seconds) * 1e3, 2),
        "median_ms": round(statistics.median(seconds) * 1e3, 2),
        "best_us_per_particle": round(min(seconds) / n_particles * 1e6, 2),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    record("graph_build", {"cutoff": CUTOFF, "cores_used": 1, "sizes": [measure(n, k) for n, k in SIZES.items()]})
