"""Files of other programs, written as those write them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gsd.hoomd
import numpy as np

TIME_STEP = 0.005


@dataclass(frozen=True)
class Walk:
    """Particles that walk through a periodic box: (frames, n, d) unwrapped positions in [0, L) to begin with."""

    box: np.ndarray
    species: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    every: int = 50

    @property
    def steps(self) -> list[int]:
        return [self.every * k for k in range(len(self.positions))]

    @property
    def images(self) -> np.ndarray:
        return np.floor(self.positions / self.box).astype(int)


def walk(n: int = 80, n_frames: int = 12, d: int = 3, step: float = 0.15, seed: int = 1, density: float = 1.2) -> Walk:
    """A walk in random steps from a lattice."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(n ** (1 / d)))
    edge = (n / density) ** (1 / d)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * d), -1).reshape(-1, d)[:n] * edge / side
    moves = step * random.normal(size=(n_frames, n, d))
    moves[0] = 0
    species = random.permutation((np.arange(n) >= 0.8 * n).astype(int))
    return Walk(np.full(d, edge), species, sites + moves.cumsum(axis=0), random.normal(size=(n_frames, n, d)))


def write_gsd(
    path: Path, one: Walk, *, images: str = "every", velocities: bool = True, names: Sequence[str] = "AB"
) -> Path:
    """A GSD file; `images` in `every` frame, in the `first` only as HOOMD-blue does unless told, or in `none`."""
    n, d = one.positions.shape[1:]
    with gsd.hoomd.open(path, "w") as file:
        for k, step in enumerate(one.steps):
            frame = gsd.hoomd.Frame()
            frame.configuration.step = step
            frame.configuration.dimensions = d
            frame.configuration.box = [*one.box, *[0] * (3 - d), 0, 0, 0]
            frame.particles.N = n
            frame.particles.types = list(names)
            frame.particles.typeid = one.species
            at = np.zeros((n, 3))
            at[:, :d] = one.positions[k] - one.images[k] * one.box - one.box / 2
            frame.particles.position = at
            if images == "every" or (images == "first" and k == 0):
                frame.particles.image = np.zeros((n, 3), int)
                frame.particles.image[:, :d] = one.images[k] + (images == "first")
            if velocities:
                frame.particles.velocity = np.zeros((n, 3))
                frame.particles.velocity[:, :d] = one.velocities[k]
            file.append(frame)
    return path


def write_dump(
    path: Path,
    one: Walk,
    columns: str = "id type xu yu zu",
    *,
    origin: float = 0.0,
    gaps: bool = False,
    times: bool = False,
    seed: int = 3,
) -> Path:
    """A LAMMPS dump with these columns, in an order of the atoms of its own in every frame."""
    random = np.random.default_rng(seed)
    n, d = one.positions.shape[1:]
    box, names = np.ones(3), columns.split()
    box[:d] = one.box
    bounds = [(origin, origin + length) for length in one.box.tolist()] + [(-0.5, 0.5)] * (3 - d)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        for k, step in enumerate(one.steps):
            at, image = np.zeros((n, 3)), np.zeros((n, 3), int)
            at[:, :d], image[:, :d] = one.positions[k], one.images[k]
            speed = np.zeros((n, 3))
            speed[:, :d] = one.velocities[k]
            known = {"id": (np.arange(n) + 1) * (3 if gaps else 1), "type": one.species + 1, "mass": np.ones(n),
                     "element": np.array(["A", "B"])[one.species], "v_p": np.arange(n) / 7}  # fmt: skip
            for axis, name in enumerate("xyz"):
                inside = at[:, axis] - image[:, axis] * box[axis]
                known |= {name: inside + origin * (axis < d), f"{name}u": at[:, axis] + origin * (axis < d),
                          f"{name}s": inside / box[axis] + 0.5 * (axis >= d), f"{name}su": at[:, axis] / box[axis],
                          f"i{name}": image[:, axis], f"v{name}": speed[:, axis]}  # fmt: skip
            if times and k == 0:
                file.write("ITEM: UNITS\nlj\n")
            if times:
                file.write(f"ITEM: TIME\n{step * TIME_STEP!r}\n")
            file.write(f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{n}\nITEM: BOX BOUNDS pp pp pp\n")
            file.writelines(f"{low!r} {high!r}\n" for low, high in bounds)
            file.write(f"ITEM: ATOMS {columns}\n")
            for i in random.permutation(n):
                file.write(" ".join(str(known[name].tolist()[i]) for name in names) + "\n")
    return path


def write_xyz(path: Path, one: Walk, *, steps: bool = True) -> Path:
    """An extended XYZ file with unwrapped positions and velocities."""
    n, d = one.positions.shape[1:]
    edges = [*one.box, *[1.0] * (3 - d)]
    with path.open("w") as file:
        for k, step in enumerate(one.steps):
            at, speed = np.zeros((n, 3)), np.zeros((n, 3))
            at[:, :d], speed[:, :d] = one.positions[k], one.velocities[k]
            said = f" Step={step}" if steps else ""
            file.write(f'{n}\nLattice="{edges[0]} 0 0 0 {edges[1]} 0 0 0 {edges[2]}" ')
            file.write(f'Properties=species:S:1:pos:R:3:velo:R:3{said} pbc="T T T"\n')
            for i in range(n):
                numbers = " ".join(f"{x:.12g}" for x in (*at[i], *speed[i]))
                file.write(f"{'AB'[one.species[i]]} {numbers}\n")
    return path


def write_data(path: Path, one: Walk) -> Path:
    """A LAMMPS data file of the first frame with images, velocities and masses."""
    n, d = one.positions.shape[1:]
    lines = ["made by hand", "", f"{n} atoms", "2 atom types", ""]
    lines += [f"0 {length!r} {name}lo {name}hi" for length, name in zip(map(float, one.box), "xyz", strict=False)]
    lines += ["-0.5 0.5 zlo zhi"] * (3 - d) + ["", "Masses", "", "1 1.0", "2 0.5", "", "Atoms # atomic", ""]
    for i in np.random.default_rng(2).permutation(n):
        inside = [*(one.positions[0, i] - one.images[0, i] * one.box), *[0.0] * (3 - d)]
        image = [*one.images[0, i], *[0] * (3 - d)]
        lines.append(f"{i + 1} {one.species[i] + 1} {' '.join(map(str, inside))} {' '.join(map(str, image))}")
    lines += ["", "Velocities", ""]
    lines += [f"{i + 1} {' '.join(map(str, [*one.velocities[0, i], *[0.0] * (3 - d)]))}" for i in range(n)]
    path.write_text("\n".join(lines) + "\n")
    return path
