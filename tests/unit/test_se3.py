"""The equivariant network: its convolution against the definition, edge by edge, and its start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn.o3 import wigner_3j
from torch import Tensor

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR
from glassmd.graphs import batch_graphs
from glassmd.learners.networks.equivariant_convolution import Coupling, convolve, neighbourhoods, spherical_harmonics
from glassmd.learners.networks.se3 import NODE_SCALARS, SE3Model
from glassmd.mixtures import get_mixture
from glassmd.structure import Structure


def structure_of(n: int = 60, d: int = 3, seed: int = 0, density: float = 1.2) -> Structure:
    """Jittered lattice: no two particles so near that energies lose their digits."""
    generator = np.random.default_rng(seed)
    side = (n / density) ** (1 / d)
    per_side = int(np.ceil(n ** (1 / d)))
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * d, indexing="ij"), -1).reshape(-1, d)[:n]
    positions = (sites + generator.uniform(-0.2, 0.2, (n, d))) * side / per_side
    thermal = Configuration(box=[side] * d, species=generator.integers(0, 2, n), positions=positions)
    mixture = get_mixture("kob-andersen" if d == 3 else "kob-andersen-2d")
    moved = thermal.unwrapped + generator.normal(0, 0.05, (2, n, d))
    return Structure(thermal, mixture, 0.5, inherent=moved[0], cage=moved[1], debye_waller=np.full(n, 0.01))


def model_of(structure: Structure, **chosen: object) -> SE3Model:
    torch.manual_seed(3)
    model = SE3Model(**{"width": 4, "n_layers": 3, "dimensions": structure.thermal.dimensions, **chosen})
    model.initialise(model.encode(structure))
    return model


def by_definition(
    features: Tensor, harmonics: Tensor, radial: Tensor, edge_index: Tensor, coupling: Coupling
) -> Tensor:
    """Couple on every edge, then sum: the formula of the module's text, path by path."""
    sender, receiver = edge_index
    k, c = coupling.n_radial, coupling.channels_in
    result = torch.zeros(len(features), (coupling.l_out + 1) ** 2, coupling.channels_out, dtype=features.dtype)
    for pair in coupling.pairs:
        for l3, place in pair.paths:
            coefficients = wigner_3j(pair.l1, pair.l2, l3, dtype=features.dtype) * (2 * l3 + 1) ** 0.5
            weights = coupling.weights[l3].view(-1, k, c, coupling.channels_out)[place]
            message = torch.einsum(
                "xyz,exc,ey,ek,kcw->ezw",
                coefficients,
                features[sender][:, pair.l1**2 : (pair.l1 + 1) ** 2],
                harmonics[:, pair.l2**2 : (pair.l2 + 1) ** 2],
                radial,
                weights,
            )
            rows = slice(l3**2, (l3 + 1) ** 2)
            result[:, rows] = result[:, rows].index_add(0, receiver, message)
    return result


@pytest.mark.parametrize(("l_in", "l_edge", "l_out"), [(0, 2, 2), (2, 2, 2), (1, 3, 2), (3, 3, 0)])
def test_summing_first_gives_the_convolution_and_its_derivatives(l_in, l_edge, l_out):
    torch.manual_seed(1)
    n, n_edges, k, c = 9, 70, 3, 4
    edge_index = torch.stack([torch.randint(0, n, (n_edges,)), torch.randint(1, n, (n_edges,)).sort().values])
    vectors = torch.randn(n_edges, 3, dtype=torch.float64)
    coupling = Coupling(l_in, l_edge, l_out, c, k, 5).double()
    around = neighbourhoods(edge_index, -vectors, n, block=4)
    features = torch.randn(n, (l_in + 1) ** 2, c, dtype=torch.float64, requires_grad=True)
    free = torch.randn(len(around.sender), k, dtype=torch.float64, requires_grad=True)
    slot_radial = free * around.used[:, None]
    found = convolve(features, spherical_harmonics(l_edge, around.vectors), slot_radial, around, coupling)
    # the same edges as the slots list them
    receiver = torch.cat(
        [nodes.repeat_interleave(width) for nodes, width in zip(around.blocks, around.widths, strict=True)]
    )
    used = around.used
    edges = torch.stack([around.sender[used], receiver[used]])
    expected = by_definition(
        features, spherical_harmonics(l_edge, around.vectors[used]), slot_radial[used], edges, coupling
    )
    assert sorted(map(tuple, edges.T.tolist())) == sorted(map(tuple, edge_index.T.tolist()))
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale)  # tables have single precision
    seeds = torch.randn_like(expected)
    wanted = [features, free, *coupling.weights]
    for a, b in zip(
        torch.autograd.grad((found * seeds).sum(), wanted, retain_graph=True),
        torch.autograd.grad((expected * seeds).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 * max(float(b.detach().abs().max()), 1.0))


def test_only_paths_that_keep_parity_are_there():
    coupling = Coupling(2, 3, 2, 1, 1, 1)
    paths = [(pair.l1, pair.l2, l3) for pair in coupling.pairs for l3, _ in pair.paths]
    assert all((l1 + l2 + l3) % 2 == 0 and abs(l1 - l2) <= l3 <= l1 + l2 for l1, l2, l3 in paths)
    assert (1, 1, 0) in paths
    assert (1, 1, 1) not in paths


def test_a_particle_without_neighbours_gets_no_message():
    edge_index = torch.tensor([[0], [2]])
    around = neighbourhoods(edge_index, torch.ones(1, 3), 3)
    message = convolve(
        torch.ones(3, 1, 2),
        spherical_harmonics(1, around.vectors),
        around.used[:, None].float(),
        around,
        Coupling(0, 1, 1, 2, 1, 2),
    )
    assert torch.equal(message[:2], torch.zeros(2, 4, 2))
    assert float(message[2].detach().abs().min()) > 0


def test_every_weight_is_reached_by_the_derivative():
    structure = structure_of()
    model = model_of(structure, inputs=["thermal", "inherent"], n_times=2)
    model(model.encode(structure)).square().sum().backward()
    unused = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().max()]
    # the last layer's lengths are seen, so that nothing is left out
    assert unused == []


