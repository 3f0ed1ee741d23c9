"""Is this a liquid that a model knows? Asked before anything slow is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.mixtures import mixture_of
from glassmd.models.card import ModelCard
from glassmd.models.domain import Domain, Finding, kinetic_temperature

__all__ = ["Guarded", "TemperatureFrom", "estimated", "guard", "temperature_of", "temperature_of_frames"]

FloatArray = NDArray[np.float64]
TemperatureFrom = Literal["told", "velocities", "structure", "model"]

_TOLERANCE = 3.0  # standard errors by which an estimated temperature may miss
_STRUCTURE_ERROR = 0.8
"""√N times the relative error of a temperature that is estimated from the structure: 2.5% at N = 1000 (found on 18
liquids at T = 0.64, and 1.1% on four of N = 4096 at T = 0.44)."""


@dataclass(frozen=True)
class Guarded:
    """A configuration beside what a model has seen.

    Attributes:
        temperature: That the prediction is for, ε_AA.
        temperature_from: Who says so.
        findings: What the training had not seen, the worst first.
        distance: (n_particles,) of each particle's surroundings, 1 for what one in a thousand of the training exceeds;
            0 where nobody knows.
        extrapolated: ln T beyond the training's temperatures, 0 within.
    """

    temperature: float
    temperature_from: TemperatureFrom
    findings: list[Finding] = field(default_factory=list)
    distance: FloatArray = field(default_factory=lambda: np.zeros(0))
    extrapolated: float = 0.0

    @property
    def outside(self) -> list[Finding]:
        """Reasons not to predict."""
        return [one for one in self.findings if one.severity == "outside"]

    def warnings(self) -> list[str]:
        """In words: what was not seen, and a temperature that nobody told."""
        return [*map(str, self.findings), *estimated(self.temperature, self.temperature_from)]


def estimated(temperature: float, told_by: TemperatureFrom) -> list[str]:
    """In words, that nobody told a temperature."""
    said = f"T = {temperature:.3g} was estimated from the {told_by}"
    return [said] if told_by in ("velocities", "structure") else []


def guard(card: ModelCard, configuration: Configuration, temperature: float | None = None) -> Guarded:
    """Compare a configuration with the training of a model.

    Args:
        card: Of the model.
        configuration: Of its species and dimension.
        temperature: k_B T / ε_AA, where somebody knows it.

    Raises:
        ModelError: Nobody knows the temperature, and nothing tells it.
    """
    mixture = mixture_of(card.mixture)
    domain = card.domain or Domain(density=[card.density] * 2, composition={}, temperatures=sorted(card.temperatures))
    findings = domain.compare(configuration)
    known, told_by = temperature_of(card, configuration, temperature)
    findings += domain.compare_temperature(known)
    distance = np.zeros(configuration.n_particles)
    if not any(one.severity == "outside" for one in findings):
        surroundings, distance = domain.compare_structure(configuration, mixture, known)
        findings += surroundings
    low, high = domain.temperatures[0], domain.temperatures[-1]
    return Guarded(
        known,
        told_by,
        sorted(findings, key=lambda one: one.severity == "edge"),
        distance,
        max(0.0, math.log(low / known), math.log(known / high)),
    )


def temperature_of(
    card: ModelCard, configuration: Configuration, temperature: float | None = None
) -> tuple[float, TemperatureFrom]:
    """The temperature of a configuration, ε_AA, and who says so.

    What is told counts; then its velocities; then its structure, where the model knows structures at several
    temperatures; then the only temperature of the model, which the structure is compared at.

    Raises:
        ModelError: Nothing tells it.
    """
    if temperature is not None:
        return temperature, "told"
    return temperature_of_frames(card, [configuration])[:2]


def temperature_of_frames(
    card: ModelCard, configurations: Iterable[Configuration]
) -> tuple[float, TemperatureFrom, list[str]]:
    """The temperature of configurations of one liquid, at least one: the mean of what :func:`temperature_of` finds.

    Returns:
        ε_AA, who says so, and a warning where they differ by more than their errors: they are not one liquid.

    Raises:
        ModelError: Nothing tells it.
    """
    found: dict[TemperatureFrom, list[tuple[float, float]]] = {}
    for configuration in configurations:
        told_by, temperature, error = _estimated(card, configuration)
        found.setdefault(told_by, []).append((temperature, error))
    best: TemperatureFrom = next(name for name in get_args(TemperatureFrom) if name in found)
    estimates, errors = (np.array(of) for of in zip(*found[best], strict=True))
    mean, error = float(estimates.mean()), float(errors.mean())
    temperature = _drawn_in(mean, error, min(card.temperatures), max(card.temperatures))
    if len(estimates) == 1 or estimates.std(ddof=1) <= _TOLERANCE * error * mean:
        return temperature, best, []
    told = f"the frames are at T = {estimates.min():.3g} to {estimates.max():.3g}, and were predicted as one liquid's"
    return temperature, best, [f"{told}: predict those of each temperature on their own, with --frames"]


def _estimated(card: ModelCard, configuration: Configuration) -> tuple[TemperatureFrom, float, float]:
    """What tells the temperature of a configuration, what it is, ε_AA, and its relative error."""
    mixture, n = mixture_of(card.mixture), configuration.n_particles
    low, high = min(card.temperatures), max(card.temperatures)
    found = kinetic_temperature(configuration, mixture)
    if found is not None:
        return "velocities", found, math.sqrt(2 / (configuration.dimensions * n))
    found = None if card.domain is None else card.domain.temperature_of(configuration, mixture)
    if found is not None:
        return "structure", found, _STRUCTURE_ERROR / math.sqrt(n)
    if low == high:
        return "model", low, 0.0
    trained = ", ".join(f"{t:g}" for t in card.temperatures)
    raise ModelError(
        f"found no temperature of the snapshot, and a model trained at {trained}",
        "the temperature of the liquid",
        f"try --temperature {low:g}",
    )


def _drawn_in(found: float, error: float, low: float, high: float) -> float:
    """An estimate with a relative error, moved to the nearest temperature of the training as far as that explains."""
    nearest = min(max(found, low), high)
    return nearest if abs(found / nearest - 1) <= _TOLERANCE * error else found
