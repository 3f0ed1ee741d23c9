"""What is left of replicas when only their rattling counts: sums of displacements over snapshots.

u is the displacement of a particle from the start, in the frame of the centre of mass. A replica of N particles seen at
50 times is 150 N positions; the sums are 12 N numbers: an engine that adds where the positions are has little to hand
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
    """How one system rattled over its snapshots.

    Attributes:
        system: Index into the systems given to `Engine.rattling`.
        mean: (n_particles, d) float64 ⟨u⟩, σ_AA.
        covariance: (n_particles, d, d) float64 ⟨(u − ⟨u⟩)(u − ⟨u⟩)ᵀ⟩, σ_AA².
    """

    system: int
    mean: FloatArray
    covariance: FloatArray


class RattlingSums:
    """Running sums of u and u uᵀ, of arrays of numpy or of torch, wherever these are.

    Args:
        n_snapshots: That will be added.
        left_out: The first of them, which do not count.
    """

    def __init__(self, n_snapshots: int, left_out: int) -> None:
        self._n_snapshots, self._left_out, self._seen = n_snapshots, left_out, 0
        self._total: Any = 0.0
        self._dyads: Any = 0.0

    def add(self, displacements: Any) -> None:
        """Take in the next snapshot, (..., n_particles, d), σ_AA."""
        self._seen += 1
        if self._seen > self._left_out:
            self._total += displacements
            self._dyads += displacements[..., :, None] * displacements[..., None, :]

    @property
    def complete(self) -> bool:
        """Whether all snapshots are in."""
        return self._seen == self._n_snapshots

    @property
    def arrays(self) -> tuple[Any, Any]:
        """Σ u and Σ u uᵀ, as they were added."""
        return self._total, self._dyads

    def rattled(self, system: int, total: FloatArray, dyads: FloatArray) -> Rattled:
        """Of one system, whose :attr:`arrays` these are, in the order of its particles.

        Displacements are small, so that the difference of the sums loses nothing.
        """
        count = self._n_snapshots - self._left_out
        mean = np.asarray(total / count)
        return Rattled(system, mean, np.asarray(dyads / count - mean[:, :, None] * mean[:, None, :]))


def require_snapshots(n_snapshots: int, left_out: int) -> None:
    """Refuse snapshots none of which counts.

    Raises:
        EngineError: What was found instead of what `Engine.rattling` asks for.
    """
    if not 0 <= left_out < n_snapshots:
        raise EngineError(
            f"found {n_snapshots} snapshots of which {left_out} are left out", "at least one that is not left out"
        )
