"""A Kob–Andersen liquid with HOOMD-blue, and nothing of glassmd: a trajectory as anybody might have it on disk.

    python examples/own_trajectory/with_hoomd.py liquid.gsd
    glassmd analyze liquid.gsd --mixture kob-andersen --temperature 0.8 --time-step 0.005
    glassmd train --stream liquid.gsd …     # while this still writes

HOOMD keeps frames in memory until its buffer is full: `flush` lets others see each as soon as it is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hoomd
import numpy as np

TIME_STEP = 0.005
EPSILON = {("A", "A"): 1.0, ("A", "B"): 1.5, ("B", "B"): 0.5}
SIGMA = {("A", "A"): 1.0, ("A", "B"): 0.8, ("B", "B"): 0.88}


def lattice(n: int, seed: int) -> hoomd.Snapshot:
    """Particles on a simple cubic lattice at density 1.2, species at random, 80:20."""
    edge, side = (n / 1.2) ** (1 / 3), int(np.ceil(n ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n]
    snapshot = hoomd.Snapshot()
    if snapshot.communicator.rank == 0:
        snapshot.configuration.box = [edge, edge, edge, 0, 0, 0]
        snapshot.particles.N, snapshot.particles.types = n, ["A", "B"]
        snapshot.particles.position[:] = (sites + 0.5) * edge / side - edge / 2
        snapshot.particles.typeid[:] = np.random.default_rng(seed).permutation(np.arange(n) >= round(0.8 * n))
    return snapshot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--equilibrate", type=float, default=100.0, help="time before the first frame")
    parser.add_argument("--time", type=float, default=200.0)
    parser.add_argument("--every", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    simulation = hoomd.Simulation(device=hoomd.device.auto_select(), seed=given.seed)
    simulation.create_state_from_snapshot(lattice(given.particles, given.seed))
    pair = hoomd.md.pair.LJ(nlist=hoomd.md.nlist.Cell(buffer=0.3), mode="shift")
    for types, epsilon in EPSILON.items():
        pair.params[types] = {"epsilon": epsilon, "sigma": SIGMA[types]}
        pair.r_cut[types] = 2.5 * SIGMA[types]
    bath = hoomd.md.methods.thermostats.Bussi(kT=2.0, tau=0.2)
    method = hoomd.md.methods.ConstantVolume(filter=hoomd.filter.All(), thermostat=bath)
    simulation.operations.integrator = hoomd.md.Integrator(dt=TIME_STEP, methods=[method], forces=[pair])
    simulation.state.thermalize_particle_momenta(filter=hoomd.filter.All(), kT=2.0)
    simulation.run(round(10 / TIME_STEP))
    bath.kT = given.temperature
    simulation.run(round(given.equilibrate / TIME_STEP))
    writer = hoomd.write.GSD(
        trigger=hoomd.trigger.Periodic(round(given.every / TIME_STEP), simulation.timestep),
        filename=str(given.out),
        mode="wb",
        dynamic=["property", "momentum"],  # images are among the momenta
    )
    simulation.operations.writers.append(writer)
    for _ in range(round(given.time / given.every)):
        simulation.run(round(given.every / TIME_STEP))
        writer.flush()
    simulation.run(1)
    writer.flush()


if __name__ == "__main__":
    main()
