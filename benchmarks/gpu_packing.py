"""Packing on a GPU: how many replicas in one simulation, which buffer, and how long 400 parents take.

    python benchmarks/gpu_packing.py RUN --device gpu
    python benchmarks/gpu_packing.py --device cpu --quick       small and short, to see that it works

RUN is a run directory whose first parent is measured with (the ten published configurations: `glassmd import FILES
--format botan --out RUN`) at its temperature; liquids of other sizes, and all where there is no RUN, are melted there.
Every replica has momenta of its own and moves on from one measurement to the next. What is packed is compared with one
replica in one simulation, alone, with either neighbour list, in the same run. At last the same replicas are shared out
to processes on the same GPU, with and without CUDA's multi-process service where it is installed.

Measurements come in an order in which the first matter most; the result is written after each, and what finds no time
within `--limit` is left out and named. A GPU that fails under one of them is told, and a new process goes on with the
next.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
from command import folder_of, numbers, parser_of, run
from figures import axes_of, log_axis, log_rates, save
from liquid import simulated_liquid
from packs import TIME_STEP, Crew, Device, NeighborList, Pack
from record import record, title_of

from glassmd.configuration import Configuration
from glassmd.engines.hoomd import HoomdEngine
from glassmd.errors import DeviceLostError, EngineError
from glassmd.mixtures import Mixture, get_mixture, mixture_of
from glassmd.stream.dataset import open_run

RUMD = 64_000
"""Steps/s of one Kob–Andersen system of 4096 particles with RUMD on an RTX 4090, as published."""
PARENTS, SHARES = 400, (1, 4, 32)
"""Of a data set like the published ones, and replicas per parent."""
TAU_ALPHA = {0.44: 4120.0}
"""√(mσ²/ε), of Kob–Andersen at the temperature of the ten configurations; other temperatures are not told."""
FEWEST = {"cpu": 20, "gpu": 400}
SHARED = ("processes", "replicas_each", "multi_process_service")
"""What tells measurements of processes that share a GPU apart."""


class Bench:
    """Measures packs of one size, one after the other, within a limit of time.

    Args:
        device: Of all of them.
        parent: Of the replicas.
        mixture: Its mixture.
        temperature: Of the momenta.
        seconds: Of one measurement.
        warm_up: Seconds before the first measurement of a pack: kernels are tuned in them.
    """

    def __init__(
        self,
        device: Device,
        parent: Configuration,
        mixture: Mixture,
        temperature: float,
        seconds: float,
        warm_up: float,
    ) -> None:
        self.device, self.parent, self.mixture, self.temperature = device, parent, mixture, temperature
        self.seconds, self.warm_up = seconds, warm_up

    def rates(self, replicas: int, buffers: Sequence[float], name: NeighborList) -> Iterator[dict[str, Any]]:
        """One pack with one buffer after the other."""
        before = _memory_in_use(self.device)
        began = time.perf_counter()
        pack = Pack(
            self.device, self.mixture, self.parent, range(replicas),
            neighbor_list=name, buffer=buffers[0], temperature=self.temperature,
        )  # fmt: skip
        speed, steps = pack.rate(FEWEST[self.device]), FEWEST[self.device]
        ready = time.perf_counter()
        while time.perf_counter() - ready < self.warm_up:
            speed = pack.rate(steps)
            steps = max(FEWEST[self.device], round(self.seconds * speed / replicas))
        for buffer in buffers:
            pack.buffer = buffer
            pack.rate(FEWEST[self.device])
            speed = pack.rate(max(FEWEST[self.device], round(self.seconds * speed / replicas)))
            yield {
                "n_particles": self.parent.n_particles,
                "replicas": replicas,
                "neighbor_list": name,
                "buffer": buffer,
                "replica_steps_per_second": round(speed, 1),
                "memory_MiB": None if before is None else round((_memory_in_use(self.device) or 0) - before),
                "seconds_until_ready": round(ready - began, 2),
            }

    def crew(self, processes: int, each: int, buffer: float, steps: int, patience: float) -> float:
        """Replica-steps/s of so many processes with so many replicas each."""
        with Crew(
            self.device, self.mixture, self.parent, processes * each, processes,
            steps=steps, buffer=buffer, temperature=self.temperature, neighbor_list=None, patience=patience,
        ) as crew:  # fmt: skip
            return max(crew.rate() for _ in range(2))


def _memory_in_use(device: Device) -> float | None:
    """MiB of the GPU in use by anybody."""
    if device == "cpu":
        return None
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


@contextmanager
def multi_process_service() -> Iterator[bool]:
    """CUDA's multi-process service for the processes started meanwhile; False where it is not installed."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield False
        return
    with tempfile.TemporaryDirectory() as folder:
        before = dict(os.environ)
        os.environ.update(CUDA_MPS_PIPE_DIRECTORY=folder, CUDA_MPS_LOG_DIRECTORY=folder)
        started = subprocess.run([control, "-d"], check=False, capture_output=True).returncode == 0
        try:
            yield started
        finally:
            if started:
                subprocess.run([control], input=b"quit\n", check=False, capture_output=True, timeout=20)
            os.environ.clear()
            os.environ.update(before)


