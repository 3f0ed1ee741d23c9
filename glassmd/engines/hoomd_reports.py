"""What is read off a HOOMD-blue simulation of many systems when a step is reached."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassmd.engines.base import Observation, Rattled, unstable
from glassmd.engines.rattling import RattlingSums
from glassmd.engines.reduced import Displacements
from glassmd.engines.thermostat import degrees_of_freedom

if TYPE_CHECKING:
    from glassmd.engines.hoomd_packed import PackedSimulation

__all__ = ["displacements", "observations", "rattled"]


@dataclass(frozen=True, eq=False)
class _Thermo:
    """Of every system in a simulation: U/N, kinetic temperature and pressure, (n_systems,) each."""

    potential_energy: NDArray[np.float64]
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]


def _thermo(simulation: PackedSimulation, pack: range, step: int) -> _Thermo:
    """Read off a simulation; an :class:`EngineError` where a system has come apart."""
    d, degrees = simulation.dimensions, degrees_of_freedom(simulation.n_particles, simulation.dimensions)
    energy, virial = simulation.energies_and_virials()
    temperature = 2 * simulation.kinetic_energies() / degrees
    for system, u, t in zip(pack, energy, temperature, strict=True):
        if not math.isfinite(u + t):
            raise unstable("HOOMD-blue", system, step, f"U/N = {u}, T = {t}")
    # d(N−1) degrees of freedom in the kinetic part too, as LAMMPS has it.
    return _Thermo(energy, temperature, (degrees / d * temperature + virial) / simulation.volume)


def observations(simulation: PackedSimulation, pack: range, step: int) -> Iterator[Observation]:
    """Every system of a pack, positions and velocities included."""
    thermo, positions, velocities = _thermo(simulation, pack, step), *simulation.phase_space()
    for slot, system in enumerate(pack):
        yield Observation(
            system=system,
            step=step,
            positions=positions[slot],
            velocities=velocities[slot],
            potential_energy=float(thermo.potential_energy[slot]),
            temperature=float(thermo.temperature[slot]),
            pressure=float(thermo.pressure[slot]),
        )


def displacements(
    simulation: PackedSimulation, pack: range, step: int, groups: list[int], kept: Collection[int]
) -> Iterator[Displacements]:
    """Moments of the displacements of each group of systems; positions only of those in `kept`."""
    thermo = _thermo(simulation, pack, step)
    for group in dict.fromkeys(groups):
        slots = [slot for slot, of in enumerate(groups) if of == group]
        mean, deviation, scattering = simulation.displacement_moments(slots)
        yield Displacements(
            group=group,
            systems=tuple(pack[slot] for slot in slots),
            step=step,
            mean=mean,
            deviation=deviation,
            scattering=scattering,
            potential_energy=thermo.potential_energy[slots],
            temperature=thermo.temperature[slots],
            pressure=thermo.pressure[slots],
            ends={pack[slot]: simulation.positions_of(slot) for slot in slots if pack[slot] in kept},
        )


def rattled(simulation: PackedSimulation, pack: range, step: int, sums: RattlingSums) -> Iterator[Rattled]:
    """What was added up of every system of a pack; an :class:`EngineError` where one has come apart on the way."""
    total, dyads = (simulation.collected(values) for values in sums.arrays)
    for slot, system in enumerate(pack):
        found = sums.rattled(system, total[slot], dyads[slot])
        if not np.isfinite(found.mean).all():  # what is not a number stays in a sum
            raise unstable("HOOMD-blue", system, step, "displacements that are not numbers")
        yield found
