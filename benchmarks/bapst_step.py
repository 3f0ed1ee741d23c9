"""A training step (forward, backward, Adam) of Bapst's network: ours against a straightforward port.

    python benchmarks/bapst_step.py

Both take turns in the same process, so that a busy machine slows both. The port is measured as it is run
by default, and once more in a process where torch too asks the system for huge pages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from liquid import liquid_like
from record import record
from straightforward_bapst import StraightforwardBapst, copy_weights

from glassmd.graphs import to_graph
from glassmd.learners.networks.bapst import BapstModel

N_PARTICLES = 4096
ROUNDS = 4


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(threads: int) -> dict[str, Any]:
    """Alternate the two for some rounds; the best of each counts."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    graph = to_graph(liquid_like(N_PARTICLES))
    target = torch.randn(N_PARTICLES, 1)
    networks: dict[str, torch.nn.Module] = {"ours": BapstModel(), "straightforward": StraightforwardBapst()}
    networks["ours"].initialise(graph)  # outputs of order one, as in training
    copy_weights(networks["ours"], networks["straightforward"])
    optimizers = {name: torch.optim.Adam(network.parameters(), 1e-4) for name, network in networks.items()}

    def predict(name: str) -> torch.Tensor:
        with torch.no_grad():
            return networks[name](graph)

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        (networks[name](graph) - target).square().mean().backward()
        optimizers[name].step()

    expected = predict("straightforward")
    difference = (predict("ours") - expected).abs().max()
    seconds: dict[str, dict[str, list[float]]] = {name: {"step": [], "predict": []} for name in networks}
    for _ in range(ROUNDS):
        for name in networks:
            seconds[name]["step"].append(seconds_of(lambda name=name: step(name)))
            seconds[name]["predict"].append(seconds_of(lambda name=name: predict(name)))
    best = {f"{name}_{kind}_s": round(min(t), 3) for name, kinds in seconds.items() for kind, t in kinds.items()}
    return {
        "threads": threads,
        "n_edges": graph.num_edges,
        **best,
        "step_speedup": round(best["straightforward_step_s"] / best["ours_step_s"], 2),
        "predict_speedup": round(best["straightforward_predict_s"] / best["ours_predict_s"], 2),
        "largest_difference": float(difference),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(compare(int(sys.argv[2]))))
        sys.exit()
    counts = [1, 2] if (os.cpu_count() or 1) > 1 else [1]
    runs = []
    for huge_pages in ("0", "1"):
        environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": huge_pages}
        for threads in counts:
            command = [sys.executable, "-W", "ignore", __file__, "--json", str(threads)]
            output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            runs.append({"torch_huge_pages": huge_pages == "1", **json.loads(output.splitlines()[-1])})
    record("bapst_step", {"n_particles": N_PARTICLES, "rounds": ROUNDS, "runs": runs})