def measure_packs(result: dict[str, Any], benches: Sequence[Bench], plan: dict[str, Any], save_it: Any) -> None:
    """One simulation with so many replicas, most important first; what is there already is not repeated."""
    first = benches[0]
    jobs: list[tuple[Bench, int, list[float], NeighborList]] = [(first, 1, plan["buffers"][:2], "Cell")]
    jobs += [(first, count, plan["buffers"], "Tree") for count in plan["replicas"]]
    jobs += [(bench, count, plan["buffers"][:2], "Tree") for bench, count in product(benches[1:], plan["replicas"])]
    jobs += [(bench, 1, plan["buffers"][:2], "Cell") for bench in benches[1:]]
    result["packs"] = [one for one in result["packs"] if "failed" not in one]
    there = {(one["n_particles"], one["replicas"], one["neighbor_list"]) for one in result["packs"]}
    for bench, count, buffers, name in jobs:
        if (bench.parent.n_particles, count, name) in there:
            continue
        what = {"n_particles": bench.parent.n_particles, "replicas": count, "neighbor_list": name}
        if time.monotonic() > plan["deadline"]:
            result["left_out"].append(what)
            continue
        try:
            for found in bench.rates(count, buffers, name):
                result["packs"].append(found)
                print(
                    f"N = {found['n_particles']}, {name}, R = {count}, buffer {found['buffer']}: "
                    f"{found['replica_steps_per_second']:,.0f} replica-steps/s",
                    flush=True,
                )
        except EngineError as error:
            result["packs"].append({**what, "failed": str(error)})
            save_it()
            if isinstance(error, DeviceLostError):  # no later call of this process would work
                left = str(max(0.0, plan["deadline"] - time.monotonic()))
                os.execv(sys.executable, [sys.executable, *sys.argv, "--go-on", "--limit", left])
        save_it()


