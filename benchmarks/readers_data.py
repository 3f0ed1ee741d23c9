"""Files of a made-up trajectory in every form that `readers.py` asks about, with what is true of them.

Diffusing particles in a box whose origin is not zero; lines of a frame are shuffled anew in every frame.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DENSITY, TIME_STEP, EVERY = 1.2, 0.004, 250
ORIGIN = np.array([-3.0, 1.5, 7.25])


@dataclass(frozen=True)
class Case:
    """One file: its name, its columns, and in what it differs from the plain one."""

    name: str
    style: str = "xu"
    images: bool = False
    more: tuple[str, ...] = ()
    kind: str = "dump"
    options: frozenset[str] = field(default_factory=frozenset)

    @property
    def suffix(self) -> str:
        """Of the file."""
        return {"dump": ".dump", "data": ".data", "xyz": ".xyz"}[self.kind] + (".gz" if "gz" in self.options else "")


def _case(
    name: str, *options: str, style: str = "xu", images: bool = False, kind: str = "dump", more: str = ""
) -> Case:
    return Case(name, style, images, tuple(more.split()), kind, frozenset(options))


CASES = (
    _case("x y z", style="x"),
    _case("x y z ix iy iz", style="x", images=True),
    _case("xs ys zs ix iy iz", style="xs", images=True),
    _case("xu yu zu"),
    _case("xsu ysu zsu", style="xsu"),
    _case("x y z xu yu zu", style="x", more="xu yu zu"),
    _case("velocities and other columns", more="mass vx vy vz radius c_pe v_propensity"),
    _case("element A, B", more="element"),
    _case("typelabel A, B", "labels"),
    _case("ids with gaps", "gaps"),
    _case("no ids", "no ids"),
    _case("ITEM: UNITS, TIME", "time"),
    _case("tilted box", "tilted"),
    _case("tilted box, xs", "tilted", style="xs", images=True),
    _case("two dimensions", "flat"),
    _case("two dimensions, x y ix iy", "flat", "no z", style="x", images=True),
    _case("changing box", "breathing"),
    _case("changing N", "growing"),
    _case("gz", "gz"),
    _case("cut within a line", "cut"),
    _case("cut after a line", "cut", "whole lines"),
    _case("gz cut", "cut", "gz"),
    _case("data", kind="data", images=True),
    _case("data, ids with gaps", "gaps", kind="data", images=True),
    _case("data without '# atomic'", "no hint", kind="data", images=True),
    _case("data, tilted box", "tilted", kind="data", images=True),
    _case("data, cut", "cut", kind="data", images=True),
    _case("extended XYZ, A and B", kind="xyz", more="vel id image note"),
    _case("extended XYZ, gz", "gz", kind="xyz"),
    _case("extended XYZ, tilted", "tilted", kind="xyz"),
    _case("extended XYZ, two dimensions", "flat", kind="xyz"),
    _case("extended XYZ, cut", "cut", "whole lines", kind="xyz"),
)


@dataclass(frozen=True)
class Truth:
    """What a reader should find in one frame, particles in the order of their ids."""

    step: int
    ids: np.ndarray
    species: np.ndarray
    cell: np.ndarray
    unwrapped: np.ndarray
    velocities: np.ndarray
    propensity: np.ndarray

    @property
    def scaled(self) -> np.ndarray:
        """Unwrapped positions in units of the cell's vectors, from its origin."""
        return (self.unwrapped - ORIGIN) @ np.linalg.inv(self.cell)

    @property
    def images(self) -> np.ndarray:
        """Which copy of the cell each particle is in."""
        return np.floor(self.scaled).astype(int)


