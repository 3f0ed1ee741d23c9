"""Learners that predict propensities, one file each, by name.

A learner is imported when it is asked for: some bring libraries that take seconds to load.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from glassmd.errors import ModelError
from glassmd.models.base import PropensityModel

__all__ = ["DEFAULT_MODEL", "MODELS", "make_model", "model_class"]

MODELS: dict[str, tuple[str, str]] = {
    "density": ("baselines", "DensityModel"),
    "potential-energy": ("baselines", "PotentialEnergyModel"),
    "debye-waller": ("baselines", "DebyeWallerModel"),
    "ridge": ("ridge", "RidgeModel"),
    "cage": ("cage", "CageModel"),
    "glassnet": ("glassnet", "GlassNet"),
    "bapst": ("bapst", "BapstModel"),
    "botan": ("botan", "BotanModel"),
    "se3": ("se3", "SE3Model"),
    "glassmlp": ("glassmlp", "GlassMLPModel"),
    "softness": ("softness", "SoftnessModel"),
    "softness-regression": ("softness", "SoftnessRegressionModel"),
}
"""Every learner by the name that `--model` takes: its module here and its class."""

DEFAULT_MODEL = "glassnet"
"""What is trained where nobody chooses."""


def model_class(name: str) -> type[PropensityModel]:
    """The class of a learner.

    Raises:
        ModelError: Unknown name, with the nearest match.

    Example:
        >>> model_class("bapst").default_inputs
        ('thermal',)
    """
    if name not in MODELS:
        raise ModelError(f"found model {name!r}", f"one of {', '.join(MODELS)}", _nearest(name, MODELS))
    module, attribute = MODELS[name]
    found: type[PropensityModel] = getattr(import_module(f"glassmd.models.{module}"), attribute)
    return found


def make_model(name: str, **hyperparameters: Any) -> PropensityModel:
    """A learner with fresh weights, drawn from torch's global generator.

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
    chosen = model_class(name)
    known = inspect.signature(chosen).parameters
    for key in hyperparameters:
        if key not in known:
            raise ModelError(
                f"found hyperparameter {key!r} of model {name}",
                f"one of {', '.join(known)}",
                _nearest(key, known),
            )
    return chosen(**hyperparameters)


def _nearest(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
