"""The thermostat of every engine: velocities rescaled at random, each system on its own.

Between two rescalings a system evolves at constant energy. Both parts leave the canonical distribution as it
is, whatever the time between two rescalings, because the rescaling uses the exact solution over that time of
the stochastic equation of the kinetic energy (Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007),
appendix A):

=========  ==========================================================
K, K'      kinetic energy before and after
K̄          N_f T / 2, N_f = d(N−1) degrees of freedom
c          exp(−Δ/τ), Δ the time between two rescalings
R          a standard normal number
S          the sum of the squares of N_f − 1 standard normal numbers
=========  ==========================================================

    K'/K = c + (1 − c) (S + R²) K̄ / (N_f K) + 2 R √(c (1 − c) K̄ / (N_f K))

The numbers of the k-th rescaling are a pure function of (seed, k). So no system knows of another one, two
engines draw the same numbers, and a trajectory that is cut and continued draws those it would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import EngineError

__all__ = ["Thermostat", "degrees_of_freedom"]

_PER_RELAXATION = 5
"""Rescalings per relaxation time; the distribution does not depend on it, the kinetic energy's memory hardly."""


_BLOCK = 64
"""Rescalings whose numbers are drawn together: to start a generator takes longer than to draw."""


@dataclass(frozen=True)
class Thermostat:
    """Canonical sampling by stochastic rescaling of velocities; see the module's text.

    Attributes:
        temperature: Target, ε_AA.
        relaxation_time: Coupling time τ, √(mσ²/ε): short to equilibrate, long to leave the dynamics alone.
        seeds: One non-negative seed per system; systems are never coupled with each other.
        first_step: Steps that the systems have already evolved under this thermostat, where they go on.

    Example:
        >>> Thermostat(0.44, 20.0, (1, 2)).interval(0.005)
        800
    """

    temperature: float
    relaxation_time: float
    seeds: tuple[int, ...]
    first_step: int = 0

    def interval(self, time_step: float) -> int:
        """Steps between two rescalings."""
        return max(1, round(self.relaxation_time / time_step / _PER_RELAXATION))

    def next_rescaling(self, step: int, time_step: float) -> int:
        """The first step after `step` (counted as in `Engine.evolve`) that ends with a rescaling.

        Example:
            >>> Thermostat(1.0, 0.5, (1,), first_step=30).next_rescaling(0, 0.005)
            10
        """
        interval = self.interval(time_step)
        return ((self.first_step + step) // interval + 1) * interval - self.first_step

    def factors(
        self, step: int, time_step: float, kinetic_energy: ArrayLike, degrees: int, systems: range
    ) -> NDArray[np.float64]:
        """What velocities are multiplied by at the end of a step that ends with a rescaling.

        Args:
            step: As in `Engine.evolve`.
            time_step: √(mσ²/ε).
            kinetic_energy: (n_systems,) K of each system, ε_AA.
            degrees: N_f.
            systems: Which of the systems that `seeds` are for.

        Returns:
            (n_systems,) √(K'/K).

        Raises:
            EngineError: A kinetic energy that no liquid has.
        """
        kinetic = np.asarray(kinetic_energy, np.float64)
        if not np.all(np.isfinite(kinetic) & (kinetic > 0)):
            raise EngineError(
                f"found a kinetic energy of {kinetic.min():g} after step {step}",
                "a positive one",
                "check the start configuration, try a smaller time step",
            )
        interval = self.interval(time_step)
        block, number = divmod((self.first_step + step) // interval, _BLOCK)
        drawn = np.array([_draw(self.seeds[system], block, degrees)[:, number] for system in systems])
        gauss, squares = drawn.T
        kept = np.exp(-interval * time_step / self.relaxation_time)
        share = 0.5 * self.temperature / kinetic  # K̄ / (N_f K)
        ratio = kept + (1 - kept) * (squares + gauss**2) * share + 2 * gauss * np.sqrt(kept * (1 - kept) * share)
        return np.asarray(np.sqrt(ratio))


@lru_cache(maxsize=4096)
def _draw(seed: int, block: int, degrees: int) -> NDArray[np.float64]:
    """(2, _BLOCK) R and S of a block of rescalings of one system."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=block << 64))
    return np.stack([generator.standard_normal(_BLOCK), generator.chisquare(degrees - 1, _BLOCK)])


def degrees_of_freedom(n_particles: int, dimensions: int) -> int:
    """d(N−1): the centre of mass rests."""
    return dimensions * (n_particles - 1)