def frames(case: Case, n_particles: int, n_frames: int) -> Iterator[Truth]:
    """Frames of a random walk; numbers are those that a file with six digits holds."""
    draw, flat = np.random.default_rng(0), "flat" in case.options
    length = n_particles**0.5 if flat else (n_particles / DENSITY) ** (1 / 3)
    cell = np.diag([length, 1.1 * length, 1.0 if flat else 0.9 * length])
    if "tilted" in case.options:
        cell[1, 0], cell[2, 0], cell[2, 1] = 0.3 * length, -0.2 * length, 0.1 * length
    scaled = draw.uniform(-1, 2, size=(n_particles, 3))
    species, ids = (draw.random(n_particles) < 0.2).astype(int), np.arange(1, n_particles + 1)
    ids = 3 * ids + 7 if "gaps" in case.options else ids
    for k in range(n_frames):
        now = cell * (1 + 0.001 * k) if "breathing" in case.options else cell
        now = np.round(now, 6)
        keep = slice(0, n_particles - 1 if "growing" in case.options and k == 0 else None)
        positions = ORIGIN + scaled @ now
        velocities = draw.normal(size=(n_particles, 3))
        if flat:
            now[2, 2], positions[:, 2], velocities[:, 2] = 1.0, ORIGIN[2] + 0.5, 0.0
        yield Truth(
            step=100 + EVERY * k, ids=ids[keep], species=species[keep], cell=now,
            unwrapped=np.round(positions, 6)[keep], velocities=np.round(velocities, 6)[keep],
            propensity=np.round(draw.random(n_particles), 6)[keep],
        )  # fmt: skip
        scaled = scaled + draw.normal(size=scaled.shape) * 0.1


