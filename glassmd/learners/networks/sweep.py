"""Message passing through a snapshot that memory has no room for: a wave of slabs, each step behind the one before.

Step k of a slab needs the particles of step k − 1 up to one cutoff ahead, so that the steps follow each other through
the snapshot at that distance: particles enter at the front, and after the last step their edges are forgotten. Edges
wait in `n_steps` − 1 cutoffs of the snapshot, particles in a ring of twice the cutoff for every step, and nothing is
computed twice but where the wave begins and ends, and at the faces of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.configuration import Configuration
from glassmd.learners.networks.edge_blocks import Weights, columns, edge_step, empty, encode, node_step
from glassmd.learners.networks.slabs import FINENESS, SEARCHED, Column, Edges, Slabs, columns_of, mean_edges

__all__ = ["Wave", "sweep", "sweep_plan"]

FloatArray = NDArray[np.float64]

_OF_AN_EDGE = 2 * 4
"""Bytes per channel: its latent vector and what the encoded one adds at every step."""

_KEPT = 4 + 4
"""Bytes of an edge: sender and receiver."""

_FOUND = 80
"""Bytes of an edge while it is searched for."""


class Wave(NamedTuple):
    """What passes through a snapshot.

    Attributes:
        cutoff: Of the edges, σ_AA.
        n_steps: Steps.
        self_edges: Whether particles are neighbours of themselves.
        weights: Of the network.
        constant: (n_species, 3n), what the encoded particles of a species add at every step.
        encoded: (n_species, n) encoded particles of every species.
    """

    cutoff: float
    n_steps: int
    self_edges: bool
    weights: Weights
    constant: Tensor
    encoded: Tensor


class Plan(NamedTuple):
    """Columns of a box, and what sweeping through the largest takes, bytes."""

    columns: list[Column]
    bytes: float


def sweep_plan(wave: Wave, box: FloatArray, n_particles: int, memory: float) -> Plan:
    """The columns that take the least to compute, of those that fit into so many bytes; else the smallest ones."""
    d, axis = len(box), int(np.argmax(box))
    halo, density = wave.n_steps * wave.cutoff, n_particles / float(np.prod(box))
    choices = [[1] if k == axis else range(1, max(int(edge / halo), 1) + 1) for k, edge in enumerate(box)]
    plans = []
    for parts in product(*choices):
        cut = np.array(parts) > 1
        # the farther from a column, the fewer steps: half of the halo all in all
        wide = np.where(cut | (np.arange(d) == axis), box / np.array(parts) + halo, box)
        work = float(np.prod(wide) * np.prod(parts))
        waiting = np.where(cut, box / np.array(parts) + 2 * (halo - wave.cutoff), box)
        across = float(np.prod(waiting[np.arange(d) != axis]))
        plans.append((work, _bytes(wave, across * density, d, density), parts))
    fitting = [one for one in plans if one[1] <= memory] or [min(plans, key=lambda one: one[1])]
    _, needed, parts = min(fitting)
    return Plan(columns_of(box, parts), needed)


def _bytes(wave: Wave, per_length: float, d: int, density: float) -> float:
    """What a wave of `per_length` particles per σ_AA holds at a time."""
    width = wave.encoded.shape[1]
    waiting = (wave.n_steps - 1 + 2 / FINENESS) * wave.cutoff * per_length
    edges = mean_edges(density, d, wave.cutoff, self_edges=wave.self_edges)
    around = (2 + SEARCHED) * wave.cutoff * per_length
    ring = (2 + 1 / FINENESS) * wave.cutoff * per_length * wave.n_steps
    of_edges = edges * (waiting * (_OF_AN_EDGE * width + _KEPT) + around * _FOUND)
    return of_edges + (2 * (waiting + wave.cutoff * per_length) + ring) * width * 4


def sweep(
    wave: Wave,
    configuration: Configuration,
    column: Column,
    told: Callable[[float], None] | None = None,
) -> Iterator[tuple[NDArray[np.int32], Tensor]]:
    """Latent particles after the last step, a few at a time.

    Args:
        wave: The network.
        configuration: Particles in a periodic box.
        column: The part of it whose particles are asked for.
        told: Called in between with the share of the column that is done; what it raises ends it.

    Yields:
        (n,) numbers of particles, and their latent vectors, (n, width).
    """
    slabs = Slabs(
        configuration.positions, configuration.box, column, wave.cutoff, wave.n_steps, self_edges=wave.self_edges
    )
    species = torch.from_numpy(configuration.species[slabs.who].astype(np.int64))
    edges = mean_edges(configuration.density, configuration.dimensions, wave.cutoff, self_edges=wave.self_edges)
    state = _State(wave, slabs, species, edges)
    last = len(slabs) + wave.n_steps * slabs.reach
    for front in range(last):
        if told is not None:
            told(front / last)
        if front < len(slabs):
            state.enter(front)
        for step in range(1, wave.n_steps + 1):
            slab = front - step * slabs.reach
            if 0 <= slab < len(slabs) and slabs.needed[slab, step]:
                state.advance(slab, step)
        done = front - wave.n_steps * slabs.reach
        if done in state.waiting:
            latent = state.waiting.pop(done).latent
            first = slabs.starts[done]
            if count := int(slabs.needed[done, wave.n_steps]):
                yield slabs.who[first : first + count], latent[:count]


@dataclass(eq=False)
class _Waiting:
    """A slab between two steps: its edges, and what its particles add to them and to themselves."""

    found: Edges
    species: Tensor
    latent: Tensor
    to_receiver: Tensor
    to_node: Tensor
    edges: Tensor
    fixed: Tensor


class _State:
    """All that waits behind the front of a wave."""

    def __init__(self, wave: Wave, slabs: Slabs, species: Tensor, edges: float) -> None:
        self._wave, self._slabs, self._species = wave, slabs, species
        self._device, width = wave.encoded.device, wave.encoded.shape[1]
        most = np.convolve(slabs.needed[:, 1], np.ones((wave.n_steps - 1) * slabs.reach + 1)).max()
        self._arena = _Arena(int(edges * (1.02 * most + slabs.needed[:, 1].max())), wave.encoded)
        self._rings = [wave.encoded.new_zeros((slabs.ring, width)) for _ in range(wave.n_steps)]
        self._identity = torch.arange(0, dtype=torch.int32, device=self._device)
        self.waiting: dict[int, _Waiting] = {}

    def enter(self, slab: int) -> None:
        """A slab at the front."""
        wave, first, last = self._wave, int(self._slabs.starts[slab]), int(self._slabs.starts[slab + 1])
        species = self._species[first:last].to(self._device)
        nothing = wave.encoded.new_empty((0, wave.encoded.shape[1]))
        found = Edges(*(part.to(self._device) for part in self._edges_of(slab)))
        self.waiting[slab] = _Waiting(found, species, nothing, nothing, nothing, nothing, nothing)
        self._tell(slab, 0, wave.encoded[species])

    def _edges_of(self, slab: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = self._slabs.edges(slab)
        return found.sender, found.receiver, found.offsets, found.vectors

    def advance(self, slab: int, step: int) -> None:
        """One step of the particles of a slab that are needed after it."""
        wave, here = self._wave, self.waiting[slab]
        count = int(self._slabs.needed[slab, step])
        offsets = here.found.offsets[: count + 1]
        n_edges = int(offsets[-1])
        if step == 1:
            here.edges, here.fixed = self._arena.take(slab, n_edges)
            encode(wave.weights, here.found.vectors[:n_edges], None, here.edges[:n_edges], here.fixed[:n_edges])
            here.found = replace(here.found, vectors=here.found.vectors.new_empty((0, 0)))
        edges, fixed = here.edges[:n_edges], here.fixed[:n_edges]
        ends = here.found.sender[:n_edges], here.found.receiver[:n_edges]
        edge_step(wave.weights, *ends, fixed, edges, here.to_receiver, self._rings[step - 1], None, edges)
        if len(self._identity) < n_edges:
            self._identity = torch.arange(n_edges * 5 // 4, dtype=torch.int32, device=self._device)
        _, _, nodes = node_step(wave.weights, self._identity[:n_edges], offsets, edges, here.to_node[:count])
        if step < wave.n_steps:
            self._tell(slab, step, nodes)
        else:
            here.latent = nodes
        if step == wave.n_steps or not self._slabs.needed[slab, step + 1]:
            self._arena.free(slab)
            here.edges = here.fixed = edges[:0]

    def _tell(self, slab: int, step: int, nodes: Tensor) -> None:
        """What particles add to edges and to themselves at the step after `step`."""
        here, count = self.waiting[slab], len(nodes)
        constant = self._wave.constant[here.species[:count]]
        joined = torch.addmm(constant, nodes, self._wave.weights.node_latent)
        here.to_receiver, to_sender, here.to_node = columns(joined)
        at = int(self._slabs.starts[slab]) % self._slabs.ring
        head = min(count, self._slabs.ring - at)
        self._rings[step][at : at + head] = to_sender[:head]
        self._rings[step][: count - head] = to_sender[head:]


class _Arena:
    """One piece of memory for the edges of all slabs that wait at a time, twice: many pieces would leave holes.

    Args:
        size: Edges that there is room for.
        like: A tensor of their width.
    """

    def __init__(self, size: int, like: Tensor) -> None:
        self._like, self._pieces = like, (empty(size, like), empty(size, like))
        self._taken: dict[int, tuple[int, int]] = {}
        self._next = 0

    def take(self, slab: int, n_edges: int) -> tuple[Tensor, Tensor]:
        """Room for the edges of a slab, behind that of the slab before; of its own where it is too dense for that."""
        size = len(self._pieces[0])
        first = self._next if self._next + n_edges <= size else 0
        last = first + n_edges
        if last > size or any(begin < last and first < end for begin, end in self._taken.values()):
            return empty(n_edges, self._like), empty(n_edges, self._like)
        self._taken[slab], self._next = (first, last), last
        edges, fixed = (piece[first:last] for piece in self._pieces)
        return edges, fixed

    def free(self, slab: int) -> None:
        """The room of a slab is another's."""
        self._taken.pop(slab, None)
