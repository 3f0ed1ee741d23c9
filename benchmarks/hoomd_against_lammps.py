"""Steps per second of the two engines, one system in one process, in the same run.

    python benchmarks/hoomd_against_lammps.py --device cpu

Both run the same liquid at constant energy through `Engine.evolve`, in turns. HOOMD's neighbour list gets the
buffer that the engine measures to be best, as in a run; LAMMPS keeps its own.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from command import folder_of, numbers, parser_of, run
from figures import axes_of, save
from liquid import replicas, simulated_liquid
from record import record, title_of
from turns import rate, ratio, take_turns

from glassmd.configuration import Configuration
from glassmd.engines import Engine
from glassmd.engines.hoomd import HoomdEngine
from glassmd.engines.lammps import LammpsEngine
from glassmd.mixtures import Mixture, get_mixture

TIME_STEP, TEMPERATURE = 0.005, 0.8
TRUNCATIONS = ("shifted", "force-shifted")
WARM_UP = {"cpu": 40, "gpu": 3000}
"""Steps; on a GPU HOOMD tunes its kernels in them."""


def speed(engine: Engine, system: Configuration, mixture: Mixture, steps: int) -> float:
    """Steps/s between the start and the end, one report included, the loading not."""
    seen = engine.evolve([system], mixture, steps=[0, steps], time_step=TIME_STEP)
    next(seen)
    started = time.perf_counter()
    next(seen)
    return steps / (time.perf_counter() - started)


def measure(device: Any, n_particles: int, truncation: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Both engines on one liquid."""
    mixture, hoomd = get_mixture("kob-andersen", truncation), HoomdEngine(device, packed=1)
    parent = simulated_liquid(hoomd, n_particles, TEMPERATURE, truncation)
    (system,) = replicas(parent, mixture, TEMPERATURE, [0])
    prepared = hoomd.prepare(lambda: system, mixture, TIME_STEP, 1)
    engines: dict[str, Engine] = {"hoomd": hoomd, "lammps": LammpsEngine()}
    contestants = {}
    for name, engine in engines.items():
        steps = max(50, round(seconds * speed(engine, system, mixture, WARM_UP[device])))
        contestants[name] = partial(speed, engine, system, mixture, steps)
    rates = take_turns(contestants, rounds)
    row = {
        "n_particles": n_particles,
        "truncation": truncation,
        "hoomd_neighbor_list_buffer": prepared["buffer"],
        "steps_per_second": {name: rate(rates, name) for name in rates},
        "hoomd_to_lammps": ratio(rates, "hoomd", "lammps"),
    }
    print(row, flush=True)
    return row


def draw(result: dict[str, Any], path: Path) -> None:
    """Steps/s of both, with the ratio above each pair."""
    rows = result["figures"]
    figure, (axes,) = axes_of(1, width=5.2, height=2.8)
    for shift, name, label in ((-0.18, "hoomd", "HOOMD-blue"), (0.18, "lammps", "LAMMPS")):
        speeds = [row["steps_per_second"][name]["median"] for row in rows]
        axes.bar([x + shift for x in range(len(rows))], speeds, 0.34, label=label)
    top = [max(row["steps_per_second"][name]["median"] for name in ("hoomd", "lammps")) for row in rows]
    for x, (row, height) in enumerate(zip(rows, top, strict=True)):
        axes.annotate(
            f"{row['hoomd_to_lammps']:.2f}", (x, height), (0, 3), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_xticks(range(len(rows)), [f"N = {row['n_particles']}\n{row['truncation']}" for row in rows])
    axes.set(ylabel="steps per second", ylim=(0, 1.15 * max(top)))
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, title="number: HOOMD / LAMMPS")
    figure.suptitle(f"Kob–Andersen at T = {TEMPERATURE}, {title_of(result)}", fontsize=9)
    save(figure, path)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", type=numbers, help="particles; default: 1000,4096")
    parser.add_argument("--rounds", type=int, help="default: 7")
    parser.add_argument("--seconds", type=float, help="of one measurement; default: 3")
    options = parser.parse_args()
    name, _ = HoomdEngine(options.device).device, LammpsEngine()  # what is missing ends it here
    sizes = options.sizes or ([256] if options.quick else [1000, 4096])
    rounds = options.rounds or (2 if options.quick else 7)
    seconds = options.seconds or (0.3 if options.quick else 3.0)
    result = {
        "benchmark": "hoomd_against_lammps",
        "device": options.device,
        "device_name": name,
        "mixture": "kob-andersen",
        "temperature": TEMPERATURE,
        "time_step": TIME_STEP,
        "ensemble": "NVE",
        "processes": 1,
        "rounds": rounds,
        "figures": [measure(options.device, n, kind, rounds, seconds) for n in sizes for kind in TRUNCATIONS],
    }
    path = record(f"hoomd_against_lammps_{options.device}", result, folder_of(options))
    draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
