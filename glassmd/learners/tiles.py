"""Predictions of snapshots that memory has no room for: tile by tile, each with as much around it as the learner sees.

A tile is cut out of the periodic box with everything within :meth:`~.base.PropensityModel.reach` of it, and a little
more for how far derived positions lie from the thermal ones. Where it is cut its surroundings are wrong, and what is
wrong stays within the halo. Tiles are independent of each other: every core computes one at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.structure import INPUTS, Rattling, Structure

if TYPE_CHECKING:
    from glassmd.learners.base import PropensityModel

__all__ = ["GIB", "Check", "Passed", "in_parts", "require_memory"]

FloatArray = NDArray[np.float64]
Check = Callable[[], None] | None

GIB = 2.0**30

_GAP = 1.5
"""Between the two sides of what was cut out, which a periodic box brings together, σ_AA: no pair is nearer."""

_MOST = 64
"""Tiles along an axis."""


class Passed(NamedTuple):
    """What a learner says.

    Attributes:
        values: (n_particles, n_times), on the CPU.
        spread: (n_particles, n_times), or None where it does not know.
        parts: Into how many parts the snapshot was divided.
    """

    values: Tensor
    spread: Tensor | None
    parts: int


def require_memory(memory: float, needed: float, n_particles: int) -> None:
    """Refuse what does not fit, bytes.

    Raises:
        ModelError: More is needed.
    """
    if needed > memory:
        raise ModelError(
            f"found {memory / GIB:.3g} GiB of memory to predict {n_particles:,} particles in",
            f"at least {needed / GIB:.3g} GiB",
            f"try --memory {math.ceil(needed / GIB * 10) / 10:g}",
        )
