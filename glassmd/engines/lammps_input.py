"""A liquid inside LAMMPS: the commands that describe it, its atoms, and where they have got to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import unstable
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = [
    "COMMAND_LINE",
    "create_particles",
    "gathered",
    "lammps_errors",
    "lammps_script",
    "local",
    "unwrapped_positions",
]

COMMAND_LINE = ["-screen", "none", "-log", "none", "-nocite"]
"""Nothing is printed or logged: what goes wrong is raised."""

SKIN = 0.3
"""Beyond the cutoff, σ_AA: the fastest, see docs/hoomd.md."""

# CHARMM's switching function is HOOMD's S(r), and its force the derivative of U S; docs/hoomd.md has the alternatives.
_XPLOR = "lj/charmm/coul/charmm"
_NO_COULOMB = "0.01 0.02"  # no particle has a charge: within this range the terms would be zero


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
        f"neighbor {SKIN} bin",
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


def create_particles(simulation: Any, system: Configuration, velocities: NDArray[np.float64]) -> None:
    """Put the particles of a configuration into a simulation whose box is there; of several ranks each takes its own.

    Args:
        simulation: A LAMMPS instance.
        system: Species and positions.
        velocities: (n_particles, d), √(ε/m).

    Raises:
        EngineError: Some of them are not inside the box.
    """
    n = system.n_particles
    created = simulation.create_atoms(
        n,
        list(range(1, n + 1)),
        (system.species + 1).tolist(),
        _in_space(system.positions).ravel().tolist(),
        _in_space(velocities).ravel().tolist(),
    )
    if created != n:
        raise EngineError(f"LAMMPS placed {created} of {n} particles", "all of them inside the box")


def _in_space(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3): LAMMPS keeps a z coordinate in two dimensions as well."""
    return np.pad(vectors, ((0, 0), (0, 3 - vectors.shape[1])))


def local(simulation: Any, name: str) -> NDArray[Any]:
    """A view of LAMMPS' own array of the particles of this rank, in its order."""
    return np.asarray(simulation.numpy.extract_atom(name, nelem=simulation.extract_setting("nlocal")))


def gathered(simulation: Any, name: str, d: int) -> NDArray[Any]:
    """(n_particles, d) values of all particles, whichever rank has them, in the order in which they were given.

    Args:
        simulation: A LAMMPS instance; where it has several ranks, all of them ask.
        name: `x`, `v`, `f` or `image`.
        d: Dimensions.
    """
    values = simulation.gather_atoms(name, 0 if name == "image" else 1, 3)
    return np.ascontiguousarray(np.ctypeslib.as_array(values).reshape(-1, 3)[:, :d])


def unwrapped_positions(simulation: Any, system: Configuration) -> NDArray[np.float64]:
    """(n_particles, d) float64 positions that continue the configuration's unwrapped ones, σ_AA.

    Args:
        simulation: A LAMMPS instance.
        system: What was put into it.
    """
    images = gathered(simulation, "image", system.dimensions) + system.images
    return np.asarray(gathered(simulation, "x", system.dimensions) + images * system.box)


@contextmanager
def lammps_errors(index: int, step: int) -> Iterator[None]:
    """Turn what LAMMPS raises into an :class:`EngineError` that says where it happened."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise unstable("LAMMPS", index, step, str(error).strip().splitlines()[0]) from error
