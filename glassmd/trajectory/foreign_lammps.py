"""Frames of LAMMPS dump and data files, by ASE."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import TrajectoryError
from glassmd.trajectory.foreign_columns import dimensions_of, others_of, require_periodic
from glassmd.trajectory.raw import RawFrame

__all__ = ["DumpFrames", "frame_of_data"]

_AXES = "xyz"
_POSITIONS = (("xu", True), ("xsu", True), ("x", False), ("xs", False))  # in the order of preference; unwrapped or not
_TEXTS = ("typelabel", "element")
_KNOWN = {"id", "type", "mass", "x", "y", "z", "ix", "iy", "iz", "vx", "vy", "vz"}


_MOST_TYPES = 100


class DumpFrames:
    """Frames of one dump, whose types have the names of its first."""

    def __init__(self) -> None:
        self._labels: dict[str, str] | None = None

    def frame(self, text: str) -> RawFrame:
        """The frame that the lines of a dump make up.

        Raises:
            TrajectoryError: Columns that are needed are not there.
        """
        from ase.io.lammpsrun import iread_lammps_dump_text

        head, body = _head_and_body(text)
        columns = head[-1].split()[2:]
        start, unwrapped = _chosen(columns)
        kinds = next((name for name in ("type", *_TEXTS) if name in columns), None)
        if kinds is None:
            raise TrajectoryError(
                f"found columns {' '.join(columns)}", "type, typelabel or element", "dump one of them"
            )
        labels = self._labels_of(columns, body, kinds)
        if kinds != "type":
            body = _numbered(body, columns.index(kinds), labels)
        elif texts := [k for k, name in enumerate(columns) if name in _TEXTS]:
            columns = [name for name in columns if name not in _TEXTS]
            body = [" ".join(word for k, word in enumerate(line.split()) if k not in texts) + "\n" for line in body]
        head[-1] = "ITEM: ATOMS " + " ".join(_for_ase(name, kinds, start) for name in columns) + "\n"
        atoms: Any = next(iter(iread_lammps_dump_text(StringIO("".join([*head, *body])))))
        arrays, cell = atoms.arrays, np.asarray(atoms.cell)
        require_periodic(atoms.pbc, atoms.positions)
        order = np.argsort(arrays["i_id"], kind="stable") if "i_id" in arrays else np.arange(len(atoms))
        number_of = {number: k for k, number in enumerate(labels)}
        types = np.array([number_of[str(kind)] for kind in np.asarray(arrays["type"])[order]], np.int32)
        images = _vectors(arrays, "i_i", order)
        masses = arrays.get("c_mass")
        return RawFrame(
            lengths=np.diag(cell).copy(),
            tilts=np.array([cell[1, 0], cell[2, 0], cell[2, 1]]),
            lowest=np.zeros(3) if start in ("xs", "xsu") else np.asarray(atoms.get_celldisp()).ravel(),
            dimensions=dimensions_of(atoms.positions),
            types=types,
            type_names=tuple(labels.values()),
            positions=np.asarray(atoms.positions, np.float64)[order],
            images=None if images is None or unwrapped else images.astype(np.int32),
            unwrapped=unwrapped,
            velocities=_vectors(arrays, "c_v", order),
            masses=None if masses is None else np.asarray(masses, np.float64)[order],
            step=int(head[1 + head.index("ITEM: TIMESTEP\n")]),
            time=next((float(b) for a, b in pairwise(head) if a.startswith("ITEM: TIME\n")), None),
            log=others_of(arrays, {_for_ase(name, kinds, start) for name in _KNOWN}, order),
        )

    def _labels_of(self, columns: list[str], body: list[str], kinds: str) -> dict[str, str]:
        """Names of the types of a dump by what stands in the column of types, as the first frame has them."""
        if self._labels is None:
            named = next((name for name in _TEXTS if name in columns), kinds)
            at, name_at = columns.index(kinds), columns.index(named)
            pairs = {(words[at], words[name_at]) for words in (line.split() for line in body)}
            keys = sorted(pairs, key=lambda pair: (len(pair[0]), pair[0]))
            names = [name for _, name in keys]
            distinct = len(set(names)) == len({key for key, _ in keys}) == len(keys)
            found = keys if distinct else [(key, key) for key in dict.fromkeys(key for key, _ in keys)]
            self._labels = {str(k + 1) if kinds != "type" else key: name for k, (key, name) in enumerate(found)}
        return self._labels


def _head_and_body(text: str) -> tuple[list[str], list[str]]:
    lines = text.splitlines(keepends=True)
    n_head = 1 + next((k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS")), -1)
    if not n_head:
        raise TrajectoryError(
            "found no line ITEM: ATOMS", "a header and as many particles as it says", "write it again"
        )
    return lines[:n_head], lines[n_head:]


def _chosen(columns: list[str]) -> tuple[str, bool]:
    """Which coordinates are read, by the name of their first, and whether they are unwrapped.

    Raises:
        TrajectoryError: There are none, or not all three.
    """
    for start, unwrapped in _POSITIONS:
        if all(_axis(start, axis) in columns for axis in _AXES):
            return start, unwrapped
    raise TrajectoryError(
        f"found columns {' '.join(columns)}", "x y z, xs ys zs, xu yu zu or xsu ysu zsu, all three", "dump them"
    )


def _axis(start: str, axis: str) -> str:
    return axis + start[1:]


def _for_ase(name: str, kinds: str, start: str) -> str:
    """A name of a column under which ASE leaves it as it is, in the order and the units of the file."""
    if name == kinds:
        return "type"
    if name in {_axis(start, axis) for axis in _AXES}:
        return name
    return f"{'i' if name in ('id', 'ix', 'iy', 'iz') else 'c'}_{name.replace('c_', '', 1)}"


def _numbered(body: list[str], column: int, labels: dict[str, str]) -> list[str]:
    """The lines with the names of types as their numbers."""
    number_of = {name: number for number, name in labels.items()}
    found = []
    for line in body:
        words = line.split()
        if words[column] not in number_of:
            raise TrajectoryError(f"found a type {words[column]}", f"{', '.join(number_of)} as in the first frame")
        words[column] = number_of[words[column]]
        found.append(" ".join(words) + "\n")
    return found


def _vectors(arrays: Any, start: str, order: NDArray[np.int64]) -> NDArray[Any] | None:
    columns = [arrays[start + axis] for axis in _AXES if start + axis in arrays]
    return np.stack(columns, axis=1)[order] if len(columns) == 3 else None


def frame_of_data(path: Path) -> RawFrame:
    """The configuration of a data file of atom style `atomic`, unwrapped by its images."""
    from ase import units
    from ase.io import read

    speed = 1e-12 * units.second  # of the units `metal`, which ASE takes it to have
    some = {number: number for number in range(1, _MOST_TYPES)}  # else it looks for elements with these masses
    atoms: Any = read(str(path), format="lammps-data", atom_style="atomic", sort_by_id=True, Z_of_type=some)
    cell = np.asarray(atoms.cell)
    names = atoms.numbers  # as in the file; ASE's array of types is 0 where the file has labels, too
    labels = sorted(set(np.asarray(names).tolist()))
    speeds = speed * atoms.get_velocities() if atoms.has("momenta") else None
    return RawFrame(
        lengths=np.diag(cell).copy(),
        tilts=np.array([cell[1, 0], cell[2, 0], cell[2, 1]]),
        lowest=np.zeros(3),
        dimensions=dimensions_of(atoms.positions),
        types=np.searchsorted(labels, names).astype(np.int32),
        type_names=tuple(map(str, labels)),
        positions=np.asarray(atoms.positions, np.float64),
        unwrapped=True,
        velocities=None if speeds is None else np.asarray(speeds, np.float64),
        masses=np.asarray(atoms.get_masses(), np.float64),
    )
