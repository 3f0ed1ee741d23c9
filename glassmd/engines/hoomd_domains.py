"""HOOMD-blue in several ranks: one system whose box is cut into domains, one for each rank.

Every rank does the same. The first one hands a system to HOOMD-blue, which deals its particles out, and has what is
read off it; the others have nothing to report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines.base import (
    PARTICLE_STEPS_PER_SECOND,
    Engine,
    Minimum,
    Observation,
    Rattled,
    require_possible,
    require_possible_minimum,
    unconverged,
    unstable,
)
from glassmd.engines.hoomd_device import hoomd_version, load_hoomd, open_device
from glassmd.engines.hoomd_fire import MOST, STEPS, fire, tolerance
from glassmd.engines.hoomd_pairs import energy_offset, pair_force
from glassmd.engines.rattling import RattlingSums, require_snapshots
from glassmd.engines.schedule import reach_each
from glassmd.engines.thermostat import Thermostat, degrees_of_freedom
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["HoomdDomains"]

FloatArray = NDArray[np.float64]


class HoomdDomains(Engine):
    """Evolves one system after the other, each in all ranks; what it yields the first rank has, the others nothing.

    Args:
        folder: In which the first rank tells the others what it alone knows.
        device: `cpu`, or `gpu`: rank k has GPU k.
        buffer: Of the neighbour list, σ_AA.
        gently: Minimise with the smaller time step.

    Raises:
        EngineError: HOOMD-blue or the device is missing.
    """

    name = "hoomd"

    def __init__(self, folder: Path, device: str, buffer: float, gently: bool) -> None:
        self._hoomd = load_hoomd()
        self.version, self.device = hoomd_version(), device
        self._communicator = self._hoomd.communicator.Communicator()
        gpu = self._communicator.rank if device == "gpu" else None
        self._device = open_device(self._hoomd, device, gpu, folder / "messages")
        self._folder, self._buffer, self._step = folder, buffer, STEPS[gently]
        self._told = 0

    def place(self) -> tuple[int, int]:
        """The number of this rank, and how many there are."""
        return int(self._communicator.rank), int(self._communicator.num_ranks)

    def evolve(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Observation]:
        """Evolve the systems one after the other; see :meth:`glassmd.engines.base.Engine.evolve`."""
        require_possible(systems, mixture, steps, time_step, thermostat)
        for index, system in enumerate(systems):
            simulation = self._simulation(system, mixture, time_step)
            for step in _reached(simulation, index, steps, time_step, thermostat):
                seen = simulation.observe(index, step)
                if seen is not None:
                    yield seen

    def rattling(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        left_out: int,
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Rattled]:
        """Add up displacements in the first rank; see :meth:`glassmd.engines.base.Engine.rattling`."""
        require_possible(systems, mixture, steps, time_step, thermostat)
        require_snapshots(len(steps), left_out)
        for index, system in enumerate(systems):
            simulation, sums = self._simulation(system, mixture, time_step), RattlingSums(len(steps), left_out)
            masses = np.asarray(mixture.masses)[system.species]
            for step in _reached(simulation, index, steps, time_step, thermostat):
                state = simulation.phase_space()
                if state is None:
                    continue
                if not np.isfinite(state[0]).all():
                    raise unstable("HOOMD-blue", index, step, "positions that are not numbers")
                sums.add(remove_drift(state[0] - system.unwrapped, masses))
                if sums.complete:
                    yield sums.rattled(index, *sums.arrays)

    def minimise(
        self, configuration: Configuration, mixture: Mixture, *, check: Callable[[], None] | None = None
    ) -> Minimum:
        """FIRE; see :meth:`glassmd.engines.base.Engine.minimise`."""
        require_possible_minimum(configuration, mixture)
        resting = configuration.with_velocities(np.zeros_like(configuration.positions))
        simulation = self._simulation(resting, mixture, self._step, minimise=True)
        piece = max(20, int(PARTICLE_STEPS_PER_SECOND / 4 / configuration.n_particles))
        enough, steps, force = tolerance(self._hoomd), 0, self._agreed(simulation.largest_force())
        while force > enough and steps < MOST:
            simulation.run(piece)
            steps, force = steps + piece, self._agreed(simulation.largest_force())
        if not force <= enough:
            raise unconverged("HOOMD-blue", force, enough, steps)
        energy, state = simulation.potential_energy(), simulation.phase_space()
        start, masses = configuration.unwrapped, np.asarray(mixture.masses)[configuration.species]
        moved = np.zeros_like(start) if state is None else remove_drift(state[0] - start, masses)
        return Minimum(start + moved, energy, force, steps)

    def _simulation(
        self, system: Configuration, mixture: Mixture, time_step: float, minimise: bool = False
    ) -> _Domains:
        return _Domains(self._hoomd, self._device, system, mixture, self._buffer, time_step, minimise)

    def _agreed(self, value: float) -> float:
        """The first rank's value, on every rank."""
        path = self._folder / f"agreed-{self._told % 2}"  # of two names: nobody is further behind than one
        self._told += 1
        if self._communicator.rank == 0:
            path.write_text(repr(value))
        self._communicator.barrier()
        return float(path.read_text())


def _reached(
    simulation: _Domains, index: int, steps: Sequence[int], time_step: float, thermostat: Thermostat | None
) -> Iterator[int]:
    """Run to every step in turn and yield it, at the same time on every rank."""

    def rescale(step: int) -> None:
        assert thermostat is not None
        kinetic = [simulation.kinetic_energy()]
        (factor,) = thermostat.factors(step, time_step, kinetic, simulation.degrees, range(index, index + 1))
        simulation.rescale(float(factor))

    chunk = max(1, int(PARTICLE_STEPS_PER_SECOND / 4 / simulation.n_particles))  # between two, a rank can be ended
    return reach_each(
        steps, time_step, run=simulation.run, rescale=rescale, thermostat=thermostat, check=None, chunk=chunk
    )


