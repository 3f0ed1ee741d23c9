"""One instant of a trajectory, whatever file it was read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import TrajectoryError
from glassmd.fields import GSD_IDENTITY

__all__ = ["Frame", "encode_identity", "identity_of"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a file.

    Attributes:
        configuration: Particles and box.
        step: Time step number.
        log: Logged arrays by name, without the leading `log/`.
        time: Since step 0, √(mσ²/ε), or in steps (:attr:`Trajectory.time_unit`); None where nobody has asked for it.
    """

    configuration: Configuration
    step: int = 0
    log: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    time: float | None = None

    @property
    def identity(self) -> dict[str, Any] | None:
        """Mixture and temperature stored by glassmd, or None in a foreign file."""
        return identity_of(self.log)


def identity_of(log: Mapping[str, NDArray[Any]]) -> dict[str, Any] | None:
    """Mixture and temperature in what was logged, or None where glassmd did not write it.

    Raises:
        TrajectoryError: It is damaged.
    """
    raw = log.get(GSD_IDENTITY)
    if raw is None:
        return None
    try:
        identity = json.loads(np.asarray(raw, np.uint8).tobytes().decode())
    except ValueError as error:
        raise TrajectoryError(f"found a damaged {GSD_IDENTITY} chunk", "JSON written by glassmd") from error
    return identity if isinstance(identity, dict) else None


def encode_identity(identity: Mapping[str, Any]) -> NDArray[np.uint8]:
    """JSON as a uint8 array, which every GSD reader takes."""
    return np.frombuffer(json.dumps(dict(identity)).encode(), np.uint8)
