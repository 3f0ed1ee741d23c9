"""What the linear learners predict does not depend on how the liquid is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.features import RECIPES
from glassmd.learners.fitting.solved import SolvedModel
from glassmd.learners.linear.cage import CageModel
from glassmd.learners.linear.ridge import RidgeModel
from glassmd.learners.linear.scalar import DebyeWallerModel, DensityModel, PotentialEnergyModel
from glassmd.learners.part import Labelled
from glassmd.mixtures import get_mixture
from glassmd.structure import Structure

N = 216
SIDE = (N / 1.2) ** (1 / 3)


def liquid(seed: int) -> Structure:
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3) * SIDE / 6 - SIDE / 2
    thermal = grid + 0.07 * generator.standard_normal((N, 3))
    return Structure(
        Configuration(box=[SIDE] * 3, species=generator.permutation(N) % 5 == 0, positions=thermal),
        get_mixture("kob-andersen"),
        0.5,
        inherent=thermal + 0.04 * generator.standard_normal((N, 3)),
        cage=thermal + 0.04 * generator.standard_normal((N, 3)),
        debye_waller=generator.uniform(0.01, 0.05, N),
    )


def seen(structure: Structure, turn: np.ndarray, shift: np.ndarray, order: np.ndarray) -> Structure:
    """The same liquid turned by a signed permutation of the axes, moved, its particles in another order."""

    def moved(positions: np.ndarray) -> np.ndarray:
        return (positions @ turn.T + shift)[order]

    species = structure.thermal.species[order]
    return Structure(
        Configuration(box=structure.thermal.box, species=species, positions=moved(structure.thermal.unwrapped)),
        structure.mixture,
        structure.temperature,
        inherent=moved(structure.inherent),
        cage=moved(structure.cage),
        debye_waller=structure.debye_waller[order],
    )


def trained(kind: type[SolvedModel], inputs: tuple[str, ...]) -> SolvedModel:
    model, everyone, samples = kind(inputs=inputs), torch.ones(N, dtype=torch.bool), []
    for seed in range(2):
        labels = torch.rand(N, 1, generator=torch.Generator().manual_seed(seed))
        samples.append(Labelled(model.encode(liquid(seed)), labels, everyone, n_replicas=1, fold=seed))
    return model.fit(samples)


@pytest.mark.parametrize(
    ("kind", "inputs", "generations"),
    [
        (RidgeModel, ("inherent",), 5),
        (RidgeModel, ("thermal", "inherent", "cage"), 4),
        (CageModel, ("thermal", "cage"), 5),
        (DensityModel, ("inherent",), 0),
        (PotentialEnergyModel, ("thermal",), 0),
        (DebyeWallerModel, ("cage",), 0),
    ],
)
def test_predictions_do_not_depend_on_the_view(
    kind: type[SolvedModel], inputs: tuple[str, ...], generations: int, monkeypatch: pytest.MonkeyPatch
):
    if generations:
        monkeypatch.setitem(RECIPES, "recursive", replace(RECIPES["recursive"], generations=generations))
    model, structure = trained(kind, inputs), liquid(7)
    generator = np.random.default_rng(3)
    plain = model(model.encode(structure))
    views = {
        "rotation": (np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), np.zeros(3), np.arange(N)),
        "reflection": (np.diag([1.0, -1, 1]), np.zeros(3), np.arange(N)),
        "translation": (np.eye(3), np.array([1.3, -0.4, 5.1]), np.arange(N)),
        "images": (np.eye(3), SIDE * np.array([1.0, -2, 0]), np.arange(N)),
        "permutation": (np.eye(3), np.zeros(3), generator.permutation(N)),
    }
    for view, (turn, shift, order) in views.items():
        found = model(model.encode(seen(structure, turn, shift, order)))
        assert torch.allclose(found, plain[order], rtol=0, atol=1e-5), view
