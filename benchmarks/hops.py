"""When particles leave their cages: the hop indicator p_hop, and who was about to hop and who stayed.

Source: R. Candelier, A. Widmer-Cooper, J. K. Kummerfeld, O. Dauchot et al., Phys. Rev. Lett. 105, 135702 (2010),
after Candelier, Dauchot & Biroli, Phys. Rev. Lett. 102, 088001 (2009). With A the h frames before t, B the h frames
from t on, and averages over them,

    p_hop = √( ⟨(r − ⟨r⟩_B)²⟩_A · ⟨(r − ⟨r⟩_A)²⟩_B ) = √( (v_A + Δ²) (v_B + Δ²) )

where v is the variance of the position within a window (over all its components) and Δ = |⟨r⟩_A − ⟨r⟩_B|.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

P_HOP_SOFT = 0.2
"""p_c, σ_AA²: a peak above it is a rearrangement (Schoenholz et al., Nat. Phys. 12, 469 (2016))."""

P_HOP_HARD = 0.05
"""p_l, σ_AA²: who stays below it does not rearrange (same source)."""


def p_hop(positions: NDArray[np.floating], half_window: int) -> FloatArray:
    """p_hop of every particle in every frame, σ_AA²; NaN where a window would leave the trajectory.

    Args:
        positions: (n_frames, n_particles, d) unwrapped, at equal intervals, σ_AA, of particles of one mass.
        half_window: Frames of each window; the literature's cover t = 5.
    """
    frames, h = remove_drift(positions, np.ones(positions.shape[1])), half_window
    found = np.full(frames.shape[:2], np.nan)
    for t in range(h, len(frames) - h + 1):
        before, after = frames[t - h : t], frames[t : t + h]
        jump = ((before.mean(axis=0) - after.mean(axis=0)) ** 2).sum(axis=-1)
        spread_before, spread_after = before.var(axis=0).sum(axis=-1), after.var(axis=0).sum(axis=-1)
        found[t] = np.sqrt((spread_before + jump) * (spread_after + jump))
    return found


def select_soft_hard(values: FloatArray, *, quiet_frames: int, lead: int) -> tuple[IntArray, IntArray]:
    """Particles about to rearrange, and those that have not for long: (n, 2) frames and particles of each.

    After Schoenholz et al. An excursion of p_hop above :data:`P_HOP_SOFT` is a rearrangement, at its peak; the particle
    is soft `lead` frames earlier. Excursions cut by an end of the trajectory do not count: their peak is not known. A
    particle is hard at the end of every `quiet_frames` frames in a row below :data:`P_HOP_HARD` (the paper's τ_α),
    which do not overlap.
    """
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    soft = [
        (start + int(np.argmax(values[start:stop, particle])) - lead, particle)
        for particle, start, stop in _stretches(values > P_HOP_SOFT)
        if start > known[0] and stop <= known[-1]
    ]
    hard = [
        (end - 1, particle)
        for particle, start, stop in _stretches(values < P_HOP_HARD)
        for end in range(start + quiet_frames, stop + 1, quiet_frames)
    ]
    return _rows([row for row in soft if row[0] >= 0]), _rows(hard)


def _stretches(inside: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Particle, first frame and the frame after the last of everything in a row that is inside."""
    edge = np.zeros((inside.shape[1], 1), np.int8)
    steps = np.diff(inside.T.astype(np.int8), axis=1, prepend=edge, append=edge)
    particles, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    return list(zip(particles.tolist(), starts.tolist(), stops.tolist(), strict=True))


def _rows(pairs: list[tuple[int, int]]) -> IntArray:
    return np.array(pairs, np.int64).reshape(-1, 2)