class _Domains:
    """One system in HOOMD-blue; all ranks call every method together."""

    def __init__(
        self,
        hoomd: Any,
        device: Any,
        system: Configuration,
        mixture: Mixture,
        buffer: float,
        time_step: float,
        minimise: bool,
    ) -> None:
        self.n_particles, self._system, self._mixture = system.n_particles, system, mixture
        self.degrees = degrees_of_freedom(system.n_particles, system.dimensions)
        self._first = device.communicator.rank == 0
        self._simulation = hoomd.Simulation(device=device, seed=1)  # nothing in it is random
        neighbors = hoomd.md.nlist.Cell(buffer=buffer)
        self._force = pair_force(hoomd, mixture, 1, neighbors)
        self._offset = energy_offset(hoomd, mixture, 1, neighbors)
        self._thermo = hoomd.md.compute.ThermodynamicQuantities(filter=hoomd.filter.All())
        if minimise:
            integrator = fire(hoomd, self._force, time_step)
        else:
            methods = [hoomd.md.methods.ConstantVolume(filter=hoomd.filter.All())]
            integrator = hoomd.md.Integrator(dt=time_step, methods=methods, forces=[self._force])
        try:
            self._simulation.create_state_from_snapshot(self._snapshot(hoomd, device.communicator))
        except RuntimeError as error:
            raise _failed(error, 0) from error
        operations = self._simulation.operations
        operations.integrator = integrator
        operations.computes.extend([self._thermo] if self._offset is None else [self._thermo, self._offset])
        self.run(0)

    def _snapshot(self, hoomd: Any, communicator: Any) -> Any:
        """Everything HOOMD is given; the first rank has it."""
        system, mixture, d = self._system, self._mixture, self._system.dimensions
        snapshot = hoomd.Snapshot(communicator)
        if self._first:
            assert system.velocities is not None
            snapshot.configuration.box = [*map(float, system.box), *([0.0] * (3 - d)), 0.0, 0.0, 0.0]
            particles = snapshot.particles
            particles.N = system.n_particles
            particles.types = [f"{name}0" for name in mixture.species]
            particles.typeid[:] = system.species
            particles.mass[:] = np.asarray(mixture.masses)[system.species]
            particles.position[:, :d] = system.positions
            particles.velocity[:, :d] = system.velocities
            particles.image[:, :d] = system.images
        return snapshot

    def run(self, steps: int) -> None:
        """Go on by so many steps."""
        try:
            self._simulation.run(steps)
        except RuntimeError as error:
            raise _failed(error, self._simulation.timestep) from error

    def kinetic_energy(self) -> float:
        """ε_AA, on every rank; asked for once at a step, before velocities are rescaled."""
        return float(self._thermo.kinetic_energy)

    def rescale(self, factor: float) -> None:
        """Multiply the velocities of the particles of this rank."""
        with self._simulation.state.cpu_local_snapshot as data:
            velocities = data.particles.velocity
            velocities[:] = np.asarray(velocities) * factor

    def phase_space(self) -> tuple[FloatArray, FloatArray] | None:
        """Unwrapped positions and velocities in the order that was given, (n_particles, d) each; the first rank's."""
        snapshot, system = self._simulation.state.get_snapshot(), self._system
        if not self._first:
            return None
        particles, d = snapshot.particles, system.dimensions
        wrapped, velocities = (np.array(x[:, :d], np.float64) for x in (particles.position, particles.velocity))
        return wrapped + particles.image[:, :d] * system.box, velocities

    def largest_force(self) -> float:
        """On any particle, ε_AA/σ_AA; the first rank's."""
        forces = self._force.forces
        return float(np.linalg.norm(forces, axis=1).max()) if self._first else math.nan

    def potential_energy(self) -> float:
        """U/N, ε_AA, on every rank."""
        offset = 0.0 if self._offset is None else float(self._offset.energy)
        return (float(self._force.energy) + offset) / self.n_particles

    def observe(self, index: int, step: int) -> Observation | None:
        """The system at this step; the first rank's."""
        energy, state, system = self.potential_energy(), self.phase_space(), self._system
        virial = self._virial()
        if state is None:
            return None
        masses = np.asarray(self._mixture.masses)[system.species]
        temperature = float(masses @ (state[1] ** 2).sum(axis=1)) / self.degrees
        if not math.isfinite(energy + temperature):
            raise unstable("HOOMD-blue", index, step, f"U/N = {energy}, T = {temperature}")
        pressure = (self.degrees * temperature + virial) / (system.dimensions * system.volume)
        return Observation(index, step, *state, energy, temperature, pressure)

    def _virial(self) -> float:
        """Σ r·F, ε_AA; the first rank's. It is computed for this one step: at every step it would cost."""
        self._simulation.always_compute_pressure = True
        self._simulation.run(0)
        virials = self._force.virials  # xx, xy, xz, yy, yz, zz
        self._simulation.always_compute_pressure = False
        return float(virials[:, [0, 3, 5]].sum()) if self._first else math.nan


def _failed(error: RuntimeError, step: int) -> EngineError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2])  # the first may be a title
    return EngineError(
        f"HOOMD-blue failed after step {step}: {said}",
        "particles that keep their distance and move little in one step",
        "check the start configuration, try a smaller time step",
    )
