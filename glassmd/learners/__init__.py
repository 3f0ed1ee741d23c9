"""Learners that predict propensities, one file each, by name.

A learner is imported when it is asked for: some bring libraries that take seconds to load. Installed packages add
theirs as entry points of the group :data:`GROUP`, `name = "module:Class"`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from glassmd.errors import ModelError
from glassmd.learners.base import PropensityModel

__all__ = ["GROUP", "LEARNERS", "known_learners", "make_model", "model_class"]

GROUP = "glassmd.learners"
"""Where installed packages register learners; a name of :data:`LEARNERS` stays ours."""

LEARNERS: dict[str, str] = {
    "density": "linear.scalar:DensityModel",
    "potential-energy": "linear.scalar:PotentialEnergyModel",
    "debye-waller": "linear.scalar:DebyeWallerModel",
    "ridge": "linear.ridge:RidgeModel",
    "cage": "linear.cage:CageModel",
    "glassnet": "glassnet.glassnet:GlassNet",
    "bapst": "networks.bapst:BapstModel",
    "botan": "networks.botan:BotanModel",
    "se3": "networks.se3:SE3Model",
    "glassmlp": "networks.glassmlp:GlassMLPModel",
    "softness": "linear.softness:SoftnessModel",
    "softness-regression": "linear.softness:SoftnessRegressionModel",
}
"""Our learners by the name that `--model` takes: module here and class."""

_OF_OTHERS = {"tuned": "linear.tuned:TunedModel"}
"""Learners that begin with a trained model, which `--from` takes."""


def known_learners() -> dict[str, EntryPoint]:
    """Every learner by name: ours, then those of installed packages.

    Example:
        >>> list(known_learners())[:3]
        ['density', 'potential-energy', 'debye-waller']
    """
    ours = {name: EntryPoint(name, f"{__name__}.{place}", GROUP) for name, place in LEARNERS.items()}
    return {**{found.name: found for found in sorted(entry_points(group=GROUP))}, **ours}


def model_class(name: str) -> type[PropensityModel]:
    """The class of a learner.

    Raises:
        ModelError: Unknown name, with the nearest match; or what an installed package registered is no learner.

    Example:
        >>> model_class("bapst").default_inputs
        ('thermal',)
    """
    if name in _OF_OTHERS:
        begun: type[PropensityModel] = EntryPoint(name, f"{__name__}.{_OF_OTHERS[name]}", GROUP).load()
        return begun
    known = known_learners()
    if name not in known:
        raise ModelError(f"found model {name!r}", f"one of {', '.join(known)}", _nearest(name, known))
    if name in LEARNERS:
        ours: type[PropensityModel] = known[name].load()
        return ours
    return _of_a_package(known[name])


def _of_a_package(place: EntryPoint) -> type[PropensityModel]:
    origin = f"{place.value} of {place.dist.name}" if place.dist is not None else place.value
    try:
        found = place.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        raise ModelError(
            f"could not import model {place.name!r} from {origin}: {error!r}", "a class that can be imported",
            "mend or uninstall that package",
        ) from error  # fmt: skip
    if not (inspect.isclass(found) and issubclass(found, PropensityModel) and not inspect.isabstract(found)):
        raise ModelError(
            f"found {origin} registered as model {place.name!r}", "a subclass of PropensityModel with all its methods",
            "see CONTRIBUTING.md",
        )  # fmt: skip
    return found


def make_model(name: str, **hyperparameters: Any) -> PropensityModel:
    """A learner with fresh weights, drawn from torch's global generator.

    Args:
        name: One of :func:`known_learners`.
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
