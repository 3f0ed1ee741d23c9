"""FIRE in HOOMD-blue (Bitzek et al., PRL 97, 170201 (2006)): its time steps, and when the forces have vanished."""

from __future__ import annotations

from typing import Any

__all__ = ["MOST", "STEPS", "fire", "tolerance"]

STEPS = (0.02, 0.002)
"""Time steps, √(mσ²/ε). From a liquid at T = 0.8 FIRE takes 1500 steps of 0.02, and 4000 of 0.01. HOOMD's begins with
the longest one, and loses particles where forces are larger than in such a liquid: then the second one takes over.
"""
MOST = 200_000
"""Steps."""

_TOLERANCE = {64: 1e-5, 32: 1e-4}
"""Largest force that may be left, ε_AA/σ_AA, by the bits in which HOOMD-blue was built to compute forces."""
_NEVER = 1e-30  # a tolerance of HOOMD's own, which are averages: a single particle may still be on its way


def tolerance(hoomd: Any) -> float:
    """The largest force that may be left, ε_AA/σ_AA."""
    return _TOLERANCE[int(hoomd.version.floating_point_precision[1])]


def fire(hoomd: Any, force: Any, time_step: float) -> Any:
    """An integrator that goes downhill and never ends by itself."""
    return hoomd.md.minimize.FIRE(
        dt=time_step,
        force_tol=_NEVER,
        angmom_tol=_NEVER,
        energy_tol=_NEVER,
        methods=[hoomd.md.methods.ConstantVolume(filter=hoomd.filter.All())],
        forces=[force],
    )
