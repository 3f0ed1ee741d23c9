"""Frames of a file as each library tells them, in one form; run by `readers.py` in the environment of the library.

Each function asks a library for all that it can give, unwrapped positions where it can, frame by frame.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

Frame = dict[str, Any]
"""`step`, `time`, `cell`, `origin`, `ids`, `species` (as text), `positions`, `images`, `velocities`, `other`."""

warnings.simplefilter("ignore")


def chemfiles(path: Path, kind: str, everything: bool) -> Iterator[Frame]:
    """Of the library of that name; properties of particles, types too, come one call at a time."""
    import chemfiles as library

    name = {"dump": "LAMMPS", "data": "LAMMPS Data", "xyz": "XYZ"}[kind] + (" / GZ" if path.suffix == ".gz" else "")
    species: list[str] = []
    with library.Trajectory(str(path), "r", name) as trajectory:
        for _ in range(trajectory.nsteps):
            frame = trajectory.read()
            if everything or not species:
                species = [_named(atom.name, atom.type) for atom in frame.atoms]
            known = set(frame.list_properties())
            wanted = {"dump": "v_propensity"}.get(kind, "propensity")
            other = {}
            if everything and wanted in frame.atoms[0].list_properties():
                other = {"propensity": np.array([atom[wanted] for atom in frame.atoms])}
            yield {
                "step": int(float(frame["step"])) if "step" in known else frame.step,
                "time": float(frame["time"]) if "time" in known else None,
                "cell": np.array(frame.cell.matrix).T if kind == "xyz" else np.array(frame.cell.matrix),
                "species": species,
                "positions": np.array(frame.positions),
                "velocities": np.array(frame.velocities) if frame.has_velocities() else None,
                "other": other,
            }


def _named(name: str, kind: str) -> str:
    return name if name in ("A", "B") else kind


def ase(path: Path, kind: str, everything: bool) -> Iterator[Frame]:
    """Of the Atomic Simulation Environment; velocities back from its units to those of the file."""
    from ase import units
    from ase.io import iread
    from ase.io.lammpsrun import iread_lammps_dump_text

    speed = 1e-12 * units.second  # of `metal`, which it takes a dump to be in
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        if kind == "dump":
            found = iread_lammps_dump_text(file)
        elif kind == "data":
            found = iread(str(path), format="lammps-data", atom_style="atomic", Z_of_type={1: 1, 2: 2})
        else:
            found = iread(str(path), index=":", format="extxyz")
        for atoms in found:
            arrays, info = atoms.arrays, atoms.info
            speeds = arrays.get("vel", atoms.get_velocities() * speed if atoms.has("momenta") else None)
            yield {
                "step": info.get("timestep", info.get("step")),
                "time": info.get("time"),
                "cell": np.array(atoms.cell),
                "origin": atoms.get_celldisp().ravel(),
                "ids": arrays.get("id"),
                "species": [str(of) for of in arrays.get("type", arrays["numbers"])],
                "positions": atoms.positions,
                "images": arrays.get("image"),
                "velocities": speeds,
                "other": {"propensity": arrays.get("v_propensity", arrays.get("propensity"))},
            }


def ase_by_frame(path: Path, kind: str, everything: bool) -> Iterator[Frame]:
    """ASE again, given one frame at a time, with columns and species under names that it leaves as they are."""
    from ase.io import read
    from ase.io.extxyz import key_val_str_to_dict

    if kind == "data":
        yield from ase(path, kind, everything)
        return

    def species_as_text(line: str) -> dict[str, Any]:
        found = key_val_str_to_dict(line)
        return {**found, "Properties": found["Properties"].replace("species:S:1", "kind:S:1")}

    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        while lines := list(islice(file, 1)):
            if kind == "xyz":
                lines += islice(file, n := int(lines[0]) + 1)
                short = len(lines) != n + 1
            else:
                while not lines[-1].startswith("ITEM: ATOMS"):
                    lines.append(next(file))
                n = int(lines[1 + lines.index("ITEM: NUMBER OF ATOMS\n")])
                columns = lines[-1].split()[2:]
                lines[-1] = f"ITEM: ATOMS {' '.join(_for_ase(name, columns) for name in columns)}\n"
                body = list(islice(file, n))
                short = len(body) != n
                text = [k for k, name in enumerate(columns) if name in ("element", "typelabel")]
                if text:
                    body = [_numbers_in(line, text) for line in body]
                lines += body
            if short or not lines[-1].endswith("\n"):
                raise EOFError("the file ends within a frame")
            if kind == "xyz":
                atoms = read(StringIO("".join(lines)), 0, "extxyz", properties_parser=species_as_text)
                arrays, origin = atoms.arrays, atoms.info.get("Origin")
            else:
                atoms = read(StringIO("".join(lines)), 0, "lammps-dump-text")
                origin = atoms.get_celldisp().ravel()
                arrays = dict(atoms.arrays)
                if "i_id" in arrays:
                    order = np.argsort(arrays["i_id"])
                    arrays = {name: of[order] for name, of in arrays.items()}
            positions = arrays["positions"] + (origin if kind == "dump" and {"xs", "xsu"} & set(columns) else 0)
            times = [k for k, line in enumerate(lines[:6]) if line.startswith("ITEM: TIME\n")]
            yield {
                "step": atoms.info.get("timestep", atoms.info.get("step")),
                "time": float(lines[times[0] + 1]) if times else atoms.info.get("time"),
                "cell": np.array(atoms.cell),
                "origin": origin,
                "ids": arrays.get("i_id", arrays.get("id")),
                "species": arrays["kind"].tolist() if kind == "xyz" else arrays["type"].astype(str).tolist(),
                "positions": positions,
                "images": arrays.get("image", _vector(arrays, "i_i")),
                "velocities": arrays.get("vel", _vector(arrays, "c_v")),
                "other": {"propensity": arrays.get("v_propensity", arrays.get("propensity"))},
            }


def _for_ase(name: str, columns: list[str]) -> str:
    if name in ("element", "typelabel"):
        taken = "type" in columns or (name == "element" and "typelabel" in columns)
        return f"c_{name}" if taken else "type"
    if name in ("id", "ix", "iy", "iz"):
        return f"i_{name}"
    wrapped_beside = name in ("x", "y", "z") and "xu" in columns
    return f"c_{name}" if wrapped_beside or name in ("vx", "vy", "vz", "mass", "radius") else name


def _numbers_in(line: str, columns: list[int]) -> str:
    """The line with names of one letter as their place in the alphabet."""
    words = line.split()
    for column in columns:
        if column < len(words):
            words[column] = str(1 + "AB".index(words[column]))
    return " ".join(words) + line[len(line.rstrip()) :]


def _vector(arrays: dict[str, Any], start: str) -> np.ndarray | None:
    found = [arrays[f"{start}{axis}"] for axis in "xyz" if f"{start}{axis}" in arrays]
    return np.stack(found, axis=1) if len(found) == 3 else None


def mdanalysis(path: Path, kind: str, everything: bool) -> Iterator[Frame]:
    """Of the library of that name, by its readers: its universe would read the file a second time as a topology."""
    import MDAnalysis
    from MDAnalysis.coordinates.LAMMPS import DumpReader
    from MDAnalysis.lib.mdamath import triclinic_vectors

    species = None
    if kind == "dump":
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            columns = next(line for line in file if line.startswith("ITEM: ATOMS")).split()
        trajectory = DumpReader(
            str(path), unwrap_images="ix" in columns, additional_columns=True if everything else ["type"]
        )
    else:
        name = {"data": "DATA", "xyz": "XYZ"}[kind]
        more = {"atom_style": "id type x y z", "convert_units": False} if kind == "data" else {}
        universe = MDAnalysis.Universe(str(path), format=name, topology_format=name, **more)
        trajectory, species = (
            universe.trajectory,
            list(universe.atoms.types if kind == "data" else universe.atoms.names),
        )
    for frame in trajectory:
        kinds = [f"{of:g}" for of in frame.data["type"]] if "type" in frame.data else species
        yield {
            "step": frame.data.get("step"),
            "cell": None if frame.dimensions is None else triclinic_vectors(frame.dimensions),
            "species": kinds,
            "positions": frame.positions.copy(),
            "velocities": frame.velocities.copy() if frame.has_velocities else None,
            "other": {"propensity": frame.data.get("v_propensity")},
        }


def ovito(path: Path, kind: str, everything: bool) -> Iterator[Frame]:
    """Of the library of that name, without its pipeline's cache."""
    from ovito.io import import_file

    more: dict[str, Any] = {"sort_particles": True} if kind != "xyz" else {"rescale_reduced_coords": False}
    more |= {"atom_style": "atomic"} if kind == "data" else {}
    kinds = {"dump": "lammps/dump", "data": "lammps/data", "xyz": "xyz"}
    columns = _ovito_columns(path) if kind == "dump" else None
    more |= {"columns": columns} if columns else {}
    pipeline = import_file(str(path), input_format=kinds[kind], **more)
    for k in range(pipeline.source.num_frames):
        data = pipeline.source.compute(k)
        particles, cell = data.particles, np.array(data.cell)

        def column(*names: str, of: Any = particles) -> np.ndarray | None:
            return next((np.array(of[name]) for name in names if name in of), None)

        types = particles["Particle Type"]
        names = {of.id: of.name or str(of.id) for of in types.types}
        yield {
            "step": data.attributes.get("Timestep", data.attributes.get("step")),
            "time": data.attributes.get("Time", data.attributes.get("time")),
            "cell": cell[:, :3].T,
            "origin": cell[:, 3],
            "ids": column("Particle Identifier"),
            "species": [names[of] for of in np.array(types).tolist()],
            "positions": np.array(particles["Position"]),
            "images": column("Periodic Image", "image"),
            "velocities": column("Velocity", "vel"),
            "other": {"propensity": column("v_propensity", "propensity", "Propensity")},
        }


