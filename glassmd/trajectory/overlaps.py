"""Are there particles that sit on each other? Then box or units are wrong, and every pair quantity with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glassmd.configuration import Configuration
from glassmd.errors import TrajectoryError
from glassmd.neighbour_search import pairs_within

__all__ = ["OVERLAP", "check_overlaps"]

OVERLAP = 0.3
"""Closest distance accepted in a snapshot, σ_AA. A pair with σ = 0.8 and ε = 1.5 has an energy of 8·10^5 there."""


def check_overlaps(path: Path, configuration: Configuration) -> None:
    """Refuse a snapshot in which two particles sit on each other.

    Raises:
        TrajectoryError: Naming the closest pair.
    """
    i, j, distance, _ = pairs_within(configuration.positions, configuration.box, OVERLAP)
    if len(distance):
        worst = int(np.argmin(distance))
        raise TrajectoryError(
            f"{path} has overlapping particles: {int(i[worst])} and {int(j[worst])} are {distance[worst]:.3g} apart",
            f"distances above {OVERLAP:g} σ_AA",
            "check the box and the units",
        )
