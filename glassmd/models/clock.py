"""Times of a model in √(mσ²/ε), at any temperature and between those that it learned.

A model of several temperatures has times in units of τ_α. Between its temperatures ln τ_α is interpolated as a function
of 1/T, in which it is a straight line for an Arrhenius liquid, by monotone cubic pieces (F. N. Fritsch and R. E.
Carlson, SIAM J. Numer. Anal. 17, 238 (1980)), and beyond them it goes on straight. So are predictions between the
model's times, as functions of ln t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ModelError
from glassmd.models.card import ModelCard

__all__ = ["AskedTimes", "asked_times", "beyond_measured", "knows_time", "tau_alpha_at", "unmeasured"]

FloatArray = NDArray[np.float64]

_SAME = 1e-4  # relative
_FARTHEST = 2.0  # ratio of two times of a model between which others may be interpolated
_BEYOND = 0.02  # by which a time may miss the first or the last: τ_α is not known better
_NEAR = 0.02  # relative: temperatures that are as good as one
_DIGITS = ".3g"


def tau_alpha_at(card: ModelCard, temperature: float) -> float | None:
    """Relaxation time of a model's liquid at a temperature, √(mσ²/ε); None for models with times in √(mσ²/ε).

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> card = ModelCard(model="ridge", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.5, 1.0],
        ...                  density=1.2, times=[1.0], trained_species=["A"], tau_alphas={"0.5": 100.0, "1": 1.0})
        >>> round(tau_alpha_at(card, 2 / 3), 6)  # half way in 1/T
        10.0
    """
    if not card.tau_alphas:
        return None
    known = sorted((1 / float(name), math.log(tau)) for name, tau in card.tau_alphas.items())
    x, y = (np.array(of) for of in zip(*known, strict=True))
    at = 1 / temperature
    if len(x) == 1:
        return float(np.exp(y[0]))
    curve = _smooth(x, y)
    edge = float(np.clip(at, x[0], x[-1]))
    slope = np.diff(y)[0 if at < x[0] else -1] / np.diff(x)[0 if at < x[0] else -1]
    return float(np.exp(curve(edge) + slope * (at - edge)))


@dataclass(frozen=True)
class AskedTimes:
    """Times at which somebody wants to know.

    Attributes:
        times: √(mσ²/ε).
        own: The model's times, √(mσ²/ε), in increasing order.
    """

    times: list[float]
    own: FloatArray

    def of(self, values: FloatArray) -> FloatArray:
        """(n_times, n_particles) at `times`, from values at the model's own."""
        columns = [int(np.argmin(np.abs(np.log(self.own / time)))) for time in self.times]
        if np.allclose(self.own[columns], self.times, rtol=_SAME, atol=0.0) or len(self.own) == 1:
            return values[columns]
        within = np.clip(self.times, self.own[0], self.own[-1])
        known = np.isfinite(values).all(axis=0)
        found = np.full((len(self.times), values.shape[1]), np.nan)
        found[:, known] = _smooth(np.log(self.own), values[:, known])(np.log(within))
        return found


def asked_times(card: ModelCard, temperature: float, times: Sequence[float] | None = None) -> AskedTimes:
    """What a model is asked for.

    Args:
        card: Of the model.
        temperature: Of the liquid, ε_AA.
        times: √(mσ²/ε); by default the model's, to three digits where they are in units of τ_α, without those that
            were measured in colder liquids only: in hotter ones nothing has happened yet.

    Raises:
        ModelError: A time that the model does not know, and cannot interpolate.
    """
    tau = tau_alpha_at(card, temperature)
    own = np.array(card.times) * (1.0 if tau is None else tau)
    if times is None:
        hottest = [max(at, default=math.inf) for at in _measured_at(card)]
        slow = [time for time, first in zip(own, hottest, strict=True) if temperature <= first * (1 + _NEAR)]
        return AskedTimes([float(time) if tau is None else float(format(time, _DIGITS)) for time in slow or own], own)
    for time in times:
        if not knows_time(time, own):
            nearest = own[int(np.argmin(np.abs(own - time)))]
            known = ", ".join(format(t, "g" if tau is None else _DIGITS) for t in own)
            between = "" if tau is None else f", and those in between, at T = {temperature:.3g}"
            raise ModelError(
                f"found time {time:g}", f"one of the model's times {known}{between}", f"try {nearest:{_DIGITS}}"
            )
    return AskedTimes([float(time) for time in times], own)


