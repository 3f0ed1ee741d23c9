"""Graphs hold every periodic pair within the cutoff, and nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.graphs import batch_graphs, cube_symmetry, random_cube_symmetry, to_graph

FLOAT32 = 2e-7  # relative rounding of the stored vectors


def liquid(n: int, box: list[float], seed: int = 0) -> Configuration:
    generator = np.random.default_rng(seed)
    positions = generator.uniform(-0.5, 0.5, (n, len(box))) * box
    return Configuration(box=box, species=generator.integers(0, 2, n), positions=positions)


def brute_force(configuration: Configuration, cutoff: float, self_edges: bool) -> np.ndarray:
    """All images of all pairs: rows of sender, receiver, vector, in any order."""
    reach = [range(-int(cutoff // length) - 1, int(cutoff // length) + 2) for length in configuration.box]
    r = configuration.positions
    rows = []
    for image in product(*reach):
        vectors = r[None, :] - r[:, None] + np.array(image) * configuration.box
        inside = (vectors**2).sum(-1) < cutoff**2
        if not any(image):
            np.fill_diagonal(inside, self_edges)
        sender, receiver = np.nonzero(inside)
        rows.append(np.column_stack([sender, receiver, vectors[sender, receiver]]))
    return np.concatenate(rows)


def rows_of(graph: Data) -> np.ndarray:
    return np.column_stack([graph.edge_index.T.numpy(), graph.edge_attr.double().numpy()])


def sort_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(np.round(rows, 5).T[::-1])]


@pytest.mark.parametrize("self_edges", [True, False])
@pytest.mark.parametrize(
    ("n", "box"),
    [
        (300, [6.3, 6.3, 6.3]),
        (200, [5.0, 7.0, 4.2]),
        (40, [3.1, 3.3, 3.7]),
        (3, [1.3, 1.5, 1.1]),
        (1, [0.9, 5.0, 5.0]),
        (120, [10.0, 11.0]),
        (12, [3.0, 2.5]),
        (1, [1.2, 1.2]),
    ],
)
def test_edges_are_those_of_all_pairs_and_images(n, box, self_edges):
    configuration = liquid(n, box)
    graph = to_graph(configuration, 2.0, self_edges)
    found, expected = sort_rows(rows_of(graph)), sort_rows(brute_force(configuration, 2.0, self_edges))
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, :2], expected[:, :2])
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], atol=2 * FLOAT32)


def test_a_real_liquid_of_4096_particles_has_the_edges_of_bapsts_minimum_image():
    configuration = liquid(4096, [15.05658] * 3)
    graph = to_graph(configuration)
    r, length = configuration.positions, 15.05658
    expected = []
    for i in range(4096):  # receivers, one row of the distance matrix at a time
        vectors = r[i] - r
        vectors -= length * np.rint(vectors / length)
        senders = np.flatnonzero((vectors**2).sum(1) < 4.0)
        expected.append(np.column_stack([senders, np.full(len(senders), i), vectors[senders]]))
    rows = rows_of(graph)
    expected_rows = np.concatenate(expected)
    assert rows.shape == expected_rows.shape
    rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
    np.testing.assert_array_equal(rows[:, :2], expected_rows[:, :2])
    np.testing.assert_allclose(rows[:, 2:], expected_rows[:, 2:], atol=2 * FLOAT32)


def test_fields_have_the_documented_types():
    configuration = liquid(50, [5.0, 5.0, 5.0])
    graph = to_graph(configuration)
    assert graph.num_nodes == 50
    assert (graph.x.dtype, tuple(graph.x.shape)) == (torch.float32, (50, 1))
    assert graph.species.dtype == graph.edge_index.dtype == torch.int64
    assert (graph.edge_attr.dtype, graph.edge_attr.shape[1]) == (torch.float32, 3)
    np.testing.assert_array_equal(graph.x[:, 0].numpy(), configuration.species)
    np.testing.assert_array_equal(graph.species.numpy(), configuration.species)


def test_edges_are_sorted_by_receiver_with_the_self_edge_first():
    graph = to_graph(liquid(200, [6.0, 6.0, 6.0]))
    sender, receiver = graph.edge_index
    assert bool((receiver[1:] >= receiver[:-1]).all())
    first = np.searchsorted(receiver.numpy(), np.arange(200))
    np.testing.assert_array_equal(sender[first].numpy(), np.arange(200))
    assert not graph.edge_attr[first].any()


def test_a_pair_at_exactly_the_cutoff_is_no_edge():
    pair = Configuration(box=[9, 9, 9], species=[0, 0], positions=[[-1, 0, 0], [1, 0, 0]])
    assert to_graph(pair, 2.0, self_edges=False).num_edges == 0
    assert to_graph(pair, 2.0 + 1e-9, self_edges=False).num_edges == 2


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cutoff_that_is_no_length_is_refused(cutoff):
    with pytest.raises(InputError, match="expected a positive length"):
        to_graph(liquid(5, [5.0, 5.0]), cutoff)


def test_a_box_far_too_small_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match="check the box and the cutoff"):
        to_graph(liquid(100, [0.1, 0.1, 0.1]))


coordinate = st.floats(-0.5, 0.5, allow_nan=False, width=32)
scaled_positions = st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=12)


def degrees_safe(configuration: Configuration, cutoff: float = 2.0) -> bool:
    """Whether no pair is so near the cutoff that rounding decides."""
    nearby = brute_force(configuration, cutoff + 1e-6, True)
    return len(nearby) == len(brute_force(configuration, cutoff - 1e-6, True))


@settings(max_examples=60, deadline=None)
@given(scaled=scaled_positions, shift=st.tuples(*[st.floats(-20, 20, allow_nan=False)] * 3))
def test_edge_vectors_do_not_notice_a_translation(scaled, shift):
    box = np.array([4.5, 5.0, 3.0])
    species = np.zeros(len(scaled), int)
    here = Configuration(box=box, species=species, positions=np.array(scaled) * box)
    there = Configuration(box=box, species=species, positions=np.array(scaled) * box + shift)
    if not degrees_safe(here):
        return
    ours, theirs = rows_of(to_graph(here)), rows_of(to_graph(there))
    assert ours.shape == theirs.shape
    for pair in {tuple(row) for row in ours[:, :2]}:
        a, b = (np.sort(g[(g[:, :2] == pair).all(1)][:, 2:], axis=0) for g in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(scaled=scaled_positions, seed=st.integers(0, 1000))
def test_renumbering_particles_renumbers_edges(scaled, seed):
    box = np.array([4.5, 5.0, 6.0])
    positions = np.array(scaled) * box
    permutation = np.random.default_rng(seed).permutation(len(scaled))
    species = np.arange(len(scaled)) % 2
    before = to_graph(Configuration(box=box, species=species, positions=positions))
    after = to_graph(Configuration(box=box, species=species[permutation], positions=positions[permutation]))
    renumbered = rows_of(after)
    renumbered[:, :2] = permutation[renumbered[:, :2].astype(int)]
    assert renumbered.shape == rows_of(before).shape
    np.testing.assert_allclose(sort_rows(renumbered), sort_rows(rows_of(before)), atol=2e-5)
    np.testing.assert_array_equal(after.species.numpy(), species[permutation])


def test_a_batch_is_its_graphs_side_by_side():
    graphs = [to_graph(liquid(n, [5.0, 5.0, 5.0], seed=n)) for n in (30, 50)]
    batch = batch_graphs(graphs)
    assert batch.num_graphs == 2
    assert batch.batch.tolist() == [0] * 30 + [1] * 50
    torch.testing.assert_close(batch.edge_index[:, graphs[0].num_edges :] - 30, graphs[1].edge_index)
    assert bool((batch.edge_index[1, 1:] >= batch.edge_index[1, :-1]).all())
    with pytest.raises(InputError, match="no graphs"):
        batch_graphs([])


@pytest.mark.parametrize(("d", "order"), [(2, 8), (3, 48)])
def test_every_element_of_the_cubes_group_is_drawn_equally_often(d, order):
    generator = np.random.default_rng(3)
    drawn = [cube_symmetry(d, generator).tobytes() for _ in range(200 * order)]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == order
    assert abs(counts - 200).max() < 5 * np.sqrt(200)  # five standard deviations


def test_turning_keeps_lengths_and_leaves_the_original_alone():
    graph = to_graph(liquid(60, [5.0, 5.0, 5.0]))
    before = graph.edge_attr.clone()
    turned = random_cube_symmetry(graph, np.random.default_rng(5))
    assert torch.equal(graph.edge_attr, before)
    assert not torch.equal(turned.edge_attr, before)
    assert turned.edge_index is graph.edge_index
    torch.testing.assert_close(turned.edge_attr.norm(dim=1), before.norm(dim=1))


def test_each_configuration_of_a_batch_is_turned_by_an_element_of_its_own():
    graph = to_graph(liquid(40, [5.0, 5.0, 5.0]))
    turned = random_cube_symmetry(batch_graphs([graph] * 6), np.random.default_rng(1)).edge_attr
    elements = [torch.linalg.lstsq(graph.edge_attr, part).solution.round() for part in turned.chunk(6)]
    for element, part in zip(elements, turned.chunk(6), strict=True):
        torch.testing.assert_close(graph.edge_attr @ element, part)
        torch.testing.assert_close(element @ element.T, torch.eye(3))
    assert len({element.numpy().tobytes() for element in elements}) > 1
