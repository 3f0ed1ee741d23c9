"""`glassmd simulate` and the hoomd engine against a bare HOOMD script doing the same replicas, packed alike.

    python benchmarks/hoomd_engine.py --device cpu
    python benchmarks/hoomd_engine.py --device gpu

The bare script (bare_hoomd.py) has no thermostat, so that at constant temperature ours is part of what is
measured. Everything from the parent to the last position counts: making the simulation, and for `simulate`
reading the parent, seeds, files, checksums and syncs. All start from the same positions and momenta; before
anything is measured their positions after 40 steps are compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from bare_hoomd import bare
from command import folder_of, numbers, parser_of, run
from figures import axes_of, save
from liquid import replicas, simulated_liquid
from numpy.typing import NDArray
from record import record, title_of
from turns import rate, ratio, take_turns

from glassmd.configuration import Configuration
from glassmd.engines import Thermostat
from glassmd.engines.hoomd import HoomdEngine
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.creation import make_run
from glassmd.simulation.pool import simulate
from glassmd.simulation.seeds import Purpose, thermostat_seed
from glassmd.trajectory import Frame, read_frames, write_frames

MIXTURE = get_mixture("kob-andersen")
TIME_STEP, TEMPERATURE, THERMOSTAT_TIME, BUFFER = 0.005, 0.8, 2.0, 0.4
REPORTS = 10
ACCEPTED = 0.95
"""Of the bare script's speed, at least, for N = 1000 and R = 16."""

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Replicas of one parent, reported at log-spaced steps."""

    device: Literal["cpu", "gpu"]
    parent: Configuration
    n_replicas: int
    steps: list[int]
    thermostatted: bool

    @property
    def replicas(self) -> list[Configuration]:
        """Those that `glassmd simulate` makes."""
        return replicas(self.parent, MIXTURE, TEMPERATURE, range(self.n_replicas))


def as_stored(parent: Configuration) -> Configuration:
    """A parent as a run's file keeps it, in single precision.

    The force jumps at the cutoff: positions that differ by 1e-7 let a pair cross it a step earlier or later, and
    are 4e-5 apart 40 steps after.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parent.gsd"
        write_frames(path, [Frame(parent.with_velocities(None))])
        return read_frames(path)[0].configuration


def by_bare(problem: Problem) -> Positions:
    """The bare script."""
    return bare(problem.replicas, problem.steps, time_step=TIME_STEP, buffer=BUFFER, device=problem.device)


def by_engine(problem: Problem) -> Positions:
    """`HoomdEngine.evolve`, the whole of it."""
    seeds = tuple(thermostat_seed(0, Purpose.REPLICA, 0, 0, replica) for replica in range(problem.n_replicas))
    engine = HoomdEngine(problem.device, packed=problem.n_replicas, buffer=BUFFER)
    seen = engine.evolve(
        problem.replicas,
        MIXTURE,
        steps=problem.steps,
        time_step=TIME_STEP,
        thermostat=Thermostat(TEMPERATURE, THERMOSTAT_TIME, seeds) if problem.thermostatted else None,
        check=lambda: None,
    )
    found = {(one.step, one.system): one.positions for one in seen}
    return np.array([[found[step, replica] for replica in range(problem.n_replicas)] for step in problem.steps])


def by_simulate(problem: Problem) -> Positions:
    """`glassmd simulate` on a run whose parent is there; the positions are those in its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = simulated(problem, Path(folder) / "run")
        frames = [frame.configuration.unwrapped for frame in read_frames(path)[1:]]
    return np.array(frames).reshape(problem.n_replicas, len(problem.steps), -1, 3).swapaxes(0, 1)


def simulated(problem: Problem, out: Path) -> Path:
    """Simulate into `out`; the segment's file."""
    settings = RunSettings(
        particles=problem.parent.n_particles,
        temperature=TEMPERATURE,
        lineages=1,
        validation_lineages=0,
        test_lineages=0,
        parents=1,
        replicas=problem.n_replicas,
        block=problem.n_replicas,
        times=[step * TIME_STEP for step in problem.steps],
        time_step=TIME_STEP,
        ensemble="nvt" if problem.thermostatted else "nve",
        thermostat_time=THERMOSTAT_TIME,
        engine="hoomd",
        device=problem.device,
        packed=problem.n_replicas,
        neighbor_buffer=BUFFER,
        workers=1,
    )
    directory = make_run(settings, out)
    facts = {"equilibration": {"equilibrated": True}, "steps": 0}
    directory.commit(ParentKey(0, 0), [Frame(problem.parent.with_velocities(None))], facts)
    result = simulate(settings, out)
    assert result["steps"] == problem.n_replicas * problem.steps[-1]
    (entry,) = directory.entries("segments")
    return entry.path


