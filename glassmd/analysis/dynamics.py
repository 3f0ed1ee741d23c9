"""How a liquid moves: averages over particles of their displacements.

Displacements are differences of unwrapped positions, σ_AA; the wave number q is in 1/σ_AA, time in √(mσ²/ε).

==========================  =====================================================
symbol                      here
==========================  =====================================================
F_s(q,t) = ⟨cos q·Δr⟩       :func:`self_intermediate_scattering`
⟨Δr²(t)⟩                    :func:`mean_squared_displacement`
τ_α: F_s(q,τ_α) = 1/e       :func:`relaxation_time`
==========================  =====================================================
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import InputError

__all__ = [
    "allowed_wave_vectors",
    "mean_squared_displacement",
    "relaxation_time",
    "remove_drift",
    "self_intermediate_scattering",
]

FloatArray = NDArray[np.float64]


def allowed_wave_vectors(
    box: ArrayLike, q: float, *, width: float | None = None, most: int | None = None
) -> FloatArray:
    """Wave vectors of modulus q that the periodic box allows, one of each pair ±k.

    The components of an allowed k are multiples of 2π/L. Where the shell |k| = q ± `width` holds none (a
    small box), the multiples nearest to q along each axis are returned.

    Args:
        box: (d,) edge lengths, σ_AA.
        q: Modulus, 1/σ_AA, above 0.
        width: Half thickness of the shell, 1/σ_AA; half the spacing π/L of the longest edge by default.
        most: Keep at most this many, those whose modulus is nearest to q.

    Returns:
        (n_vectors, d) float64, 1/σ_AA, sorted by | |k| − q |.

    Raises:
        InputError: q is not above 0.

    Example:
        >>> vectors = allowed_wave_vectors([9.4, 9.4, 9.4], 7.25)
        >>> bool(abs(np.linalg.norm(vectors, axis=1) - 7.25).max() <= np.pi / 9.4)
        True
    """
    lengths = np.asarray(box, np.float64)
    if not q > 0:
        raise InputError(f"found wave number {q}", "a wave number above 0")
    unit = 2 * np.pi / lengths
    width = float(np.pi / lengths.max()) if width is None else width
    multiples = [np.arange(-n, n + 1) for n in np.floor((q + width) / unit).astype(int)]
    grid = np.stack(np.meshgrid(*multiples, indexing="ij"), axis=-1).reshape(-1, lengths.size)
    # The second half of the grid, counted from its centre k = 0, holds one of each pair.
    vectors = grid[len(grid) // 2 + 1 :] * unit
    miss = np.abs(np.linalg.norm(vectors, axis=1) - q)
    inside = np.flatnonzero(miss <= width)
    if inside.size == 0:
        return np.diag(np.maximum(np.rint(q / unit), 1) * unit)
    order = inside[np.argsort(miss[inside], kind="stable")]
    return np.asarray(vectors[order[:most]])


def self_intermediate_scattering(displacements: ArrayLike, wave_vectors: ArrayLike) -> FloatArray:
    """Self intermediate scattering function F_s(q,t) = ⟨cos q·Δr⟩ over particles and wave vectors.

    Source: Kob & Andersen, Phys. Rev. E 52, 4134 (1995), eq. (3).

    Args:
        displacements: (..., n_particles, d) of one species, σ_AA.
        wave_vectors: (n_vectors, d), 1/σ_AA, as :func:`allowed_wave_vectors` returns them.

    Returns:
        (...) float64, 1 at rest.

    Example:
        >>> at_rest = np.zeros((5, 100, 3))
        >>> self_intermediate_scattering(at_rest, [[7.25, 0, 0]]).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    moved, vectors = np.asarray(displacements), np.asarray(wave_vectors, np.float64)
    flat = moved.reshape(-1, *moved.shape[-2:])
    # One set of displacements at a time: the phases of all of them would not fit into memory.
    values = np.array([np.cos(one @ vectors.T.astype(one.dtype)).mean(dtype=np.float64) for one in flat])
    return values.reshape(moved.shape[:-2])


def mean_squared_displacement(displacements: ArrayLike) -> FloatArray:
    """Mean squared displacement ⟨Δr²⟩ over particles.

    Args:
        displacements: (..., n_particles, d), σ_AA.

    Returns:
        (...) float64, σ_AA².

    Example:
        >>> float(mean_squared_displacement([[3.0, 4.0], [0.0, 0.0]]))
        12.5
    """
    moved = np.asarray(displacements, np.float64)
    return np.asarray((moved**2).sum(axis=-1).mean(axis=-1))


def relaxation_time(times: ArrayLike, fs: ArrayLike) -> float | None:
    """Relaxation time τ_α at which F_s first falls to 1/e, with F_s linear in log t between two times.

    Args:
        times: (n_times,) increasing, √(mσ²/ε).
        fs: (n_times,) F_s at these times.

    Returns:
        τ_α in √(mσ²/ε), or None where F_s stays above 1/e. Before the first time above 0, F_s falls
        linearly from 1.

    Example:
        >>> times = np.logspace(-1, 3, 400)
        >>> round(relaxation_time(times, np.exp(-times / 20)), 2)
        20.0
        >>> relaxation_time(times, np.ones(400)) is None
        True
    """
    t, f = np.asarray(times, np.float64), np.asarray(fs, np.float64)
    f, t = f[t > 0], t[t > 0]
    below = np.flatnonzero(f <= np.exp(-1))
    if below.size == 0:
        return None
    k = int(below[0])
    if k == 0:
        return float(t[0] * (1 - np.exp(-1)) / (1 - f[0]))
    share = (f[k - 1] - np.exp(-1)) / (f[k - 1] - f[k])
    return float(t[k - 1] * (t[k] / t[k - 1]) ** share)


def remove_drift(displacements: ArrayLike, masses: ArrayLike) -> FloatArray:
    """Displacements in the frame of the centre of mass.

    Args:
        displacements: (..., n_particles, d) of all the particles, σ_AA.
        masses: (n_particles,), m_A.

    Returns:
        (..., n_particles, d) float64, σ_AA, whose mass-weighted mean is zero.

    Example:
        >>> remove_drift([[1.0, 0.0], [3.0, 0.0]], [1.0, 1.0]).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    moved, weights = np.asarray(displacements, np.float64), np.asarray(masses, np.float64)
    drift = np.einsum("...nd,n->...d", moved, weights) / weights.sum()
    return np.asarray(moved - drift[..., None, :])
