"""Models that belong together: they know the same liquid from other inputs, or from other times on.

A cage may last a tenth of the shortest time that is predicted from it, so that what is best at long times says nothing
of short ones; and where there is no engine, neither cages nor inherent structures can be made. So a directory may hold
several models, and each time is predicted by the one that suits it best: the one that begins latest, then the one that
sees most. Where one begins it takes over from the one before within a quarter of its first time, so that predictions
are continuous functions of the time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ModelError
from glassmd.models.card import ModelCard
from glassmd.models.clock import AskedTimes, asked_times, knows_time
from glassmd.models.reading import CARD_FILE, read_card

__all__ = [
    "Plan",
    "inputs_of_card",
    "known_spans",
    "member_directories",
    "numbers_that_see",
    "plan_of",
    "read_cards",
    "require_alike",
]

FloatArray = NDArray[np.float64]

_TAKES_OVER = 1.25
"""From the first time of a model on: the one that begins earlier is less accurate (docs/pretrained.md)."""
_SAME_BEGINNING = 1.02


def member_directories(directory: Path) -> list[Path]:
    """A model directory itself, or the model directories in it, by name.

    Raises:
        ModelError: Neither is one.
    """
    if not directory.is_dir() or (directory / CARD_FILE).exists():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"*/{CARD_FILE}")) or [directory]


def read_cards(directory: Path) -> list[ModelCard]:
    """The cards of the models in a directory, without loading what computes.

    Raises:
        ModelError: There is none, one is damaged, or they are of different liquids or targets.
    """
    found = [read_card(path)[0] for path in member_directories(directory)]
    require_alike(found)
    return found


def require_alike(cards: Sequence[ModelCard]) -> None:
    """Refuse models that do not belong together.

    Raises:
        ModelError: They are of different liquids or targets.
    """
    for card in cards[1:]:
        cards[0].check_mixture(card.mixture)
        cards[0].check_target(card.target)


def inputs_of_card(card: ModelCard) -> tuple[str, ...]:
    """What a model sees; learners of earlier versions do not say, and saw thermal positions."""
    return tuple(card.hyperparameters.get("inputs") or ("thermal",))


def numbers_that_see(cards: Sequence[ModelCard], inputs: Collection[str] | None) -> list[int]:
    """Those of several models that see nothing but some inputs; all of them where nobody asks.

    Raises:
        ModelError: None of them does.
    """
    found = [k for k, card in enumerate(cards) if inputs is None or set(inputs_of_card(card)) <= set(inputs)]
    if not found and inputs is not None:
        every = "; ".join(dict.fromkeys(",".join(inputs_of_card(card)) for card in cards))
        raise ModelError(f"found input {','.join(inputs)}", f"what one of the models sees: {every}", "change --input")
    return found


@dataclass(frozen=True)
class Plan:
    """Which model predicts which time.

    Attributes:
        times: √(mσ²/ε).
        parts: By number of the model: at which of its times, and (n_times,) how much it counts at each of `times`.
            Models that count nowhere are left out.
    """

    times: list[float]
    parts: dict[int, tuple[AskedTimes, FloatArray]]

    def together(self, found: dict[int, FloatArray]) -> FloatArray:
        """(n_times, n_particles) of all models, from (n_own_times, n_particles) of each."""
        n = next(iter(found.values())).shape[1]
        total = np.zeros((len(self.times), n))
        for number, (asked, weight) in self.parts.items():
            rows = np.flatnonzero(weight > 0)
            own = AskedTimes([self.times[row] for row in rows], asked.own)
            total[rows] += weight[rows, None] * own.of(found[number])
        return total


def plan_of(
    cards: Sequence[ModelCard],
    inputs: Sequence[Sequence[str]],
    temperature: float,
    times: Sequence[float] | None = None,
) -> Plan:
    """Which of some models predicts which time.

    Args:
        cards: Of models of one liquid, at least one.
        inputs: What each of them sees.
        temperature: ε_AA.
        times: √(mσ²/ε); by default all of the models' own that are predicted by the model that has them.

    Raises:
        ModelError: A time that no model knows, or no time.
    """
    if times is not None and not times:
        raise ModelError("found no times", "at least one", "change --times")
    if len(cards) == 1:
        asked = asked_times(cards[0], temperature, times)
        return Plan(asked.times, {0: (asked, np.ones(len(asked.times)))})
    every = [asked_times(card, temperature) for card in cards]
    if times is None:
        candidates = sorted({time for asked in every for time in asked.times})
        times = [
            time for time in candidates if (ranked := _ranked(every, inputs, time)) and time in every[ranked[0]].times
        ]
    weights = np.zeros((len(cards), len(times)))
    for column, time in enumerate(times):
        ranked = _ranked(every, inputs, time)
        if not ranked:
            raise ModelError(f"found time {time:g}", f"one from {known_spans(cards, temperature)}", "change --times")
        best, share = ranked[0], 1.0
        if len(ranked) > 1 and every[best].own[0] > _SAME_BEGINNING * every[ranked[1]].own[0]:
            share = min(1.0, max(0.0, math.log(time / every[best].own[0]) / math.log(_TAKES_OVER)))
            weights[ranked[1], column] = 1.0 - share
        weights[best, column] = share
    parts = {k: (every[k], weights[k]) for k in range(len(cards)) if (weights[k] > 0).any()}
    return Plan(list(times), parts)


def known_spans(cards: Sequence[ModelCard], temperature: float) -> str:
    """In words, which times some models know at a temperature, √(mσ²/ε)."""
    own = [asked_times(card, temperature).own for card in cards]
    spans = dict.fromkeys(f"{times[0]:.3g} to {times[-1]:.3g}" for times in own)
    return f"{' and '.join(spans)} at T = {temperature:.3g}"


def _ranked(every: Sequence[AskedTimes], inputs: Sequence[Sequence[str]], time: float) -> list[int]:
    """Numbers of the models that know a time, the most suitable first."""
    known = [k for k, asked in enumerate(every) if knows_time(time, asked.own)]
    return sorted(known, key=lambda k: (round(math.log(every[k].own[0]), 2), len(inputs[k])), reverse=True)
