"""Frames of a trajectory that become a parent and where its particles have gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.trajectory import Frame
from glassmd.trajectory.trajectory import Trajectory

__all__ = ["digest", "ends_of", "followed", "reaches"]

FloatArray = NDArray[np.float64]

_SAME = 1e-4  # relative


def reaches(trajectory: Trajectory, lags: Sequence[float]) -> bool:
    """Whether a frame has one after every lag."""
    return bool((ends_of(trajectory.times(), np.asarray(lags)) >= 0).all(axis=1).any())


def ends_of(times: FloatArray, lags: FloatArray) -> NDArray[np.int64]:
    """(n_frames, n_lags) frame that lies each lag after each frame; −1 where there is none."""
    if not len(times):
        return np.zeros((0, len(lags)), np.int64)
    wanted = times[:, None] + lags
    found = np.searchsorted(times, wanted - _SAME * lags)
    inside = np.minimum(found, len(times) - 1)
    return np.where(np.abs(times[inside] - wanted) <= _SAME * lags, inside, -1)


def followed(
    trajectory: Trajectory, wanted: Sequence[tuple[int, int, NDArray[np.int64]]]
) -> Iterator[tuple[int, Frame, list[Configuration]]]:
    """Parents and where their particles are after each lag: parent, its frame, and the ends."""
    if not trajectory.wrapped:
        for parent, begin, ends in wanted:
            yield parent, trajectory[begin], [trajectory[int(end)].configuration for end in ends]
        return
    kept: dict[int, Frame] = {}
    if wanted:
        begun = wanted[0][1]
        frames = enumerate(trajectory.frames(begun), begun)
    for parent, begin, ends in wanted:
        kept = {number: frame for number, frame in kept.items() if number >= begin}
        while max(kept, default=-1) < int(ends.max()):
            number, frame = next(frames)
            kept[number] = frame
        yield parent, kept[begin], [kept[int(end)].configuration for end in ends]


def digest(configuration: Configuration) -> str:
    """Of a first frame, the same in every format that keeps five digits."""
    rounded = np.round(configuration.positions, 4) + 0.0
    order = np.lexsort([*rounded.T, configuration.species])
    return hashlib.sha256(rounded[order].tobytes()).hexdigest()[:16]
