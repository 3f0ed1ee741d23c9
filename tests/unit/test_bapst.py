"""Bapst's network: the same function as its description, and as its published weights computed."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError, ModelError
from glassmd.graphs import batch_graphs, random_cube_symmetry, to_graph
from glassmd.importers.deepmind_weights import import_deepmind_weights
from glassmd.learners import make_model, model_class
from glassmd.learners.networks import edge_blocks
from glassmd.learners.networks.bapst import BapstModel
from glassmd.models.store import load_model

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "deepmind"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published weights are not at {SHARED}")


def graph_of(n: int = 60, d: int = 3, seed: int = 0) -> Data:
    generator = np.random.default_rng(seed)
    box = [(n / 1.2) ** (1 / d)] * d
    positions = generator.uniform(0, box[0], (n, d))
    return to_graph(Configuration(box=box, species=generator.integers(0, 2, n), positions=positions))


def model_of(dtype: torch.dtype = torch.float64, **hyperparameters: int) -> BapstModel:
    torch.manual_seed(4)
    model = BapstModel(**hyperparameters).to(dtype)
    for parameter in model.parameters():  # biases too, and outputs of order one
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def by_description(model: BapstModel, data: Data) -> Tensor:
    """The paper's network, input by input: 384 numbers per edge, 192 per node."""
    dtype = model.scale.dtype

    def mlp(layers: torch.nn.ModuleList, values: Tensor, last: bool = True) -> Tensor:
        for i, layer in enumerate(layers):
            values = layer(values)
            values = values.relu() if last or i + 1 < len(layers) else values
        return values

    sender, receiver = data.edge_index
    nodes_0 = mlp(model.node_encoder, data.x.to(dtype))
    edges_0 = mlp(model.edge_encoder, data.edge_attr.to(dtype))
    nodes, edges = nodes_0, edges_0
    for _ in range(model.n_steps):
        nodes_in, edges_in = torch.cat([nodes, nodes_0], 1), torch.cat([edges, edges_0], 1)
        edges = mlp(model.edge_network, torch.cat([edges_in, nodes_in[receiver], nodes_in[sender]], 1))
        total = torch.zeros_like(nodes).index_add(0, receiver, edges)
        nodes = mlp(model.node_network, torch.cat([total, nodes_in], 1))
    return mlp(model.decoder, nodes, last=False)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("n_times", [1, 3])
def test_outputs_and_derivatives_are_those_of_the_description(d, n_times):
    data, model = graph_of(d=d), model_of(dimensions=d, n_times=n_times, n_steps=3, width=16)
    target = torch.randn(60, n_times, dtype=torch.float64)
    found, expected = model(data), by_description(model, data)
    assert found.shape == (60, n_times)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad((found - target).square().mean(), list(parameters.values()))
    theirs = torch.autograd.grad((expected - target).square().mean(), list(parameters.values()))
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")


def test_the_published_size_in_single_precision_agrees_with_the_description():
    data, model = graph_of(200), BapstModel()
    found, expected = model(data).detach(), by_description(model, data).detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_blocks_of_edges_do_not_change_the_result(monkeypatch):
    data, model = graph_of(), model_of(width=8, n_steps=2)
    whole = model(data)
    monkeypatch.setattr(edge_blocks, "_BLOCK", 7)
    torch.testing.assert_close(model(data), whole, rtol=1e-12, atol=1e-12)


def test_predicting_without_derivatives_gives_the_same_numbers():
    data, model = graph_of(), model_of()
    with torch.no_grad():
        assert torch.equal(model(data), model(data))
        without = model(data)
    torch.testing.assert_close(without, model(data).detach(), rtol=0, atol=0)


def test_derivatives_are_the_same_bits_every_time():
    data, model = graph_of(300), BapstModel()
    runs = []
    for _ in range(2):
        model.zero_grad()
        model(data).square().mean().backward()
        runs.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_edges_in_another_order_give_the_same_prediction():
    data, model = graph_of(), model_of()
    order = torch.randperm(data.num_edges, generator=torch.Generator().manual_seed(1))
    shuffled = data.clone()
    shuffled.edge_index, shuffled.edge_attr = data.edge_index[:, order], data.edge_attr[order]
    torch.testing.assert_close(model(shuffled), model(data), rtol=1e-11, atol=1e-11)


def test_a_batch_predicts_what_its_graphs_do_one_by_one():
    graphs, model = [graph_of(40, seed=1), graph_of(70, seed=2)], model_of(n_times=2)
    together = model(batch_graphs(graphs))
    torch.testing.assert_close(together, torch.cat([model(graph) for graph in graphs]), rtol=1e-11, atol=1e-11)


def test_a_particle_without_neighbours_is_predicted_too():
    alone = Configuration(box=[9, 9, 9], species=[1], positions=[[0, 0, 0]])
    model = model_of(n_steps=2)
    for self_edges in (True, False):
        data = to_graph(alone, self_edges=self_edges)
        torch.testing.assert_close(model(data), by_description(model, data))
        model(data).sum().backward()


def test_a_turned_graph_is_the_graph_of_the_turned_liquid():
    generator = np.random.default_rng(8)
    positions, species = generator.uniform(-2, 2, (40, 3)), generator.integers(0, 2, 40)
    graph = to_graph(Configuration(box=[4.0] * 3, species=species, positions=positions))
    turned = random_cube_symmetry(graph, np.random.default_rng(2))
    element = torch.linalg.lstsq(graph.edge_attr, turned.edge_attr).solution.round().numpy()
    liquid = Configuration(box=[4.0] * 3, species=species, positions=positions @ element)
    model = model_of()
    torch.testing.assert_close(model(turned), model(to_graph(liquid)), rtol=1e-4, atol=1e-4)


