"""BOTAN: the network of its description, the labels of pairs, and the loss of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import InputError, ModelError
from glassmd.graphs import random_cube_symmetry, to_graph
from glassmd.learners.networks.botan import PAIR_TARGET, BotanModel
from glassmd.mixtures import get_mixture
from glassmd.settings import TrainSettings
from glassmd.stream.pairs import PairChanges, pair_changes
from glassmd.training.choices import started


def liquid(n: int = 60, d: int = 3, seed: int = 0) -> Configuration:
    generator = np.random.default_rng(seed)
    box = [max((n / 1.2) ** (1 / d), 4.5)] * d
    return Configuration(box=box, species=generator.integers(0, 2, n), positions=generator.uniform(0, box[0], (n, d)))


def replicas(parent: Configuration, count: int = 4, n_times: int = 2, seed: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 0.3, (count, n_times, *parent.positions.shape))
    return list(parent.unwrapped + steps)


def model_of(**chosen: object) -> BotanModel:
    torch.manual_seed(4)
    model = BotanModel(**{"width": 12, "n_steps": 3, **chosen}).double()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def labelled(model: BotanModel, parent: Configuration) -> Data:
    graph = to_graph(parent, model.cutoff, model.self_edges)
    return model.attach_labels(graph, pair_changes(parent, replicas(parent, n_times=model.n_times), model.cutoff))


def by_description(model: BotanModel, data: Data) -> tuple[Tensor, Tensor]:
    """The published network, input by input: 4n numbers per edge, 3n per node, one decoder."""

    def mlp(layers: torch.nn.ModuleList, values: Tensor, last: bool = True) -> Tensor:
        for i, layer in enumerate(layers):
            values = layer(values)
            values = values.relu() if last or i + 1 < len(layers) else values
        return values

    sender, receiver = data.edge_index
    nodes_0 = mlp(model.node_encoder, data.x.double())
    edges_0 = mlp(model.edge_encoder, data.edge_attr.double())
    nodes, edges = nodes_0, edges_0
    for _ in range(model.n_steps):
        edges = mlp(model.edge_network, torch.cat([edges, edges_0, nodes[receiver], nodes[sender]], 1))
        total = torch.zeros_like(nodes).index_add(0, receiver, edges)
        nodes = mlp(model.node_network, torch.cat([total, nodes, nodes_0], 1))
    return mlp(model.decoder, nodes, last=False), mlp(model.decoder, edges, last=False)


@pytest.mark.parametrize("d", [2, 3])
def test_nodes_edges_and_derivatives_are_those_of_the_description(d):
    data, model = to_graph(liquid(d=d), self_edges=False), model_of(dimensions=d, n_times=2)
    wanted = by_description(model, data)
    found = model.normalised(data), model.pair_change(data)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    weights = list(model.parameters())
    seeds = [torch.randn_like(part) for part in wanted]

    def derivatives(parts: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(sum((p * s).sum() for p, s in zip(parts, seeds, strict=True)), weights)

    for a, b in zip(derivatives(found), derivatives(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))


def test_edges_in_another_order_keep_their_predictions():
    data, model = to_graph(liquid(), self_edges=False), model_of()
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(1))
    shuffled = data.clone()
    shuffled.edge_index, shuffled.edge_attr = data.edge_index[:, order], data.edge_attr[order]
    torch.testing.assert_close(model.pair_change(shuffled), model.pair_change(data)[order], rtol=1e-10, atol=1e-10)


def test_pair_labels_are_the_mean_change_of_the_distance():
    parent = liquid()
    moved = replicas(parent)
    found = pair_changes(parent, moved)
    i, j = found.pairs[:, 7]
    graph = to_graph(parent, self_edges=False)
    edge = int(((graph.edge_index[0] == int(i)) & (graph.edge_index[1] == int(j))).nonzero()[0])
    start = graph.edge_attr[edge].double().numpy()
    for t in range(2):
        ends = [start + (x[t, j] - parent.unwrapped[j]) - (x[t, i] - parent.unwrapped[i]) for x in moved]
        expected = np.mean([np.linalg.norm(end) for end in ends]) - np.linalg.norm(start)
        assert found.mean[t, 7] == pytest.approx(expected, abs=1e-6)
    assert (found.pairs[0] < found.pairs[1]).all()
    assert found.mean.shape == (2, graph.num_edges // 2)


def test_pair_labels_ignore_what_moves_as_a_whole():
    parent = liquid()
    shifted = [parent.unwrapped[None] + 3.0]
    np.testing.assert_allclose(pair_changes(parent, shifted).mean, 0, atol=1e-6)


def test_merged_replicas_are_all_replicas():
    parent = liquid()
    moved = replicas(parent, count=5)
    merged = pair_changes(parent, moved[:2]).merge(pair_changes(parent, moved[2:]))
    whole = pair_changes(parent, moved)
    assert merged.n_replicas == 5
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-6)


def test_pair_labels_refuse_what_they_cannot_be():
    parent = liquid()
    with pytest.raises(InputError, match="at least twice"):
        pair_changes(parent, replicas(parent), cutoff=2.4)
    with pytest.raises(InputError, match="no replicas"):
        pair_changes(parent, [])
    with pytest.raises(InputError, match="times"):
        pair_changes(parent, [parent.unwrapped[None], np.stack([parent.unwrapped] * 2)])
    with pytest.raises(InputError, match="same pairs"):
        pair_changes(parent, replicas(parent)).merge(pair_changes(liquid(seed=1), replicas(parent)))
    labels, graph = pair_changes(parent, replicas(parent)), to_graph(parent, self_edges=False)
    with pytest.raises(ModelError, match="times"):
        BotanModel().attach_labels(graph, labels)


def test_both_directions_get_the_label_and_other_edges_none():
    changes = PairChanges(np.array([[0, 1], [1, 3]], np.int32), np.array([[0.5, -0.25]], np.float32), 1)
    labels = changes.of_edges(np.array([1, 0, 3, 0]), np.array([0, 1, 1, 2]))[:, 0]
    assert labels[:3].tolist() == [0.5, 0.5, -0.25]
    assert np.isnan(labels[3])


def test_the_loss_weighs_nodes_and_edges_as_published():
    parent = liquid()
    model = model_of(edge_weight=0.6, pretrain_steps=0, n_times=2)
    data = labelled(model, parent)
    target, everyone = torch.randn(60, 2, dtype=torch.float64), torch.ones(60, dtype=torch.bool)
    node = (model.normalised(data) - target).square().mean()
    edge = (model.pair_change(data) - data[PAIR_TARGET]).square().mean()
    torch.testing.assert_close(model.objective(data, target, None, everyone), 0.4 * node + 0.6 * edge)


def test_pretraining_is_on_edges_alone_and_ends():
    parent = liquid()
    model = model_of(pretrain_steps=2)
    data = labelled(model, parent)
    everyone = torch.ones(60, dtype=torch.bool)
    losses = [[model.objective(data, torch.full((60, 1), x), None, everyone).item() for x in (0.0, 9.0)] for _ in "ab"]
    assert losses[0][0] == losses[0][1]
    assert losses[1][0] < losses[1][1]
    again = BotanModel(**model.hyperparameters())
    again.load_state_dict(model.state_dict())
    assert int(again.steps_on_edges) == 4


def test_without_edge_labels_the_nodes_alone_are_learned():
    model, data = model_of(), to_graph(liquid(), self_edges=False)
    target, everyone = torch.randn(60, 1, dtype=torch.float64), torch.ones(60, dtype=torch.bool)
    expected = (model.normalised(data) - target).square().mean()
    torch.testing.assert_close(model.objective(data, target, None, everyone), expected)
    data[PAIR_TARGET] = torch.full((data.num_edges, 1), float("nan"))
    torch.testing.assert_close(model.objective(data, target, None, everyone), expected)
    assert int(model.steps_on_edges) == 0


def test_the_start_takes_the_unit_of_the_labels_and_outputs_of_order_one():
    torch.manual_seed(0)
    parent = liquid(300)
    model = BotanModel(n_steps=3)
    data = labelled(model, parent)
    model.initialise(data)
    assert float(model.pair_scale[0]) == pytest.approx(float(data[PAIR_TARGET].std()), rel=1e-4)
    assert 0.1 < float(model.normalised(data).detach().std()) < 1
    assert model.edge_network[0].weight.shape == (64, 4 * 64)


def test_augmented_graphs_keep_their_labels():
    model = BotanModel()
    data = labelled(model, liquid())
    turned = model.augment(data, np.random.default_rng(0))
    assert torch.equal(turned[PAIR_TARGET], data[PAIR_TARGET])
    assert not torch.equal(turned.edge_attr, data.edge_attr)
    assert torch.equal(turned.edge_attr, random_cube_symmetry(data, np.random.default_rng(0)).edge_attr)


@pytest.mark.parametrize("wrong", [{"edge_weight": 1.0}, {"edge_weight": -0.1}, {"pretrain_steps": -1}])
def test_impossible_shares_are_refused(wrong):
    with pytest.raises(ModelError):
        BotanModel(**wrong)


@pytest.mark.parametrize(("given", "expected"), [({}, 4), ({"pretrain_steps": 7}, 7)])
def test_a_short_training_is_not_all_pretraining(given, expected):
    settings = TrainSettings(model="botan", max_steps=40, hyperparameters=given)
    model = started(settings, get_mixture("kob-andersen").identity(), n_times=1)
    assert model.hyperparameters()["pretrain_steps"] == expected
