"""What is measured on: configurations in groups that are independent, and pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.mixtures import Mixture

__all__ = ["Facts", "Moved", "Snapshot", "Source", "Stretch"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Facts:
    """What all frames share.

    Attributes:
        names: Of the species.
        species: (n_particles,) int32 index into them.
        masses: Of the species, m_A.
        box: (d,) edges, σ_AA.
        mixture: Or None where nobody says.
        temperature: ε_AA, or None.
        time_unit: Of times and lags.
        n_frames: That the data have.
        n_groups: Lineages, or parts of trajectories.
        lags: (n_lags,) of pairs of frames.
        parts: Into which each trajectory is cut; 0 where groups are no parts of trajectories.
        duration: Of a trajectory, the shortest; 0 for runs.
        notes: What was taken for granted.
    """

    names: tuple[str, ...]
    species: NDArray[np.int32]
    masses: FloatArray
    box: FloatArray
    mixture: Mixture | None
    temperature: float | None
    time_unit: Literal["reduced", "steps"]
    n_frames: int
    n_groups: int
    lags: FloatArray
    parts: int = 0
    duration: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def density(self) -> float:
        """σ_AA^-d."""
        return len(self.species) / float(np.prod(self.box))


class Snapshot(NamedTuple):
    """A configuration, its group, and when in its trajectory it is, 0 to 1."""

    group: int
    when: float
    configuration: Configuration


class Moved(NamedTuple):
    """A pair of frames: group, number of the lag, (n_particles, d) displacement without drift, σ_AA, and species."""

    group: int
    lag: int
    displacement: FloatArray
    species: NDArray[np.int32]


class Stretch(NamedTuple):
    """Some particles followed at equal intervals: their species, (n_frames, n, d) positions without drift, interval."""

    species: NDArray[np.int32]
    positions: FloatArray
    interval: float


class Source(Protocol):
    """Data that can be measured on.

    Attributes:
        facts: What all frames share.
    """

    facts: Facts

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        """Up to `most` configurations, evenly spread."""

    def moves(self, show: Callable[[int, int], None]) -> Iterator[Moved]:
        """Every pair of frames that is compared; `show` is told how many frames of how many have been read."""

    def stretches(self) -> list[Stretch]:
        """What hops are looked for in, once all of :meth:`moves` has been taken; nothing where frames allow none."""

    def mobility(self, lag: int, most: int) -> Iterator[tuple[Configuration, FloatArray]]:
        """Up to `most` configurations and displacements after a lag."""
