"""What the liquid does not notice, a network that claims it must not notice either.

Predictions in single precision may differ by rounding: 1e-5 of their largest value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.graphs import cube_symmetry
from glassmd.learners.networks.se3 import SE3Model
from glassmd.mixtures import get_mixture
from glassmd.structure import Structure

CHOICES = [("inherent",), ("thermal",), ("thermal", "inherent", "cage")]
few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**31)


def liquid(seed: int, d: int = 3, side: float | None = None, n: int = 64) -> Structure:
    """A jittered lattice: filling its box, or a cluster of that density in the middle of a box of another side."""
    generator = np.random.default_rng(seed)
    length = (n / 1.2) ** (1 / d)
    per_side = int(np.ceil(n ** (1 / d)))
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * d, indexing="ij"), -1).reshape(-1, d)[:n]
    positions = (sites + 0.5 + generator.uniform(-0.2, 0.2, (n, d))) * length / per_side - length / 2
    box = [side or length] * d
    thermal = Configuration(box=box, species=generator.integers(0, 2, n), positions=positions)
    moved = thermal.unwrapped + generator.normal(0, 0.05, (2, n, d))
    mixture = get_mixture("kob-andersen" if d == 3 else "kob-andersen-2d")
    return Structure(thermal, mixture, 0.5, inherent=moved[0], cage=moved[1])


def mapped(structure: Structure, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Structure:
    """Every position turned by `matrix` and moved by `shift`."""
    thermal = structure.thermal
    place = {name: structure.positions(name) @ matrix.T + shift for name in structure.available()}
    turned = Configuration(box=thermal.box, species=thermal.species, positions=place["thermal"])
    back = turned.unwrapped - place["thermal"]
    return replace(structure, thermal=turned, inherent=place["inherent"] + back, cage=place["cage"] + back)


def network(structure: Structure, inputs: tuple[str, ...], seed: int = 0) -> SE3Model:
    torch.manual_seed(seed)
    model = SE3Model(
        inputs=inputs, width=4, n_layers=3, l_max=3, n_times=2, dimensions=structure.thermal.dimensions
    ).eval()
    model.initialise(model.encode(structure))
    return model


def assert_alike(model: SE3Model, one: Structure, other: Structure, order: NDArray[np.int64] | None = None) -> None:
    with torch.no_grad():
        expected, found = model(model.encode(one)), model(model.encode(other))
    if order is not None:
        expected = expected[torch.from_numpy(order)]
    assert float(expected.std()) > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@few
@given(seed=seeds, inputs=st.sampled_from(CHOICES), mirror=st.booleans())
def test_a_cluster_turned_by_any_angle_or_mirrored(seed, inputs, mirror):
    cluster = liquid(seed, side=40.0)
    generator = np.random.default_rng(seed)
    matrix, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    if (np.linalg.det(matrix) < 0) != mirror:
        matrix = -matrix
    assert_alike(network(cluster, inputs), cluster, mapped(cluster, matrix, np.zeros(3)))


@few
@given(seed=seeds, inputs=st.sampled_from(CHOICES), d=st.sampled_from([2, 3]))
def test_a_periodic_liquid_turned_and_mirrored_as_its_box_allows(seed, inputs, d):
    whole = liquid(seed, d)
    element = cube_symmetry(d, np.random.default_rng(seed)).astype(np.float64)
    assert_alike(network(whole, inputs), whole, mapped(whole, element, np.zeros(d)))


@few
@given(seed=seeds, inputs=st.sampled_from(CHOICES), d=st.sampled_from([2, 3]))
def test_translations_across_the_faces_of_the_box(seed, inputs, d):
    whole = liquid(seed, d)
    shift = np.random.default_rng(seed).uniform(-9, 9, d)
    assert_alike(network(whole, inputs), whole, mapped(whole, np.eye(d), shift))


@few
@given(seed=seeds, inputs=st.sampled_from(CHOICES))
def test_particles_in_another_order(seed, inputs):
    whole = liquid(seed)
    order = np.random.default_rng(seed).permutation(whole.thermal.n_particles)
    thermal = Configuration(
        box=whole.thermal.box, species=whole.thermal.species[order], positions=whole.thermal.unwrapped[order]
    )
    shuffled = replace(whole, thermal=thermal, inherent=whole.inherent[order], cage=whole.cage[order])
    assert_alike(network(whole, inputs), whole, shuffled, order)


@few
@given(seed=seeds, inputs=st.sampled_from(CHOICES))
def test_other_images_of_the_same_particles(seed, inputs):
    whole = liquid(seed)
    n = whole.thermal.n_particles
    steps = np.random.default_rng(seed).integers(-2, 3, (n, 3))
    jump = steps * whole.thermal.box
    thermal = Configuration(
        box=whole.thermal.box, species=whole.thermal.species, positions=whole.thermal.positions, images=steps
    )
    moved = replace(whole, thermal=thermal, inherent=whole.inherent + jump, cage=whole.cage + jump)
    assert_alike(network(whole, inputs), whole, moved)


@pytest.mark.parametrize("inputs", CHOICES)
def test_the_network_is_no_constant(inputs):
    whole = liquid(1)
    model = network(whole, inputs)
    squeezed = mapped(whole, np.diag([1.02, 1.0, 1.0]), np.zeros(3))
    with torch.no_grad():
        difference = (model(model.encode(whole)) - model(model.encode(squeezed))).abs().max()
    assert float(difference) > 1e-3
