"""Descriptors do not know where a liquid lies, how it is turned or mirrored, nor what its particles are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ortho_group

from glassmd.configuration import Configuration
from glassmd.features import RECIPES, Recipe, describe, displacement_features
from glassmd.features.angular import SCHOENHOLZ_ANGULAR
from glassmd.features.radial import SCHOENHOLZ_RADIAL, RadialShells
from glassmd.graphs import cube_symmetry
from glassmd.mixtures import Mixture, get_mixture
from glassmd.structure import Structure

EVERYTHING = Recipe(
    radial=(*SCHOENHOLZ_RADIAL, RadialShells(0.5, 2.0, 0.025, 0.025)),
    angular=(SCHOENHOLZ_ANGULAR,),
    physical=True,
    generations=2,
)
MIXTURES = [get_mixture("kob-andersen", "force-shifted"), get_mixture("kob-andersen-2d-ternary", "xplor")]
EACH = pytest.mark.parametrize("mixture", MIXTURES, ids=lambda mixture: mixture.name)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=6, deadline=None)


def liquid(mixture: Mixture, generator: np.random.Generator, n: int = 70) -> tuple[NDArray, NDArray, NDArray]:
    """Positions, box and species of a jittered lattice."""
    d = mixture.dimensions
    side = int(np.ceil(n ** (1 / d)))
    spacing = mixture.density ** (-1 / d)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * d, indexing="ij"), -1).reshape(-1, d).astype(float)
    positions = (sites + generator.uniform(-0.2, 0.2, sites.shape)) * spacing
    return positions, np.full(d, side * spacing), generator.integers(0, len(mixture.species), len(sites))


def check_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Equal to 1e-4 of each column's largest value (or of 1, if that is larger).

    Voronoi cells, which freud finds in single precision, differ by up to 3e-5 in one of twenty liquids.
    """
    scale = np.maximum(np.abs(expected).max(axis=0), 1.0)
    assert np.abs((found - expected) / scale).max() < 1e-4


@EACH
@FEW
@given(seed=SEEDS)
def test_a_periodic_liquid_may_be_shifted_turned_mirrored_and_renamed(mixture: Mixture, seed: int) -> None:
    generator = np.random.default_rng(seed)
    positions, box, species = liquid(mixture, generator)
    expected = describe(positions, box, species, mixture, EVERYTHING)
    turn = cube_symmetry(mixture.dimensions, generator).astype(float)
    images = generator.integers(-3, 4, positions.shape)
    moved = (positions + images * box + generator.uniform(-20, 20, len(box))) @ turn.T
    order = generator.permutation(len(positions))
    check_same(describe(moved[order], box, species[order], mixture, EVERYTHING), expected[order])


@EACH
@FEW
@given(seed=SEEDS)
def test_a_cluster_in_a_wide_box_may_be_turned_by_any_angle_and_mirrored(mixture: Mixture, seed: int) -> None:
    generator = np.random.default_rng(seed)
    d = mixture.dimensions
    positions, _, species = liquid(mixture, generator, 60)
    box = np.full(d, 60.0)  # no particle sees another image; the cells at the surface do see the box
    recipe = Recipe(**{**vars(EVERYTHING), "physical": False})
    turn = ortho_group.rvs(d, random_state=generator)
    expected = describe(positions, box, species, mixture, recipe)
    check_same(describe(positions @ turn.T, box, species, mixture, recipe), expected)


@EACH
@FEW
@given(seed=SEEDS)
def test_the_physics_inside_a_droplet_does_not_depend_on_its_direction(mixture: Mixture, seed: int) -> None:
    """A crust of particles hides the box from the cells of those inside."""
    generator = np.random.default_rng(seed)
    d = mixture.dimensions
    positions, _, species = liquid(mixture, generator, 8**d)
    positions -= positions.mean(axis=0)
    ball = np.linalg.norm(positions, axis=1) < 3.4
    positions, species, box = positions[ball], species[ball], np.full(d, 9.0)
    recipe = Recipe(physical=True, generations=1, averaging=1.2)
    turn = ortho_group.rvs(d, random_state=generator)
    inside = np.linalg.norm(positions, axis=1) < 1.0
    assert inside.any()
    expected = describe(positions, box, species, mixture, recipe)
    found = describe(positions @ turn.T, box, species, mixture, recipe)
    check_same(found[inside], expected[inside])


@FEW
@given(seed=SEEDS)
def test_distances_between_inputs_do_not_depend_on_direction_or_names(seed: int) -> None:
    generator, mixture = np.random.default_rng(seed), MIXTURES[0]
    positions, box, species = liquid(mixture, generator)
    turn = cube_symmetry(3, generator).astype(float)
    order = generator.permutation(len(positions))
    cage, inherent = (positions + generator.normal(0, 0.05, positions.shape) for _ in range(2))
    shaking = generator.uniform(0.01, 0.03, len(positions))

    def features(of: NDArray, matrix: NDArray) -> NDArray[np.float32]:
        thermal = Configuration(box, species[of], positions[of] @ matrix.T)
        return displacement_features(
            Structure(thermal, mixture, 0.5, inherent[of] @ matrix.T, cage[of] @ matrix.T, shaking[of])
        )

    expected = features(np.arange(len(positions)), np.eye(3))
    assert expected.shape == (len(positions), 24)
    check_same(features(order, turn), expected[order])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_liquid_of_two_periods_looks_like_the_liquid(recipe: str) -> None:
    mixture = MIXTURES[0]
    positions, box, species = liquid(mixture, np.random.default_rng(5))
    once = describe(positions, box, species, mixture, RECIPES[recipe])
    double = np.concatenate([positions, positions + np.array([box[0], 0, 0])])
    twice = describe(double, box * [2, 1, 1], np.tile(species, 2), mixture, RECIPES[recipe])
    check_same(twice, np.tile(once, (2, 1)))
