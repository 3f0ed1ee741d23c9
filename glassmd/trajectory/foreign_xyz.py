"""Frames of extended XYZ files, by ASE."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy as np

from glassmd.errors import TrajectoryError
from glassmd.trajectory.foreign_columns import dimensions_of, others_of, require_periodic
from glassmd.trajectory.raw import RawFrame

__all__ = ["frame_of_xyz"]


def frame_of_xyz(text: str) -> RawFrame:
    """The frame that the lines of an extended XYZ file make up.

    Raises:
        TrajectoryError: It has no column of species.
    """
    from ase.io import read
    from ase.io.extxyz import key_val_str_to_dict

    def as_text(line: str) -> dict[str, Any]:
        """Species are no elements: a column of text like another."""
        found: dict[str, Any] = key_val_str_to_dict(line)  # type: ignore[no-untyped-call]
        columns = str(found.get("Properties", "species:S:1:pos:R:3"))
        for name in ("species", "element"):
            columns = columns.replace(f"{name}:S:1", f"glassmd_{name}:S:1")
        return {**found, "Properties": columns}

    atoms: Any = read(StringIO(text), 0, "extxyz", properties_parser=as_text)
    arrays, info, cell = atoms.arrays, atoms.info, np.asarray(atoms.cell)
    require_periodic(atoms.pbc, atoms.positions)
    kinds = next((arrays[k] for k in ("kind", "glassmd_species", "glassmd_element", "type") if k in arrays), None)
    if kinds is None:
        raise TrajectoryError(f"found columns {', '.join(arrays)}", "a column species", "write it, too")
    order = np.argsort(arrays["id"], kind="stable") if "id" in arrays else np.arange(len(atoms))
    kinds = np.asarray(kinds)[order].astype(str)
    labels = sorted(set(kinds.tolist()))
    known = {key.lower(): value for key, value in info.items() if isinstance(value, int | float | np.number)}
    step = next((int(known[key]) for key in ("step", "timestep") if key in known), None)
    images = next((arrays[key] for key in ("image", "images") if key in arrays), None)
    speeds = next((arrays[key] for key in ("velo", "vel", "velocity", "velocities") if key in arrays), None)
    masses = next((arrays[key] for key in ("mass", "masses") if key in arrays), None)
    ours = {"kind", "type", "id", "image", "images", "velo", "vel", "velocity", "velocities", "mass", "masses"}
    return RawFrame(
        lengths=np.diag(cell).copy(),
        tilts=cell[~np.eye(3, dtype=bool)],
        lowest=np.asarray(info.get("Origin", np.zeros(3)), np.float64),
        dimensions=dimensions_of(atoms.positions),
        types=np.searchsorted(labels, kinds).astype(np.int32),
        type_names=tuple(labels),
        positions=np.asarray(atoms.positions, np.float64)[order],
        images=None if images is None else np.asarray(images, np.int32)[order],
        velocities=None if speeds is None else np.asarray(speeds, np.float64)[order],
        masses=None if masses is None else np.asarray(masses, np.float64)[order],
        step=step,
        time=float(known["time"]) if "time" in known else None,
        log=others_of(arrays, ours, order),
    )
