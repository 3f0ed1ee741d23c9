"""What a trajectory says of a liquid whose potential nobody names: species, their numbers, and how large they are."""

from __future__ import annotations

import numpy as np

from glassmd.analysis.radial import RadialSums
from glassmd.analysis.scattering import StructureSums
from glassmd.mixtures import Mixture
from glassmd.mixtures.unknown import unknown_mixture
from glassmd.trajectory.trajectory import Trajectory

__all__ = ["measured_mixture"]

_FRAMES = 20

_MINIMUM = 2 ** (1 / 6)
"""Of a Lennard-Jones potential, σ_ab: about where g_ab(r) has its first peak."""


def measured_mixture(trajectory: Trajectory) -> Mixture:
    """A mixture without a potential; σ_ab is the place of the first peak of g_ab(r) over 2^(1/6), two digits of it.

    Args:
        trajectory: Up to twenty of its frames are looked at.
    """
    first = trajectory[0].configuration
    names, n_species = first.species_names, len(first.species_names)
    radial, structure = RadialSums(1, names, first.box), StructureSums(1, names, first.box)
    for k in np.unique(np.linspace(0, len(trajectory) - 1, _FRAMES).round().astype(int)):
        radial.add(0, trajectory[int(k)].configuration)
        structure.add(0, trajectory[int(k)].configuration)
    g, s = radial.result(), structure.result()
    sigma = np.ones((n_species, n_species))
    for a in range(n_species):
        for b in range(a, n_species):
            if names[a] + names[b] in g.partial:
                sigma[a, b] = sigma[b, a] = round(g.first_peak(names[a] + names[b])[0] / _MINIMUM, 2)
    members = [np.flatnonzero(first.species == k) for k in range(n_species)]
    return unknown_mixture(
        names,
        [len(of) for of in members],
        [float(trajectory.masses[of].mean()) if len(of) else 1.0 for of in members],
        sigma.tolist(),
        round(first.density, 9),
        first.dimensions,
        [round(s.main_peak(name + name), 3) for name in names],
    )