def measure_processes(result: dict[str, Any], bench: Bench, plan: dict[str, Any], save_it: Any) -> None:
    """Processes that share the GPU, with and without the multi-process service; what is there is not repeated."""
    there_already = [{key: one[key] for key in SHARED} for one in result["processes"] if "failed" not in one]
    for served in (True, False):
        with multi_process_service() if served else _nothing() as there:
            # without the service some of them do
            for count, each in plan["processes"] if served else plan["processes"][:4]:
                found = {"processes": count, "replicas_each": each, "multi_process_service": served}
                if found in there_already:
                    continue
                if served and not there:
                    result["left_out"].append({**found, "reason": "the service does not start here"})
                elif time.monotonic() > plan["deadline"]:
                    result["left_out"].append(found)
                else:
                    try:
                        steps = max(plan["crew_steps"] // each, FEWEST[result["device"]])
                        speed = bench.crew(count, each, plan["buffers"][1], steps, 60.0)
                        found["replica_steps_per_second"] = round(speed, 1)
                    except EngineError as error:
                        found["failed"] = str(error)
                    print(found, flush=True)
                    result["processes"].append(found)
                    save_it()


@contextmanager
def _nothing() -> Iterator[bool]:
    yield True


def conclusions(result: dict[str, Any]) -> dict[str, Any]:
    """The best pack of every size against one replica alone, and what a data set takes."""
    found: dict[str, Any] = {}
    shared = [one for one in result["processes"] if "replica_steps_per_second" in one]
    if shared:
        found["processes"] = max(shared, key=lambda one: float(one["replica_steps_per_second"]))
    good = [one for one in result["packs"] if "replica_steps_per_second" in one]
    for size in dict.fromkeys(one["n_particles"] for one in good):
        of_size = [one for one in good if one["n_particles"] == size]
        alone = [one for one in of_size if one["replicas"] == 1]
        best, single = (
            max(some, key=lambda one: float(one["replica_steps_per_second"])) if some else None
            for some in (of_size, alone)
        )
        assert best is not None
        speed = best["replica_steps_per_second"]
        found[str(size)] = {
            "best": best,
            "alone": single,
            "best_to_alone": None if single is None else round(speed / single["replica_steps_per_second"], 2),
            "best_to_RUMD_on_an_RTX_4090": round(speed / RUMD, 3) if size == 4096 else None,
        }
        tau_alpha = TAU_ALPHA.get(result["temperature"])
        if tau_alpha is not None and size == 4096:
            steps = tau_alpha / TIME_STEP
            found[str(size)]["hours_for_400_parents_to_tau_alpha"] = {
                str(share): round(PARENTS * share * steps / speed / 3600, 2) for share in SHARES
            }
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Replica-steps/s against R, by buffer, a panel for each size."""
    good = [one for one in result["packs"] if "replica_steps_per_second" in one]
    sizes = list(dict.fromkeys(one["n_particles"] for one in good))
    figure, axes = axes_of(len(sizes), height=2.8)
    for axis, size in zip(axes if len(sizes) > 1 else [axes], sizes, strict=True):
        of_size = [one for one in good if one["n_particles"] == size]
        for buffer in sorted({one["buffer"] for one in of_size}):
            line = sorted(
                (one["replicas"], one["replica_steps_per_second"])
                for one in of_size
                if one["buffer"] == buffer and one["neighbor_list"] == "Tree"
            )
            if line:
                axis.plot(*zip(*line, strict=True), "o-", ms=4, label=f"buffer {buffer:g} σ")
        cell = [one["replica_steps_per_second"] for one in of_size if one["neighbor_list"] == "Cell"]
        if cell:
            axis.axhline(max(cell), color="C7", ls=":", label="one alone, Cell")
        log_axis(
            axis, [count for count in (1, 2, 4, 8, 16, 32, 64) if any(one["replicas"] == count for one in of_size)]
        )
        log_rates(axis)
        axis.set(xlabel="replicas in one simulation", ylabel="replica-steps per second", title=f"N = {size}")
        axis.legend(frameon=False, fontsize=7)
    figure.suptitle(f"T = {result['temperature']}, {title_of(result)}", fontsize=9)
    save(figure, path)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run directory whose first parent is measured with")
    parser.add_argument("--replicas", type=numbers, help="in one simulation; default: 1,4,8,16,19,20,32,64")
    parser.add_argument("--parts", nargs="+", choices=("packs", "processes"), default=["packs", "processes"])
    parser.add_argument("--limit", type=float, help="seconds; default: 240, with --quick 60")
    parser.add_argument("--go-on", action="store_true", help="with what is in the results already")
    options = parser.parse_args()
    device: Device = options.device
    name = HoomdEngine(device).device  # a missing engine or device ends it here
    small = options.quick or device == "cpu"
    plan = {
        "replicas": options.replicas or ([1, 2] if small else [1, 16, 32, 4, 64, 8, 19, 20]),
        "buffers": [0.4, 0.8] if small else [0.4, 0.8, 0.55, 0.3],
        "processes": [(2, 1)] if small else [(4, 16), (8, 1), (4, 4), (4, 1), (2, 16), (8, 4), (16, 1)],
        "crew_steps": 20 if small else 20_000,
    }
    limit = options.limit if options.limit is not None else 60.0 if small else 240.0
    seconds, warm_up = (0.1, 0.0) if small else (1.2, 2.0)
    sizes = [256, 300] if small else [4096, 1024]
    temperature, mixture = 0.8, get_mixture("kob-andersen")
    given: Configuration | None = None
    if options.run:
        opened = open_run(options.run)
        temperature, given = float(opened.identity["temperature"]), opened.samples()[0].parent
        mixture = mixture_of(opened.identity["mixture"])
    benches = []
    for size in sizes:
        parent = given if given is not None and given.n_particles == size else None
        parent = parent or simulated_liquid(HoomdEngine(device), size, temperature, mixture.truncation)
        benches.append(Bench(device, parent, mixture, temperature, seconds, warm_up))
    result: dict[str, Any] = {
        "benchmark": "gpu_packing",
        "device": device,
        "device_name": name,
        "mixture": f"{mixture.name} ({mixture.truncation})",
        "temperature": temperature,
        "time_step": TIME_STEP,
        "plan": plan | {"limit": limit},
        "packs": [],
        "processes": [],
        "left_out": [],
    }

    place = f"gpu_packing_{device}"
    kept = folder_of(options) / f"{place}.json"
    if options.go_on and kept.exists():
        before = json.loads(kept.read_text(encoding="utf-8"))
        result |= {key: before[key] for key in ("packs", "processes")}

    def save_it() -> Path:
        return record(place, {**result, "conclusions": conclusions(result)}, folder_of(options), show=False)

    plan["deadline"] = time.monotonic() + limit
    if "processes" in options.parts:
        measure_processes(result, benches[0], plan, save_it)
    if "packs" in options.parts:
        measure_packs(result, benches, plan, save_it)
    path = save_it()
    if any("replica_steps_per_second" in one for one in result["packs"]):
        draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
