"""What models know, without loading what computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassmd.models.card import ModelCard
from glassmd.models.family import inputs_of_card, member_directories, read_cards
from glassmd.models.known import about, known_models
from glassmd.target import quantity
from glassmd.time_unit import REDUCED

__all__ = ["every_known_model", "facts_of_models"]


def every_known_model() -> list[dict[str, Any]]:
    """What `glassmd models --json` prints: :func:`facts_of_models` of each, with its name."""
    return [{"name": name, **facts_of_models(directory)} for name, directory in known_models().items()]


def facts_of_models(directory: Path) -> dict[str, Any]:
    """What a directory of models that belong together says of itself (JSON types only).

    Args:
        directory: Of one model or of several.

    Raises:
        ModelError: One is missing or damaged.
    """
    places, cards = member_directories(directory), read_cards(directory)
    first, told = cards[0], about(directory)
    every = [temperature for card in cards for temperature in card.temperatures]
    return {
        "kind": "models",
        "path": str(directory),
        **({} if told is None else {"version": told.version, "licence": told.licence, "summary": told.summary}),
        "mixture": first.mixture["name"],
        "truncations": [first.mixture["truncation"], *first.truncations],
        "dimensions": first.mixture["dimensions"],
        "temperatures": [min(every), max(every)],
        "density": first.density,
        "target": first.target,
        "unit": quantity(first.target).unit,
        "members": {place.name: _member(card) for place, card in zip(places, cards, strict=True)},
        "bytes": sum(file.stat().st_size for place in places for file in place.iterdir() if file.is_file()),
        **({} if first.domain is None else {"has_seen": first.domain.told()}),
        **({} if told is None else {"states": [state.model_dump() for state in told.states]}),
        **({} if told is None else {"scores": [score.model_dump() for score in told.scores]}),
    }


def _member(card: ModelCard) -> dict[str, Any]:
    unit = "" if card.time_unit == REDUCED else " τ_α"
    return {
        "model": card.model,
        "inputs": list(inputs_of_card(card)),
        "times": f"{card.times[0]:g} to {card.times[-1]:g}{unit}",
    }
