"""What an engine is: something that evolves systems and reports them at given steps.

One method serves everything. Equilibration evolves one system per lineage; the isoconfigurational protocol
evolves R copies of a parent that differ in their velocities. An engine is free to run the systems one after
the other or packed into one simulation, and to report them in any order. Files, seeds, protocols and retries
belong to `glassmd.simulation`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["Engine", "Observation", "Thermostat"]


@dataclass(frozen=True)
class Thermostat:
    """Canonical sampling by rescaling velocities (Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007)).

    Attributes:
        temperature: Target, ε_AA.
        relaxation_time: Coupling time, √(mσ²/ε): short to equilibrate, long to leave the dynamics alone.
        seeds: One seed per system in 1 … 2^31−1; systems are never coupled with each other.
    """

    temperature: float
    relaxation_time: float
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Observation:
    """One system at one step.

    Attributes:
        system: Index into the systems given to :meth:`Engine.evolve`.
        step: Steps since the start.
        positions: (n_particles, d) float64, unwrapped, in the given particle order, σ_AA.
        velocities: (n_particles, d) float64, √(ε/m).
        potential_energy: U/N, ε_AA.
        temperature: Kinetic temperature with d(N−1) degrees of freedom, ε_AA.
        pressure: Virial plus kinetic, ε_AA/σ_AA^d.
    """

    system: int
    step: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    potential_energy: float
    temperature: float
    pressure: float


class Engine(ABC):
    """Evolves systems of one mixture that share box, species and particle number.

    Attributes:
        name: As in settings (`lammps`, `hoomd`).
        version: Of the engine, as it reports it.
        device: `cpu` or `gpu`, with the device's name where it is known.
    """

    name: str
    version: str
    device: str

    @abstractmethod
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
        """Evolve every system and report it at every one of `steps`.

        Args:
            systems: Start configurations with velocities; same box, species and particle order in all.
            mixture: Pair potential and masses.
            steps: Non-decreasing step numbers at which each system is reported; 0 is the start itself.
            time_step: √(mσ²/ε).
            thermostat: None evolves at constant energy (velocity Verlet).
            check: Called about once a second while evolving; what it raises ends the evolution.

        Yields:
            One :class:`Observation` per system and step: the steps of a system in order, systems in any order.

        Raises:
            EngineError: The engine failed or cannot do what was asked.
        """

    def preferred_block(self, n_particles: int, n_replicas: int, n_steps: int) -> int:
        """Replicas to commit together: as many as run at once, so that a kill loses little."""
        return 1

    def check_box(self, shortest_edge: float, mixture: Mixture) -> None:
        """Refuse a box in which a particle would meet another one twice.

        Raises:
            EngineError: The box is shorter than twice the longest cutoff.
        """
        needed = 2.0 * float(mixture.r_cut.max())
        if shortest_edge < needed:
            raise EngineError(
                f"found a box of edge {shortest_edge:.4g} σ_AA",
                f"at least {needed:g}, twice the longest cutoff of {mixture.name} ({mixture.truncation})",
                f"try --particles {int(mixture.density * needed**mixture.dimensions) + 1} or more",
            )
