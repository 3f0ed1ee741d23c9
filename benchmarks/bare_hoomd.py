"""What a careful user's script does with HOOMD-blue: all replicas in one simulation, one run per report.

Written independently of the engine: the pair table, the types and the reading of positions are its own. The
particle sorter is HOOMD's default one, and there is no thermostat.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.hoomd_device import load_hoomd

PAIRS = {"AA": (1.0, 1.0), "AB": (1.5, 0.8), "BB": (0.5, 0.88)}
"""ε and σ of the Kob-Andersen mixture, cut and shifted at 2.5 σ."""


def bare(
    replicas: Sequence[Configuration], steps: Sequence[int], *, time_step: float, buffer: float, device: str
) -> NDArray[np.float64]:
    """Evolve replicas of one parent at constant energy.

    Returns:
        (n_steps, n_replicas, n_particles, 3) unwrapped positions at `steps`, σ_AA.
    """
    hoomd = load_hoomd()
    chosen = hoomd.device.GPU if device == "gpu" else hoomd.device.CPU
    simulation = hoomd.Simulation(device=chosen(notice_level=0), seed=1)
    simulation.create_state_from_snapshot(_snapshot(hoomd, replicas))
    pair = hoomd.md.pair.LJ(nlist=hoomd.md.nlist.Tree(buffer=buffer), default_r_cut=0.0, mode="shift")
    kinds = [f"{name}{r}" for r in range(len(replicas)) for name in "AB"]
    for a, b in combinations_with_replacement(kinds, 2):
        epsilon, sigma = PAIRS[a[0] + b[0] if a[0] <= b[0] else b[0] + a[0]]
        pair.params[a, b] = {"epsilon": epsilon, "sigma": sigma}
        pair.r_cut[a, b] = 2.5 * sigma if a[1:] == b[1:] else 0.0
    everything = hoomd.md.methods.ConstantVolume(filter=hoomd.filter.All())
    simulation.operations.integrator = hoomd.md.Integrator(dt=time_step, methods=[everything], forces=[pair])
    seen, done = [], 0
    for step in steps:
        simulation.run(step - done)
        done = step
        with simulation.state.cpu_local_snapshot as data:
            rows = np.array(data.particles.rtag)
            unwrapped = data.particles.position[rows] + data.particles.image[rows] * replicas[0].box
        seen.append(np.array(unwrapped).reshape(len(replicas), -1, 3))
    return np.array(seen)


def _snapshot(hoomd: Any, replicas: Sequence[Configuration]) -> Any:
    snapshot = hoomd.Snapshot()
    particles, n = snapshot.particles, replicas[0].n_particles
    snapshot.configuration.box = [*replicas[0].box, 0, 0, 0]
    particles.N = n * len(replicas)
    particles.types = [f"{name}{r}" for r in range(len(replicas)) for name in "AB"]
    particles.typeid[:] = np.concatenate([2 * r + one.species for r, one in enumerate(replicas)])
    particles.position[:] = np.concatenate([one.positions for one in replicas])
    particles.velocity[:] = np.concatenate([one.velocities for one in replicas if one.velocities is not None])
    return snapshot
