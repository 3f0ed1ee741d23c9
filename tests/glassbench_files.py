"""Small files of GlassBench's form. Nobody here has an original file with labels: these follow descriptions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import minimum_image
from glassmd.mixtures import get_mixture

N_TIMES = 10
PLANE = get_mixture("kob-andersen-2d-ternary", "force-shifted")

Arrays = dict[str, NDArray[Any]]


def lattice(n_side: int, dimensions: int, density: float, seed: int) -> tuple[NDArray[np.float64], float]:
    """Shaken points of a lattice in [−L/2, L/2), and L."""
    n = n_side**dimensions
    length = (n / density) ** (1 / dimensions)
    grid = np.stack(np.meshgrid(*[np.arange(n_side) + 0.5] * dimensions), -1).reshape(n, dimensions)
    points = grid * length / n_side + np.random.default_rng(seed).normal(0, 0.04, (n, dimensions))
    return minimum_image(points, [length] * dimensions), length


def labelled(seed: int, *, test: bool = False, **changes: Any) -> Arrays:
    """What a file of `KA_models` holds, of 125 particles: labels follow how far particles are from their minimum."""
    start, length = lattice(5, 3, 1.2, seed)
    n = len(start)
    random = np.random.default_rng(seed + 1000)
    types = (np.arange(n) >= 100).astype(np.int64)
    inherent = minimum_image(start + random.normal(0, 0.05, (n, 3)), [length] * 3)
    far = np.linalg.norm(minimum_image(inherent - start, [length] * 3), axis=1)
    truth = (0.1 + far) * np.arange(1, N_TIMES + 1)[:, None]
    arrays: Arrays = {
        "types": types,
        "initial_positions": start,
        "initial_positions_inherent": inherent,
        "initial_positions_cage": minimum_image(start + random.normal(0, 0.03, (n, 3)), [length] * 3),
        "md_prop": truth + random.normal(0, 0.01, truth.shape),
        "bb_prop": np.clip(1 - truth / 4, 0, 1),
    }
    if test:
        arrays["BOTAN"] = truth
        arrays["GlassMLP"] = (truth + random.normal(0, 0.05, truth.shape))[:, :100]  # of A alone
        arrays["DEN"] = -far
    arrays.update({name: np.asarray(value) for name, value in changes.items() if value is not None})
    return {name: values for name, values in arrays.items() if changes.get(name, 0) is not None}


def labelled_file(folder: Path, configuration: int, *, temperature: str = "0.44", **changes: Any) -> Path:
    """A file of `KA_models`, in the folder of its side of the split."""
    test = configuration > 400
    path = folder / f"T{temperature}" / ("test" if test else "train") / f"N125T{temperature}_{configuration}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **labelled(configuration, test=test, **changes))
    return path


def replica_file(
    folder: Path, configuration: int, code: int, *, wrapped: bool, scale: float = 0.1, **changes: Any
) -> tuple[Path, NDArray[np.float64]]:
    """A file of `KA2D_trajectories` with three replicas, and their true displacements."""
    start, length = lattice(9, 2, PLANE.density, configuration)
    n, random = len(start), np.random.default_rng([configuration, code])
    moved = random.normal(0, scale, (3, n, 2))
    images = np.zeros((n, 2)) if wrapped else np.random.default_rng(configuration).integers(-2, 3, (n, 2)) * length
    ends = start + images + moved
    arrays: Arrays = {
        "box": np.array(length),
        "types": np.repeat([1, 2, 3], n // 3),
        "initial_positions": start + images,
        "initial_positions_inherent": start + images + 0.01,
        "positions": minimum_image(ends, [length] * 2) if wrapped else ends,
    }
    path = folder / f"N{n}T0.23_{configuration}_tc{code:02d}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{**arrays, **changes})
    return path, moved
