"""Is this a liquid that a model knows? Asked before anything slow is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.mixtures import mixture_of
from glassmd.models.card import ModelCard
from glassmd.models.domain import Domain, Finding, kinetic_temperature

__all__ = ["Guarded", "TemperatureFrom", "guard", "temperature_of"]

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
        told = [str(one) for one in self.findings]
        if self.temperature_from in ("velocities", "structure"):
            told.append(f"T = {self.temperature:.3g} was estimated from the {self.temperature_from}")
        return told


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
    mixture, n = mixture_of(card.mixture), configuration.n_particles
    low, high = min(card.temperatures), max(card.temperatures)
    found = kinetic_temperature(configuration, mixture)
    if found is not None:
        error = math.sqrt(2 / (configuration.dimensions * n))
        return _drawn_in(found, error, low, high), "velocities"
    found = None if card.domain is None else card.domain.temperature_of(configuration, mixture)
    if found is not None:
        return _drawn_in(found, _STRUCTURE_ERROR / math.sqrt(n), low, high), "structure"
    if low == high:
        return low, "model"
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
