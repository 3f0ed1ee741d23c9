"""Numbers that curves end in: the relaxation time, and a diffusion coefficient where there is one."""

from __future__ import annotations

import numpy as np

from glassmd.analysis.dynamics import relaxation_time
from glassmd.analysis.moves import Dynamics

__all__ = ["diffusion_coefficient", "tau_alpha"]

_SLOPE = 0.1
"""By how much d ln ⟨Δr²⟩/d ln t may differ from 1 in the window of the fit."""

_WINDOWS = (10.0, 10**0.5)  # from the longest lag back to this part of it: a decade, or half of one
_POINTS = 4
_MOVED = 0.25
"""σ_AA²: before particles have moved as far, they are in their cages."""


def tau_alpha(dynamics: Dynamics, species: str) -> float | None:
    """τ_α of a species, in the unit of the lags; None where F_s stays above 1/e or falls before the first lag."""
    scattering = dynamics.mean(species, "self_scattering")
    known = np.isfinite(scattering)
    if not known.any() or scattering[known][0] <= np.exp(-1):
        return None
    return relaxation_time(dynamics.lags[known], scattering[known])


def diffusion_coefficient(dynamics: Dynamics, species: str) -> float | None:
    """D of a species: least squares of ⟨Δr²⟩ = c + 2 d D t over the last decade of lags, or half of one.

    Relative errors count alike. c is what the short times leave behind.

    Returns:
        D in σ_AA² per unit of the lags; None where ⟨Δr²⟩ does not grow as t within 10% of the exponent there, or has
        not left the cage.
    """
    lags, square = dynamics.lags, dynamics.mean(species, "squared")
    known = np.isfinite(square) & (square > 0)
    lags, square = lags[known], square[known]
    for part in _WINDOWS:
        inside = lags >= lags[-1] / part * (1 - 1e-6) if len(lags) else np.zeros(0, bool)
        t, y = lags[inside], square[inside]
        if len(t) < _POINTS or y[0] < _MOVED:
            continue
        if abs(np.polyfit(np.log(t), np.log(y), 1)[0] - 1) <= _SLOPE:
            slope = np.polyfit(t, y, 1, w=1 / y)[0]
            return float(slope / (2 * dynamics.dimensions))
    return None
