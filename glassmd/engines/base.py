"""What an engine is: something that evolves systems and reports them at given steps.

An engine has to `evolve`. Equilibration evolves lineages, the isoconfigurational protocol copies of parents that
differ in their velocities. An engine is free to run the systems one after the other or packed into one
simulation, and to report them in any order; one that can reduce displacements where they are overrides
`displacements` and `rattling`, and one that has something to choose, `prepare` and `adopt`. Files, seeds, protocols
and retries belong to `glassmd.simulation`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines.rattling import Rattled, RattlingSums, require_snapshots
from glassmd.engines.reduced import Displacements, scattering_vectors, single
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture
from glassmd.mixtures.unknown import UNKNOWN

__all__ = [
    "Engine",
    "InRanks",
    "Minimum",
    "Observation",
    "Rattled",
    "displacements_of",
    "require_fit",
    "require_possible",
    "require_possible_minimum",
    "unconverged",
    "unstable",
]

PARTICLE_STEPS_PER_SECOND = 1e6
"""Of one core, roughly: a first guess."""


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


@dataclass(frozen=True, eq=False)
class Minimum:
    """A local minimum of the potential energy: an inherent structure (Stillinger & Weber, PRA 25, 978 (1982)).

    Attributes:
        positions: (n_particles, d) float64, σ_AA. They continue the start's unwrapped ones, in the frame of its
            centre of mass.
        potential_energy: U/N, ε_AA.
        residual_force: The largest force that is left on any particle, ε_AA/σ_AA.
        evaluations: Of all forces, roughly.
    """

    positions: NDArray[np.float64]
    potential_energy: float
    residual_force: float
    evaluations: int


@dataclass(frozen=True)
class InRanks:
    """How an engine cuts a big system into domains, one for each rank; see :mod:`glassmd.engines.ranks`.

    Attributes:
        opened: What a rank opens it with (JSON types only).
        thinnest: A domain that there may be, σ_AA.
        most: Ranks that there is a core or a GPU for.
        gentler: Whether it knows another way down for minima that it does not reach.
    """

    opened: dict[str, Any]
    thinnest: float
    most: int
    gentler: bool = False


class Engine(ABC):
    """Evolves systems of one mixture that share box and particle number.

    Attributes:
        name: As in settings (`lammps`, `hoomd`).
        version: Of the engine, as it reports it.
        device: `cpu` or `gpu`, with the device's name where it is known.
        packed: Systems that it simulates at once; whoever has more work at hand should bring as many.
        replica_steps: Steps of single systems that it has evolved so far.
        ranks: That a single system is cut among where a structure is made of it; None leaves it to its size.
        workers: Processes like this one that share the machine's cores.
    """

    name: str
    version: str
    device: str
    packed: int = 1
    replica_steps: int = 0
    ranks: int | None = 1
    workers: int = 1

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
            systems: Start configurations with velocities; same box and number of particles in all. They may
                be replicas of one parent or liquids that have nothing to do with each other.
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

    def minimise(
        self, configuration: Configuration, mixture: Mixture, *, check: Callable[[], None] | None = None
    ) -> Minimum:
        """Go downhill in energy from a configuration to the minimum below it.

        Where the potential jumps at its cutoff (`truncated`) what goes downhill is the one with the same forces
        that does not: the other one ends at the jump of some pair, where the forces do not vanish.

        Args:
            configuration: The start; velocities, if any, are ignored.
            mixture: Pair potential and masses.
            check: Called about once a second; what it raises ends it.

        Raises:
            EngineError: The engine cannot minimise, or the forces did not vanish.
        """
        raise EngineError(f"the {self.name} engine cannot minimise energies", "one that can", "try --engine lammps")

    def displacements(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        groups: Sequence[int],
        keep_ends_of: Collection[int] = (),
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Displacements]:
        """Evolve as :meth:`evolve` does, and hand over moments of displacements instead of positions.

        Args:
            systems: As in :meth:`evolve`; displacements are counted from them.
            mixture: Pair potential and masses.
            groups: The group of each system, all of which start from the same positions: displacements are
                reduced within it.
            keep_ends_of: Systems whose positions at the last step are handed over besides.
            steps: As in :meth:`evolve`, as are the other arguments.
            time_step: √(mσ²/ε).
            thermostat: None evolves at constant energy.
            check: Called about once a second.

        Yields:
            Parts of a group at a step, to be merged by whoever asked: each system is in one part.
        """
        vectors = scattering_vectors(systems[0].box, mixture) if systems else []
        for seen in self.evolve(systems, mixture, steps=steps, time_step=time_step, thermostat=thermostat, check=check):
            part = displacements_of(seen, systems[seen.system], mixture, vectors, groups[seen.system])
            kept = seen.system in keep_ends_of and seen.step == steps[-1]
            yield replace(part, ends={seen.system: seen.positions}) if kept else part

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
        """Evolve as :meth:`evolve` does, and hand over sums of displacements over the steps instead of positions.

        Args:
            systems: As in :meth:`evolve`; displacements are counted from them.
            mixture: Pair potential and masses.
            steps: At which there is a snapshot. Otherwise as in :meth:`evolve`, as are the other arguments.
            left_out: Snapshots at the beginning that do not count.
            time_step: √(mσ²/ε).
            thermostat: None evolves at constant energy.
            check: Called about once a second.

        Yields:
            The sums of each system as soon as they are complete, in any order.

        Raises:
            EngineError: The engine failed or cannot do what was asked.
        """
        require_snapshots(len(steps), left_out)
        masses = np.asarray(mixture.masses)
        sums: dict[int, RattlingSums] = {}
        for seen in self.evolve(systems, mixture, steps=steps, time_step=time_step, thermostat=thermostat, check=check):
            start = systems[seen.system]
            of_system = sums.setdefault(seen.system, RattlingSums(len(steps), left_out))
            of_system.add(remove_drift(seen.positions - start.unwrapped, masses[start.species]))
            if of_system.complete:
                yield sums.pop(seen.system).rattled(seen.system, *of_system.arrays)

    def prepare(
        self,
        liquid: Callable[[], Configuration],
        mixture: Mixture,
        time_step: float,
        most: int,
        *,
        check: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Measure on this device how many systems to simulate at once, and with what.

        Args:
            liquid: Makes a liquid like those that will be simulated, with velocities; called where needed.
            mixture: Its mixture.
            time_step: √(mσ²/ε).
            most: Systems that there will ever be at once.
            check: Called between measurements; what it raises ends them.

        Returns:
            What was chosen and what was measured (JSON types only), for :meth:`adopt`. Nothing where there is
            nothing to choose.
        """
        return {}

    def adopt(self, prepared: dict[str, Any]) -> None:
        """Take over what :meth:`prepare` chose, now or in another process on such a device."""
        self.packed = int(prepared.get("packed", self.packed))

    def in_ranks(self, mixture: Mixture) -> InRanks:
        """How it cuts a system of a mixture among ranks.

        Raises:
            EngineError: It cannot.
        """
        raise EngineError(f"the {self.name} engine runs in one process", "one that MPI connects", "try --ranks 1")

    def counted(self, run: Callable[[int], None], systems: int) -> Callable[[int], None]:
        """What runs so many steps of so many systems at once, counting them in :attr:`replica_steps`."""

        def run_and_count(steps: int) -> None:
            run(steps)
            self.replica_steps += steps * systems

        return run_and_count

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded with everything that the engine produced (JSON types only)."""
        return {"engine": self.name, "engine_version": self.version, "device": self.device}

    def preferred_block(self, n_particles: int, n_replicas: int, n_steps: int) -> int:
        """Replicas to commit together: as many as run at once, so that a kill loses little.

        Where they run one after the other, up to four, as long as that takes no more than a minute.
        """
        minute = int(60 * PARTICLE_STEPS_PER_SECOND)
        return min(n_replicas, max(self.packed, min(4, max(1, minute // (n_particles * n_steps)))))

    def check_box(self, shortest_edge: float, mixture: Mixture) -> None:
        """Refuse a box in which a particle would meet another one twice.

        Raises:
            EngineError: The box is shorter than twice the longest cutoff.
        """
        require_fit(shortest_edge, mixture, mixture.density)


def displacements_of(
    seen: Observation,
    start: Configuration,
    mixture: Mixture,
    vectors: list[NDArray[np.float64]],
    group: int = 0,
) -> Displacements:
    """What is left of one system at one step; see :class:`glassmd.engines.reduced.Displacements`.

    Args:
        seen: The system.
        start: Where it came from.
        mixture: Masses and species.
        vectors: Of :func:`glassmd.engines.reduced.scattering_vectors`.
        group: Which it belongs to.
    """
    distance, scattering = single(start, seen.positions, mixture, vectors)
    return Displacements(
        group=group,
        systems=(seen.system,),
        step=seen.step,
        mean=distance,
        deviation=np.zeros_like(distance),
        scattering=scattering,
        potential_energy=np.array([seen.potential_energy]),
        temperature=np.array([seen.temperature]),
        pressure=np.array([seen.pressure]),
    )


def require_possible(
    systems: Sequence[Configuration],
    mixture: Mixture,
    steps: Sequence[int],
    time_step: float,
    thermostat: Thermostat | None,
) -> None:
    """Refuse what an engine would get wrong without a word.

    Raises:
        EngineError: What was found instead of what :meth:`Engine.evolve` asks for.
    """
    if any(step < 0 for step in steps) or any(b < a for a, b in pairwise(steps)):
        raise EngineError(f"found steps {list(steps)}", "non-decreasing steps from 0 on")
    if not (math.isfinite(time_step) and time_step > 0):
        raise EngineError(f"found time step {time_step}", "a time step above 0", "try 0.005")
    if thermostat is not None and len(thermostat.seeds) != len(systems):
        raise EngineError(f"found {len(thermostat.seeds)} seeds for {len(systems)} systems", "one seed per system")
    for index, system in enumerate(systems):
        if system.velocities is None:
            raise EngineError(f"found system {index} without velocities", "velocities for every system")
        first = systems[0]
        if not np.array_equal(system.box, first.box) or system.n_particles != first.n_particles:
            raise EngineError(
                f"found system {index} with another box or number of particles than system 0", "the same in all"
            )
        _require_species(system, mixture)
    if systems:
        require_fit(float(systems[0].box.min()), mixture, systems[0].density)


def require_possible_minimum(configuration: Configuration, mixture: Mixture) -> None:
    """Refuse what an engine would minimise to nonsense without a word.

    Raises:
        EngineError: What was found instead of what :meth:`Engine.minimise` asks for.
    """
    _require_species(configuration, mixture)
    require_fit(float(configuration.box.min()), mixture, configuration.density)


def _require_species(system: Configuration, mixture: Mixture) -> None:
    if mixture.name == UNKNOWN:
        raise EngineError(
            "found a liquid whose potential nobody has named",
            "a mixture that glassmd knows, or a TOML file",
            "use --input thermal, or import the trajectories anew with --mixture",
        )
    if system.dimensions != mixture.dimensions or system.species.max() >= len(mixture.species):
        raise EngineError(
            f"found a {system.dimensions}D configuration of species {', '.join(system.species_names)}",
            f"the {mixture.dimensions}D mixture {mixture.name} of {', '.join(mixture.species)}",
        )


def require_fit(shortest_edge: float, mixture: Mixture, density: float) -> None:
    """Refuse a box in which a particle would meet another one twice.

    Raises:
        EngineError: The box is shorter than twice the longest cutoff; the message says how many particles fill one
            that is not, at this density.
    """
    needed = 2 * float(mixture.r_cut.max())
    if shortest_edge < needed:
        raise EngineError(
            f"found a box of edge {shortest_edge:.4g} σ_AA",
            f"at least {needed:g}, twice the longest cutoff of {mixture.name} ({mixture.truncation})",
            f"try --particles {int(density * needed**mixture.dimensions) + 1} or more",
        )


def unconverged(engine: str, force: float, tolerance: float, evaluations: int) -> EngineError:
    """The error of a minimisation that did not end."""
    return EngineError(
        f"{engine} left a force of {force:.2g} ε_AA/σ_AA after {evaluations} evaluations on the way to the minimum",
        f"at most {tolerance:g}",
        "check the configuration: particles that overlap cannot be minimised",
    )


def unstable(engine: str, system: int, step: int, what: str) -> EngineError:
    """The error of a simulation that came apart."""
    return EngineError(
        f"{engine} failed after step {step} of system {system}: {what}",
        "particles that keep their distance and move little in one step",
        "check the start configuration, try a smaller time step",
    )
