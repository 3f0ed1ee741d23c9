"""What is left of replicas when only their rattling counts: sums of displacements over snapshots.

u is the displacement of a particle from the start, in the frame of the centre of mass. A replica of N particles seen at
50 times is 150 N positions; the sums are 20 N numbers: an engine that adds where the positions are has little to hand
over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import EngineError

__all__ = ["Rattled", "RattlingSums", "require_snapshots"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rattled:
    """Sums over the snapshots of one system; its first half is the shorter one where their number is odd.

    Attributes:
        system: Index into the systems given to `Engine.rattling`.
        count: Snapshots in the next two, those after a while.
        total: (n_particles, d) float64 Σ u, σ_AA.
        dyads: (n_particles, d, d) float64 Σ u uᵀ, σ_AA².
        half_counts: Snapshots in either half of all of them.
        half_totals: (2, n_particles, d) float64 Σ u of either half, σ_AA.
        half_squares: (2, n_particles) float64 Σ |u|² of either half, σ_AA².
    """

    system: int
    count: int
    total: FloatArray
    dyads: FloatArray
    half_counts: tuple[int, int]
    half_totals: FloatArray
    half_squares: FloatArray

    @property
    def mean(self) -> FloatArray:
        """(n_particles, d) ⟨u⟩ over the snapshots after a while, σ_AA."""
        return np.asarray(self.total / self.count)

    @property
    def covariance(self) -> FloatArray:
        """(n_particles, d, d) ⟨(u − ⟨u⟩)(u − ⟨u⟩)ᵀ⟩ over the same, σ_AA².

        Displacements are small, so that the difference of the sums loses nothing.
        """
        return np.asarray(self.dyads / self.count - self.mean[:, :, None] * self.mean[:, None, :])

    @property
    def p_hop(self) -> FloatArray:
        """(n_particles,) √(⟨|u − ⟨u⟩_B|²⟩_A · ⟨|u − ⟨u⟩_A|²⟩_B) of the two halves A, B, σ_AA².

        The mean square around another point is variance plus distance squared.
        """
        means = [total / count for total, count in zip(self.half_totals, self.half_counts, strict=True)]
        first, second = (
            np.maximum(squares / count - (mean**2).sum(axis=-1), 0.0)
            for squares, count, mean in zip(self.half_squares, self.half_counts, means, strict=True)
        )
        apart = ((means[0] - means[1]) ** 2).sum(axis=-1)
        return np.asarray(np.sqrt((first + apart) * (second + apart)))


class RattlingSums:
    """The running sums of :class:`Rattled`, of arrays of numpy or of torch, wherever these are.

    Args:
        n_snapshots: That will be added.
        left_out: The first of them, which count in the halves only.
    """

    def __init__(self, n_snapshots: int, left_out: int) -> None:
        self._n_snapshots, self._left_out, self._seen = n_snapshots, left_out, 0
        self._total: Any = 0.0
        self._dyads: Any = 0.0
        self._half_totals: list[Any] = [0.0, 0.0]
        self._half_squares: list[Any] = [0.0, 0.0]

    def add(self, displacements: Any) -> None:
        """Take in the next snapshot, (..., n_particles, d), σ_AA."""
        self._seen += 1
        half = int(2 * self._seen > self._n_snapshots)
        self._half_totals[half] += displacements
        self._half_squares[half] += (displacements**2).sum(-1)
        if self._seen > self._left_out:
            self._total += displacements
            self._dyads += displacements[..., :, None] * displacements[..., None, :]

    @property
    def complete(self) -> bool:
        """Whether all snapshots are in."""
        return self._seen == self._n_snapshots

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Σ u, Σ u uᵀ, Σ u of either half, Σ |u|² of either half, as they were added."""
        return (self._total, self._dyads, *self._half_totals, *self._half_squares)

    def rattled(self, system: int, arrays: tuple[FloatArray, ...]) -> Rattled:
        """Of one system, whose :attr:`arrays` these are, in the order of its particles."""
        total, dyads, first, second, first_squares, second_squares = arrays
        first_count = self._n_snapshots // 2
        return Rattled(
            system=system,
            count=self._n_snapshots - self._left_out,
            total=total,
            dyads=dyads,
            half_counts=(first_count, self._n_snapshots - first_count),
            half_totals=np.stack([first, second]),
            half_squares=np.stack([first_squares, second_squares]),
        )


def require_snapshots(n_snapshots: int, left_out: int) -> None:
    """Refuse snapshots that leave a half or a mean without any.

    Raises:
        EngineError: What was found instead of what `Engine.rattling` asks for.
    """
    if n_snapshots < 2 or not 0 <= left_out < n_snapshots:
        raise EngineError(
            f"found {n_snapshots} snapshots of which {left_out} are left out",
            "at least two, and one that is not left out",
        )
