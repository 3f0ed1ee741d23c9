"""Which descriptors a learner is given, and the one call that computes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import InputError
from glassmd.features.angular import SCHOENHOLZ_ANGULAR, AngularFunctions
from glassmd.features.neighbours import Family, find_neighbours, neighbour_blocks, spatial_order, wrapped
from glassmd.features.physical import physical_names, physical_quantities
from glassmd.features.radial import SCHOENHOLZ_RADIAL, RadialShells
from glassmd.features.recursion import generations
from glassmd.features.voronoi import voronoi_cells
from glassmd.mixtures import Mixture

__all__ = ["RECIPES", "Recipe", "describe", "n_columns", "names"]

_AVERAGING = 2.1
"""Radius of the recursive averages, σ_AA: near the second minimum of g_AA (E. Boattini et al., PRL 127, 088007)."""


@dataclass(frozen=True)
class Recipe:
    """Families of descriptors, and what is averaged over the surroundings.

    Attributes:
        radial: Grids of radial shells.
        angular: Sets of angular functions.
        physical: Energy, virial, curvature, coordination, Voronoi cell.
        generations: How often everything is averaged over the surroundings, each time a set of columns.
        averaging: Radius of those averages, σ_AA.

    Raises:
        InputError: Numbers that mean nothing.
    """

    radial: tuple[RadialShells, ...] = ()
    angular: tuple[AngularFunctions, ...] = ()
    physical: bool = False
    generations: int = 0
    averaging: float = _AVERAGING

    def __post_init__(self) -> None:
        if self.generations < 0 or self.averaging <= 0:
            raise InputError(
                f"found {self.generations} generations of radius {self.averaging}",
                "generations >= 0, a positive radius",
            )


def names(recipe: Recipe, mixture: Mixture) -> list[str]:
    """One name a column of :func:`describe`; "@n" marks the n-th generation.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> names(Recipe(radial=(RadialShells(1, 1, 0.1, 0.1),), generations=1), get_mixture("kob-andersen"))
        ['G(A, 1, 0.1)', 'G(B, 1, 0.1)', 'G(A, 1, 0.1)@1', 'G(B, 1, 0.1)@1']
    """
    return _names(recipe, mixture.species)


def n_columns(recipe: Recipe, n_species: int) -> int:
    """Columns of :func:`describe` for a mixture of so many species.

    Example:
        >>> n_columns(Recipe(radial=(RadialShells(1, 1, 0.1, 0.1),), generations=1), 2)
        4
    """
    return len(_names(recipe, tuple(str(k) for k in range(n_species))))


def _names(recipe: Recipe, species: tuple[str, ...]) -> list[str]:
    families: list[Family] = [*recipe.radial, *recipe.angular]
    base = [name for family in families for name in family.names(species)]
    base += physical_names(species) if recipe.physical else []
    return base + [f"{name}@{n}" for n in range(1, recipe.generations + 1) for name in base]


def describe(
    positions: ArrayLike, box: ArrayLike, species: ArrayLike, mixture: Mixture, recipe: Recipe
) -> NDArray[np.float32]:
    """Descriptors of every particle, invariant to translation, rotation, reflection and the order of the particles.

    Args:
        positions: (n_particles, d), σ_AA, inside the box or not: thermal, inherent or cage positions.
        box: (d,) edge lengths of the periodic box, σ_AA.
        species: (n_particles,) int.
        mixture: Species and potential.
        recipe: What to compute.

    Returns:
        (n_particles, n_features) float32, one column for each of :func:`names`.

    Raises:
        InputError: Shapes that do not match, or numbers that are not finite.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> points = np.random.default_rng(0).uniform(size=(50, 3)) * 5
        >>> recipe, mixture = RECIPES["schoenholz"], get_mixture("kob-andersen")
        >>> found = describe(points, [5, 5, 5], np.arange(50) % 2, mixture, recipe)
        >>> found.shape == (50, len(names(recipe, mixture)))
        True
    """
    points, edges, kinds = np.asarray(positions, np.float64), np.asarray(box, np.float64), np.asarray(species, np.int64)
    _require_matching(points, edges, kinds, mixture)
    order = spatial_order(points, edges)
    points, kinds = wrapped(points[order], edges), kinds[order]
    columns = _base(points, edges, kinds, mixture, recipe)
    near = find_neighbours(points, edges, kinds, recipe.averaging, len(mixture.species))
    parts = [columns, *generations(columns, near, recipe.generations)]
    result = np.empty((len(points), sum(part.shape[1] for part in parts)), np.float32)
    result[order] = np.hstack(parts)
    return result


def _base(
    points: NDArray[np.float64], box: NDArray[np.float64], kinds: NDArray[np.int64], mixture: Mixture, recipe: Recipe
) -> NDArray[np.float32]:
    """Generation 0: one search for the longest family, another for those that need the near neighbours only."""
    n_species = len(mixture.species)
    parts: list[NDArray[np.float32]] = []
    if recipe.radial:
        reach = max(grid.cutoff for grid in recipe.radial)
        far = neighbour_blocks(points, box, kinds, reach, n_species, with_vectors=False)
        parts.append(np.vstack([np.hstack([grid.compute(pairs) for grid in recipe.radial]) for pairs in far]))
    reaches = [family.cutoff for family in recipe.angular]
    if recipe.physical:
        reaches += [float(mixture.r_cut.max()), 1.5 * float(np.max(mixture.sigma))]
        cells = voronoi_cells(points, box)
    rows = []
    for near in neighbour_blocks(points, box, kinds, max(reaches), n_species) if reaches else ():
        found = [family.compute(near) for family in recipe.angular]
        if recipe.physical:
            found.append(physical_quantities(near, mixture, cells[near.block]).astype(np.float32))
        rows.append(np.hstack(found))
    parts += [np.vstack(rows)] if rows else []
    return np.hstack(parts) if parts else np.zeros((len(points), 0), np.float32)


def _require_matching(
    points: NDArray[np.float64], box: NDArray[np.float64], kinds: NDArray[np.int64], mixture: Mixture
) -> None:
    d, n_species = mixture.dimensions, len(mixture.species)
    if points.ndim != 2 or points.shape[1] != d or box.shape != (d,) or kinds.shape != points.shape[:1]:
        raise InputError(
            f"found positions {points.shape}, box {box.shape} and species {kinds.shape}",
            f"(n_particles, {d}), ({d},) and (n_particles,) for {mixture.name}",
        )
    if not (np.isfinite(points).all() and np.isfinite(box).all() and (box > 0).all()):
        raise InputError("found a position or a box edge that is no finite number", "finite positions, positive edges")
    if len(kinds) == 0 or kinds.min() < 0 or kinds.max() >= n_species:
        raise InputError(f"found species {np.unique(kinds).tolist()}", f"0 to {n_species - 1} for {mixture.name}")


RECIPES: dict[str, Recipe] = {
    "recursive": Recipe(
        radial=(RadialShells(0.8, 2.3, 0.3, 0.2),),
        physical=True,
        generations=5,
    ),
    "schoenholz": Recipe(radial=SCHOENHOLZ_RADIAL, angular=(SCHOENHOLZ_ANGULAR,)),
}
"""Named recipes.

`recursive`: for linear models and `glassnet`. A few broad shells, the local physical quantities and five generations:
144 columns for two species. Few and smooth descriptors do best, as docs/assessment.md measures. `schoenholz`: structure
functions of one particle's surroundings, for softness (166).
"""
