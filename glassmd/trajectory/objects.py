"""Configurations from and to objects of other packages: ASE's `Atoms`, snapshots of HOOMD-blue, frames of gsd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.errors import TrajectoryError
from glassmd.mixtures import Mixture
from glassmd.trajectory.species import species_of_types

__all__ = ["from_ase", "from_snapshot", "to_ase"]


def _named(names: list[str], typeid: Any, mixture: Mixture | None, types: Mapping[str, str] | None) -> Any:
    counts = np.bincount(typeid, minlength=len(names)).tolist()
    species, order, _ = species_of_types(Path("the object"), names, counts, None, mixture, types)
    return species, np.array(order, np.int32)[typeid]


def _require_orthorhombic(tilts: Any) -> None:
    if np.any(np.asarray(tilts) != 0):
        raise TrajectoryError(f"found a tilted box ({np.asarray(tilts).tolist()})", "an orthorhombic periodic box")


def from_snapshot(
    snapshot: Any, *, mixture: Mixture | None = None, types: Mapping[str, str] | None = None
) -> Configuration:
    """A configuration from a snapshot of HOOMD-blue or a frame of gsd.

    Args:
        snapshot: `hoomd.Snapshot`, or `gsd.hoomd.Frame`.
        mixture: What it holds: its species, in its order; by default those of the snapshot.
        types: Species by the name of a type.

    Raises:
        TrajectoryError: A tilted box, or types that are none of the mixture's.

    Example:
        >>> import gsd.hoomd
        >>> frame = gsd.hoomd.Frame()
        >>> frame.configuration.box = [5, 5, 5, 0, 0, 0]
        >>> frame.particles.N, frame.particles.types, frame.particles.typeid = 2, ["A", "B"], [0, 1]
        >>> frame.particles.position = [[0, 0, 0], [1, 0, 0]]
        >>> from_snapshot(frame).n_particles
        2
    """
    box, particles = np.asarray(snapshot.configuration.box, np.float64), snapshot.particles
    _require_orthorhombic(box[3:])
    d = int(snapshot.configuration.dimensions or (2 if box[2] == 0 else 3))
    names, species = _named([str(name) for name in particles.types], np.asarray(particles.typeid, int), mixture, types)
    images, velocities = particles.image, particles.velocity
    return Configuration(
        box=box[:d],
        species=species,
        positions=np.asarray(particles.position, np.float64)[:, :d],
        species_names=names,
        velocities=None if velocities is None else np.asarray(velocities, np.float64)[:, :d],
        images=np.zeros((len(species), d), np.int32) if images is None else np.asarray(images, np.int32)[:, :d],
    )


def from_ase(atoms: Any, *, mixture: Mixture | None = None, types: Mapping[str, str] | None = None) -> Configuration:
    """A configuration from ASE's `Atoms`; in 2D where all have the same z.

    Species are the array `kind` where there is one, as :func:`to_ase` writes it, else the chemical symbols. Velocities
    are taken as they are in ASE.

    Args:
        atoms: `ase.Atoms` with a periodic orthorhombic cell.
        mixture: What it holds: its species, in its order; by default those of the atoms.
        types: Species by the name of a type.

    Raises:
        TrajectoryError: A tilted cell, or types that are none of the mixture's.
    """
    cell = np.asarray(atoms.cell, np.float64)
    _require_orthorhombic(cell[~np.eye(3, dtype=bool)])
    kinds = np.asarray(atoms.arrays.get("kind", atoms.get_chemical_symbols())).astype(str)
    found, typeid = np.unique(kinds, return_inverse=True)
    names, species = _named(found.tolist(), typeid, mixture, types)
    d = 2 if len(atoms) > 3 and np.ptp(atoms.positions[:, 2]) == 0 else 3
    velocities = atoms.get_velocities() if atoms.has("momenta") else None
    return Configuration(
        box=np.diag(cell)[:d],
        species=species,
        positions=np.asarray(atoms.positions, np.float64)[:, :d],
        species_names=names,
        velocities=None if velocities is None else np.asarray(velocities, np.float64)[:, :d],
    )


def to_ase(configuration: Configuration) -> Any:
    """ASE's `Atoms` of a configuration: unwrapped positions, species in the array `kind`.

    Species are no elements: the first one's atoms have number 1, the second one's 2, … and mass 1.

    Args:
        configuration: In 2D or 3D.

    Raises:
        TrajectoryError: ASE is not installed.

    Example:
        >>> pair = Configuration(box=[5, 5, 5], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
        >>> from_ase(to_ase(pair)).positions.tolist() == pair.positions.tolist()
        True
    """
    try:
        from ase import Atoms
    except ImportError as error:
        raise TrajectoryError("ASE is not installed", "", 'pip install "glassmd[formats]"') from error
    missing = 3 - configuration.dimensions
    atoms: Any = Atoms(
        numbers=configuration.species + 1,
        positions=np.pad(configuration.unwrapped, ((0, 0), (0, missing))),
        cell=[*configuration.box, *[1.0] * missing],
        masses=np.ones(configuration.n_particles),
        pbc=True,
    )
    atoms.set_array("kind", np.array(configuration.species_names)[configuration.species])
    if configuration.velocities is not None:
        atoms.set_velocities(np.pad(configuration.velocities, ((0, 0), (0, missing))))
    return atoms
