"""Many systems in one HOOMD-blue simulation, isolated from each other exactly.

Systems of one size share one box, so that all of them fit into one simulation: system s has particle types of
its own (`A0`, `B0`, `A1`, …) and the cutoff between types of different systems is zero. `nlist.Tree` builds one
tree per type and skips pairs of types without a cutoff, so that systems cost each other next to nothing;
`nlist.Cell` would look at every particle of every system. One system alone goes faster with `Cell` on a GPU, with
`Tree` on a CPU core (docs/gpu.md). Nothing else couples them: velocity Verlet is applied
particle by particle, and the thermostat (:mod:`glassmd.engines.thermostat`) rescales each system on its own.

Particles stay in memory in the order in which they were loaded, one system after the other and close neighbours
close to each other, so that whatever is reduced over a system is a sum over a contiguous block. HOOMD's own
sorter would mix the systems, and would move the particles again and again in a liquid where they hardly move.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.configuration import Configuration
from glassmd.engines.hoomd_device import failed
from glassmd.engines.hoomd_pairs import energy_offset, pair_force
from glassmd.engines.reduced import scattering_vectors
from glassmd.errors import DeviceLostError, EngineError
from glassmd.mixtures import Mixture

__all__ = ["PackedSimulation"]


class PackedSimulation:
    """One HOOMD simulation that is used again and again for systems of one size and number.

    Args:
        hoomd: The package.
        device: A `hoomd.device.Device`.
        mixture: Pair potential and masses.
        box: (d,) edge lengths, σ_AA.
        n_particles: Per system.
        n_systems: Systems at once.
        time_step: √(mσ²/ε).
        buffer: Of the neighbour list, σ_AA.
        neighbor_list: `Tree` or `Cell`; None: the faster one.
    """

    def __init__(
        self,
        hoomd: Any,
        device: Any,
        mixture: Mixture,
        box: NDArray[np.float64],
        n_particles: int,
        n_systems: int,
        *,
        time_step: float,
        buffer: float,
        neighbor_list: str | None = None,
    ) -> None:
        self._hoomd, self._mixture, self._box = hoomd, mixture, box
        self.n_particles, self.n_systems, self.dimensions = n_particles, n_systems, mixture.dimensions
        self._on_gpu = isinstance(device, hoomd.device.GPU)
        self._torch_device = torch.device("cpu")  # until the first systems say where HOOMD has put them
        self._order = np.tile(np.arange(n_particles), (n_systems, 1))
        self._simulation = hoomd.Simulation(device=device, seed=1)  # nothing in it is random
        faster = "Cell" if self._on_gpu and n_systems == 1 else "Tree"
        self._neighbors = getattr(hoomd.md.nlist, neighbor_list or faster)(buffer=buffer)
        self._force = pair_force(hoomd, mixture, n_systems, self._neighbors)
        self._offset = energy_offset(hoomd, mixture, n_systems, self._neighbors)
        self._integrator = hoomd.md.Integrator(
            dt=time_step,
            methods=[hoomd.md.methods.ConstantVolume(filter=hoomd.filter.All())],
            forces=[self._force],
        )
        self._loaded, self._loaded_at = False, 0
        self._wave_vectors: list[Tensor] = []
        self._edges = self._species = self._masses = self._start = torch.empty(0)

    def _place(self) -> None:
        """Put what every reduction needs where HOOMD has its arrays."""
        with self._local() as data:
            self._torch_device = self._tensor(data.particles.position).device
        edges = np.zeros(3)
        edges[: self.dimensions] = self._box
        self._edges = self._on_device(edges)
        self._wave_vectors = [self._on_device(vectors) for vectors in scattering_vectors(self._box, self._mixture)]

    def _on_device(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.array(values), device=self._torch_device)

    @property
    def buffer(self) -> float:
        """Of the neighbour list, σ_AA."""
        return float(self._neighbors.buffer)

    @buffer.setter
    def buffer(self, value: float) -> None:
        """Set it, σ_AA."""
        self._neighbors.buffer = value

    def load(self, systems: Sequence[Configuration], time_step: float) -> None:
        """Put systems into the simulation, in place of those that were there.

        Args:
            systems: `n_systems` configurations with velocities.
            time_step: √(mσ²/ε).
        """
        snapshot, species = self._snapshot(systems)
        self._integrator.dt = time_step
        if self._loaded:
            self._simulation.state.set_snapshot(snapshot)
        else:
            self._simulation.create_state_from_snapshot(snapshot)
            self._simulation.operations.tuners.clear()  # HOOMD's sorter, see the module's text
            self._simulation.operations.integrator = self._integrator
            if self._offset is not None:
                self._simulation.operations.computes.append(self._offset)
            self._place()
            self._loaded = True
        self._loaded_at = self._simulation.timestep
        self._species = self._on_device(species)
        self._masses = self._on_device(np.asarray(self._mixture.masses)[species])
        self.run(0)
        self._start = self._unwrapped()

    def _snapshot(self, systems: Sequence[Configuration]) -> tuple[Any, NDArray[np.int64]]:
        """Everything HOOMD is given, and the species of every particle in memory order."""
        n, d, names = self.n_particles, self.dimensions, self._mixture.species
        edges = [*map(float, self._box), *([0.0] * (3 - d)), 0.0, 0.0, 0.0]
        snapshot = self._hoomd.Snapshot()
        snapshot.configuration.box = edges
        particles = snapshot.particles
        particles.N = n * self.n_systems
        particles.types = [f"{name}{slot}" for slot in range(self.n_systems) for name in names]
        masses = np.asarray(self._mixture.masses)
        species_of = np.empty_like(self._order)
        for slot, system in enumerate(systems):
            assert system.velocities is not None
            order = self._order[slot] = _space_filling_order(system)
            rows, species = slice(slot * n, (slot + 1) * n), system.species[order]
            species_of[slot] = species
            particles.typeid[rows] = slot * len(names) + species
            particles.mass[rows] = masses[species]
            particles.position[rows, :d] = system.positions[order]
            particles.velocity[rows, :d] = system.velocities[order]
            particles.image[rows, :d] = system.images[order]
        return snapshot, species_of

    def run(self, steps: int) -> None:
        """Evolve all systems at constant energy.

        Raises:
            EngineError: HOOMD ended the simulation; a :class:`glassmd.errors.DeviceLostError` where the GPU failed.
        """
        try:
            self._simulation.run(steps)
        except RuntimeError as error:
            if self._on_gpu and isinstance(lost := failed("the GPU", error, self.n_systems), DeviceLostError):
                raise lost from error
            done = self._simulation.timestep - self._loaded_at
            raise EngineError(
                f"HOOMD-blue failed after step {done}: {_first_line(error)}",
                "particles that keep their distance and move little in one step",
                "check the start configuration, try a smaller time step",
            ) from error

    def kinetic_energies(self) -> NDArray[np.float64]:
        """(n_systems,) kinetic energy of each system, ε_AA."""
        with self._local() as data:
            return _host(self._kinetic(data))

    def rescale(self, factors: NDArray[np.float64]) -> None:
        """Multiply the velocities of system s by factors[s]."""
        scale = torch.as_tensor(factors, device=self._torch_device)
        with self._local() as data:
            velocities = self._tensor(data.particles.velocity)
            velocities.view(self.n_systems, self.n_particles, 3).mul_(scale.to(velocities.dtype)[:, None, None])

    def _unwrapped(self) -> Tensor:
        """(n_systems, n_particles, d) float64 unwrapped positions in memory order, on the device, σ_AA."""
        with self._local() as data:
            position, image = (self._tensor(x) for x in (data.particles.position, data.particles.image))
            unwrapped = position.to(torch.float64) + image.to(torch.float64) * self._edges
            return unwrapped.view(self.n_systems, self.n_particles, 3)[..., : self.dimensions]

    @property
    def volume(self) -> float:
        """Of the box that every system has, σ_AA^d."""
        return float(np.prod(self._box))

    def phase_space(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unwrapped positions and velocities, (n_systems, n_particles, d) each, in the order that was loaded."""
        with self._local() as data:
            velocities = _host(self._tensor(data.particles.velocity))
        shape = self.n_systems, self.n_particles, 3
        return (
            self.in_given_order(_host(self._unwrapped())),
            self.in_given_order(velocities.reshape(shape)[..., : self.dimensions]),
        )

    def positions_of(self, slot: int) -> NDArray[np.float64]:
        """(n_particles, d) unwrapped positions of one system, in the order that was loaded, σ_AA."""
        ordered = np.empty((self.n_particles, self.dimensions))
        ordered[self._order[slot]] = _host(self._unwrapped()[slot])
        return ordered

    def displaced(self, slots: list[int] | slice = slice(None)) -> Tensor:
        """(n_slots, n_particles, d) float64 displacements since the start in memory order, on the device, σ_AA.

        Args:
            slots: Of these systems, each in the frame of its centre of mass; of all by default.
        """
        moved = self._unwrapped()[slots] - self._start[slots]
        weights = self._masses[slots] / self._masses[slots].sum(dim=1, keepdim=True)
        return moved - (weights[:, :, None] * moved).sum(dim=1, keepdim=True)

    def displacement_moments(
        self, slots: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Moments of |Δr| since the start over systems that started from one parent, reduced on the device.

        Args:
            slots: Which systems.

        Returns:
            Mean and summed squared deviation of |Δr|, (n_particles,) each, in the order that was loaded, σ_AA and
            σ_AA²; F_s per species, (n_species,).
        """
        moved = self.displaced(slots)
        distance = moved.norm(dim=2)
        mean = distance.mean(dim=0)
        deviation = ((distance - mean) ** 2).sum(dim=0)
        scattering = [
            torch.cos(moved[:, self._species[slots[0]] == kind] @ vectors.T).mean()
            for kind, vectors in enumerate(self._wave_vectors)
        ]
        order = self._order[slots[0] : slots[0] + 1]
        return (
            _in_order(order, _host(mean)[None])[0],
            _in_order(order, _host(deviation)[None])[0],
            _host(torch.stack(scattering)),
        )

    def collected(self, values: Tensor) -> NDArray[np.float64]:
        """Values of particles on the device, (n_systems, n_particles, …), on the host in the order that was loaded."""
        return self.in_given_order(_host(values))

    def in_given_order(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of particles, (n_systems, n_particles, …) in memory order, in the order that was loaded."""
        return _in_order(self._order, values)

    def largest_forces(self) -> NDArray[np.float64]:
        """(n_systems,) largest force on any particle of each system, ε_AA/σ_AA."""
        with self._local_forces(self._force) as arrays:
            forces = self._tensor(arrays.force).to(torch.float64).view(self.n_systems, self.n_particles, 3)
            return _host(forces.norm(dim=2).amax(dim=1))

    def energies_and_virials(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """U/N and virial per system. Virials are computed for this one step: at every step they would cost."""
        simulation, shape = self._simulation, (self.n_systems, self.n_particles)
        simulation.always_compute_pressure = True
        simulation.run(0)
        with self._local_forces(self._force) as arrays:
            energy = self._tensor(arrays.potential_energy).to(torch.float64).view(shape).sum(dim=1)
            tensor = self._tensor(arrays.virial).to(torch.float64)
            trace = tensor[:, 0] + tensor[:, 3] + tensor[:, 5]  # xx, xy, xz, yy, yz, zz
            virial = trace.view(shape).sum(dim=1) / self.dimensions
        if self._offset is not None:
            _ = self._offset.energy  # asks HOOMD to compute it at this step
            with self._local_forces(self._offset) as arrays:
                energy = energy + self._tensor(arrays.potential_energy).to(torch.float64).view(shape).sum(dim=1)
        simulation.always_compute_pressure = False
        return _host(energy) / self.n_particles, _host(virial)

    def _kinetic(self, data: Any) -> Tensor:
        velocity, mass = (self._tensor(x).to(torch.float64) for x in (data.particles.velocity, data.particles.mass))
        each = 0.5 * mass * (velocity**2).sum(dim=1)
        return each.view(self.n_systems, self.n_particles).sum(dim=1)

    @contextmanager
    def _local(self) -> Iterator[Any]:
        state = self._simulation.state
        with state.gpu_local_snapshot if self._on_gpu else state.cpu_local_snapshot as data:
            yield data

    @contextmanager
    def _local_forces(self, force: Any) -> Iterator[Any]:
        with force.gpu_local_force_arrays if self._on_gpu else force.cpu_local_force_arrays as arrays:
            yield arrays

    def _tensor(self, array: Any) -> Tensor:
        """A view of one of HOOMD's arrays; without a copy where it may be written to."""
        if self._on_gpu:
            return torch.as_tensor(_DeviceArray(array))  # on the GPU that it is on
        viewed = np.asarray(array)
        return torch.from_numpy(viewed if viewed.flags.writeable else viewed.copy())  # torch has no read-only views


class _DeviceArray:
    """What torch needs to know of an array on the GPU; it takes none that is marked as read-only."""

    def __init__(self, array: Any) -> None:
        described = dict(array.__cuda_array_interface__)
        described["data"] = (described["data"][0], False)
        self.__cuda_array_interface__ = described


def _in_order(order: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values[s, k]` belongs to particle `order[s, k]`: bring each to its place."""
    ordered = np.empty_like(values)
    np.put_along_axis(ordered, order.reshape(order.shape + (1,) * (values.ndim - 2)), values, axis=1)
    return ordered


def _host(tensor: Tensor) -> NDArray[np.float64]:
    return np.array(tensor.cpu().numpy(), np.float64)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def _space_filling_order(system: Configuration) -> NDArray[np.int64]:
    """Particles along a Z-order curve, so that neighbours in space are neighbours in memory.

    Source: G. M. Morton, IBM technical report (1966). Cells are about one particle wide.
    """
    bits = max(1, math.ceil(math.log2(system.n_particles) / system.dimensions))
    cells = np.clip(((system.positions / system.box + 0.5) * 2**bits).astype(np.int64), 0, 2**bits - 1)
    code = np.zeros(system.n_particles, np.int64)
    for bit, axis in itertools.product(range(bits), range(system.dimensions)):
        code |= ((cells[:, axis] >> bit) & 1) << (bit * system.dimensions + axis)
    return np.argsort(code, kind="stable")