def write(case: Case, path: Path, n_particles: int, n_frames: int) -> Path:
    """Write the file of a case; a cut one ends within its last frame."""
    opened = gzip.open if "gz" in case.options else open
    shuffle = np.random.default_rng(1)
    to_text = {"dump": _dump_frame, "data": _data, "xyz": _xyz_frame}[case.kind]
    with opened(path, "wt") as file:
        for k, truth in enumerate(frames(case, n_particles, n_frames)):
            text = to_text(case, truth, shuffle.permutation(len(truth.ids)), k)
            if "cut" in case.options and k == n_frames - 1:
                place = text.index("\n", 2 * len(text) // 3)
                text = text[: place + 1] if "whole lines" in case.options else text[: place - 6]
            file.write(text)
    return path


def _table(truth: Truth, order: np.ndarray, columns: list[str], values: dict[str, np.ndarray]) -> str:
    chosen = [values[name][order].tolist() for name in columns]
    whole = [isinstance(of[0], (int, str)) for of in chosen]
    line = " ".join("{}" if plain else "{:.9g}" for plain in whole) + "\n"
    return "".join(map(line.format, *chosen))


def _values(case: Case, truth: Truth) -> dict[str, np.ndarray]:
    images, scaled = truth.images, truth.scaled
    wrapped = truth.unwrapped - images @ truth.cell
    names = np.array(["A", "B"])[truth.species]
    kind_of = {"x": wrapped, "xs": scaled - images, "xu": truth.unwrapped, "xsu": scaled}
    found = {
        f"{axis}{tail}": kind_of[f"x{tail}"][:, k] for tail in ("", "s", "u", "su") for k, axis in enumerate("xyz")
    }
    for k, axis in enumerate("xyz"):
        found |= {f"i{axis}": images[:, k], f"v{axis}": truth.velocities[:, k]}
    energy = -truth.propensity
    found |= {"id": truth.ids, "type": truth.species + 1, "element": names, "typelabel": names}
    found |= {"mass": truth.species + 1.0, "radius": 0.5 - 0.06 * truth.species, "c_pe": energy}
    return found | {"v_propensity": truth.propensity, "note": truth.propensity}


def _dump_frame(case: Case, truth: Truth, order: np.ndarray, k: int) -> str:
    if "no ids" in case.options:
        order = np.arange(len(order))
    axes = "xy" if "no z" in case.options else "xyz"
    columns = ([] if "no ids" in case.options else ["id"]) + ["typelabel" if "labels" in case.options else "type"]
    columns += (
        [f"{axis}{case.style[1:]}" for axis in axes] + [f"i{axis}" for axis in axes if case.images] + [*case.more]
    )
    low, tilt = ORIGIN, (truth.cell[1, 0], truth.cell[2, 0], truth.cell[2, 1])
    high = ORIGIN + np.diag(truth.cell)
    bounds = [f"{a:.9g} {b:.9g}" for a, b in zip(low, high, strict=True)]
    tilted = "tilted" in case.options
    if tilted:
        xy, xz, yz = tilt
        low = low + np.array([min(0, xy, xz, xy + xz), min(0, yz), 0])
        high = high + np.array([max(0, xy, xz, xy + xz), max(0, yz), 0])
        bounds = [f"{a:.9g} {b:.9g} {c:.9g}" for a, b, c in zip(low, high, tilt, strict=True)]
    head = ("ITEM: UNITS\nlj\n" if k == 0 else "") + f"ITEM: TIME\n{truth.step * TIME_STEP:.9g}\n"
    return (
        (head if "time" in case.options else "")
        + f"ITEM: TIMESTEP\n{truth.step}\nITEM: NUMBER OF ATOMS\n{len(truth.ids)}\n"
        + f"ITEM: BOX BOUNDS {'xy xz yz ' if tilted else ''}pp pp pp\n"
        + "\n".join(bounds)
        + f"\nITEM: ATOMS {' '.join(columns)}\n"
        + _table(truth, order, columns, _values(case, truth))
    )


def _data(case: Case, truth: Truth, order: np.ndarray, k: int) -> str:
    high = ORIGIN + np.diag(truth.cell)
    bounds = "".join(f"{a:.9g} {b:.9g} {c}lo {c}hi\n" for a, b, c in zip(ORIGIN, high, "xyz", strict=True))
    if "tilted" in case.options:
        bounds += f"{truth.cell[1, 0]:.9g} {truth.cell[2, 0]:.9g} {truth.cell[2, 1]:.9g} xy xz yz\n"
    values, hint = _values(case, truth), "" if "no hint" in case.options else " # atomic"
    atoms = _table(truth, order, ["id", "type", "x", "y", "z", "ix", "iy", "iz"], values)
    speeds = _table(truth, order[::-1], ["id", "vx", "vy", "vz"], values)
    head = f"LAMMPS data file via write_data, timestep = {truth.step}, units = lj\n\n"
    head += f"{len(truth.ids)} atoms\n2 atom types\n\n"
    return f"{head}{bounds}\nMasses\n\n1 1\n2 2\n\nAtoms{hint}\n\n{atoms}\nVelocities\n\n{speeds}"


def _xyz_frame(case: Case, truth: Truth, order: np.ndarray, k: int) -> str:
    """Rows in the order of the ids: nothing in the format says in which order they are."""
    kinds = {"vel": "vel:R:3", "id": "id:I:1", "image": "image:I:3", "note": "propensity:R:1"}
    tail = "" if "image" in case.more else "u"
    columns = ["element", *(f"{axis}{tail}" for axis in "xyz")]
    of = {"vel": ["vx", "vy", "vz"], "id": ["id"], "image": ["ix", "iy", "iz"], "note": ["note"]}
    columns += [name for more in case.more for name in of[more]]
    lattice = " ".join(f"{x:.9g}" for x in truth.cell.ravel())
    properties = ":".join(["species:S:1:pos:R:3", *(kinds[more] for more in case.more)])
    origin = " ".join(f"{x:.9g}" for x in ORIGIN)
    return (
        f'{len(truth.ids)}\nLattice="{lattice}" Origin="{origin}" pbc="T T {"F" if "flat" in case.options else "T"}" '
        f"Properties={properties} step={truth.step} time={truth.step * TIME_STEP:.9g}\n"
        + _table(truth, np.arange(len(truth.ids)), columns, _values(case, truth))
    )
