"""The lammps engine against a bare LAMMPS script doing the same physics on the same replicas.

    OMP_NUM_THREADS=1 python benchmarks/engine_lammps.py [--seconds 60]

Contestants take turns within each round, so that a machine shared with others slows all of them alike; the
median over rounds of the ratio of their times is what counts. A further contestant is one function in
`CONTESTANTS`: it gets the problem, evolves all its replicas to the end and returns the last positions
(None where there are none to compare).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import glassmd
from glassmd.configuration import Configuration
from glassmd.engines import Thermostat
from glassmd.engines.lammps import LammpsEngine, load_lammps
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import Mixture, get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.creation import make_run
from glassmd.simulation.pool import simulate
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.trajectory import Frame

TIME_STEP, TEMPERATURE, THERMOSTAT_TIME = 0.005, 0.8, 1.0
RESULTS = Path(__file__).parent / "results" / "engine_lammps.json"


@dataclass(frozen=True)
class Problem:
    """Replicas of one parent, reported at log-spaced steps."""

    mixture: Mixture
    replicas: list[Configuration]
    steps: list[int]
    thermostatted: bool

    @property
    def replica_steps(self) -> int:
        return len(self.replicas) * self.steps[-1]


def engine(problem: Problem) -> list[NDArray[np.float64]]:
    """`LammpsEngine.evolve`, the whole of it."""
    seeds = tuple(range(1, len(problem.replicas) + 1))
    thermostat = Thermostat(TEMPERATURE, THERMOSTAT_TIME, seeds) if problem.thermostatted else None
    seen = LammpsEngine().evolve(
        problem.replicas,
        problem.mixture,
        steps=problem.steps,
        time_step=TIME_STEP,
        thermostat=thermostat,
        check=lambda: None,
    )
    return [one.positions for one in seen if one.step == problem.steps[-1]]


def bare(problem: Problem) -> list[NDArray[np.float64]]:
    """What a careful user's script does: one instance, one run per replica and report.


    The commands are written out here, independently of the engine's.
    """
    simulation = load_lammps().lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    parent = problem.replicas[0]
    n, half = parent.n_particles, float(parent.box[0]) / 2
    for line in f"""
        units lj
        atom_style atomic
        atom_modify map array
        region box block {-half!r} {half!r} {-half!r} {half!r} {-half!r} {half!r}
        create_box 2 box
        mass * 1.0""".strip().splitlines():
        simulation.command(line)
    tags, kinds = list(range(1, n + 1)), (parent.species + 1).tolist()
    simulation.create_atoms(n, tags, kinds, parent.positions.ravel().tolist())
    for line in f"""
        pair_style lj/cut/opt 2.5
        pair_coeff 1 1 1.0 1.0 2.5
        pair_coeff 1 2 1.5 0.8 2.0
        pair_coeff 2 2 0.5 0.88 2.2
        pair_modify shift yes
        neighbor 0.3 bin
        neigh_modify every 1 delay 0 check yes
        timestep {TIME_STEP}
        thermo 0
        fix move all nve""".strip().splitlines():
        simulation.command(line)
    ends = []
    for index, replica in enumerate(problem.replicas):
        simulation.command("set group all image 0 0 0")
        for name, values in (("x", replica.positions), ("v", replica.velocities)):
            simulation.scatter_atoms(name, 1, 3, np.ctypeslib.as_ctypes(np.array(values).ravel()))
        simulation.command("reset_timestep 0")
        if problem.thermostatted:
            target = f"{TEMPERATURE} {TEMPERATURE} {THERMOSTAT_TIME}"
            simulation.command(f"fix couple all temp/csvr {target} {index + 1}")
        done = 0
        for step in problem.steps:
            simulation.command(f"run {step - done} pre {'no' if done else 'yes'} post no")
            done = step
        ends.append(np.array(simulation.gather_atoms("x", 1, 3)).reshape(n, 3))
        if problem.thermostatted:
            simulation.command("unfix couple")
    simulation.close()
    return ends


def simulate_all(problem: Problem) -> None:
    """`glassmd simulate` on a run whose parent is there: seeds, replicas, files, checksums, syncs and all."""
    replicas = len(problem.replicas)
    settings = RunSettings(
        particles=problem.replicas[0].n_particles,
        temperature=TEMPERATURE,
        lineages=1,
        validation_lineages=0,
        test_lineages=0,
        parents=1,
        replicas=replicas,
        times=[step * TIME_STEP for step in problem.steps],
        time_step=TIME_STEP,
        ensemble="nvt" if problem.thermostatted else "nve",
        thermostat_time=THERMOSTAT_TIME,
        engine="lammps",
        workers=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(settings, Path(folder) / "run")
        facts = {"equilibration": {"equilibrated": True}, "steps": 0}
        run.commit(ParentKey(0, 0), [Frame(problem.replicas[0].with_velocities(None))], facts)
        result = simulate(settings, run.path)
        assert result["steps"] == problem.replica_steps


CONTESTANTS: dict[str, Callable[[Problem], list[NDArray[np.float64]] | None]] = {
    "bare": bare,
    "engine": engine,
    "simulate": simulate_all,
}


def problem(n_particles: int, replicas: int, last_step: int, thermostatted: bool) -> Problem:
    """Replicas of a liquid that has run at T for a while; equilibrium to the last digit changes no speed."""
    mixture, generator = get_mixture("kob-andersen"), np.random.default_rng(n_particles)
    start = random_start(mixture, n_particles, mixture.density, generator)
    start = start.with_velocities(draw_velocities(start, mixture, 2.0, generator))
    for temperature, steps in ((2.0, 1000), (TEMPERATURE, 2000)):
        (end,) = LammpsEngine().evolve(
            [start],
            mixture,
            steps=[steps],
            time_step=TIME_STEP,
            thermostat=Thermostat(temperature, 0.1, (1,)),
        )
        start = Configuration(box=start.box, species=start.species, positions=end.positions, velocities=end.velocities)
    parent = start.with_images_zero()
    copies = [parent.with_velocities(draw_velocities(parent, mixture, TEMPERATURE, generator)) for _ in range(replicas)]
    steps = np.unique(np.geomspace(20, last_step, 10).astype(int)).tolist()
    return Problem(mixture, copies, steps, thermostatted)


def measure(one: Problem, seconds: float) -> dict[str, object]:
    """Rounds of all contestants until the time is used up; at least three."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    began = time.perf_counter()
    while len(times["bare"]) < 3 or time.perf_counter() - began < seconds:
        # The order turns over from round to round: whoever runs second finds a warmer or a busier machine.
        order = list(CONTESTANTS)[:: 1 if len(times["bare"]) % 2 else -1]
        for name in order:
            started = time.perf_counter()
            CONTESTANTS[name](one)
            times[name].append(time.perf_counter() - started)
    result: dict[str, object] = {
        "n_particles": one.replicas[0].n_particles,
        "replicas": len(one.replicas),
        "steps": one.steps[-1],
        "reports": len(one.steps),
        "ensemble": "NVT" if one.thermostatted else "NVE",
        "rounds": len(times["bare"]),
        "steps_per_second": {
            name: round(one.replica_steps / statistics.median(spent), 1) for name, spent in times.items()
        },
        "ratio_to_bare": {
            name: round(statistics.median(b / t for b, t in zip(times["bare"], spent, strict=True)), 4)
            for name, spent in times.items()
        },
    }
    print(json.dumps(result))
    return result


