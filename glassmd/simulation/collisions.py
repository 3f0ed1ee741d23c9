"""How fast two particles turn round when they collide, which a time step has to resolve however rarely they do.

A short run sees what happens often. Collisions of a rare pair, or of one with a small diameter, happen in every long
run and ruin it, so that they are looked at by themselves: two particles that meet head on have k_BT of relative kinetic
energy on average (relative velocities along the line of centres weighted with the flux, v exp(−μv²/2k_BT)). They turn
round where U(r) − U(r_c) = k_BT, and around that point move as in a well of ω² = U''(r)/μ. With x = (σ/r)^6,
U = 4ε(x² − x) and U'' = 4ε(156x² − 42x)/r². Velocity Verlet comes apart at ω dt = 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassmd.mixtures import Mixture

__all__ = ["turning_rates"]


def turning_rates(mixture: Mixture, temperature: float) -> NDArray[np.float64]:
    """ω of every pair where a mean head-on collision turns round.

    Args:
        mixture: Whose particles collide.
        temperature: ε_AA.

    Returns:
        (n_species, n_species) float64, √(ε/mσ²); infinite where it cannot be represented.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> (0.005 * turning_rates(get_mixture("kob-andersen"), 2.0)).round(2).tolist()
        [[0.23, 0.31], [0.31, 0.23]]
    """
    epsilon, sigma, mass = (np.asarray(table, np.float64) for table in (mixture.epsilon, mixture.sigma, mixture.masses))
    with np.errstate(over="ignore"):
        reduced = mass[:, None] * mass / (mass[:, None] + mass)
        cut = (sigma / mixture.r_cut) ** 6
        x = (1 + np.sqrt(1 + temperature / epsilon + 4 * (cut**2 - cut))) / 2
        return np.asarray(np.sqrt(4 * epsilon * (156 * x**2 - 42 * x) / reduced) * x ** (1 / 6) / sigma)
