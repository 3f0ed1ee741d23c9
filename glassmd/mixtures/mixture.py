"""What a model liquid is: species, pair tables, truncation, composition and density.

Units are those of the A species throughout: length σ_AA, energy ε_AA, mass m_A, k_B = 1, time √(mσ²/ε).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["ON_FACTOR", "TRUNCATIONS", "Mixture", "Truncation"]

Truncation = Literal["shifted", "force-shifted", "truncated", "xplor"]
"""How the Lennard-Jones potential U ends at its cutoff r_c = 2.5 σ_ab.

`shifted`: energy zero at r_c (Kob & Andersen, PRE 51, 4626 (1995)).
`force-shifted`: energy and force zero at r_c (Shiba et al., J. Chem. Phys. 158, 084503 (2023)).
`truncated`: neither, one r_c = 2.5 σ_AA for every pair (GlassBench's evaluation of Bapst et al.'s data).
`xplor`: U·S with S(r) = (r_c² − r²)² (r_c² + 2r² − 3r_on²) / (r_c² − r_on²)³ from r_on = 1.2 σ_ab on and 1
below, so that energy and force go to zero at r_c and are continuous at r_on (HOOMD-blue's smoothing, with
the r_on of the scripts of Landes et al., PRE 101, 010602 (2020)).
"""

TRUNCATIONS: tuple[Truncation, ...] = get_args(Truncation)
ON_FACTOR = 1.2  # r_on / σ_ab of `xplor`

_Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Mixture:
    """A Lennard-Jones mixture, truncation included: two truncations are two liquids.

    Attributes:
        name: The name used by settings and stored with data.
        dimensions: d, 2 or 3.
        species: Names, one per species, A first.
        composition: Parts of each species (80, 20).
        masses: (n_species,) in m_A.
        epsilon: (n_species, n_species) well depths in ε_AA.
        sigma: (n_species, n_species) diameters in σ_AA.
        cutoff_factor: r_c / σ_ab; the smallest where each pair has a cutoff of its own.
        density: Number density in σ_AA^-d.
        wave_numbers: q of the main peak of the partial S_aa(q) per species, in 1/σ_AA, for F_s and τ_α.
        source: Where the numbers come from; two mixtures that differ in it alone are one.
        truncations: Those that make sense for this mixture.
        truncation: See :data:`Truncation`.
        cutoffs: (n_species, n_species) r_c in σ_AA where they do not follow from the factor; None where they do.
        own: Whether it is somebody's own, and none of :data:`glassmd.mixtures.MIXTURES`.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture = get_mixture("kob-andersen", "force-shifted")
        >>> mixture.counts(4096)
        (3277, 819)
        >>> float(mixture.r_cut[0, 1])
        2.0
    """

    name: str
    dimensions: int
    species: tuple[str, ...]
    composition: tuple[int, ...]
    masses: tuple[float, ...]
    epsilon: _Table
    sigma: _Table
    cutoff_factor: float
    density: float
    wave_numbers: tuple[float, ...]
    source: str = field(compare=False)
    truncations: tuple[Truncation, ...] = TRUNCATIONS
    truncation: Truncation = "shifted"
    cutoffs: _Table | None = None
    own: bool = False

    @property
    def r_cut(self) -> NDArray[np.float64]:
        """Pair cutoffs, (n_species, n_species), σ_AA."""
        if self.cutoffs is not None:
            return np.asarray(self.cutoffs, dtype=np.float64)
        sigma = np.asarray(self.sigma, dtype=np.float64)
        if self.truncation == "truncated":
            return np.full_like(sigma, self.cutoff_factor * sigma[0, 0])
        return self.cutoff_factor * sigma

    @property
    def r_on(self) -> NDArray[np.float64]:
        """Where `xplor` begins to smooth each pair, (n_species, n_species), σ_AA; `r_cut` where nothing is smoothed."""
        if self.truncation != "xplor":
            return self.r_cut
        return ON_FACTOR * np.asarray(self.sigma, dtype=np.float64)

    def counts(self, n_particles: int) -> tuple[int, ...]:
        """Particles of each species among `n_particles`; rounding falls to the last species."""
        parts = np.cumsum(self.composition) / sum(self.composition)
        edges = np.concatenate([[0], np.rint(parts * n_particles)]).astype(int)
        return tuple(int(n) for n in np.diff(edges))

    def identity(self) -> dict[str, Any]:
        """What is stored with data and models to tell two liquids apart (JSON types only).

        That of somebody's own mixture holds what a known name says besides.
        """
        identity = {
            "name": self.name,
            "truncation": self.truncation,
            "dimensions": self.dimensions,
            "species": list(self.species),
            "epsilon": [list(row) for row in self.epsilon],
            "sigma": [list(row) for row in self.sigma],
            "r_cut": self.r_cut.tolist(),
            "masses": list(self.masses),
        }
        if self.truncation == "xplor":  # the others have no such length, and data without it in their identity
            identity["r_on"] = self.r_on.tolist()
        if self.own:
            identity["composition"] = list(self.composition)
            identity["density"] = self.density
            identity["wave_numbers"] = list(self.wave_numbers)
        return identity
