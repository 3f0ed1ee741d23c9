"""What the engine sees of a configuration that somebody else made: can it be the liquid that it is said to be?

Nobody can tell from one configuration whether it is in equilibrium, but units, temperature and mixture that are wrong
show in its energy. Where the mean is known, one configuration may differ from it by what the canonical ensemble lets
it fluctuate; elsewhere it has to be a dense liquid at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.errors import EquilibrationError, SettingsError
from glassmd.mixtures import Mixture
from glassmd.neighbour_search import pairs_within
from glassmd.settings import RunSettings

__all__ = ["Inspected", "inspect"]

_CURVE = (-8.644, 2.632, 0.6)
"""U/N = a + b T^c of Kob-Andersen, `shifted`, at ρ = 1.2 and T = 0.43 … 2; averages scatter by 0.006 around it. The
exponent is that of Rosenfeld & Tarazona, Mol. Phys. 95, 141 (1998)."""

_CURVE_TEMPERATURES = (0.43, 2.0)
_CURVE_DENSITY = 1.2
_MARGIN = 0.03
"""Beyond fluctuations, ε_AA: five times the scatter of the averages; a composition off by 0.2% makes as much."""

_FLUCTUATIONS = 5.0
_ATTRACTIVE = 2.0
"""Mixtures cut beyond this many σ_ab hold together by themselves."""

_BOUND = -0.5
"""Largest U/N of a known attractive mixture up to T = 2 and its own density, ε_AA. Measured at T = 1.9: Kob-Andersen
-4.7, `wahnstrom` -3.9, `kob-andersen-2d` -1.5, the ternary one -1.4."""

_HOT = 5.0
"""Largest U/N in units of 1 + T at a mixture's own density; `wca`, which has most, has 1.0 at T = 1.9 and 4."""


@dataclass(frozen=True, eq=False)
class Inspected:
    """What was found.

    Attributes:
        facts: `energy_per_particle` (ε_AA), `pressure` (virial, and ρT(N−1)/N for the momenta), `neighbours` (mean
            number within the cutoffs), `crystalline_fraction`, `density`.
        against: Why it is no equilibrated liquid at its temperature; empty where nothing speaks against it.
    """

    facts: dict[str, float]
    against: str = ""


def inspect(
    configurations: Sequence[Configuration],
    sources: Sequence[str],
    settings: RunSettings,
    engine: Engine,
    check: Callable[[], None] | None = None,
) -> Iterator[Inspected]:
    """Have the engine evaluate configurations at rest.

    Args:
        configurations: With the same box and number of particles in all.
        sources: Where each comes from, for people.
        settings: Mixture, temperature, time step; whether what is not equilibrated is accepted.
        engine: Evaluates.
        check: What it raises ends it.

    Yields:
        One for each, in order.

    Raises:
        EngineError: The engine cannot evaluate it.
        EquilibrationError: Its energy is not that of the liquid at this temperature, and that was not accepted.
        SettingsError: It is no dense liquid in reduced units.
    """
    mixture = settings.liquid()
    for configuration, source in zip(configurations, sources, strict=True):
        if check is not None:
            check()
        resting = configuration.with_velocities(np.zeros_like(configuration.positions))
        (seen,) = engine.evolve([resting], mixture, steps=[0], time_step=settings.time_step)
        n, density = configuration.n_particles, configuration.density
        found = Inspected(
            {
                "energy_per_particle": float(seen.potential_energy),
                "pressure": float(seen.pressure + density * settings.temperature * (n - 1) / n),
                "neighbours": _neighbours(configuration, mixture),
                "crystalline_fraction": crystalline_fraction(configuration),
                "density": float(density),
            }
        )
        _require_dense_liquid(found.facts, source, mixture, settings.temperature)
        against = _off_the_curve(found.facts, n, mixture, settings.temperature)
        if against and not settings.accept_unequilibrated:
            raise EquilibrationError(
                f"{source} has {against}",
                "an equilibrated liquid as parent",
                "check its --temperature and --truncation, or give --accept-unequilibrated",
            )
        yield Inspected(found.facts, against)


def _neighbours(configuration: Configuration, mixture: Mixture) -> float:
    """Mean number of particles within a particle's cutoffs."""
    i, j, distance, _ = pairs_within(configuration.positions, configuration.box, float(mixture.r_cut.max()))
    species = configuration.species
    return float(2 * (distance < mixture.r_cut[species[i], species[j]]).sum() / configuration.n_particles)


def _require_dense_liquid(found: dict[str, Any], source: str, mixture: Mixture, temperature: float) -> None:
    energy, neighbours, density = found["energy_per_particle"], found["neighbours"], found["density"]
    # Repulsion grows as r^-12 when a liquid is compressed.
    highest = _HOT * (1 + temperature) * max(1.0, density / mixture.density) ** (12 / mixture.dimensions)
    if (
        not mixture.own
        and mixture.cutoff_factor > _ATTRACTIVE
        and temperature <= 2
        and density <= 1.05 * mixture.density
    ):
        highest = _BOUND
    if neighbours < 1 or not energy <= highest or not np.isfinite(found["pressure"]):  # nor NaN
        raise SettingsError(
            f"{source} has U/N = {energy:.4f} with {neighbours:.1f} neighbours within the cutoff",
            f"a liquid of {mixture.name} in reduced units (σ_AA, ε_AA): U/N below {highest:.3g}, one neighbour or more",
            "check its units and --density",
        )


def _off_the_curve(found: dict[str, Any], n_particles: int, mixture: Mixture, temperature: float) -> str:
    """What U/N is and what it should be, where they differ by more than fluctuations; else nothing.

    U/N fluctuates by T √(c/N) around its mean with c = d⟨U/N⟩/dT.
    """
    low, high = _CURVE_TEMPERATURES
    known = (mixture.name, mixture.truncation) == ("kob-andersen", "shifted") and low <= temperature <= high
    if not known or abs(found["density"] / _CURVE_DENSITY - 1) > 1e-3:
        return ""
    a, b, c = _CURVE
    mean, slope = a + b * temperature**c, b * c * temperature ** (c - 1)
    allowed = _MARGIN + _FLUCTUATIONS * temperature * float(np.sqrt(slope / n_particles))
    energy = found["energy_per_particle"]
    if abs(energy - mean) <= allowed:
        return ""
    return f"U/N = {energy:.4f}, not {mean:.4f} ± {allowed:.2g} as liquids at T = {temperature:g}"
