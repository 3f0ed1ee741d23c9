"""Predictions of snapshots that memory has no room for: tile by tile, each with as much around it as the learner sees.

A tile is cut out of the periodic box with everything within :meth:`~.base.PropensityModel.reach` of it, and a little
more for how far derived positions lie from the thermal ones. Where it is cut its surroundings are wrong, and what is
wrong stays within the halo. Tiles are independent of each other: every core computes one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.graphs import batch_graphs
from glassmd.mixtures import Mixture
from glassmd.neighbour_search import BoxPart, wrapped
from glassmd.structure import Rattling, Structure

__all__ = ["GIB", "MEMORY", "Learner", "Passed", "Told", "cut_out", "in_parts", "require_memory"]

FloatArray = NDArray[np.float64]
Told = Callable[[float], None] | None
"""Called about once a second with the share that is done, but not within a part; what it raises ends the work."""

GIB = 2.0**30

MEMORY = 3.0
"""GiB that a prediction may hold at a time, where nobody says: with Python and torch under 4 GB."""

_GAP = 1.5
"""Between the two sides of what was cut out, which a periodic box brings together, σ_AA: no pair is nearer."""

_MOST = 64
"""Tiles along an axis."""

_SMALLEST = 2.0
"""Shortest edge of a tile, σ_AA."""


class Passed(NamedTuple):
    """What a learner says.

    Attributes:
        values: (n_particles, n_times), on the CPU.
        spread: (n_particles, n_times), or None where it does not know.
        parts: Into how many parts the snapshot was divided.
    """

    values: Tensor
    spread: Tensor | None
    parts: int


class Learner(Protocol):
    """What is asked of a :class:`~.base.PropensityModel`."""

    inputs: tuple[str, ...]
    n_times: int
    scale: Tensor

    @property
    def at_once(self) -> float:
        """See :class:`glassmd.learners.base.PropensityModel`."""

    def encode(self, structure: Structure) -> Data:
        """See :class:`glassmd.learners.base.PropensityModel`."""

    def with_spread(self, data: Data) -> tuple[Tensor, Tensor | None]:
        """See :class:`glassmd.learners.base.PropensityModel`."""

    def reach(self, mixture: Mixture) -> float | None:
        """See :class:`glassmd.learners.base.PropensityModel`."""

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :class:`glassmd.learners.base.PropensityModel`."""

    def in_passing(self, structure: Structure, memory: float, told: Told) -> Passed | None:
        """See :class:`glassmd.learners.base.PropensityModel`."""


def require_memory(memory: float, needed: float, n_particles: int) -> None:
    """Refuse what does not fit, bytes.

    Raises:
        ModelError: More is needed.
    """
    if needed > memory:
        raise ModelError(
            f"found {memory / GIB:.3g} GiB of memory to predict {n_particles:,} particles in",
            f"at least {needed / GIB:.3g} GiB",
            f"try --memory {math.ceil(needed / GIB * 10) / 10:g}",
        )


def in_parts(model: Learner, structure: Structure, memory: float, told: Told = None) -> Passed:
    """What a learner says of a structure, by parts where the whole takes more memory than there is.

    One part is computed as ever, to the bit. Where the learner has no better way, tiles are computed by as many threads
    as torch has, which share the memory.

    Args:
        model: In evaluation mode, on the device that it computes on.
        structure: The liquid.
        memory: To be had, bytes.
        told: See :data:`Told`.

    Raises:
        ModelError: There is not enough memory.
    """
    if told is not None:
        told(0.0)
    n, mixture = structure.thermal.n_particles, structure.mixture
    of_one = model.footprint(mixture, structure.thermal.density)
    reach = model.reach(mixture)
    if n * of_one <= min(memory, model.at_once) or reach is None:
        return Passed(*_said(model, structure), 1)
    passed = model.in_passing(structure, memory, told)
    if passed is not None:
        return passed
    furthest = _furthest(structure, model.inputs)
    workers = 1 if model.scale.device.type != "cpu" else torch.get_num_threads()
    halo = reach + 2 * furthest
    parts = _parts(structure, halo, memory / workers / of_one)
    if parts is None and workers > 1:
        workers = 1
        parts = _parts(structure, halo, memory / of_one)
    if parts is None:
        least = structure.thermal.density * float(np.prod(np.minimum(structure.thermal.box, 2 * halo + _SMALLEST)))
        require_memory(memory, least * of_one, n)
        parts = _parts(structure, halo, n)
        assert parts is not None
    values, spread = torch.empty((n, model.n_times)), torch.empty((n, model.n_times))
    known = True

    def compute(part: BoxPart) -> tuple[NDArray[np.int32], Tensor, Tensor | None]:
        own, tile = cut_out(structure, part, halo, furthest)
        found, width = _said(model, tile) if len(own) else (values[:0], spread[:0])
        return own, found[: len(own)], None if width is None else width[: len(own)]

    for own, found, width in _in_threads(compute, parts, workers, told):
        at = torch.from_numpy(own).long()
        values[at] = found.to(values)
        known = known and width is not None
        if width is not None:
            spread[at] = width.to(spread)
    return Passed(values, spread if known else None, len(parts))


