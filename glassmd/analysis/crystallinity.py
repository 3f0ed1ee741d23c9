"""Is it still a liquid? Fraction of particles whose surroundings are ordered like a crystal's.

Two neighbours i and j are *connected* when their sixfold bond-order vectors point the same way,
q6(i)·q6(j)/|q6(i)||q6(j)| > 0.6, and a particle with at least 8 connections is crystalline
(ten Wolde, Ruiz-Montero & Frenkel, J. Chem. Phys. 104, 9932 (1996), who use 0.5 and 7: stricter here,
because a supercooled liquid has long-lived local order). In the plane q6 has a single component, whose direction agrees
by chance for 30% of all pairs, so that its size counts too: neighbours are connected when Re ψ6(i) ψ6*(j) > 0.65 (1 for
perfect hexagons), and a particle with 6 connections is crystalline. docs/equilibrium.md has what liquids and crystals
give.

The dot products need no spherical harmonics: by their addition theorem q6(i)·q6(j) is, up to a constant,
the mean of P6(cos γ) over all pairs of a bond of i and a bond of j; in the plane P6 becomes cos 6γ and the mean
is Re ψ6(i) ψ6*(j) itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.neighbour_search import pairs_within

__all__ = ["crystalline_fraction", "crystalline_particles"]

_CONNECTED = {2: 0.65, 3: 0.6}
_CONNECTIONS = {2: 6, 3: 8}
_SHELL = {2: 1.5, 3: 1.49}  # first minimum of g(r) in units of ρ^(-1/d): 1.40 σ at Kob-Andersen's ρ = 1.2
_BONDS_AT_ONCE = 20_000  # bounds memory to some 100 MB


def crystalline_particles(configuration: Configuration) -> NDArray[np.bool_]:
    """Which particles are surrounded as in a crystal.

    Args:
        configuration: Of any species: neighbours count alike.

    Returns:
        (n_particles,) bool.

    Example:
        >>> grid = np.stack(np.meshgrid(*[np.arange(12)] * 3), -1).reshape(-1, 3)
        >>> fcc = grid[grid.sum(axis=1) % 2 == 0] * 0.747
        >>> crystal = Configuration(box=np.full(3, 12 * 0.747), species=np.zeros(len(fcc)), positions=fcc)
        >>> bool(crystalline_particles(crystal).all())
        True
    """
    d, n = configuration.dimensions, configuration.n_particles
    cutoff = _SHELL[d] * configuration.density ** (-1 / d)
    i, j, bonds = _bonds(configuration, cutoff)
    counts = np.bincount(i, minlength=n)
    if i.size == 0:
        return np.zeros(n, dtype=bool)
    # Unit vectors of each particle's bonds, padded; `real` tells them from the padding.
    column = np.arange(i.size) - np.repeat(np.cumsum(counts) - counts, counts)
    units = np.zeros((n, int(counts.max()), d))
    units[i, column] = bonds / np.linalg.norm(bonds, axis=1, keepdims=True)
    real = np.zeros(units.shape[:2])
    real[i, column] = 1.0
    overlap = _sixfold(units, real, i, j)
    if d == 3:
        own = np.sqrt(np.maximum(_sixfold(units, real, np.arange(n), np.arange(n)), 1e-30))
        overlap /= own[i] * own[j]
    connections = np.bincount(i[overlap > _CONNECTED[d]], minlength=n)
    return connections >= _CONNECTIONS[d]


def crystalline_fraction(configuration: Configuration) -> float:
    """Share of :func:`crystalline_particles`, 0 … 1.

    Example:
        >>> points = np.random.default_rng(1).uniform(-4, 4, size=(600, 3))
        >>> gas = Configuration(box=[8, 8, 8], species=np.zeros(600), positions=points)
        >>> crystalline_fraction(gas) < 0.01
        True
    """
    return float(crystalline_particles(configuration).mean())


def _bonds(
    configuration: Configuration, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Both directions of every pair closer than `cutoff`, sorted by the first particle."""
    i, j, forth, _ = pairs_within(configuration.positions, configuration.box, cutoff, with_vectors=True)
    first = np.concatenate([i, j]).astype(np.int64)
    order = np.argsort(first, kind="stable")
    return first[order], np.concatenate([j, i]).astype(np.int64)[order], np.concatenate([forth, -forth])[order]


def _sixfold(
    units: NDArray[np.float64], real: NDArray[np.float64], i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean sixfold polynomial over all pairs of a bond of i and a bond of j, (len(i),)."""
    out = np.empty(len(i))
    for start in range(0, len(i), _BONDS_AT_ONCE):
        a, b = i[start : start + _BONDS_AT_ONCE], j[start : start + _BONDS_AT_ONCE]
        square = (units[a] @ units[b].swapaxes(1, 2)) ** 2
        if units.shape[2] == 3:
            values = (((231 * square - 315) * square + 105) * square - 5) / 16
        else:
            values = ((32 * square - 48) * square + 18) * square - 1
        total = np.einsum("bkl,bk,bl->b", values, real[a], real[b])
        out[start : start + _BONDS_AT_ONCE] = total / np.maximum(real[a].sum(axis=1) * real[b].sum(axis=1), 1)
    return out
