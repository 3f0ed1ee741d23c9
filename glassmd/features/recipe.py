"""Which descriptors a learner is given, and the one call that computes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.features.angular import SCHOENHOLZ_ANGULAR, AngularFunctions
from glassmd.features.neighbours import checked, neighbour_blocks, spatial_order
from glassmd.features.physical import n_physical_quantities, physical_quantities
from glassmd.features.radial import SCHOENHOLZ_RADIAL, RadialShells
from glassmd.features.recursion import AVERAGING, Averages
from glassmd.features.voronoi import VORONOI_REACH, voronoi_cells
from glassmd.mixtures import Mixture

__all__ = ["RECIPES", "Recipe", "begun", "describe", "n_columns", "reach_of", "thermal_base"]


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
    averaging: float = AVERAGING

    def __post_init__(self) -> None:
        if self.generations < 0 or self.averaging <= 0:
            raise InputError(
                f"found {self.generations} generations of radius {self.averaging}",
                "generations >= 0, a positive radius",
            )


def n_columns(recipe: Recipe, n_species: int) -> int:
    """Columns of :func:`describe` for a mixture of so many species.

    Example:
        >>> n_columns(Recipe(radial=(RadialShells(1, 1, 0.1, 0.1),), generations=1), 2)
        4
    """
    base = sum(grid.n_columns(n_species) for grid in recipe.radial)
    base += sum(family.n_columns(n_species) for family in recipe.angular)
    base += n_physical_quantities(n_species) if recipe.physical else 0
    return base * (recipe.generations + 1)


def describe(
    positions: ArrayLike,
    box: ArrayLike,
    species: ArrayLike,
    mixture: Mixture,
    recipe: Recipe,
    base: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Descriptors of every particle, invariant to translation, rotation, reflection and the order of the particles.

    Args:
        positions: (n_particles, d), σ_AA, inside the box or not: thermal, inherent or cage positions.
        box: (d,) edge lengths of the periodic box, σ_AA.
        species: (n_particles,) int.
        mixture: Species and potential.
        recipe: What to compute.
        base: (n_particles, n) what the generations begin with, where that is known.

    Returns:
        (n_particles, n_features) float32; columns as many as :func:`n_columns` says.

    Raises:
        InputError: Shapes that do not match, or numbers that are not finite.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> points = np.random.default_rng(0).uniform(size=(50, 3)) * 5
        >>> recipe, mixture = RECIPES["schoenholz"], get_mixture("kob-andersen")
        >>> found = describe(points, [5, 5, 5], np.arange(50) % 2, mixture, recipe)
        >>> found.shape == (50, n_columns(recipe, 2))
        True
    """
    points, edges, kinds = checked(positions, box, species)
    _require_dimensions(points, mixture)
    order = spatial_order(points, edges)
    points, kinds = points[order], kinds[order]
    if base is None:
        columns, averages = _base(points, edges, kinds, mixture, recipe)
    else:
        columns, averages = base[order], _averages(points, edges, kinds, mixture, recipe)
    width = columns.shape[1]
    result = np.empty((len(points), width * (recipe.generations + 1)), np.float32)
    for generation in range(recipe.generations + 1):
        if generation:
            columns = averages.of(columns)
        result[order, generation * width : (generation + 1) * width] = columns
    return result


def _require_dimensions(points: NDArray[np.float64], mixture: Mixture) -> None:
    if points.shape[1] != mixture.dimensions:
        raise InputError(f"found positions {points.shape}", f"(n_particles, {mixture.dimensions}) for {mixture.name}")


_BEGUN: WeakKeyDictionary[Configuration, tuple[Mixture, Recipe, NDArray[np.float32]]] = WeakKeyDictionary()
"""Of one configuration at a time."""


def thermal_base(configuration: Configuration, mixture: Mixture, recipe: Recipe) -> NDArray[np.float32]:
    """(n_particles, n) what the generations of a recipe begin with, of a configuration's own positions.

    It is known as long as the configuration lives and nobody asks for another's: a model is asked whether it knows
    such surroundings before it predicts from them.
    """
    found = begun(configuration, mixture, recipe)
    if found is None:
        _require_dimensions(configuration.positions, mixture)
        points, edges, kinds = checked(configuration.positions, configuration.box, configuration.species)
        order, reach = spatial_order(points, edges), max(_reaches(recipe, mixture), default=0.0)
        columns, _ = _base(points[order], edges, kinds[order], mixture, replace(recipe, generations=0), reach)
        found = np.empty_like(columns)
        found[order] = columns
        found.setflags(write=False)
        _BEGUN.clear()
        _BEGUN[configuration] = mixture, recipe, found
    return found


