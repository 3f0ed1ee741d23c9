"""The Lennard-Jones pair potential with each of its endings, and its first two derivatives.

U(r) = 4ε ((σ/r)¹² − (σ/r)⁶) below r_c, ended as :data:`glassmd.mixtures.Truncation` says. All functions take arrays of
pairs and return zero from r_c on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.mixtures import Mixture

__all__ = ["PairPotential", "pair_potential"]

FloatArray = NDArray[np.float64]


class PairPotential(NamedTuple):
    """U, U' and U'' of pairs, each of the shape of the distances: ε_AA, ε_AA/σ_AA, ε_AA/σ_AA²."""

    energy: FloatArray
    slope: FloatArray
    curvature: FloatArray


def pair_potential(r: ArrayLike, a: ArrayLike, b: ArrayLike, mixture: Mixture) -> PairPotential:
    """U, U' and U'' of pairs of particles.

    Args:
        r: (n_pairs,) distances above zero, σ_AA.
        a: (n_pairs,) int species of one particle of each pair.
        b: (n_pairs,) int species of the other.
        mixture: Pair tables and truncation.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> u = pair_potential([2 ** (1 / 6), 2.5], [0, 0], [0, 0], get_mixture("kob-andersen"))
        >>> u.energy.round(6).tolist(), abs(u.slope.round(6)).tolist(), u.curvature.round(3).tolist()
        ([-0.983683, 0.0], [0.0, 0.0], [57.146, 0.0])
    """
    r, a, b = np.asarray(r, np.float64), np.asarray(a), np.asarray(b)
    epsilon, sigma = (np.asarray(table, np.float64)[a, b] for table in (mixture.epsilon, mixture.sigma))
    cut = mixture.r_cut[a, b]
    u = _lennard_jones(r, epsilon, sigma)
    if mixture.truncation == "xplor":
        u = _smoothed(u, r, mixture.r_on[a, b], cut)
    elif mixture.truncation != "truncated":
        end = _lennard_jones(cut, epsilon, sigma)
        slope = end.slope if mixture.truncation == "force-shifted" else np.zeros_like(cut)
        u = PairPotential(u.energy - end.energy - (r - cut) * slope, u.slope - slope, u.curvature)
    inside = r < cut
    return PairPotential(*(np.where(inside, part, 0.0) for part in u))


def _lennard_jones(r: FloatArray, epsilon: FloatArray, sigma: FloatArray) -> PairPotential:
    six = (sigma / r) ** 6
    energy = 4 * epsilon * six * (six - 1)
    slope = -24 * epsilon * six * (2 * six - 1) / r
    return PairPotential(energy, slope, 24 * epsilon * six * (26 * six - 7) / r**2)


def _smoothed(u: PairPotential, r: FloatArray, on: FloatArray, cut: FloatArray) -> PairPotential:
    """U S with HOOMD-blue's S(r) = (c − x)² (c + 2x − 3o) / (c − o)³ beyond r_on, where x, c, o are r², r_c², r_on²."""
    x, c, o = r**2, cut**2, on**2
    norm = np.where(c > o, c - o, 1.0) ** 3
    s = (c - x) ** 2 * (c + 2 * x - 3 * o) / norm
    by_x = 6 * (c - x) * (o - x) / norm  # dS/dx
    by_xx = 6 * (2 * x - c - o) / norm
    s1, s2 = 2 * r * by_x, 2 * by_x + 4 * x * by_xx
    far = r > on
    s, s1, s2 = np.where(far, s, 1.0), np.where(far, s1, 0.0), np.where(far, s2, 0.0)
    return PairPotential(u.energy * s, u.slope * s + u.energy * s1, u.curvature * s + 2 * u.slope * s1 + u.energy * s2)
