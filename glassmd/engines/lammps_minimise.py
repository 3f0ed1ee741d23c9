"""Inherent structures with LAMMPS: conjugate gradients, and FIRE where their line search gets stuck.

From a liquid of 4096 particles conjugate gradients take a third of FIRE's time. The force of `shifted` jumps at the
cutoff, but towards zero: a pair never rests there, and conjugate gradients pass over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines.base import PARTICLE_STEPS_PER_SECOND, Minimum, unconverged
from glassmd.engines.lammps_input import (
    COMMAND_LINE,
    create_particles,
    gathered,
    lammps_errors,
    lammps_script,
    unwrapped_positions,
)
from glassmd.mixtures import Mixture

__all__ = ["minimise"]

_TOLERANCE = 1e-5  # largest force that may be left, ε_AA/σ_AA; positions are then good to 1e-5 σ_AA or so
_MOST = 100_000  # iterations
_FIRE_STEP = 0.01  # √(mσ²/ε): FIRE chooses up to ten times as much


def minimise(
    lammps: Any, configuration: Configuration, mixture: Mixture, check: Callable[[], None] | None = None
) -> Minimum:
    """See :meth:`glassmd.engines.base.Engine.minimise`.

    Args:
        lammps: The package.
        configuration: The start.
        mixture: Pair potential and masses.
        check: Called about once a second; what it raises ends it.

    Raises:
        EngineError: LAMMPS failed, or the forces did not vanish.
    """
    n = configuration.n_particles
    simulation = lammps.lammps(cmdargs=COMMAND_LINE)
    try:
        with lammps_errors(0, 0):
            _set_up(simulation, configuration, mixture)
        iterations, force = _descend(simulation, n, check)
        if not force <= _TOLERANCE:
            raise unconverged("LAMMPS", force, _TOLERANCE, iterations)
        with lammps_errors(0, iterations):
            energy = _energy(simulation, mixture)
        end = unwrapped_positions(simulation, configuration)
    finally:
        simulation.close()
    start, masses = configuration.unwrapped, np.asarray(mixture.masses)[configuration.species]
    return Minimum(start + remove_drift(end - start, masses), energy, force, iterations)


def _set_up(simulation: Any, configuration: Configuration, mixture: Mixture) -> None:
    before, after = lammps_script(mixture, configuration.box, _FIRE_STEP)
    for command in before:
        simulation.command(command)
    create_particles(simulation, configuration, np.zeros_like(configuration.positions))
    for command in after:
        if not command.startswith("fix integrate"):
            simulation.command(command)
    if mixture.truncation == "truncated":  # the same forces without the jump of the energy
        simulation.command("pair_modify shift yes")
    simulation.command("min_modify norm max dmax 0.1")


def _descend(simulation: Any, n_particles: int, check: Callable[[], None] | None) -> tuple[int, float]:
    """Iterate until the forces vanish; the iterations and the largest force that is left.

    The iterations are cut into the same pieces whether anybody checks or not: a cut changes the way down.
    """
    piece = max(100, int(PARTICLE_STEPS_PER_SECOND / 4 / n_particles))
    style, done, force = "cg", 0, math.inf
    while done < _MOST:
        with lammps_errors(0, done):
            simulation.command(f"min_style {style}")
            simulation.command(f"minimize 0.0 {_TOLERANCE!r} {piece} {10 * piece}")
        force, before = _largest_force(simulation), done
        done = int(simulation.extract_global("ntimestep"))
        if force <= _TOLERANCE or not math.isfinite(force):
            break
        # A line search that finds nothing ends a piece of conjugate gradients before its time.
        style = "fire" if style == "cg" and done - before < piece else "cg"
        if check is not None:
            check()
    return done, force


def _largest_force(simulation: Any) -> float:
    forces = gathered(simulation, "f", 3)
    return float(np.sqrt((forces**2).sum(axis=1)).max())


def _energy(simulation: Any, mixture: Mixture) -> float:
    """U/N of the mixture itself, ε_AA."""
    if mixture.truncation == "truncated":
        simulation.command("pair_modify shift no")
        simulation.command("run 0 post no")
    return float(simulation.get_thermo("pe"))
