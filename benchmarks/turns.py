"""Contestants that take turns, so that a machine shared with others slows all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Name = TypeVar("Name")
Rates = dict[Name, list[float]]
"""What every contestant reached in every round."""


def take_turns(contestants: Mapping[Name, Callable[[], float]], rounds: int) -> Rates[Name]:
    """Let every contestant run once per round.

    The order turns over from round to round: whoever runs second finds a warmer or a busier machine.

    Args:
        contestants: Each runs once and returns its rate.
        rounds: How often each of them runs.
    """
    rates: Rates[Name] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            rates[name].append(contestants[name]())
    return rates


def ratio(rates: Rates[Name], name: Name, to: Name) -> float:
    """Median over rounds of the ratio of two contestants' rates."""
    return round(statistics.median(a / b for a, b in zip(rates[name], rates[to], strict=True)), 4)


def rate(rates: Rates[Name], name: Name) -> dict[str, Any]:
    """Median, smallest and largest rate of a contestant."""
    reached = rates[name]
    return {"median": _short(statistics.median(reached)), "range": [_short(min(reached)), _short(max(reached))]}


def _short(value: float) -> float:
    return round(value, 1) if value < 1000 else float(round(value))
