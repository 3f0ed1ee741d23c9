"""Configuration → graph: particles are nodes, pairs closer than the cutoff are edges, both ways.

Source: V. Bapst et al., Nature Physics 16, 448 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.features.neighbours import half_list
from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, NODE_INPUT, NODE_SPECIES

__all__ = ["batch_graphs", "random_cube_symmetry", "to_graph"]

MAX_NEIGHBOURS = 2000
"""A liquid has about 40 neighbours within 2 σ_AA; far more means a wrong box or a wrong cutoff."""


def to_graph(configuration: Configuration, cutoff: float = 2.0, self_edges: bool = True) -> Data:
    """Graph of all periodic pairs with r < `cutoff`, each in both directions.

    Every image within the cutoff is an edge of its own, in a box shorter than twice the cutoff several of one particle
    (Bapst's code keeps the nearest only).

    Args:
        configuration: Particles in a periodic box, d = 2 or 3.
        cutoff: Largest distance of a pair, not included, σ_AA.
        self_edges: Also connect every particle with itself by a zero vector, as the published network does.

    Returns:
        Data with
        `x` (n_particles, 1) float32, species index;
        `species` (n_particles,) int64;
        `edge_index` (2, n_edges) int64, sender in row 0, receiver in row 1, sorted by receiver,
        a self-edge before the others;
        `edge_attr` (n_edges, d) float32, r_receiver − r_sender, σ_AA, computed in double precision.

    Raises:
        InputError: A cutoff that is not a positive number, or one with absurdly many neighbours.

    Example:
        >>> pair = Configuration(box=[9, 9, 9], species=[0, 1], positions=[[-4, 0, 0], [4, 0, 0]])
        >>> graph = to_graph(pair)
        >>> graph.edge_index.tolist()
        [[0, 1, 1, 0], [0, 0, 1, 1]]
        >>> graph.edge_attr[:, 0].tolist()
        [0.0, 1.0, 0.0, -1.0]
    """
    sender, receiver, vectors = _both_ways(configuration, cutoff, self_edges)
    # torch has the radix sort; numpy's `take` beats torch's, as numpy asks for huge pages in large arrays
    order = torch.argsort(torch.from_numpy(receiver), stable=True).numpy()
    edge_index = np.empty((2, len(order)), np.int64)
    edge_index[0] = sender.take(order)
    edge_index[1] = receiver.take(order)
    species = torch.from_numpy(configuration.species.astype(np.int64))
    fields: dict[str, Any] = {
        NODE_INPUT: species[:, None].to(torch.float32),
        NODE_SPECIES: species,
        EDGE_INDEX: torch.from_numpy(edge_index),
        EDGE_VECTOR: torch.from_numpy(vectors.take(order, axis=0)),
    }
    return Data(**fields)


def _both_ways(
    configuration: Configuration, cutoff: float, self_edges: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Sender (n_edges,) int32, receiver (n_edges,) int32 and vectors (n_edges, d) float32, unsorted."""
    n, d = configuration.n_particles, configuration.dimensions
    i, j, forth, _ = half_list(configuration.positions, configuration.box, cutoff, most=MAX_NEIGHBOURS)
    own = n if self_edges else 0
    half = own + len(i)
    sender, receiver = np.empty((2, own + 2 * len(i)), np.int32)
    vectors = np.empty((own + 2 * len(i), d), np.float32)
    sender[:own] = receiver[:own] = np.arange(own, dtype=np.int32)
    vectors[:own] = 0
    sender[own:half], sender[half:] = i, j
    receiver[own:half], receiver[half:] = j, i
    vectors[own:half] = forth
    np.negative(vectors[own:half], out=vectors[half:])
    return sender, receiver, vectors


def batch_graphs(graphs: Sequence[Data]) -> Batch:
    """Several configurations as one graph without edges between them; `batch.batch` says which node is whose.

    Raises:
        InputError: No graph was given.

    Example:
        >>> one = to_graph(Configuration(box=[9, 9], species=[0], positions=[[0, 0]]))
        >>> batch_graphs([one, one]).edge_index.tolist()
        [[0, 1], [0, 1]]
    """
    if not graphs:
        raise InputError("found no graphs to batch", "at least one")
    return Batch.from_data_list(list(graphs))


def cube_symmetry(d: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """A random element of the symmetry group of the square (8) or cube (48) as a (d, d) matrix.

    Example:
        >>> element = cube_symmetry(3, np.random.default_rng(0))
        >>> bool((element @ element.T == np.eye(3)).all())
        True
    """
    element = np.zeros((d, d), np.float32)
    element[np.arange(d), generator.permutation(d)] = generator.choice(np.array([-1.0, 1.0]), size=d)
    return element


def random_cube_symmetry(graph: Data, generator: np.random.Generator) -> Data:
    """A graph of :func:`to_graph` turned and mirrored by a random element of the cube's group.

    Periodic boxes and forces stay what they are under these 48 (2D: 8) operations, so that propensities do too. Every
    configuration of a batch gets an element of its own. The result is a shallow copy with edge vectors of its own.

    Example:
        >>> pair = Configuration(box=[9, 9], species=[0, 0], positions=[[0, 0], [1, 0]])
        >>> turned = random_cube_symmetry(to_graph(pair), np.random.default_rng(1))
        >>> turned.edge_attr.norm(dim=1).tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    vectors = graph.edge_attr
    d = vectors.shape[1]
    copies = int(getattr(graph, "num_graphs", 1))
    drawn = np.stack([cube_symmetry(d, generator) for _ in range(copies)])
    elements = torch.from_numpy(drawn).to(vectors)
    turned = copy(graph)
    if copies == 1:
        turned.edge_attr = vectors @ elements[0].T
    else:
        element_of_edge = elements[graph.batch[graph.edge_index[1]]]
        turned.edge_attr = (element_of_edge @ vectors[:, :, None]).squeeze(-1)
    return turned
