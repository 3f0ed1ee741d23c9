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

__all__ = ["Frame", "encode_identity"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a GSD file.

    Attributes:
        configuration: Particles and box.
        step: Time step number.
        log: Logged arrays by name, without the leading `log/`.
    """

    configuration: Configuration
    step: int = 0
    log: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any] | None:
        """Mixture and temperature stored by glassmd, or None in a foreign file."""
        raw = self.log.get(GSD_IDENTITY)
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
