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
from glassmd.mixtures import Mixture, mixture_of
from glassmd.models.card import ModelCard
from glassmd.models.domain import Domain, Finding, kinetic_temperature

__all__ = [
    "Guarded",
    "Temperature",
    "TemperatureFrom",
    "guard",
    "require_temperature",
    "temperature_of",
    "temperature_of_frames",
]

FloatArray = NDArray[np.float64]
TemperatureFrom = Literal["told", "velocities", "structure", "model"]

_TOLERANCE = 3.0  # standard errors by which an estimated temperature may miss
_CONTRADICTION = 4.0  # standard errors by which velocities may miss what is told: more than one in 10⁴ does by chance
_STRUCTURE_ERROR = 1.1
"""√N times the relative error of a temperature that is estimated from the structure: 3.5% at N = 1000 (root mean square
2.0 to 4.4% on twelve liquids each at seven temperatures, docs/pretrained.md)."""


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
        temperature_error: Standard error of an estimated temperature, ε_AA; 0 of one that was told.
        contradicted: In words, that the velocities tell another temperature than was told.
    """

    temperature: float
    temperature_from: TemperatureFrom
    findings: list[Finding] = field(default_factory=list)
    distance: FloatArray = field(default_factory=lambda: np.zeros(0))
    extrapolated: float = 0.0
    temperature_error: float = 0.0
    contradicted: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[Finding]:
        """Reasons not to predict."""
        return [one for one in self.findings if one.severity == "outside"]

    def warnings(self) -> list[str]:
        """In words: what was not seen, and a temperature that nobody told."""
        known = Temperature(self.temperature, self.temperature_from, self.temperature_error)
        return [*map(str, self.findings), *self.contradicted, *known.warnings()]


@dataclass(frozen=True)
class Temperature:
    """That of a liquid, or of several frames of one.

    Attributes:
        value: ε_AA.
        told_by: Who says so.
        error: Standard error of an estimate, ε_AA.
        differ: In words, that the frames are not of one temperature.
    """

    value: float
    told_by: TemperatureFrom
    error: float = 0.0
    differ: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """In words, that nobody told it."""
        said = f"T = {self.value:.3g} ± {self.error:.1g} was estimated from the {self.told_by}"
        return [*self.differ, *([said] if self.told_by in ("velocities", "structure") else [])]


def guard(card: ModelCard, configuration: Configuration, temperature: float | None = None) -> Guarded:
    """Compare a configuration with the training of a model.

    Args:
        card: Of the model.
        configuration: Of its species and dimension.
        temperature: k_B T / ε_AA, where somebody knows it.

    Raises:
        ModelError: Nobody knows the temperature, and nothing tells it; or it is none.
    """
    mixture = mixture_of(card.mixture)
    domain = card.domain or Domain(density=[card.density] * 2, composition={}, temperatures=sorted(card.temperatures))
    findings = domain.compare(configuration)
    of = temperature_of(card, configuration, temperature)
    known = of.value
    findings += domain.compare_temperature(known)
    distance = np.zeros(configuration.n_particles)
    if not any(one.severity == "outside" for one in findings):
        surroundings, distance = domain.compare_structure(configuration, mixture, known)
        findings += surroundings
    low, high = domain.temperatures[0], domain.temperatures[-1]
    return Guarded(
        known,
        of.told_by,
        sorted(findings, key=lambda one: one.severity == "edge"),
        distance,
        max(0.0, math.log(low / known), math.log(known / high)),
        of.error,
        [] if temperature is None else _contradicted(configuration, mixture, temperature),
    )


def require_temperature(temperature: float) -> None:
    """Refuse what is no temperature.

    Raises:
        ModelError: It is not above 0, or not finite.
    """
    if not 0 < temperature < math.inf:
        raise ModelError(f"found temperature {temperature:g}", "one above 0, in ε_AA", "change --temperature")


def _contradicted(configuration: Configuration, mixture: Mixture, temperature: float) -> list[str]:
    found = kinetic_temperature(configuration, mixture)
    error = _kinetic_error(configuration)
    if found is None or abs(found / temperature - 1) <= _CONTRADICTION * error:
        return []
    return [f"the velocities say T = {found:.3g} ± {error * temperature:.1g} where T = {temperature:.3g} was told"]


def _kinetic_error(configuration: Configuration) -> float:
    """Relative standard error of a temperature that velocities tell."""
    return math.sqrt(2 / (configuration.dimensions * configuration.n_particles))


def temperature_of(card: ModelCard, configuration: Configuration, temperature: float | None = None) -> Temperature:
    """The temperature of a configuration.

    What is told counts; then its velocities; then its structure, where the model knows structures at several
    temperatures; then the only temperature of the model, which the structure is compared at.

    Raises:
        ModelError: Nothing tells it, or it is none.
    """
    if temperature is not None:
        require_temperature(temperature)
        return Temperature(temperature, "told")
    return temperature_of_frames(card, [configuration])


def temperature_of_frames(card: ModelCard, configurations: Iterable[Configuration]) -> Temperature:
    """The temperature of configurations of one liquid, at least one: the mean of what :func:`temperature_of` finds.

    Its error is that of one frame: frames of a short trajectory are alike.

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
        return Temperature(temperature, best, error * temperature)
    told = f"the frames are at T = {estimates.min():.3g} to {estimates.max():.3g}, and were predicted as one liquid's"
    told += ": predict those of each temperature on their own, with --frames"
    return Temperature(temperature, best, error * temperature, [told])


def _estimated(card: ModelCard, configuration: Configuration) -> tuple[TemperatureFrom, float, float]:
    """What tells the temperature of a configuration, what it is, ε_AA, and its relative error."""
    mixture, n = mixture_of(card.mixture), configuration.n_particles
    low, high = min(card.temperatures), max(card.temperatures)
    found = kinetic_temperature(configuration, mixture)
    if found is not None:
        return "velocities", found, _kinetic_error(configuration)
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