def same_physics(one: Problem) -> float:
    """Largest distance between the contestants after a few steps, before chaos tells rounding apart; σ_AA.

    At constant energy: the thermostats are one algorithm (Bussi et al. 2007) with random numbers of their own.
    """
    short = Problem(one.mixture, one.replicas[:2], [20, 100], thermostatted=False)
    box = one.replicas[0].box
    off = [np.abs(a - b) for a, b in zip(bare(short), engine(short), strict=True)]
    return float(max(np.minimum(d % box, -d % box).max() for d in off))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="per size and ensemble")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    figures = []
    for n_particles, replicas, last_step in ((1000, 4, 3500), (4096, 3, 1000)):
        for thermostatted in (False, True):
            one = problem(n_particles, replicas, last_step, thermostatted)
            difference = same_physics(one)
            if difference > 1e-8:
                raise SystemExit(f"the contestants do different physics: {difference:.1e} σ after 100 steps")
            figures.append({**measure(one, options.seconds), "difference_after_100_steps": difference})
    record = {
        "benchmark": "engine_lammps",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "glassmd": glassmd.__version__,
            "lammps": LammpsEngine().version,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "mixture": "kob-andersen, shifted",
        "temperature": TEMPERATURE,
        "time_step": TIME_STEP,
        "figures": figures,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
