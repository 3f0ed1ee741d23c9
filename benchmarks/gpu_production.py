"""What packing is worth for a production run, and how long 400 parents take.

    python benchmarks/gpu_production.py --device gpu
    python benchmarks/gpu_production.py --device cpu       the same with small sizes, to see that it works

HOOMD-blue's published figures are for another potential (one species, WCA) and another GPU: they say what a
single system of so many particles can be expected to do, no more.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch
from command import folder_of, parser_of, run
from figures import axes_of, log_axis, save
from liquid import simulated_liquid, tiled
from packs import TEMPERATURE, TIME_STEP, WARM_UP, Device, Pack
from record import record, title_of
from turns import rate, ratio, take_turns

from glassmd.configuration import Configuration
from glassmd.engines.hoomd import HoomdEngine
from glassmd.mixtures import get_mixture

MIXTURE = get_mixture("kob-andersen")
PUBLISHED = {2048: 15_955, 131_072: 7_276}
"""Steps/s of one WCA system on an A100. Source: HOOMD-blue's documentation."""
PARENTS, REPLICAS, STEPS = 400, 32, 830_000
EXPECTED = 5.0
"""Packed against one at a time on a GPU, N = 4096, R = 32: at least."""


def gpu_memory_in_use(device: Device) -> int | None:
    """Bytes of the GPU in use by anybody."""
    if device == "cpu":
        return None
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def against_one_at_a_time(device: Device, parent: Configuration, n_replicas: int, plan: dict[str, Any]) -> Any:
    """R replicas in one simulation against one replica in one."""
    gc.collect()
    before = gpu_memory_in_use(device)
    packed = Pack(device, MIXTURE, parent, range(n_replicas), buffer=plan["buffer"])
    packed.rate(WARM_UP[device])
    after = gpu_memory_in_use(device)
    alone = Pack(device, MIXTURE, parent, [0], buffer=plan["buffer"])
    alone.rate(WARM_UP[device])
    rates = take_turns(
        {"packed": lambda: packed.rate(plan["steps"]), "one at a time": lambda: alone.rate(4 * plan["steps"])},
        plan["rounds"],
    )
    speed = rate(rates, "packed")
    hours = PARENTS * REPLICAS * STEPS / speed["median"] / 3600
    return {
        "n_particles": parent.n_particles,
        "replicas": n_replicas,
        "replica_steps_per_second": {name: rate(rates, name) for name in rates},
        "packed_to_one_at_a_time": ratio(rates, "packed", "one at a time"),
        "expected_on_a_gpu": EXPECTED,
        "gpu_memory_of_the_pack_MiB": None if after is None or before is None else round((after - before) / 2**20),
        "production": {"parents": PARENTS, "replicas": REPLICAS, "steps": STEPS, "hours": round(hours, 2)},
    }


def single_systems(device: Device, sizes: list[int], plan: dict[str, Any]) -> list[dict[str, Any]]:
    """One system of each size, beside HOOMD's published figures where there are some."""
    packs = {}
    small = simulated_liquid(HoomdEngine(device), sizes[0], TEMPERATURE)
    for size in sizes:
        parent = tiled(small, round((size / sizes[0]) ** (1 / 3)))
        packs[parent.n_particles] = Pack(device, MIXTURE, parent, [0], buffer=plan["buffer"])
    for pack in packs.values():
        pack.rate(WARM_UP[device])

    def measured(pack: Pack, size: int) -> Any:
        # Steps of about the same duration, as far as that is proportional to the particles.
        return lambda: pack.rate(max(plan["steps"], round(plan["steps"] * sizes[0] / size)))

    rates = take_turns({size: measured(pack, size) for size, pack in packs.items()}, plan["rounds"])
    return [
        {
            "n_particles": size,
            "steps_per_second": rate(rates, size),
            "published_steps_per_second_A100_WCA": PUBLISHED.get(size),
            "particle_steps_to_smallest": round(ratio(rates, size, sizes[0]) * size / sizes[0], 3),
        }
        for size in rates
    ]


def draw(result: dict[str, Any], path: Path) -> None:
    """Packed against one at a time, and particle-steps of single systems."""
    figure, (left, right) = axes_of(2, height=2.8)
    pack = result["packing"]
    names = list(pack["replica_steps_per_second"])[::-1]
    bars = left.bar(names, [pack["replica_steps_per_second"][name]["median"] for name in names], color=["C7", "C0"])
    left.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
    left.set(ylabel="replica-steps per second", title=f"N = {pack['n_particles']}, R = {pack['replicas']}")
    left.margins(y=0.15)
    rows = result["single_systems"]
    series = {"measured, Kob–Andersen": [(row["n_particles"], row["steps_per_second"]["median"]) for row in rows]}
    published = [(n, PUBLISHED[n]) for n in (row["n_particles"] for row in rows) if n in PUBLISHED]
    if published and result["device"] == "gpu":
        series["published, WCA on an A100"] = published
    for (label, points), style in zip(series.items(), ("o-", "s--"), strict=False):
        right.plot([n for n, _ in points], [n * speed / 1e6 for n, speed in points], style, label=label)
    log_axis(right, [row["n_particles"] for row in rows])
    right.set(xlabel="particles of a single system", ylabel="10⁶ particle-steps per second")
    right.set_ylim(0, 1.3 * right.get_ylim()[1])  # room for the legend
    right.legend(frameon=False)
    figure.suptitle(f"T = {TEMPERATURE}, {title_of(result)}", fontsize=9)
    save(figure, path)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, help="default: 5, on a CPU 3")
    parser.add_argument("--buffer", type=float, default=0.4, help="of the neighbour list, σ_AA")
    options = parser.parse_args()
    device: Device = options.device
    name = HoomdEngine(device).device  # a missing engine or device ends it here
    on_gpu = device == "gpu" and not options.quick
    plan = {
        "steps": 5000 if on_gpu else 40,
        "rounds": options.rounds or (5 if on_gpu else 3),
        "buffer": options.buffer,
    }
    sizes = [2048, 16_384, 131_072] if on_gpu else [256, 2048]
    parent = simulated_liquid(HoomdEngine(device), 4096 if on_gpu else 512, TEMPERATURE)
    result = {
        "benchmark": "gpu_production",
        "device": device,
        "device_name": name,
        "mixture": f"{MIXTURE.name} ({MIXTURE.truncation})",
        "temperature": TEMPERATURE,
        "time_step": TIME_STEP,
        "plan": plan,
        "packing": against_one_at_a_time(device, parent, REPLICAS if on_gpu else 4, plan),
        "single_systems": single_systems(device, sizes, plan),
    }
    path = record(f"gpu_production_{device}", result, folder_of(options))
    draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
