"""How often a training draws each sample, and how many must be there before the first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey
from glassmd.training.choices import Resolved
from glassmd.training.source import SampleSource

__all__ = ["keep_to_budget", "reservoir_of"]

_REDRAW = 200.0  # more steps per sample than most trainings take
_FIRST = 10  # samples of a long stream before the first step


def reservoir_of(
    settings: Resolved,
    source: SampleSource,
    recall: Callable[[SampleKey], Sample],
    *,
    seed: int,
    follow: bool,
    own_core: bool,
    batch: int,
) -> Reservoir:
    """What a training draws from.

    Args:
        settings: How often each sample may be drawn, how often it must be, and how many are in memory.
        source: Where samples come from.
        recall: Reads a sample again, as the learner has taken it.
        seed: Of the draws.
        follow: Whether the source still grows: else nobody is waited for.
        own_core: Whether the trainer takes nothing from the simulations when it draws again rather than wait.
        batch: Samples of a step, of all processes.
    """
    draws = np.random.default_rng([seed, 2])
    if not follow:
        return Reservoir(settings.reservoir, recall, settings.watermark or 1, generator=draws)
    unlimited = own_core and settings.max_reuse is None
    return Reservoir(
        settings.reservoir,
        recall,
        _watermark(settings, source),
        _reuse(settings, source, batch),
        draws,
        settings.min_reuse,
        (_REDRAW if unlimited else 0.0) if settings.redraw is None else settings.redraw,
    )


def keep_to_budget(reservoir: Reservoir, settings: Resolved, source: SampleSource, batch: int) -> None:
    """Where a budget ends the simulation: draws in proportion to what is spent of it."""
    share = source.budget_share
    if settings.max_reuse is None and share is not None and reservoir.produced:
        reservoir.max_reuse = share * settings.max_steps * batch / reservoir.produced


def _reuse(settings: Resolved, source: SampleSource, batch: int) -> float | None:
    """Draws per sample: as asked for, or such that the last step is taken when the last sample is there."""
    expected = source.n_expected
    if settings.max_reuse is not None or expected is None:
        return settings.max_reuse
    return max(1.0, settings.max_steps * batch / max(expected, 1))


def _watermark(settings: Resolved, source: SampleSource) -> int:
    """Samples before the first step: as asked for, or enough not to learn one by heart."""
    if settings.watermark is not None:
        return settings.watermark
    return min(_FIRST, -(-(source.n_expected or 1) // 10))