@torch.no_grad()
def _said(model: Learner, structure: Structure) -> tuple[Tensor, Tensor | None]:
    data = batch_graphs([model.encode(structure)]).to(model.scale.device)
    values, spread = model.with_spread(data)
    return values.cpu(), None if spread is None else spread.cpu()


_Computed = TypeVar("_Computed")


def _in_threads(
    compute: Callable[[BoxPart], _Computed], parts: Sequence[BoxPart], workers: int, told: Told
) -> Iterator[_Computed]:
    """What comes of every part, in their order; threads that are still at work do not keep the process from ending."""
    if workers == 1:
        for number, part in enumerate(parts):
            if told is not None:
                told(number / len(parts))
            yield compute(part)
        return
    waiting, done = SimpleQueue[BoxPart](), SimpleQueue[_Computed | BaseException]()
    for part in parts:
        waiting.put(part)

    def work() -> None:
        torch.set_num_threads(1)  # of this thread
        while not waiting.empty():
            try:
                done.put(compute(waiting.get_nowait()))
            except Empty:
                return
            except BaseException as error:
                done.put(error)
                return

    for _ in range(workers):
        Thread(target=work, daemon=True).start()
    left = len(parts)
    try:
        while left:
            if told is not None:
                told(1 - left / len(parts))
            try:
                found = done.get(timeout=0.5)
            except Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            left -= 1
            yield found
    finally:
        with suppress(Empty):
            while True:
                waiting.get_nowait()


def cut_out(
    structure: Structure, part: BoxPart, halo: float, furthest: float = 0.0
) -> tuple[NDArray[np.int32], Structure]:
    """A part of a structure as a structure of its own, with everything within `halo` of it, σ_AA.

    Args:
        structure: The liquid.
        part: Which part of its box.
        halo: How much around it.
        furthest: How far derived positions lie from the thermal ones, σ_AA.

    Returns:
        (n,) numbers of the part's particles, which come first; and they with what is around them, in a box that is
        cut open where the whole is larger.
    """
    thermal = structure.thermal
    points = wrapped(thermal.positions, thermal.box)
    who, moved, edges, periodic = part.cut_out(points, thermal.box, halo)
    own = who[: int(part.inside(points, thermal.box).sum())]
    shift = moved - thermal.unwrapped[who]
    tile = Configuration(
        box=edges + np.where(periodic, 0.0, _GAP + 2 * furthest),
        species=thermal.species[who],
        positions=moved,
        species_names=thermal.species_names,
    )
    rattling = structure.rattling
    return own, Structure(
        thermal=tile,
        mixture=structure.mixture,
        temperature=structure.temperature,
        inherent=None if structure.inherent is None else structure.inherent[who] + shift,
        cage=None if structure.cage is None else structure.cage[who] + shift,
        debye_waller=None if structure.debye_waller is None else structure.debye_waller[who],
        rattling=None
        if rattling is None
        else Rattling(rattling.means[:, who], rattling.within[who], rattling.variances[:, who]),
        whole=structure.whole or structure,
    )


def _furthest(structure: Structure, inputs: Sequence[str]) -> float:
    """How far the positions that are seen lie from the thermal ones at most, σ_AA."""
    thermal = structure.thermal.unwrapped
    apart = [np.linalg.norm(structure.positions(name) - thermal, axis=1).max() for name in inputs]
    return float(max(apart))


def _parts(structure: Structure, halo: float, most: float) -> list[BoxPart] | None:
    """The tiles that take the least to compute, of those that are of at most so many particles with their halo."""
    box, density = structure.thermal.box, structure.thermal.density
    choices = []
    for edge in box:
        counts = np.arange(1, min(_MOST, max(int(edge / _SMALLEST), 1)) + 1)
        choices.append(counts[(counts == 1) | (edge / counts + 2 * halo + _GAP < edge)])
    grid = np.stack(np.meshgrid(*choices, indexing="ij"), -1).reshape(-1, len(box))
    wide = np.where(grid > 1, box / grid + 2 * halo, box).prod(axis=1)
    fitting = np.flatnonzero(wide * density <= most)
    if not len(fitting):
        return None
    best = grid[fitting[int(np.argmin((wide * grid.prod(axis=1))[fitting]))]]
    return [BoxPart(np.array(place), best) for place in product(*(range(count) for count in best))]
