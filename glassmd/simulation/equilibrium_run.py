"""A growing run at one temperature, and the averages that show whether it is in equilibrium."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.analysis.dynamics import allowed_wave_vectors, relaxation_time, self_intermediate_scattering
from glassmd.configuration import Configuration
from glassmd.engines.base import Observation
from glassmd.mixtures import Mixture

__all__ = ["EquilibriumRun", "agree", "compare_halves", "moved", "whole_run"]

_DISCARDED = 0.2  # of the run, while the liquid forgets the melt
_MOST_FRAMES = 400  # frames are thinned out above this, to bound memory
_FIRST_INTERVAL = 0.1  # between two frames, √(mσ²/ε): resolves the shortest τ_α (0.3 at T = 2)
_BLOCK = 1.5  # shortest block, τ_α
_MOST_BLOCKS = 16  # per half
_ORIGINS, _LAGS, _WAVE_VECTORS = 24, 40, 24  # enough for τ_α to some 3%, in a tenth of a second


def compare_halves(series: NDArray[np.float64], correlation: float | None = None) -> dict[str, float]:
    """Mean, standard error and the difference between the halves of a correlated series.

    Both halves are cut into blocks of at least 1.5 correlation times; the variance of the blocks' averages
    within their half, pooled over both, gives the errors (Flyvbjerg & Petersen, J. Chem. Phys. 91, 461
    (1989)). Blocks as short as that still know of each other, so that their scatter alone gives errors too
    small by 1.45; the ratio is known for an exponential correlation, and the errors are corrected by it.

    Args:
        series: (n,) values at regular times, at least 4.
        correlation: Correlation time in units of the spacing; None, unknown, counts the blocks as
            independent.

    Returns:
        `mean`, `error`, `halves_difference` (second minus first), `halves_difference_error`.

    Example:
        >>> halves = compare_halves(np.array([0.0, 2.0, 1.0, 3.0]))
        >>> halves["mean"], halves["halves_difference"], round(halves["halves_difference_error"], 3)
        (1.5, 1.0, 1.414)
    """
    half = len(series) // 2
    count = 2 if correlation is None else int(np.clip(half / (_BLOCK * correlation), 2, _MOST_BLOCKS))
    length = half // count
    # What does not fill a block is left out at the start, where it is oldest.
    blocks = series[len(series) - 2 * count * length :].reshape(2, count, length).mean(axis=2)
    variance = float(blocks.var(axis=1, ddof=1).mean()) / count
    if correlation is not None:
        of_half = _variance_of_average(count * length / correlation)
        seen = (_variance_of_average(length / correlation) - of_half) / (count - 1)
        variance *= of_half / seen
    first, second = (float(mean) for mean in blocks.mean(axis=1))
    return {
        "mean": 0.5 * (first + second),
        "error": float(np.sqrt(variance / 2)),
        "halves_difference": second - first,
        "halves_difference_error": float(np.sqrt(2 * variance)),
    }


def _variance_of_average(length: float) -> float:
    """Of a series with correlation exp(-t), averaged over `length`, relative to the series' own."""
    return float(2 / length * (1 - (1 - np.exp(-length)) / length))


def agree(halves: dict[str, float], standard_errors: float) -> bool:
    """Whether the two halves agree.

    Example:
        >>> agree({"halves_difference": 0.2, "halves_difference_error": 0.1}, 3.0)
        True
    """
    return abs(halves["halves_difference"]) <= standard_errors * halves["halves_difference_error"]


def whole_run(analysed: float) -> float:
    """Length of a run of which so much is analysed, in the same unit.

    Example:
        >>> whole_run(20.0)
        25.0
    """
    return analysed / (1 - _DISCARDED)


