"""Every random number of a run follows from (run seed, lineage, parent, replica)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "momentum_seed", "thermostat_seed"]


class Purpose(IntEnum):
    """What a seed is for, so that no two uses share a stream."""

    EQUILIBRATION = 0
    REPLICA = 1
    SPACING = 2


def _state(seed: int, purpose: Purpose, lineage: int, parent: int, replica: int) -> tuple[int, int]:
    sequence = np.random.SeedSequence([seed, int(purpose), lineage, parent, replica])
    first, second = sequence.generate_state(2, np.uint64)
    return int(first), int(second)


def momentum_seed(seed: int, purpose: Purpose, lineage: int, parent: int = 0, replica: int = 0) -> int:
    """Seed of the generator that draws a system's momenta, 0 … 2^63−1.

    Example:
        >>> momentum_seed(1, Purpose.REPLICA, 0, 0, 0) != momentum_seed(1, Purpose.REPLICA, 0, 0, 1)
        True
    """
    return _state(seed, purpose, lineage, parent, replica)[0] >> 1


def thermostat_seed(seed: int, purpose: Purpose, lineage: int, parent: int = 0, replica: int = 0) -> int:
    """Seed of a system's thermostat, 0 … 2^63−1."""
    return _state(seed, purpose, lineage, parent, replica)[1] >> 1
