"""Potential energy and pressure of configurations of a known mixture, from its pairs."""

from __future__ import annotations

from typing import NamedTuple

from glassmd.configuration import Configuration
from glassmd.mixtures import Mixture
from glassmd.neighbour_search import pairs_within
from glassmd.pair_potential import pair_potential

__all__ = ["Energy", "energy_of"]


class Energy(NamedTuple):
    """Of one configuration.

    Attributes:
        per_particle: U/N, ε_AA.
        virial_pressure: −Σ r u'(r) / (d V), without what momenta add, ε_AA/σ_AA^d.
    """

    per_particle: float
    virial_pressure: float

    def pressure(self, n_particles: int, density: float, temperature: float) -> float:
        """With what momenta add whose sum is zero: ρ T (N − 1)/N."""
        return self.virial_pressure + density * temperature * (n_particles - 1) / n_particles


def energy_of(configuration: Configuration, mixture: Mixture) -> Energy:
    """U/N and the virial's pressure.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> pair = Configuration([9, 9, 9], [0, 0], [[0, 0, 0], [2 ** (1 / 6), 0, 0]])
        >>> found = energy_of(pair, get_mixture("kob-andersen", "truncated"))
        >>> round(found.per_particle, 6), round(abs(found.virial_pressure), 6)
        (-0.5, 0.0)
    """
    n, d = configuration.positions.shape
    i, j, r, _ = pairs_within(configuration.positions, configuration.box, float(mixture.r_cut.max()))
    u = pair_potential(r, configuration.species[i], configuration.species[j], mixture)
    virial = -float((r * u.slope).sum()) / (d * configuration.volume)
    return Energy(float(u.energy.sum()) / n, virial)
