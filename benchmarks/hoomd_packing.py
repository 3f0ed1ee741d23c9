"""How fast R replicas go in one HOOMD simulation, with the neighbour lists Tree and Cell.

    python benchmarks/hoomd_packing.py --device cpu
    python benchmarks/hoomd_packing.py --device gpu

All packs of one size take turns, so that ratios hold on a busy machine. On a GPU the same replicas are also
shared out to several processes, each with its part in one simulation. On a CPU that would take too long for
the largest packs: what a measurement would need more than `--limit` seconds for is left out, and the result
says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from command import folder_of, numbers, parser_of, run
from figures import axes_of, log_axis, log_rates, save
from liquid import simulated_liquid
from packs import TEMPERATURE, TIME_STEP, WARM_UP, Crew, Device, NeighborList, Pack
from record import record, title_of
from turns import rate, ratio, take_turns

from glassmd.configuration import Configuration
from glassmd.engines.hoomd import HoomdEngine
from glassmd.mixtures import get_mixture

MIXTURE = get_mixture("kob-andersen")
Key = tuple[str, int, int]
"""Neighbour list, replicas, processes."""
LISTS: tuple[NeighborList, ...] = ("Tree", "Cell")
FEWEST = {"cpu": 40, "gpu": 500}
"""Steps of a measurement at least: some rebuilds of the neighbour list."""


@dataclass(frozen=True)
class Plan:
    """How to measure."""

    device: Device
    replicas: list[int]
    processes: list[int]
    rounds: int
    seconds: float
    limit: float
    buffer: float

    def steps(self, replicas: int, rate: float) -> int:
        """Steps that take about `seconds` at so many replica-steps/s."""
        return max(FEWEST[self.device], round(self.seconds * rate / replicas))


def warmed(plan: Plan, parent: Configuration, name: NeighborList) -> tuple[dict[int, tuple[Pack, int]], list[Any]]:
    """Packs with the steps that each is measured over, by R, and what is left out."""
    packs: dict[int, tuple[Pack, int]] = {}
    left_out: list[Any] = []
    expected = 0.0
    for count in sorted(plan.replicas):
        if left_out or expected > plan.limit:
            reason = f"{FEWEST[plan.device]} steps would take more than {plan.limit:g} s"
            left_out.append({"neighbor_list": name, "replicas": count, "left_out": reason})
            continue
        pack = Pack(plan.device, MIXTURE, parent, range(count), neighbor_list=name, buffer=plan.buffer)
        speed = pack.rate(WARM_UP[plan.device])
        packs[count] = pack, plan.steps(count, speed)
        expected = 2 * count * FEWEST[plan.device] / speed
        print(f"N = {parent.n_particles}, {name}, R = {count}: about {speed:.0f} replica-steps/s", flush=True)
    return packs, left_out


def measure(plan: Plan, n_particles: int) -> dict[str, Any]:
    """All packs of one size against each other."""
    parent = simulated_liquid(HoomdEngine(plan.device), n_particles, TEMPERATURE)
    contestants: dict[Key, Callable[[], float]] = {}
    steps: dict[Key, int] = {}
    left_out: list[Any] = []
    with ExitStack() as crews:
        for name in LISTS:
            packs, skipped = warmed(plan, parent, name)
            left_out += skipped
            for count, (pack, length) in packs.items():
                contestants[name, count, 1], steps[name, count, 1] = partial(pack.rate, length), length
        largest = max(count for name, count, _ in steps if name == "Tree")
        for processes in plan.processes:
            if largest % processes == 0:
                length = steps["Tree", largest, 1]
                crew = Crew(plan.device, MIXTURE, parent, largest, processes, steps=length, buffer=plan.buffer)
                # One process is there twice: as this one, and as one that has to be told to start.
                key = ("Tree, in processes", largest, processes)
                contestants[key], steps[key] = crews.enter_context(crew).rate, length
        rates = take_turns(contestants, plan.rounds)
    rows = [
        {
            "neighbor_list": key[0],
            "replicas": key[1],
            "processes": key[2],
            "steps": steps[key],
            "replica_steps_per_second": rate(rates, key),
            "ratio_to_one_replica": ratio(rates, key, (key[0].split(",")[0], 1, 1)),
        }
        for key in rates
    ]
    return {"n_particles": n_particles, "packs": rows, "left_out": left_out}


def draw(result: dict[str, Any], path: Path) -> None:
    """Replica-steps/s against R, and against the number of processes where that was measured."""
    sizes = result["sizes"]
    shared = any(row["processes"] > 1 for size in sizes for row in size["packs"])
    figure, columns = axes_of(2 if shared else 1, width=3.6 if shared else 5.2)
    styles = {"Tree": ("o", "-", "full"), "Cell": ("s", "--", "none")}
    for index, size in enumerate(sizes):
        colour = f"C{index}"
        for name, (marker, line, fill) in styles.items():
            rows = [row for row in size["packs"] if row["neighbor_list"] == name]
            speeds = [row["replica_steps_per_second"]["median"] for row in rows]
            columns[0].plot(
                [row["replicas"] for row in rows], speeds, color=colour, marker=marker, linestyle=line, fillstyle=fill,
                label=f"N = {size['n_particles']}, {name}",
            )  # fmt: skip
        rows = [row for row in size["packs"] if row["neighbor_list"].endswith("processes")]
        if rows:
            speeds = [row["replica_steps_per_second"]["median"] for row in rows]
            label = f"N = {size['n_particles']}, R = {rows[0]['replicas']}"
            columns[1].plot([row["processes"] for row in rows], speeds, color=colour, marker="o", label=label)
    for axes, title in zip(columns, ("replicas R in one simulation", "processes that share R replicas"), strict=False):
        axes.set(xlabel=title, ylabel="replica-steps per second")
        log_axis(axes, [2**k for k in range(6)] if axes is columns[0] else [1, 2, 4, 8])
        if axes is columns[0]:
            log_rates(axes)
        else:
            axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend(frameon=False)
    figure.suptitle(f"Kob–Andersen at T = {TEMPERATURE}, {title_of(result)}", fontsize=9)
    save(figure, path)


def options_of() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", type=numbers, help="particles per replica; default: 1000,4096")
    parser.add_argument("--replicas", type=numbers, help="default: 1,2,4,8,16,32")
    parser.add_argument("--processes", type=numbers, help="default: 1,2,4,8 on a GPU, none on a CPU")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="of one measurement; default: 2")
    parser.add_argument("--limit", type=float, help="seconds of one measurement at most; default: 20 on a CPU")
    parser.add_argument("--buffer", type=float, default=0.4, help="of the neighbour list, σ_AA (HOOMD's own default)")
    return parser.parse_args()


def main() -> None:
    options = options_of()
    quick = options.quick
    plan = Plan(
        options.device,
        options.replicas or ([1, 2, 4] if quick else [1, 2, 4, 8, 16, 32]),
        options.processes or ([1, 2, 4, 8] if options.device == "gpu" else []),
        options.rounds or (2 if quick else 5),
        options.seconds or (0.3 if quick else 2.0),
        options.limit or (60.0 if options.device == "gpu" else 20.0),
        options.buffer,
    )
    name = HoomdEngine(options.device).device  # a missing engine or device ends it here
    sizes = options.sizes or ([256, 512] if quick else [1000, 4096])
    result = {
        "benchmark": "hoomd_packing",
        "device": options.device,
        "device_name": name,
        "mixture": f"{MIXTURE.name} ({MIXTURE.truncation})",
        "temperature": TEMPERATURE,
        "time_step": TIME_STEP,
        "neighbor_list_buffer": plan.buffer,
        "rounds": plan.rounds,
        "ratios": "median over rounds of the ratio to R = 1 of the same list and size in the same round",
        "sizes": [measure(plan, n) for n in sizes],
    }
    path = record(f"hoomd_packing_{options.device}", result, folder_of(options))
    draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
