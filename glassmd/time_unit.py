"""The unit of output times: √(mσ²/ε) as everywhere, or each liquid's own relaxation time."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Final, Literal

from glassmd.errors import InputError

__all__ = ["REDUCED", "TAU_ALPHA", "TimeUnit", "in_tau_alphas", "named_time", "shown_time", "time_axis"]

TimeUnit = Literal["reduced", "tau_alpha"]
REDUCED: Final = "reduced"
TAU_ALPHA: Final = "tau_alpha"

_PER_DECADE = 10


def in_tau_alphas(times: Sequence[float], tau_alpha: float) -> list[float]:
    """Times in units of τ_α, each the nearest of ten values a decade, so that different liquids share them.

    The values are 10^(k/10), rounded to two digits: 0.5, 0.63, 0.79, 1, 1.3 … A time is off by 13% at most.

    Args:
        times: √(mσ²/ε), in increasing order.
        tau_alpha: √(mσ²/ε).

    Raises:
        InputError: Two times have the same value.

    Example:
        >>> in_tau_alphas([8.0, 12.0, 16.0], 16.3)
        [0.5, 0.79, 1.0]
        >>> in_tau_alphas([412.0, 1300.0, 4120.0], 4100.0)
        [0.1, 0.32, 1.0]
    """
    found = [float(f"{10 ** (round(_PER_DECADE * log10(time / tau_alpha)) / _PER_DECADE):.2g}") for time in times]
    for first, second in zip(range(len(found)), range(1, len(found)), strict=False):
        if found[first] == found[second]:
            raise InputError(
                f"found times {times[first]:g} and {times[second]:g}, which are both {found[first]:g} τ_α",
                "times that lie further apart, at most ten a decade",
                "leave out time_unit=tau_alpha",
            )
    return found


def named_time(time: float, unit: TimeUnit = REDUCED) -> str:
    """A time as names of columns and tags have it.

    Example:
        >>> named_time(0.5), named_time(0.5, "tau_alpha")
        ('0.5', '0.5tau_alpha')
    """
    return f"{time:g}" + ("" if unit == REDUCED else TAU_ALPHA)


def shown_time(time: float, unit: TimeUnit = REDUCED) -> str:
    """A time for people to read.

    Example:
        >>> shown_time(0.5), shown_time(0.5, "tau_alpha")
        ('0.5', '0.5 τ_α')
    """
    return f"{time:g}" + ("" if unit == REDUCED else " τ_α")


def time_axis(unit: TimeUnit = REDUCED) -> str:
    """Label of an axis of times in figures.

    Example:
        >>> time_axis("tau_alpha")
        't / τ$_α$'
    """
    return "t / √(mσ²/ε)" if unit == REDUCED else "t / τ$_α$"