def test_the_start_has_messages_of_order_one_and_standard_scalars():
    structure = structure_of(200)
    model = model_of(structure, inputs=["inherent"])
    data = model.encode(structure)
    species = data.species
    standard = (data[NODE_SCALARS] - model.scalar_mean[species]) / model.scalar_spread[species]
    assert float(standard.mean().abs()) < 1e-4
    assert float(standard.std()) == pytest.approx(1, abs=0.02)
    assert 0.01 < float(model.normalised(data).detach().std()) < 10


def test_the_energies_are_half_the_sum_over_pairs():
    pair = Configuration(box=[9, 9, 9], species=[0, 0], positions=[[0, 0, 0], [2 ** (1 / 6), 0, 0]])
    model = SE3Model(inputs=["thermal"])
    data = model.encode(Structure(pair, get_mixture("kob-andersen"), 0.5))
    assert data[NODE_SCALARS][:, 0].tolist() == pytest.approx([-0.983683 / 2] * 2, abs=1e-5)


def test_the_first_of_inherent_cage_thermal_makes_the_graph():
    structure = structure_of()
    both = SE3Model(inputs=["thermal", "cage"])
    alone = SE3Model(inputs=["cage"])
    found, expected = both.encode(structure), alone.encode(structure)
    assert torch.equal(found[EDGE_INDEX], expected[EDGE_INDEX])
    assert torch.equal(found[EDGE_VECTOR], expected[EDGE_VECTOR])
    moved = structure.thermal.unwrapped - structure.cage
    np.testing.assert_allclose(found.node_vectors[:, 0].numpy(), moved, atol=1e-6)


def test_a_batch_predicts_what_its_graphs_do_one_by_one():
    structures = [structure_of(40, seed=1), structure_of(70, seed=2)]
    model = model_of(structures[0], inputs=["thermal", "inherent"], n_times=2)
    graphs = [model.encode(structure) for structure in structures]
    with torch.no_grad():
        together = model(batch_graphs(graphs))
        alone = torch.cat([model(graph) for graph in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_hyperparameters_make_the_same_network_again():
    structure = structure_of()
    model = model_of(structure, inputs=["inherent", "thermal"], l_max=1, n_radial=3, cutoff=1.6)
    again = SE3Model(**model.hyperparameters())
    again.load_state_dict(model.state_dict())
    data = model.encode(structure)
    assert torch.equal(again(data), model(data))


def test_a_few_steps_lower_the_loss():
    structure = structure_of(100)
    model = model_of(structure, inputs=["thermal"])
    data = model.encode(structure)
    neighbours = torch.bincount(data.edge_index[1], minlength=100).float()
    target = ((neighbours - neighbours.mean()) / neighbours.std())[:, None]
    everyone = torch.ones(100, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.objective(data, target, None, everyone)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("wrong", [{"width": 0}, {"l_max": 0}, {"l_max": 7}, {"cutoff": 0.5}, {"dropout": 1.0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ModelError):
        SE3Model(**wrong)


def test_a_structure_without_the_input_is_refused():
    structure = structure_of()
    bare = Structure(structure.thermal, structure.mixture, structure.temperature)
    with pytest.raises(ModelError, match="inherent"):
        SE3Model().encode(bare)
