"""When particles leave their cages: the hop indicator p_hop, and who was about to hop and who stayed.

Source: R. Candelier, A. Widmer-Cooper, J. K. Kummerfeld, O. Dauchot et al., Phys. Rev. Lett. 105, 135702 (2010),
after Candelier, Dauchot & Biroli, Phys. Rev. Lett. 102, 088001 (2009). With A the h frames before t, B the h frames
from t on, and averages over them,

    p_hop = √( ⟨(r − ⟨r⟩_B)²⟩_A · ⟨(r − ⟨r⟩_A)²⟩_B ) = √( (v_A + Δ²) (v_B + Δ²) )

where v is the variance of the position within a window (over all its components) and Δ = |⟨r⟩_A − ⟨r⟩_B|. So
p_hop is an area, σ_AA²: the mean squared size of the cage where nothing happens, and that plus Δ² where it jumps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.errors import InputError

__all__ = ["P_HOP_HARD", "P_HOP_SOFT", "SoftHard", "p_hop", "select_soft_hard"]

P_HOP_SOFT = 0.2
"""p_c, σ_AA²: a peak above it is a rearrangement (Schoenholz et al., Nat. Phys. 12, 469 (2016))."""

P_HOP_HARD = 0.05
"""p_l, σ_AA²: who stays below it does not rearrange (same source)."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def p_hop(positions: ArrayLike, half_window: int, masses: ArrayLike | None = None) -> FloatArray:
    """p_hop of every particle in every frame of a trajectory.

    Args:
        positions: (n_frames, n_particles, d) unwrapped, at equal intervals, σ_AA.
        half_window: Frames of each window; the literature's cover t = 5.
        masses: (n_particles,), m_A, for the drift; all alike by default.

    Returns:
        (n_frames, n_particles) float64, σ_AA²; NaN where a window would leave the trajectory.

    Raises:
        InputError: Another shape, or a half window below one frame.

    Example:
        >>> trajectory = np.zeros((9, 50, 3))
        >>> trajectory[4:, 0, 0] = 1.0
        >>> p_hop(trajectory, 2)[:, 0].round(2).tolist()
        [nan, nan, 0.0, 0.34, 0.96, 0.34, 0.0, 0.0, nan]
    """
    frames, h = np.asarray(positions, np.float64), half_window
    if frames.ndim != 3 or h < 1:
        raise InputError(
            f"found positions of shape {frames.shape} and a half window of {h}",
            "(n_frames, n_particles, d), at least 1",
        )
    frames = remove_drift(frames, np.ones(frames.shape[1]) if masses is None else masses)
    found = np.full(frames.shape[:2], np.nan)
    for t in range(h, len(frames) - h + 1):
        before, after = frames[t - h : t], frames[t : t + h]
        jump = ((before.mean(axis=0) - after.mean(axis=0)) ** 2).sum(axis=-1)
        spread_before, spread_after = before.var(axis=0).sum(axis=-1), after.var(axis=0).sum(axis=-1)
        found[t] = np.sqrt((spread_before + jump) * (spread_after + jump))
    return found


class SoftHard(NamedTuple):
    """Where in a trajectory particles were about to rearrange, and where they had long not.

    Attributes:
        soft: (n_soft, 2) int64, frame and particle.
        hard: (n_hard, 2) int64, frame and particle.
    """

    soft: IntArray
    hard: IntArray


def select_soft_hard(
    p_hop: ArrayLike,
    *,
    quiet_frames: int,
    p_c: float = P_HOP_SOFT,
    p_l: float = P_HOP_HARD,
    lead: int = 0,
) -> SoftHard:
    """Soft particles, about to rearrange, and hard ones, which have not for long.

    After Schoenholz et al., Nat. Phys. 12, 469 (2016). An excursion of p_hop above `p_c` is a rearrangement, at its
    peak; the particle is soft `lead` frames earlier. Excursions cut by an end of the trajectory do not count: their
    peak is not known. A particle is hard at the end of every `quiet_frames` frames in a row below `p_l` (the paper's
    τ_α), which do not overlap.

    Args:
        p_hop: (n_frames, n_particles), σ_AA², NaN where not known, as :func:`p_hop` returns it.
        quiet_frames: How long a hard particle has been quiet, frames.
        p_c: Threshold of a rearrangement, σ_AA².
        p_l: Threshold of quiet, σ_AA², at most `p_c`.
        lead: Frames from the soft structure to the peak, the first frame after the jump.

    Raises:
        InputError: Thresholds or frames that make no sense.

    Example:
        >>> series = np.full((8, 2), 0.02)
        >>> series[3:6, 0] = [0.3, 0.5, 0.1]
        >>> found = select_soft_hard(series, quiet_frames=8, lead=1)
        >>> found.soft.tolist(), found.hard.tolist()
        ([[3, 0]], [[7, 1]])
    """
    values = np.asarray(p_hop, np.float64)
    if values.ndim != 2 or quiet_frames < 1 or lead < 0 or not 0 < p_l <= p_c:
        raise InputError(
            f"found p_hop of shape {values.shape}, thresholds {p_l:g} and {p_c:g}, {quiet_frames} quiet frames, "
            f"a lead of {lead}",
            "(n_frames, n_particles), 0 < p_l <= p_c, at least one quiet frame and no negative lead",
        )
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if known.size == 0:
        raise InputError("found no frame with p_hop", "a trajectory longer than both windows")
    first, last = int(known[0]), int(known[-1])
    soft = [
        (start + int(np.argmax(values[start:stop, particle])) - lead, particle)
        for particle, start, stop in _stretches(values > p_c)
        if start > first and stop <= last
    ]
    hard = [
        (end - 1, particle)
        for particle, start, stop in _stretches(values < p_l)
        for end in range(start + quiet_frames, stop + 1, quiet_frames)
    ]
    return SoftHard(_rows([row for row in soft if row[0] >= 0]), _rows(hard))


def _stretches(inside: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Particle, first frame and the frame after the last of everything in a row that is inside."""
    n_particles = inside.shape[1]
    edge = np.zeros((n_particles, 1), np.int8)
    steps = np.diff(inside.T.astype(np.int8), axis=1, prepend=edge, append=edge)
    particles, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    return list(zip(particles.tolist(), starts.tolist(), stops.tolist(), strict=True))


def _rows(pairs: list[tuple[int, int]]) -> IntArray:
    return np.array(pairs, np.int64).reshape(-1, 2)
