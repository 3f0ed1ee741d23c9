"""What single configurations say: structure, energy, order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.analysis.energy import energy_of
from glassmd.analysis.groups import mean_and_error
from glassmd.analysis.radial import RadialSums
from glassmd.analysis.scattering import StructureSums
from glassmd.observables.result import Mean
from glassmd.observables.source import Facts, Source

__all__ = ["Statics", "kinetic_energies", "mean_of", "statics_of"]

CONFIGURATIONS = 50
"""Of which static averages are taken at most, and so many particles in all:"""

PARTICLES = 2_000_000


@dataclass(eq=False)
class Statics:
    """Sums and series over single configurations."""

    radial: RadialSums
    structure: StructureSums
    groups: list[int]
    when: list[float]
    energies: list[float]
    virials: list[float]
    kinetic: list[float]
    crystalline: list[float]


def statics_of(source: Source) -> Statics:
    """Sums and series over configurations that are evenly spread over a source."""
    facts = source.facts
    shape = facts.n_groups, facts.names, facts.box
    statics = Statics(RadialSums(*shape), StructureSums(*shape), [], [], [], [], [], [])
    most = int(np.clip(PARTICLES // len(facts.species), 3, CONFIGURATIONS))
    for snapshot in source.snapshots(most):
        configuration = snapshot.configuration
        statics.radial.add(snapshot.group, configuration)
        statics.structure.add(snapshot.group, configuration)
        statics.groups.append(snapshot.group)
        statics.when.append(snapshot.when)
        statics.crystalline.append(crystalline_fraction(configuration))
        if facts.mixture is not None:
            energy = energy_of(configuration, facts.mixture)
            statics.energies.append(energy.per_particle)
            statics.virials.append(energy.virial_pressure)
        if configuration.velocities is not None and facts.time_unit == "reduced":
            masses = facts.masses[configuration.species]
            n, d = configuration.velocities.shape
            relative = configuration.velocities - (masses @ configuration.velocities) / masses.sum()
            statics.kinetic.append(float(masses @ (relative**2).sum(axis=1)) / (d * (n - 1)))
    return statics


def kinetic_energies(facts: Facts, statics: Statics) -> list[float]:
    """Per particle, of temperatures of the momenta."""
    n = len(facts.species)
    return [0.5 * len(facts.box) * T * (n - 1) / n for T in statics.kinetic]


def mean_of(values: list[float], groups: list[int]) -> Mean:
    """Mean, and standard error from the scatter of groups."""
    if not values:
        return Mean(None, None)
    sums, counts = np.bincount(groups, values).astype(np.float64), np.bincount(groups).astype(np.float64)
    (mean,), (error,) = mean_and_error(sums[:, None], counts)
    return Mean(float(mean), float(error) if np.isfinite(error) else None)
