"""Published accuracies, to stand beside ours where the state point is the same.

Pearson's ρ over A particles of Kob–Andersen 3D (N = 4096, ρ = 1.2), test configurations 401–500; BOTAN and SE3
trained on 400 configurations, EIGNN on 100, GlassMLP on 30. Figures of Jung et al., GlassBench, and of Jiang et al.
(EIGNN). They were obtained on other configurations than those evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["PUBLISHED_DENSITY", "published_scores", "published_times"]

PUBLISHED_DENSITY = 1.2
"""Number density of the published data, σ_AA^-3."""

MATCH = 0.02
"""Relative difference up to which a time counts as the published one."""

# temperature: (times, {aggregation: {method: ρ per time, None where not published}})
_Table = dict[float, tuple[tuple[float, ...], dict[str, dict[str, tuple[float | None, ...]]]]]
# fmt: off  (one line a method reads as the table it is)
_PUBLISHED: _Table = {
    0.44: (
        (0.13, 1.3, 13, 130, 412, 1300, 4120, 13000, 41200, 130000),
        {
            "per-configuration": {
                "BOTAN": (0.949, 0.739, 0.734, 0.697, 0.734, 0.748, 0.752, 0.691, 0.513, 0.255),
                "CAGE": (0.684, 0.847, 0.901, 0.826, 0.802, 0.801, 0.782, 0.706, 0.533, 0.234),
                "GlassMLP": (0.392, 0.796, 0.768, 0.725, 0.737, 0.761, 0.756, 0.677, 0.469, 0.048),
                "SE3": (0.896, 0.672, 0.681, 0.708, 0.749, 0.785, 0.791, 0.732, 0.558, 0.260),
                "EIGNN-cage": (0.878, 0.872, 0.915, 0.858, 0.839, 0.834, 0.817, 0.753, 0.589, 0.306),
                "EIGNN-inherent": (0.840, 0.836, 0.823, 0.790, 0.802, 0.821, 0.817, 0.756, 0.591, 0.308),
            },
            "pooled": {
                "BOTAN": (0.949, 0.738, 0.733, 0.695, 0.730, 0.742, 0.755, 0.691, 0.499, 0.197),
                "CAGE": (0.684, 0.845, 0.899, 0.827, 0.802, 0.801, 0.779, 0.691, 0.503, 0.262),
                "GlassMLP": (0.390, 0.795, 0.766, 0.725, 0.740, 0.769, 0.768, 0.700, 0.536, 0.360),
                "SE3": (0.896, 0.672, 0.681, 0.713, 0.758, 0.798, 0.815, 0.789, 0.708, 0.626),
                "EIGNN-cage": (0.878, 0.872, 0.915, 0.858, 0.840, 0.835, 0.818, 0.747, 0.557, 0.297),
                "EIGNN-inherent": (0.841, 0.836, 0.822, 0.791, 0.806, 0.824, 0.818, 0.751, 0.561, 0.300),
                "steinhardt": (-0.037, -0.022, -0.011, 0.013, 0.031, 0.051, 0.068, 0.079, 0.063, 0.029),
                "steinhardt-coarse": (0.027, 0.062, 0.075, 0.086, 0.100, 0.127, 0.172, 0.221, 0.202, 0.099),
                "density": (-0.066, -0.096, -0.114, -0.131, -0.149, -0.187, -0.246, -0.304, -0.260, -0.122),
                "potential-energy": (0.018, 0.080, 0.135, 0.234, 0.314, 0.409, 0.507, 0.589, 0.559, 0.393),
                "psi6": (-0.013, -0.030, -0.034, -0.052, -0.073, -0.103, -0.145, -0.192, -0.180, -0.091),
            },
        },
    ),
    0.5: (
        (0.108, 0.434, 2.17, 6.86, 21.7, 68.6, 217, 686, 2170, 6860),
        {
            "per-configuration": {
                "BOTAN": (0.952, 0.915, 0.748, 0.733, 0.720, 0.732, 0.710, 0.600, 0.451, 0.253),
                "CAGE": (0.643, 0.586, 0.756, 0.806, 0.815, 0.801, 0.765, 0.659, 0.490, 0.275),
                "GlassMLP": (0.227, 0.595, 0.752, 0.736, 0.711, 0.715, 0.700, 0.590, 0.369, 0.016),
                "SE3": (0.915, 0.733, 0.697, 0.706, 0.724, 0.753, 0.751, 0.665, 0.498, 0.288),
                "EIGNN-cage": (0.881, 0.689, 0.818, 0.850, 0.848, 0.832, 0.797, 0.692, 0.518, 0.313),
                "EIGNN-inherent": (0.859, 0.706, 0.815, 0.808, 0.795, 0.799, 0.783, 0.689, 0.520, 0.316),
            },
            "pooled": {
                "BOTAN": (0.952, 0.915, 0.747, 0.733, 0.718, 0.726, 0.691, 0.560, 0.453, 0.238),
                "CAGE": (0.642, 0.584, 0.752, 0.804, 0.815, 0.802, 0.764, 0.655, 0.486, 0.297),
                "GlassMLP": (0.178, 0.594, 0.750, 0.733, 0.712, 0.722, 0.718, 0.621, 0.428, 0.179),
                "SE3": (0.915, 0.733, 0.696, 0.707, 0.727, 0.762, 0.771, 0.720, 0.618, 0.515),
                "EIGNN-cage": (0.881, 0.690, 0.819, 0.850, 0.849, 0.836, 0.804, 0.703, 0.520, 0.316),
                "EIGNN-inherent": (0.859, 0.706, 0.815, 0.809, 0.798, 0.806, 0.794, 0.706, 0.525, 0.322),
            },
        },
    ),
    0.56: (
        (0.104, 0.33, 0.99, 1.65, 5.2, 16.5, 52, 165, 520, 1650),
        {
            "per-configuration": {
                "BOTAN": (0.952, 0.927, 0.788, 0.738, 0.738, 0.717, 0.677, 0.535, 0.364, 0.220),
                "CAGE": (0.670, 0.515, 0.593, 0.632, 0.704, 0.726, 0.689, 0.547, 0.369, 0.204),
                "GlassMLP": (0.192, 0.467, 0.642, 0.672, 0.678, 0.670, 0.629, 0.473, 0.154, 0.018),
                "SE3": (0.913, 0.774, 0.710, 0.699, 0.711, 0.724, 0.699, 0.563, 0.374, 0.212),
                "EIGNN-cage": (0.892, 0.690, 0.709, 0.732, 0.775, 0.780, 0.739, 0.588, 0.392, 0.230),
                "EIGNN-inherent": (0.885, 0.694, 0.755, 0.776, 0.784, 0.773, 0.733, 0.586, 0.394, 0.233),
            },
            "pooled": {
                "BOTAN": (0.952, 0.927, 0.788, 0.737, 0.738, 0.713, 0.668, 0.517, 0.353, 0.211),
                "CAGE": (0.670, 0.514, 0.591, 0.630, 0.705, 0.729, 0.694, 0.554, 0.378, 0.224),
                "GlassMLP": (0.188, 0.464, 0.636, 0.668, 0.677, 0.675, 0.641, 0.493, 0.189, 0.149),
                "SE3": (0.913, 0.774, 0.710, 0.699, 0.712, 0.730, 0.715, 0.610, 0.473, 0.371),
                "EIGNN-cage": (0.892, 0.690, 0.711, 0.733, 0.777, 0.784, 0.748, 0.603, 0.405, 0.243),
                "EIGNN-inherent": (0.885, 0.695, 0.755, 0.776, 0.786, 0.778, 0.745, 0.607, 0.409, 0.244),
            },
        },
    ),
    0.64: (
        (0.032, 0.1, 0.165, 0.52, 1.65, 5.2, 16.5, 52, 165, 520),
        {
            "per-configuration": {
                "BOTAN": (0.607, 0.948, 0.957, 0.878, 0.748, 0.719, 0.661, 0.478, 0.278, 0.166),
                "CAGE": (0.453, 0.669, 0.585, 0.519, 0.591, 0.651, 0.627, 0.463, 0.278, 0.161),
                "GlassMLP": (0.029, 0.159, 0.263, 0.463, 0.575, 0.592, 0.553, 0.372, 0.129, 0.028),
                "SE3": (0.587, 0.925, 0.893, 0.730, 0.690, 0.699, 0.663, 0.492, 0.286, 0.167),
                "EIGNN-cage": (0.592, 0.899, 0.816, 0.634, 0.670, 0.707, 0.673, 0.502, 0.297, 0.174),
                "EIGNN-inherent": (0.578, 0.891, 0.825, 0.676, 0.719, 0.726, 0.678, 0.503, 0.297, 0.175),
            },
            "pooled": {
                "BOTAN": (0.608, 0.948, 0.957, 0.878, 0.748, 0.719, 0.658, 0.473, 0.275, 0.164),
                "CAGE": (0.454, 0.669, 0.585, 0.519, 0.592, 0.654, 0.633, 0.471, 0.285, 0.172),
                "GlassMLP": (0.028, 0.158, 0.263, 0.462, 0.574, 0.593, 0.555, 0.385, 0.126, 0.042),
                "SE3": (0.587, 0.925, 0.893, 0.730, 0.691, 0.702, 0.672, 0.520, 0.340, 0.240),
                "EIGNN-cage": (0.593, 0.899, 0.817, 0.635, 0.671, 0.709, 0.678, 0.510, 0.303, 0.177),
                "EIGNN-inherent": (0.579, 0.891, 0.825, 0.676, 0.720, 0.729, 0.686, 0.517, 0.308, 0.181),
            },
        },
    ),
}
# fmt: on


def published_times(temperature: float) -> tuple[float, ...]:
    """Times of GlassBench's figures for Kob–Andersen 3D at a temperature, √(mσ²/ε); none where there are none.

    They are ten, as the rows of its labels are.

    Example:
        >>> published_times(0.44)[:3], published_times(0.7)
        ((0.13, 1.3, 13), ())
    """
    known = _PUBLISHED.get(round(temperature, 6))
    return () if known is None else known[0]


def published_scores(mixture: dict[str, Any], temperatures: Iterable[float], times: Sequence[float]) -> dict[str, Any]:
    """Published ρ_A at this state point, at those of `times` that were published.

    Args:
        mixture: Identity of the mixture.
        temperatures: Of the data; published figures are given for a single one.
        times: Output times, √(mσ²/ε).

    Returns:
        `{aggregation: {method: [ρ per time or None]}}`; empty where nothing matches.

    Example:
        >>> mixture = {"name": "kob-andersen", "dimensions": 3}
        >>> published_scores(mixture, {0.44}, [4120.0])["per-configuration"]["SE3"]
        [0.791]
    """
    states = set(temperatures)
    if len(states) != 1 or mixture["name"] != "kob-andersen":
        return {}
    known = _PUBLISHED.get(round(states.pop(), 6))
    if known is None:
        return {}
    published_times, tables = known
    nearest = [min(range(len(published_times)), key=lambda i: abs(published_times[i] / t - 1)) for t in times]
    matches = [abs(published_times[i] / t - 1) < MATCH for i, t in zip(nearest, times, strict=True)]
    if not any(matches):
        return {}
    return {
        aggregation: {
            method: [values[i] if match else None for i, match in zip(nearest, matches, strict=True)]
            for method, values in table.items()
        }
        for aggregation, table in tables.items()
    }