def moved(before: Configuration, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> Configuration:
    """The same particles elsewhere.

    Args:
        before: Gives box and species.
        positions: (n_particles, d), unwrapped, σ_AA.
        velocities: (n_particles, d), √(ε/m).
    """
    return Configuration(before.box, before.species, positions, before.species_names, velocities)


class EquilibriumRun:
    """A growing run, with frames of the first species kept at regular intervals.

    Args:
        start: With velocities.
        mixture: What liquid.
        time_step: √(mσ²/ε).
    """

    def __init__(self, start: Configuration, mixture: Mixture, time_step: float) -> None:
        self.mixture, self.time_step, self.last = mixture, time_step, start
        self.steps = 0
        self.interval = max(1, round(_FIRST_INTERVAL / time_step))
        self._first_species = start.species == 0
        self._frames: list[NDArray[np.float32]] = []
        self._thermo: list[tuple[float, float, float]] = []

    @property
    def time(self) -> float:
        """Length of the run, √(mσ²/ε)."""
        return self.steps * self.time_step

    @property
    def analysed_time(self) -> float:
        """Length of the part that is analysed, √(mσ²/ε)."""
        return (len(self._frames) - self._discarded) * self.interval * self.time_step

    @property
    def _discarded(self) -> int:
        return int(_DISCARDED * len(self._frames))

    def plan(self, time: float) -> int:
        """The step at which the run is at least `time` long and a whole number of intervals.

        Where that would be more frames than are kept, every other one is dropped and the interval doubled.

        Args:
            time: √(mσ²/ε), counted from the start of the run.
        """
        while time / self.time_step > _MOST_FRAMES * self.interval:
            # Those at multiples of twice the interval stay.
            self._frames, self._thermo = self._frames[1::2], self._thermo[1::2]
            self.interval *= 2
        # The tolerance keeps 25 / 0.005 = 5000.0000000001 from becoming another interval.
        return max(1, math.ceil(time / self.time_step / self.interval - 1e-6)) * self.interval

    def frame_steps(self, until: int) -> range:
        """Steps of the frames that are still missing up to step `until`, that one included."""
        return range((self.steps // self.interval + 1) * self.interval, until + 1, self.interval)

    def observe(self, step: int, seen: Observation) -> None:
        """The run has reached `step`: keep it as a frame if it is a whole number of intervals."""
        if step % self.interval == 0:
            self._frames.append(seen.positions[self._first_species].astype(np.float32))
            self._thermo.append((seen.potential_energy, seen.pressure, seen.temperature))
        self.steps, self.last = step, moved(self.last, seen.positions, seen.velocities)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that :meth:`restore` needs, as arrays."""
        assert self.last.velocities is not None
        return {
            "positions": self.last.unwrapped,
            "velocities": self.last.velocities,
            "frames": np.array(self._frames, np.float32),
            "thermo": np.array(self._thermo, np.float64),
            "steps": np.array(self.steps),
            "interval": np.array(self.interval),
        }

    @classmethod
    def restore(
        cls, start: Configuration, mixture: Mixture, time_step: float, state: dict[str, NDArray[Any]]
    ) -> EquilibriumRun:
        """The run of :meth:`state`, given box and species in `start`."""
        run = cls(moved(start, state["positions"], state["velocities"]), mixture, time_step)
        run.steps, run.interval = int(state["steps"]), int(state["interval"])
        run._frames, run._thermo = list(state["frames"]), [tuple(row) for row in state["thermo"].tolist()]
        return run

    def tau_alpha(self) -> float | None:
        """τ_α of the first species at its own wave number, over many time origins; None where not reached."""
        frames = self._frames[self._discarded :]
        vectors = allowed_wave_vectors(self.last.box, self.mixture.wave_numbers[0], most=_WAVE_VECTORS)
        # Beyond half the run there are too few independent origins.
        lags = np.unique(np.geomspace(1, max(1, len(frames) // 2), _LAGS).astype(int))
        fs: list[float] = []
        for lag in lags:
            origins = np.unique(np.linspace(0, len(frames) - 1 - lag, _ORIGINS).astype(int))
            moved = [self_intermediate_scattering(frames[o + lag] - frames[o], vectors) for o in origins]
            fs.append(float(np.mean(moved)))
            if fs[-1] < np.exp(-1):
                break
        return relaxation_time(lags[: len(fs)] * self.interval * self.time_step, fs)

    def statistics(self, tau_alpha: float | None) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """U/N, pressure and kinetic temperature of the analysed part; see :func:`compare_halves`."""
        correlation = None if tau_alpha is None else tau_alpha / (self.interval * self.time_step)
        series = np.array(self._thermo[self._discarded :])
        energy, pressure, temperature = (compare_halves(column, correlation) for column in series.T)
        return energy, pressure, temperature

    def crystalline_fraction(self) -> float:
        """Of the last configuration."""
        return crystalline_fraction(self.last)
