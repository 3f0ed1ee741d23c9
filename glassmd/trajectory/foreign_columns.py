"""What frames of every foreign format share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import TrajectoryError

__all__ = ["dimensions_of", "others_of", "require_periodic"]


def others_of(arrays: Any, known: set[str], order: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Columns that are nothing of ours, kept for whoever writes the frame again."""
    ours = {"numbers", "positions", *known}
    return {
        f"particles/{name.removeprefix('c_')}": np.asarray(of)[order]
        for name, of in arrays.items()
        if name not in ours and np.asarray(of).dtype.kind in "iuf"
    }


def dimensions_of(positions: NDArray[np.float64]) -> int:
    """2 where all particles lie in one plane z = const."""
    return 2 if len(positions) > 3 and np.ptp(positions[:, 2]) == 0 else 3


def require_periodic(pbc: Any, positions: NDArray[np.float64]) -> None:
    """Refuse open boundaries.

    Raises:
        TrajectoryError: A direction that particles are spread in is not periodic.
    """
    if not all(pbc[: dimensions_of(positions)]):
        raise TrajectoryError(f"found boundaries {['open', 'periodic'][int(pbc[0])]}, …", "periodic ones (pp)")