def without_result(problem: Problem) -> None:
    """`glassmd simulate`, without reading what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        simulated(problem, Path(folder) / "run")


CONTESTANTS: dict[str, Callable[[Problem], object]] = {
    "bare": by_bare,
    "engine": by_engine,
    "simulate": without_result,
}


def speed(work: Callable[[Problem], object], problem: Problem) -> float:
    """Replica-steps/s."""
    started = time.perf_counter()
    work(problem)
    return problem.n_replicas * problem.steps[-1] / (time.perf_counter() - started)


def differences(problem: Problem) -> dict[str, float]:
    """Largest distance of positions from the bare script's after 40 steps, before chaos tells rounding apart; σ_AA."""
    short = Problem(problem.device, problem.parent, problem.n_replicas, [40], problem.thermostatted)
    expected, box = by_bare(short), problem.parent.box
    found = {}
    for name, work in (("engine", by_engine), ("simulate", by_simulate)):
        off = work(short) - expected
        found[name] = float(np.abs(off - box * np.rint(off / box)).max())
    return found


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    """The three against each other."""
    off = differences(problem)
    if max(off.values()) > 1e-6:
        raise SystemExit(f"hoomd_engine.py: the contestants do different physics: {off} σ after 40 steps")
    rates = take_turns({name: partial(speed, work, problem) for name, work in CONTESTANTS.items()}, rounds)
    row = {
        "n_particles": problem.parent.n_particles,
        "replicas": problem.n_replicas,
        "steps": problem.steps[-1],
        "reports": len(problem.steps),
        "ensemble": "NVT" if problem.thermostatted else "NVE",
        "bare_script": "no thermostat",
        "replica_steps_per_second": {name: rate(rates, name) for name in rates},
        "ratio_to_bare": {name: ratio(rates, name, "bare") for name in rates},
        "distance_from_bare_after_40_steps": off,
    }
    print({key: row[key] for key in ("n_particles", "replicas", "ensemble", "ratio_to_bare")}, flush=True)
    return row


def draw(result: dict[str, Any], path: Path) -> None:
    """Speed as a share of the bare script's."""
    rows = result["figures"]
    figure, (axes,) = axes_of(1, width=5.2, height=2.6)
    top = 1.0
    for shift, name in ((-0.18, "engine"), (0.18, "simulate")):
        values = [row["ratio_to_bare"][name] for row in rows]
        top = max([top, *values])
        bars = axes.bar([x + shift for x in range(len(rows))], values, 0.34, label=f"glassmd {name}")
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.axhline(ACCEPTED, color="black", linewidth=0.8, linestyle=":", label=f"accepted: {ACCEPTED}")
    labels = [f"N = {row['n_particles']}\nR = {row['replicas']}, {row['ensemble']}" for row in rows]
    axes.set_xticks(range(len(rows)), labels)
    axes.set(ylabel="speed / bare HOOMD script", ylim=(0, 1.3 * top))  # room for the legend
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, ncols=3, loc="upper center")
    figure.suptitle(f"Kob–Andersen at T = {TEMPERATURE}, {title_of(result)}", fontsize=9)
    save(figure, path)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--steps", type=int, help="default: 1000 on a CPU, 50000 on a GPU")
    parser.add_argument("--sizes", type=numbers, help="particles; default: 1000,4096")
    options = parser.parse_args()
    name, quick = HoomdEngine(options.device).device, options.quick  # a missing engine or device ends it here
    last = options.steps or (100 if quick else 50_000 if options.device == "gpu" else 1000)
    packed = {1000: 4 if quick else 16, 4096: 1 if quick else 32 if options.device == "gpu" else 4}
    figures = []
    for n_particles in options.sizes or packed:
        parent = as_stored(simulated_liquid(HoomdEngine(options.device), n_particles, TEMPERATURE))
        steps = sorted({round(step) for step in np.geomspace(20, last, REPORTS)})
        for thermostatted in (False, True):
            problem = Problem(options.device, parent, packed.get(n_particles, 4), steps, thermostatted)
            figures.append(measure(problem, options.rounds or (2 if quick else 5)))
    result = {
        "benchmark": "hoomd_engine",
        "device": options.device,
        "device_name": name,
        "mixture": f"{MIXTURE.name} ({MIXTURE.truncation})",
        "temperature": TEMPERATURE,
        "time_step": TIME_STEP,
        "thermostat_time": THERMOSTAT_TIME,
        "neighbor_list": f"Tree, buffer {BUFFER}",
        "accepted": all(row["ratio_to_bare"]["simulate"] >= ACCEPTED for row in figures if row["n_particles"] == 1000),
        "figures": figures,
    }
    path = record(f"hoomd_engine_{options.device}", result, folder_of(options))
    draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
