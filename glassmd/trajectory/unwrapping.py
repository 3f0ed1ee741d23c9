"""Particles followed through the faces of the box where a file has wrapped positions and no images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import minimum_image
from glassmd.errors import TrajectoryError

__all__ = ["MOST", "NearestImages"]

MOST = 0.3
"""Largest component of a move between two frames, in box lengths, up to which nearest images are trusted. Moves are at
most as broad as a Gaussian's whose largest of some thousand components is that; one beyond half a box, which would be
taken for its shorter image, is then 6 standard deviations away or more (10⁻⁹)."""


class NearestImages:
    """Unwraps frames given in their order: every particle went to the nearest image of where it is.

    Args:
        box: (d,) edges, σ_AA.

    Example:
        >>> follow = NearestImages(np.array([10.0, 10.0]))
        >>> [follow(np.array([[x, 0.0]]), "")[0].tolist() for x in (4.5, -4.0, -1.5)]
        [[4.5, 0.0], [6.0, 0.0], [8.5, 0.0]]
    """

    def __init__(self, box: NDArray[np.float64]) -> None:
        self._box = box
        self._last: NDArray[np.float64] | None = None

    def __call__(self, positions: NDArray[np.float64], what: str) -> NDArray[np.float64]:
        """Unwrapped positions of the next frame.

        Args:
            positions: (n_particles, d), wrapped or not, σ_AA.
            what: Which frame it is, for errors.

        Raises:
            TrajectoryError: A particle may have moved half a box since the last frame.
        """
        if self._last is None:
            self._last = positions.copy()
            return positions
        move = minimum_image(positions - self._last, self._box)
        largest = float(np.abs(move / self._box).max())
        if largest > MOST:
            raise TrajectoryError(
                f"{what} has wrapped positions without images, and a particle {largest:.2f} box lengths from where it "
                "was in the frame before",
                f"at most {MOST:g}, beyond which it may have gone the other way round",
                "write unwrapped positions or images (LAMMPS: xu yu zu or ix iy iz), or frames more often",
            )
        self._last = self._last + move
        return self._last
