"""A training step (forward, backward, Adam) of the equivariant network: ours against a straightforward port.

    python benchmarks/se3_step.py

Both take turns in the same process and thread, so that a busy machine slows both; the median round counts. Seconds of
the processor are given beside those on the clock, which other programs lengthen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from liquid import liquid_like
from record import record
from straightforward_se3 import StraightforwardSE3

from glassmd.learners.networks.se3 import SE3Model
from glassmd.mixtures import get_mixture
from glassmd.structure import Structure

ROUNDS = 3
CASES: tuple[tuple[int, dict[str, int]], ...] = (
    (1000, {}),
    (1000, {"width": 16}),
    (1000, {"l_max": 3}),
    (4096, {}),
)
"""Particles and hyperparameters that are not the default."""


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """On the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def compare(n_particles: int, chosen: dict[str, int]) -> dict[str, Any]:
    """Alternate the two for some rounds after one that does not count."""
    torch.manual_seed(0)
    model = SE3Model(inputs=["thermal"], **chosen)
    graph = model.encode(Structure(liquid_like(n_particles), get_mixture("kob-andersen"), 1.0))
    model.initialise(graph)
    port = StraightforwardSE3(model)
    target = torch.randn(n_particles, 1)
    with torch.no_grad():
        expected = port(graph)
        difference = (model.normalised(graph) - expected).abs().max() / expected.abs().max()
    work: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: model.normalised(graph),
        "straightforward": lambda: port(graph),
    }
    optimizers = {"ours": torch.optim.Adam(model.parameters(), 0.0)}
    optimizers["straightforward"] = torch.optim.Adam(port.parameters(), 0.0)

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        (work[name]() - target).square().mean().backward()
        optimizers[name].step()

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(ROUNDS + 1):
        for name in work:
            found[name].append(seconds_of(lambda name=name: step(name)))
    clock = {name: median(pair[0] for pair in times[1:]) for name, times in found.items()}
    processor = {name: median(pair[1] for pair in times[1:]) for name, times in found.items()}
    return {
        "n_particles": n_particles,
        "hyperparameters": {key: getattr(model, key) for key in ("width", "n_layers", "l_max", "n_radial", "cutoff")},
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "n_edges": graph.num_edges,
        "rounds": ROUNDS,
        **{f"{name}_step_s": round(seconds, 3) for name, seconds in clock.items()},
        **{f"{name}_processor_s": round(seconds, 3) for name, seconds in processor.items()},
        "step_speedup": round(clock["straightforward"] / clock["ours"], 2),
        "processor_speedup": round(processor["straightforward"] / processor["ours"], 2),
        "largest_relative_difference": float(difference),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = CASES[: int(sys.argv[1])] if len(sys.argv) > 1 else CASES
    record("se3_step", {"runs": [compare(*case) for case in cases]})
