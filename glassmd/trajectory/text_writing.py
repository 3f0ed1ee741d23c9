"""Frames as text of other programs: extended XYZ and LAMMPS dumps, with a column for whatever else is known.

Numbers have nine digits, so that single precision comes back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.trajectory.frame import Frame

__all__ = ["write_dump_frame", "write_xyz_frame"]

_ELEMENTS = ("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne")
"""Species are no elements, and ASE knows nothing else: the first is H as it is for ASE's readers of numbered types."""

_PREFIX = "particles/"


def write_xyz_frame(file: IO[str], frame: Frame) -> None:
    """Append a frame in extended XYZ.

    Positions are in [0, L), with `image:I:3`; `kind:S:1` is the species, and `species:S:1` an element that stands for
    it, so that ASE opens the file.

    Args:
        file: Open for writing.
        frame: What to write; arrays of its log with one row per particle become columns.
    """
    configuration = frame.configuration
    columns, names = _columns(configuration, frame.log), np.array(configuration.species_names)
    elements = np.array([_ELEMENTS[k % len(_ELEMENTS)] for k in range(len(names))])
    edges = [*configuration.box, *[1.0] * (3 - configuration.dimensions)]
    lattice = " ".join(f"{x:.17g}" for row in np.diag(edges) for x in row)
    properties = "species:S:1:kind:S:1:pos:R:3:image:I:3" + "".join(
        f":{name}:{'R' if values.dtype.kind == 'f' else 'I'}:{values.shape[1]}" for name, values in columns.items()
    )
    time = "" if frame.time is None else f" Time={frame.time:.12g}"
    file.write(f"{configuration.n_particles}\n")
    file.write(f'Lattice="{lattice}" Properties={properties} Step={frame.step}{time} pbc="T T T"\n')
    numbers = [
        _cells(_padded(configuration.positions + configuration.box / 2), 12),
        _cells(_padded(configuration.images)),
    ]
    numbers += [_cells(values) for values in columns.values()]
    for species, *cells in zip(configuration.species, *numbers, strict=True):
        file.write(f"{elements[species]} {names[species]} {' '.join(cells)}\n")


def write_dump_frame(file: IO[str], frame: Frame) -> None:
    """Append a frame as LAMMPS' `dump custom` writes it, with wrapped positions and images.

    Args:
        file: Open for writing.
        frame: What to write; arrays of its log with one row per particle become columns.
    """
    configuration = frame.configuration
    columns, names = _columns(configuration, frame.log), configuration.species_names
    half = [*(configuration.box / 2), *[0.5] * (3 - configuration.dimensions)]
    if frame.time is not None:
        file.write(f"ITEM: TIME\n{frame.time:.12g}\n")
    file.write(f"ITEM: TIMESTEP\n{frame.step}\nITEM: NUMBER OF ATOMS\n{configuration.n_particles}\n")
    file.write("ITEM: BOX BOUNDS pp pp pp\n" + "".join(f"{-edge:.17g} {edge:.17g}\n" for edge in half))
    headings = ["id type element x y z ix iy iz"]
    headings += [" ".join(_parts(name, values)) for name, values in columns.items()]
    file.write(f"ITEM: ATOMS {' '.join(headings)}\n")
    numbers = [_cells(_padded(configuration.positions), 12), _cells(_padded(configuration.images))]
    numbers += [_cells(values) for values in columns.values()]
    for k, (species, *cells) in enumerate(zip(configuration.species, *numbers, strict=True), start=1):
        file.write(f"{k} {species + 1} {names[species]} {' '.join(cells)}\n")


def _parts(name: str, values: NDArray[Any]) -> list[str]:
    """Names of the columns of an array: those of LAMMPS for velocities."""
    if name == "velo":
        return ["vx", "vy", "vz"]
    return [name] if values.shape[1] == 1 else [f"{name}[{k + 1}]" for k in range(values.shape[1])]


def _columns(configuration: Configuration, log: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """(n_particles, k) arrays of numbers by name: velocities, and what was logged of every particle."""
    found: dict[str, NDArray[Any]] = {}
    if configuration.velocities is not None:
        found["velo"] = _padded(configuration.velocities)
    for name, values in log.items():
        if len(values) == configuration.n_particles and values.dtype.kind in "iuf" and name.startswith(_PREFIX):
            found[name.removeprefix(_PREFIX)] = values.reshape(len(values), -1)
    return found


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """(n, 3) of (n, d): the plane has z = 0."""
    return np.pad(values, ((0, 0), (0, 3 - values.shape[1])))


def _cells(values: NDArray[Any], digits: int = 9) -> list[str]:
    """A row of text per particle."""
    if values.dtype.kind in "iu":
        return [" ".join(map(str, row)) for row in values.tolist()]
    return [" ".join(f"{x:.{digits}g}" for x in row) for row in values.tolist()]
