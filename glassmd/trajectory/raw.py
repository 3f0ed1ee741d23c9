"""What a file says of one instant, before anybody has checked it: the one thing that a reader of a format makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameSource", "RawFrame"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One instant as a file has it. Particles are in the order of their ids.

    Attributes:
        lengths: (3,) float64 edges of the box, in the file's unit of length.
        tilts: (3,) xy, xz, yz; zero in an orthorhombic box.
        lowest: (3,) float64 lower corner of the box.
        dimensions: 2 or 3.
        types: (n_particles,) int32 index into `type_names`.
        type_names: As the file has them.
        positions: (n_particles, 3) float64.
        images: (n_particles, 3) int32, how often each particle left the box; None where the file does not say.
        unwrapped: Whether `positions` go on through the faces of the box.
        velocities: (n_particles, 3) float64, or None.
        masses: (n_particles,) float64, or None.
        step: Step number, or None.
        time: Time as the file has it, or None.
        log: Other arrays by name.
    """

    lengths: FloatArray
    tilts: FloatArray
    lowest: FloatArray
    dimensions: int
    types: NDArray[np.int32]
    type_names: tuple[str, ...]
    positions: FloatArray
    images: NDArray[np.int32] | None = None
    unwrapped: bool = False
    velocities: FloatArray | None = None
    masses: FloatArray | None = None
    step: int | None = None
    time: float | None = None
    log: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class FrameSource(Protocol):
    """A file of some format, open for reading: frame by frame, in any order.

    Attributes:
        path: The file.
        format: Its name, for people.
        notes: What should be known of the file.
    """

    path: Path
    format: str
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Complete frames."""

    def read(self, number: int) -> RawFrame:
        """Frame `number`, from 0.

        Raises:
            TrajectoryError: It is damaged.
        """

    def steps(self) -> NDArray[np.int64] | None:
        """Step numbers of all frames where they can be had without reading every frame; else None."""

    def close(self) -> None:
        """Let go of the file."""