def test_first_weights_are_sonnets():
    torch.manual_seed(0)
    layer = BapstModel().edge_network[0]
    assert not layer.bias.any()
    assert float(layer.weight.detach().abs().max()) <= 2 / np.sqrt(384)
    # a normal distribution cut at two standard deviations has 0.880 of its width
    assert float(layer.weight.detach().std()) == pytest.approx(0.880 / np.sqrt(384), rel=0.02)


def test_normalisation_gives_the_output_its_unit_and_back():
    data, model = graph_of(), model_of(n_times=2)
    raw = model.normalised(data)
    torch.testing.assert_close(model(data), raw)
    scale, shift = torch.tensor([[0.5, 2.0], [1.0, 3.0]]), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    model.set_normalisation(scale, shift)
    a = data.species == 0
    torch.testing.assert_close(model(data)[a, 1], raw[a, 1] * 2 + 0.2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.normalise(model(data), data.species), raw, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "shift"),
    [
        (torch.ones(2), torch.zeros(2, 1)),
        (torch.zeros(2, 1), torch.zeros(2, 1)),
        (torch.ones(2, 1), torch.full((2, 1), torch.nan)),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(scale, shift):
    with pytest.raises(ModelError):
        BapstModel().set_normalisation(scale, shift)


def test_graphs_and_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="graph in 2 dimensions; expected 3"):
        BapstModel()(graph_of(d=2))
    with pytest.raises(ModelError, match="found species 1"):
        BapstModel(n_species=1)(graph_of())
    for arguments in ({"n_times": 0}, {"dimensions": 4}, {"n_steps": 0}, {"width": 0}):
        with pytest.raises(ModelError, match=next(iter(arguments))):
            BapstModel(**arguments)


def test_models_are_made_by_name():
    model = make_model("bapst", n_times=2, width=8)
    assert isinstance(model, model_class("bapst"))
    assert make_model("bapst", **model.hyperparameters()).hyperparameters() == model.hyperparameters()
    with pytest.raises(ModelError, match="did you mean 'bapst'"):
        make_model("bapts")
    with pytest.raises(ModelError, match="did you mean 'n_times'"):
        make_model("bapst", n_time=2)


# ---- the published network ----------------------------------------------------------------------------------


class NumpyOnly(pickle.Unpickler):
    """Reads arrays and numbers, nothing that could run."""

    def find_class(self, module, name):
        if module.split(".")[0] == "numpy" and name in {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


@needs_shared
def test_published_weights_predict_what_the_published_program_predicted(tmp_path):
    model, card = load_model(import_deepmind_weights(SHARED / "t044_s09_weights.npz", tmp_path / "model"))
    data = NumpyOnly(io.BytesIO((SHARED / "test_large.pickle").read_bytes())).load()
    types = np.asarray(data["types"])
    with torch.no_grad():
        graph = to_graph(Configuration(box=data["box"], species=types, positions=data["positions"]))
        found = model(graph)[:, 0].numpy()
    expected = np.load(SHARED / "t044_s09_prediction_on_test_large.npz")["prediction"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    rho = np.corrcoef(found[types == 0], data["targets"][0][types == 0])[0, 1]
    assert rho == pytest.approx(0.9346, abs=5e-5)
    assert (card.times, card.temperatures, card.trained_species) == ([0.132], [0.44], ["A"])
    assert card.mixture["truncation"] == "truncated"
    assert card.residual_std is None


def published_variables() -> dict[str, np.ndarray]:
    sizes = {
        "graph_independent/node_model": [1, 64, 64],
        "graph_independent/edge_model": [3, 64, 64],
        "graph_network/edge_block": [384, 64, 64],
        "graph_network/node_block": [192, 64, 64],
        "graph_independent_1/node_model": [64, 64, 64, 1],
        "graph_independent_1/edge_model": [64, 64, 64],
    }
    variables = {}
    for name, layers in sizes.items():
        for i in range(len(layers) - 1):
            variables[f"Graph/{name}/mlp/linear_{i}/w"] = np.zeros((layers[i], layers[i + 1]), np.float32)
            variables[f"Graph/{name}/mlp/linear_{i}/b"] = np.zeros(layers[i + 1], np.float32)
    return variables


def test_weights_of_the_published_shape_are_imported(tmp_path):
    np.savez(tmp_path / "w.npz", **published_variables())
    assert load_model(import_deepmind_weights(tmp_path / "w.npz", tmp_path / "m", truncation="shifted")).card.mixture[
        "truncation"
    ] == ("shifted")


KEY = "Graph/graph_network/edge_block/mlp/linear_0/w"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({KEY: None}, "found no variable"),
        ({KEY: np.zeros((3, 64), np.float32)}, r"expected float32 \(384, 64\)"),
        ({KEY: np.zeros((384, 64))}, "float64"),
        ({KEY: np.full((384, 64), np.nan, np.float32)}, "not finite"),
        ({"Graph/other": np.zeros(1, np.float32)}, "Graph/other"),
        ({KEY: np.array([None])}, "could not read"),
    ],
)
def test_files_that_are_not_the_published_network_are_refused(tmp_path, change, message):
    variables = {name: v for name, v in {**published_variables(), **change}.items() if v is not None}
    np.savez(tmp_path / "w.npz", **variables)
    with pytest.raises(ImportDataError, match=message):
        import_deepmind_weights(tmp_path / "w.npz", tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_files_that_are_not_npz_are_refused(tmp_path, content):
    with pytest.raises(ImportDataError, match="found no file"):
        import_deepmind_weights(tmp_path / "w.npz", tmp_path / "m")
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ImportDataError, match="could not read"):
        import_deepmind_weights(tmp_path / "w.npz", tmp_path / "m")