OVITO_NAMES = {
    "id": "Particle Identifier", "type": "Particle Type", "typelabel": "Particle Type",
    "mass": "Mass", "radius": "Radius",
    **{f"v{axis}": f"Velocity.{axis.upper()}" for axis in "xyz"},
    **{f"i{axis}": f"Periodic Image.{axis.upper()}" for axis in "xyz"},
}  # fmt: skip


def _ovito_columns(path: Path) -> list[str | None] | None:
    """What each column is where the library would choose badly: `x` before `xu`, labels of types."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        columns = next(line for line in file if line.startswith("ITEM: ATOMS")).split()[2:]
    scaled = any(name in columns for name in ("xs", "xsu"))
    if not ("typelabel" in columns or "element" in columns or {"x", "xu"} <= set(columns)) or scaled:
        return None
    style = "u" if "xu" in columns else ""
    places = {f"{axis}{style}": f"Position.{axis.upper()}" for axis in "xyz"}
    names: list[str | None] = [places.get(name, OVITO_NAMES.get(name)) for name in columns]
    if "element" in columns:
        names[columns.index("type")], names[columns.index("element")] = None, "Particle Type"
    return names


LIBRARIES: dict[str, Callable[[Path, str, bool], Iterator[Frame]]] = {
    "chemfiles": chemfiles,
    "ase": ase,
    "ase by frame": ase_by_frame,
    "MDAnalysis": mdanalysis,
    "ovito": ovito,
}