def begun(configuration: Configuration, mixture: Mixture, recipe: Recipe) -> NDArray[np.float32] | None:
    """What :func:`thermal_base` has found of a configuration; None where it was not asked, or of another since."""
    known = _BEGUN.get(configuration)
    return None if known is None or known[:2] != (mixture, recipe) else known[2]


def reach_of(recipe: Recipe, mixture: Mixture) -> float:
    """How far from a particle :func:`describe` looks, σ_AA.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> round(reach_of(RECIPES["recursive"], get_mixture("kob-andersen")), 6)
        14.5
    """
    base = [*(grid.cutoff for grid in recipe.radial), *_reaches(recipe, mixture)]
    if recipe.physical:
        base.append(VORONOI_REACH)
    return max(base) + recipe.generations * recipe.averaging


def _reaches(recipe: Recipe, mixture: Mixture) -> list[float]:
    """How far the pairs with vectors are searched, for whom."""
    reaches = [family.cutoff for family in recipe.angular]
    if recipe.physical:
        reaches += [float(mixture.r_cut.max()), 1.5 * float(np.max(mixture.sigma))]
    return [*reaches, recipe.averaging] if recipe.generations else reaches


def _base(
    points: NDArray[np.float64],
    box: NDArray[np.float64],
    kinds: NDArray[np.int64],
    mixture: Mixture,
    recipe: Recipe,
    reach_of_vectors: float = 0.0,
) -> tuple[NDArray[np.float32], Averages]:
    """Generation 0, and what averages it: one search for shells, another for what needs vectors too.

    Sums are taken in the order that pairs are found in, which follows from how far is searched: at least so far.
    """
    n_species, averages = len(mixture.species), Averages(len(points))
    farthest = max([*_reaches(recipe, mixture), reach_of_vectors])
    columns = np.empty((len(points), n_columns(replace(recipe, generations=0), n_species)), np.float32)
    n_radial = sum(grid.n_columns(n_species) for grid in recipe.radial)
    if recipe.radial:
        reach = max(grid.cutoff for grid in recipe.radial)
        for pairs in neighbour_blocks(points, box, kinds, reach, n_species, with_vectors=False):
            columns[pairs.block, :n_radial] = np.hstack([grid.compute(pairs) for grid in recipe.radial])
    cells = voronoi_cells(points, box) if recipe.physical else None
    for near in neighbour_blocks(points, box, kinds, farthest, n_species) if farthest else ():
        found = [family.compute(near) for family in recipe.angular]
        if cells is not None:
            found.append(physical_quantities(near, mixture, cells[near.block]).astype(np.float32))
        if found:
            columns[near.block, n_radial:] = np.hstack(found)
        if recipe.generations:
            averages.add(near.within(recipe.averaging))
    return columns, averages


def _averages(
    points: NDArray[np.float64], box: NDArray[np.float64], kinds: NDArray[np.int64], mixture: Mixture, recipe: Recipe
) -> Averages:
    """The averages of :func:`_base` alone: from the same search, so that sums are taken in the same order."""
    averages = Averages(len(points))
    if recipe.generations:
        for near in neighbour_blocks(points, box, kinds, max(_reaches(recipe, mixture)), len(mixture.species)):
            averages.add(near.within(recipe.averaging))
    return averages


RECIPES: dict[str, Recipe] = {
    "recursive": Recipe(radial=(RadialShells(0.8, 2.3, 0.3, 0.2),), physical=True, generations=5),
    "schoenholz": Recipe(radial=SCHOENHOLZ_RADIAL, angular=(SCHOENHOLZ_ANGULAR,)),
}
"""Named recipes: `recursive` for linear models and `glassnet`, 144 columns for two species, and `schoenholz`, the
structure functions for softness, 166."""
