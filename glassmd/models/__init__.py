"""Networks that predict propensities, one file each, by name."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from glassmd.errors import ModelError
from glassmd.models.bapst import BapstModel
from glassmd.models.base import PropensityModel

__all__ = ["MODELS", "make_model"]

MODELS: dict[str, type[PropensityModel]] = {BapstModel.name: BapstModel}
"""Every network by the name that `--model` takes."""


def make_model(name: str, **hyperparameters: Any) -> PropensityModel:
    """A network with fresh weights, drawn from torch's global generator.

    Args:
        name: One of :data:`MODELS`.
        hyperparameters: Arguments of its constructor, as `hyperparameters()` gives them.

    Raises:
        ModelError: Unknown name or hyperparameter, with the nearest match.

    Example:
        >>> model = make_model("bapst", n_times=3)
        >>> sum(weights.numel() for weights in model.parameters())
        62531
    """
    if name not in MODELS:
        raise ModelError(f"found model {name!r}", f"one of {', '.join(MODELS)}", _nearest(name, MODELS))
    known = inspect.signature(MODELS[name]).parameters
    for key in hyperparameters:
        if key not in known:
            raise ModelError(
                f"found hyperparameter {key!r} of model {name}",
                f"one of {', '.join(known)}",
                _nearest(key, known),
            )
    return MODELS[name](**hyperparameters)


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
