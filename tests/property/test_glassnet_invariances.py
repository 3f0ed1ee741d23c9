"""The default learner says the same of a liquid however it is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassmd.configuration import Configuration
from glassmd.graphs import batch_graphs
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.structure import INPUTS, Rattling, Structure
from tests.unit.test_glassnet import N, fitted, let_members_speak, structure_of

CLOSE = 1e-5
"""Of the spread of predictions: single precision, sums in another order."""


def seen(structure: Structure, turn: np.ndarray, shift: np.ndarray, order: np.ndarray, box: np.ndarray) -> Structure:
    """The same liquid turned, moved, and its particles in another order."""

    def moved(positions: np.ndarray) -> np.ndarray:
        return (positions @ turn.T + shift)[order]

    rattling = structure.rattling
    assert rattling is not None
    return replace(
        structure,
        thermal=Configuration(box, structure.thermal.species[order], moved(structure.thermal.unwrapped)),
        inherent=moved(structure.inherent),
        cage=moved(structure.cage),
        debye_waller=structure.debye_waller[order],
        rattling=Rattling(
            (rattling.means @ turn.T)[:, order], (turn @ rattling.within @ turn.T)[order], rattling.variances[:, order]
        ),
    )


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, ...], GlassNet]:
    found = {}
    for inputs in (("thermal",), ("thermal", "inherent"), INPUTS):
        model, taken = fitted(inputs)
        let_members_speak(model)
        model.eval()
        if inputs == INPUTS:  # what the labels follow from is seen, so that the blend is no constant
            model.weigh(taken)
        found[inputs] = model
    return found


@torch.no_grad()
def predicted(model: GlassNet, structure: Structure) -> np.ndarray:
    data = batch_graphs([model.encode(structure)])
    spread = model.spread(data)
    return np.concatenate([model(data).numpy(), *([] if spread is None else [spread.numpy()])], axis=1)


def check_same(model: GlassNet, one: Structure, other: Structure, order: np.ndarray) -> None:
    expected, found = predicted(model, one)[order], predicted(model, other)
    assert expected.std(axis=0).min() > 0
    np.testing.assert_allclose(found, expected, atol=10 * CLOSE * expected.std(axis=0).max(), rtol=CLOSE)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), inputs=st.sampled_from([("thermal",), ("thermal", "inherent"), INPUTS]))
def test_cube_symmetries_translations_permutations_and_images(models, seed, inputs):
    generator = np.random.default_rng(seed)
    structure = structure_of(3)
    turn = np.zeros((3, 3))
    turn[np.arange(3), generator.permutation(3)] = generator.choice([-1.0, 1.0], 3)  # reflections are among them
    order = generator.permutation(N)
    shift = generator.uniform(-20, 20, 3)  # beyond the box: other images
    check_same(models[inputs], structure, seen(structure, turn, shift, order, structure.thermal.box), order)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31), inputs=st.sampled_from([("thermal",), INPUTS]))
def test_any_rotation_of_a_cluster(models, seed, inputs):
    """All but the Voronoi cells, which at the surface of a cluster reach to its periodic images."""
    generator = np.random.default_rng(seed)
    box = np.full(3, 30.0)  # far larger than the cluster: no direction is special
    still = seen(structure_of(4), np.eye(3), np.zeros(3), np.arange(N), box)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassmd.features.recipe.voronoi_cells", _ones)
        check_same(models[inputs], still, seen(still, turn, np.zeros(3), np.arange(N), box), np.arange(N))


def _ones(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    return np.ones((len(points), 4))
