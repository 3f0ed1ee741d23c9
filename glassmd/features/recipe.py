"""Which descriptors a learner is given, and the one call that computes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import InputError
from glassmd.features.angular import SCHOENHOLZ_ANGULAR, AngularFunctions
from glassmd.features.bond_order import BondOrder
from glassmd.features.neighbours import Family, find_neighbours, neighbour_blocks, spatial_order, wrapped
from glassmd.features.physical import physical_names, physical_quantities
from glassmd.features.radial import SCHOENHOLZ_RADIAL, RadialShells
from glassmd.features.recursion import coarse_grain, generations
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
        bond_order: Sets of bond-orientational invariants.
        physical: Energy, virial, curvature, coordination, Voronoi cell.
        generations: How often everything is averaged over the surroundings, each time a set of columns.
        averaging: Radius of those averages, σ_AA.
        per_species: Take those averages over each species separately.
        lengths: The physical quantities coarse-grained over each of these lengths and over each species, σ_AA.

    Example:
        >>> Recipe.from_dict(RECIPES["recursive"].to_dict()) == RECIPES["recursive"]
        True
    """

    radial: tuple[RadialShells, ...] = ()
    angular: tuple[AngularFunctions, ...] = ()
    bond_order: tuple[BondOrder, ...] = ()
    physical: bool = False
    generations: int = 0
    averaging: float = _AVERAGING
    per_species: bool = False
    lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.generations < 0 or self.averaging <= 0 or (self.lengths and not self.physical):
            raise InputError(
                f"found {self.generations} generations of radius {self.averaging} and lengths {self.lengths}",
                "generations >= 0, a positive radius, and lengths only with physical quantities",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Recipe:
        """The recipe of :meth:`to_dict`.

        Raises:
            InputError: A key that no recipe has.
        """
        unknown = set(content) - {field.name for field in fields(cls)}
        if unknown:
            raise InputError(f"found {sorted(unknown)} in a recipe", ", ".join(field.name for field in fields(cls)))
        made = dict(content)
        try:
            made["radial"] = tuple(RadialShells(**one) for one in content.get("radial", ()))
            made["bond_order"] = tuple(BondOrder(**one) for one in content.get("bond_order", ()))
            made["angular"] = tuple(
                AngularFunctions(**{**one, "parameters": tuple((x, s, z) for x, s, z in one["parameters"])})
                for one in content.get("angular", ())
            )
            made["lengths"] = tuple(content.get("lengths", ()))
            return cls(**made)
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"found a recipe that cannot be read ({error})", "what Recipe.to_dict wrote") from error


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
    families: list[Family] = [*recipe.radial, *recipe.angular, *recipe.bond_order]
    base = [name for family in families for name in family.names(species)]
    physical = physical_names(species) if recipe.physical else []
    base += physical
    over = [f" of {name}" for name in species] if recipe.per_species else [""]
    later = [f"{name}@{n}{who}" for n in range(1, recipe.generations + 1) for who in over for name in base]
    coarse = [f"{name}~{length:.4g} of {who}" for length in recipe.lengths for who in species for name in physical]
    return base + later + coarse


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
    n_physical = len(physical_names(mixture.species)) if recipe.physical else 0
    near = find_neighbours(points, edges, kinds, recipe.averaging, len(mixture.species))
    parts = [columns, *generations(columns, near, recipe.generations, per_species=recipe.per_species)]
    if recipe.lengths:
        of = coarse_grain(columns[:, -n_physical:], recipe.lengths, points, edges, kinds, len(mixture.species))
        parts.append(of.reshape(len(points), -1).astype(np.float32))
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
    close: list[Family] = [*recipe.angular, *recipe.bond_order]
    reaches = [family.cutoff for family in close]
    if recipe.physical:
        reaches += [float(mixture.r_cut.max()), 1.5 * float(np.max(mixture.sigma))]
        cells = voronoi_cells(points, box)
    rows = []
    for near in neighbour_blocks(points, box, kinds, max(reaches), n_species) if reaches else ():
        found = [family.compute(near) for family in close]
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


RECIPES: dict[str, Recipe] = {
    "recursive": Recipe(
        radial=(RadialShells(0.8, 2.3, 0.3, 0.2),),
        physical=True,
        generations=5,
    ),
    "schoenholz": Recipe(radial=SCHOENHOLZ_RADIAL, angular=(SCHOENHOLZ_ANGULAR,)),
    "physical": Recipe(
        physical=True,
        lengths=(0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0, 3.5, 4.2, 5.0),
    ),
    "compact": Recipe(radial=(RadialShells(0.8, 2.3, 0.3, 0.2),), physical=True, generations=4),
}
"""Named recipes.

`recursive`: for linear models. A few broad shells, the local physical quantities and five generations: 144 columns for
two species. `compact`: the same with four, for the nodes of a small network (120). `schoenholz`: structure functions of
one particle's surroundings, for softness (166). `physical`: coarse-grained over many lengths and each species, for a
small network (396).

Few and smooth descriptors do best. Measured for Kob-Andersen at T = 0.44, t = 4120 ≈ τ_α: ridge regression, trained on
eight of ten configurations and tested on the other two in five turns, the penalty chosen within the eight; Pearson ρ of
the A particles per configuration, mean ± sd over the ten. These ten chose the recipe as well, so that other liquids may
give a little less.

==============================================================================  =============
`recursive`, thermal positions                                                  .634 ± .089
`recursive`, inherent positions                                                 .790 ± .042
`recursive`, cage positions                                                     .797 ± .046
`recursive`, inherent and cage positions                                        .807 ± .040
the same with :func:`glassmd.features.displacement_features` of all inputs      .814 ± .040
==============================================================================  =============

What matters, on inherent positions with the best penalty:

==============================================================================  =============
`recursive`                                                                     .791
eight generations instead of five; four (`compact`)                             .791 .790
shells of width 0.15 to 2.1 σ_AA and of 0.3 to 4.9 σ_AA instead (252 columns)   .790
those with three generations; with none                                         .785 .626
those averaged over 2.5, 3.0 σ_AA instead of 2.1                                .787 .785
those without the physical quantities                                           .740
those with bond order, l ≤ 8, two shells of all species; three of each species  .785 .787
no shells: the physical quantities alone (72 columns)                           .781
these averaged over each species separately                                     .745
shells of width 0.1 instead; those and bond order on 18 shells, l ≤ 12          .779 .763
bond order and narrow shells (δ = 0.05) without the physical quantities         .741
`physical`                                                                      .778
==============================================================================  =============

Ten configurations cannot tell hundreds of nearly equal columns apart: what fine grids and bond order add is lost by
their number. With many more configurations the finer grids of the families may be worth their columns.
"""
