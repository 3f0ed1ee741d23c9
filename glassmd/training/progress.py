"""What a training tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["TrainingProgress"]


@dataclass
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: Optimiser steps done, of `max_steps`.
        loss: Of the last step, in normalised units.
        rate: Steps per second, while not waiting.
        samples: Samples in the reservoir.
        segments: Segments read.
        pearson: Last validation: ρ of the first species by time.
        waiting: What the trainer waits for, or an empty string.
        waited: Seconds that it has waited, by what for.
    """

    step: int = 0
    max_steps: int = 0
    loss: float = float("nan")
    rate: float = 0.0
    samples: int = 0
    segments: int = 0
    pearson: list[float] = field(default_factory=list)
    waiting: str = ""
    waited: dict[str, float] = field(default_factory=dict)
