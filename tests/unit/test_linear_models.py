"""Solved learners: what they see, what they find, and that they come back from their directory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.features import RECIPES
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners import make_model
from glassmd.learners.fitting.solved import SolvedModel
from glassmd.learners.linear.cage import CageModel
from glassmd.learners.linear.ridge import RidgeModel
from glassmd.learners.linear.scalar import LENGTHS, DebyeWallerModel, DensityModel, PotentialEnergyModel, ScalarModel
from glassmd.learners.part import Labelled
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import load_model, save_model
from glassmd.structure import Structure


def liquid(n: int = 250, seed: int = 0) -> Structure:
    """A jittered lattice at liquid density, with inherent and cage positions near the thermal ones."""
    generator = np.random.default_rng(seed)
    side = math.ceil(n ** (1 / 3))
    box = np.full(3, (n / 1.2) ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n] * box / side
    thermal = grid + 0.08 * generator.standard_normal((n, 3)) - box / 2
    return Structure(
        Configuration(box=box, species=np.arange(n) % 5 == 0, positions=thermal),
        get_mixture("kob-andersen"),
        0.5,
        inherent=thermal + 0.05 * generator.standard_normal((n, 3)),
        cage=thermal + 0.05 * generator.standard_normal((n, 3)),
        debye_waller=generator.uniform(0.01, 0.05, n),
    )


@pytest.fixture
def _few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe with fewer columns, which is solved faster."""
    monkeypatch.setitem(RECIPES, "recursive", replace(RECIPES["recursive"], generations=1))


@pytest.mark.usefixtures("_few_columns")
@pytest.mark.parametrize("inputs", [("thermal",), ("inherent", "cage"), ("thermal", "inherent", "cage")])
def test_ridge_learns_from_what_it_sees_and_is_made_again(inputs):
    model = RidgeModel(inputs=inputs, n_times=2)
    samples = []
    for seed in range(3):
        data = model.encode(liquid(seed=seed))
        labels = 1 + 0.1 * data[NODE_FEATURES][:, -2:]
        samples.append(Labelled(data, labels, torch.ones(250, dtype=torch.bool), n_replicas=1, fold=seed))
    assert model.fit(samples) is model
    made = RidgeModel(**model.hyperparameters())
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(data), model(data))
    assert model(data).dtype == torch.float32
    assert torch.allclose(model(data), labels, atol=0.25 * float(labels.std()))
    assert model.spread(data).shape == (250, 2)


@pytest.mark.usefixtures("_few_columns")
@pytest.mark.parametrize("name", ["ridge", "cage", "density", "potential-energy", "debye-waller"])
def test_a_solved_model_comes_back_from_its_directory(name: str, tmp_path: Path):
    model, structure = make_model(name), liquid()
    assert isinstance(model, SolvedModel)
    data = model.encode(structure)
    model.fit([Labelled(data, torch.rand(250, 1), data[NODE_SPECIES] == 0, n_replicas=1, fold=0)])
    card = ModelCard(
        model=name,
        mixture=structure.mixture.identity(),
        temperatures=[0.5],
        density=1.2,
        times=[1.0],
        trained_species=["A"],
    )
    again = load_model(save_model(tmp_path / "model", model, card)).model
    assert again.name == name
    assert again.inputs == model.default_inputs
    assert torch.equal(again(again.encode(structure)), model(data))


@pytest.mark.usefixtures("_few_columns")
def test_models_see_only_their_inputs():
    whole = liquid()
    moved = Structure(
        whole.thermal, whole.mixture, whole.temperature, inherent=whole.inherent, cage=whole.cage + 0.1 * whole.cage**2
    )
    for model in (RidgeModel(inputs=["thermal", "inherent"]), RidgeModel(inputs=["inherent"])):
        assert torch.equal(model.encode(whole)[NODE_FEATURES], model.encode(moved)[NODE_FEATURES])
    cage = CageModel()
    # the descriptors of the cage, one displacement and the Debye–Waller factor, each with five averages
    recursive = RidgeModel(inputs=["cage"]).encode(whole)[NODE_FEATURES]
    found = cage.encode(whole)[NODE_FEATURES]
    assert found.shape[1] == recursive.shape[1] + 2 * 6
    assert torch.equal(found[:, : recursive.shape[1]], recursive)


@pytest.mark.parametrize("kind", [DensityModel, PotentialEnergyModel, DebyeWallerModel])
def test_a_baseline_finds_the_length_and_the_line_of_its_labels(kind: type[ScalarModel]):
    model = kind(n_times=2)
    data = model.encode(liquid())
    assert data[NODE_FEATURES].shape == (250, len(LENGTHS))
    truth = torch.stack([2 - 3 * data[NODE_FEATURES][:, 4], 1 + data[NODE_FEATURES][:, 7]], dim=1)
    mask = data[NODE_SPECIES] == 0
    model.fit([Labelled(data, truth, mask, n_replicas=1, fold=0)])
    assert model.chosen[0].tolist() == [4, 7]
    assert torch.allclose(model.slope[0], torch.tensor([-3.0, 1.0], dtype=torch.float64), rtol=1e-4)
    assert torch.allclose(model(data)[mask], truth[mask], rtol=1e-4, atol=1e-4)
    assert torch.isnan(model.spread(data)[~mask]).all()
    made = kind(**model.hyperparameters())
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(data), model(data))


def test_the_length_of_a_baseline_is_chosen_inside_configurations():
    """One column follows the labels of each sample, the other only tells the samples apart, by more."""
    model, samples = DensityModel(), []
    generator = torch.Generator().manual_seed(5)
    species = torch.zeros(500, dtype=torch.int64)
    for k in range(4):
        values = torch.randn(500, len(LENGTHS), generator=generator)
        labels = values[:, 2:3] + 10 * k
        values[:, 6] += 1000 * k
        data = Data(num_nodes=500, **{NODE_FEATURES: values, NODE_SPECIES: species})
        samples.append(Labelled(data, labels, species == 0, n_replicas=1, fold=k))
    model.fit(samples)
    assert model.chosen[0].tolist() == [2]


def test_a_baseline_spread_is_the_residual_less_the_noise():
    model = DensityModel()
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(4000, len(LENGTHS), generator=generator)
    species = torch.zeros(4000, dtype=torch.int64)
    data = Data(num_nodes=4000, **{NODE_FEATURES: values, NODE_SPECIES: species})
    labels = values[:, :1] + 0.5 * torch.randn(4000, 1, generator=generator)
    sample = Labelled(data, labels, species == 0, n_replicas=4, fold=0)
    model.fit([sample], variance=torch.full((2, 1), 4 * 0.16, dtype=torch.float64))  # four replicas behind a label
    assert float(model.spread(data)[0]) == pytest.approx(0.3, abs=0.02)  # √(0.25 − 0.16)


def test_potential_energy_of_a_pair_is_half_the_pairs():
    mixture = get_mixture("kob-andersen", "truncated")
    pair = Configuration(box=[12, 12, 12], species=[0, 1], positions=[[0, 0, 0], [1.0, 0, 0]])
    energy = PotentialEnergyModel(inputs=["thermal"]).number(Structure(pair, mixture, 1.0))
    sixth = 0.8**6
    assert energy == pytest.approx([0.5 * 4 * 1.5 * (sixth**2 - sixth)] * 2)


def test_debye_waller_without_the_factor_is_refused():
    whole = liquid()
    bare = Structure(whole.thermal, whole.mixture, 0.5, cage=whole.cage)
    with pytest.raises(ModelError, match="without Debye–Waller"):
        DebyeWallerModel().encode(bare)