def _measured_at(card: ModelCard) -> list[list[float]]:
    """Of each of a model's times: the temperatures that it was measured at; none where the card does not say."""
    return [
        [float(name) for name, of in card.measured.items() if np.isclose(of, time, rtol=_SAME, atol=0.0).any()]
        for time in card.times
    ]


def beyond_measured(card: ModelCard, temperature: float, times: Sequence[float]) -> list[float]:
    """Those of some times, √(mσ²/ε), that were not measured on both sides of a temperature of the training, nor at it.

    What a model says of them goes on from other temperatures; so does what it says between two of its times of which
    one is such. None where the temperature itself lies beyond all.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> card = ModelCard(model="ridge", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.5, 1.0],
        ...                  density=1.2, times=[1.0, 2.0], trained_species=["A"],
        ...                  measured={"0.5": [1.0], "1": [1.0, 2.0]})
        >>> beyond_measured(card, 0.6, [1.0, 2.0]), beyond_measured(card, 1.0, [1.0, 2.0])
        ([2.0], [])
    """
    low, high = min(card.temperatures) * (1 - _NEAR), max(card.temperatures) * (1 + _NEAR)
    if not low <= temperature <= high:
        return []
    own, ahead = np.array(card.times) * (tau_alpha_at(card, temperature) or 1.0), unmeasured(card, temperature)
    return [time for time in times if ahead[_around(time, own)].max() > _NEAR]


def _around(time: float, own: FloatArray) -> list[int]:
    """Which of a model's times tell what it says at a time: the one, or the two that it lies between."""
    nearest = int(np.argmin(np.abs(np.log(own / time))))
    if len(own) == 1 or abs(own[nearest] / time - 1) <= _BEYOND:
        return [nearest]
    right = int(np.clip(np.searchsorted(own, time), 1, len(own) - 1))
    return [right - 1, right]


def unmeasured(card: ModelCard, temperature: float) -> FloatArray:
    """(n_times,) by how much ln T lies beyond the temperatures at which a time of a model was measured.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> card = ModelCard(model="ridge", mixture=get_mixture("kob-andersen").identity(), temperatures=[0.5, 1.0],
        ...                  density=1.2, times=[1.0, 2.0], trained_species=["A"],
        ...                  measured={"0.5": [1.0], "1": [1.0, 2.0]})
        >>> unmeasured(card, 0.5).round(3).tolist()
        [0.0, 0.693]
    """
    return np.array(
        [
            max(math.log(min(at) / temperature), math.log(temperature / max(at)), 0.0) if at else 0.0
            for at in _measured_at(card)
        ]
    )


def _smooth(x: FloatArray, y: FloatArray) -> Callable[[Any], FloatArray]:
    """Monotone cubic pieces through points; along the first axis of y."""
    from scipy.interpolate import PchipInterpolator  # takes a while to load: cards are read without

    curve: Callable[[Any], FloatArray] = PchipInterpolator(x, y, axis=0)
    return curve


def knows_time(time: float, own: FloatArray) -> bool:
    """Whether a time, √(mσ²/ε), is one of a model's own, or lies between two that are close enough."""
    if not 0 < time < math.inf:
        return False
    if np.isclose(own, time, rtol=_SAME, atol=0.0).any():
        return True
    if len(own) == 1 or not own[0] * (1 - _BEYOND) <= time <= own[-1] * (1 + _BEYOND):
        return False
    right = int(np.clip(np.searchsorted(own, time), 1, len(own) - 1))
    return bool(own[right] / own[right - 1] <= _FARTHEST)
