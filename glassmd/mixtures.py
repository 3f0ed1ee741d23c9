"""Model liquids as data: species, pair tables, truncation, composition and density.

Units are those of the A species throughout: length σ_AA, energy ε_AA, mass m_A, k_B = 1, time √(mσ²/ε).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import SettingsError

__all__ = ["MIXTURES", "Mixture", "Truncation", "get_mixture"]

Truncation = Literal["shifted", "force-shifted", "truncated"]
"""How the Lennard-Jones potential ends at its cutoff.

`shifted`: energy zero at r_c = 2.5 σ_ab (Kob & Andersen, PRE 51, 4626 (1995)).
`force-shifted`: energy and force zero at r_c = 2.5 σ_ab (Shiba et al., J. Chem. Phys. 158, 084503 (2023)).
`truncated`: neither, one r_c = 2.5 σ_AA for every pair (GlassBench's evaluation of Bapst et al.'s data).
"""

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
        cutoff_factor: r_c / σ_ab.
        density: Number density in σ_AA^-d.
        wave_numbers: q of the first peak of S(q) per species, in 1/σ_AA, for F_s and τ_α.
        source: Where the numbers come from.
        truncation: See :data:`Truncation`.

    Example:
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
    source: str
    truncation: Truncation = "shifted"

    @property
    def r_cut(self) -> NDArray[np.float64]:
        """Pair cutoffs, (n_species, n_species), σ_AA."""
        sigma = np.asarray(self.sigma, dtype=np.float64)
        if self.truncation == "truncated":
            return np.full_like(sigma, self.cutoff_factor * sigma[0, 0])
        return self.cutoff_factor * sigma

    def counts(self, n_particles: int) -> tuple[int, ...]:
        """Particles of each species among `n_particles`; rounding falls to the last species."""
        parts = np.cumsum(self.composition) / sum(self.composition)
        edges = np.concatenate([[0], np.rint(parts * n_particles)]).astype(int)
        return tuple(int(n) for n in np.diff(edges))

    def identity(self) -> dict[str, Any]:
        """What is stored with data and models to tell two liquids apart (JSON types only)."""
        return {
            "name": self.name,
            "truncation": self.truncation,
            "dimensions": self.dimensions,
            "species": list(self.species),
            "epsilon": [list(row) for row in self.epsilon],
            "sigma": [list(row) for row in self.sigma],
            "r_cut": self.r_cut.tolist(),
            "masses": list(self.masses),
        }


def _kob_andersen(truncation: Truncation) -> Mixture:
    return Mixture(
        name="kob-andersen",
        dimensions=3,
        species=("A", "B"),
        composition=(80, 20),
        masses=(1.0, 1.0),
        epsilon=((1.0, 1.5), (1.5, 0.5)),
        sigma=((1.0, 0.8), (0.8, 0.88)),
        cutoff_factor=2.5,
        density=1.2,
        wave_numbers=(7.25, 5.75),
        source="W. Kob and H. C. Andersen, Phys. Rev. E 51, 4626 (1995)",
        truncation=truncation,
    )


MIXTURES = {"kob-andersen": _kob_andersen}
"""Every mixture by name; a value makes the mixture with a given truncation."""


def get_mixture(name: str, truncation: str = "shifted") -> Mixture:
    """Return the mixture called `name` with the given truncation.

    Raises:
        SettingsError: Unknown name or truncation; the message holds the nearest match.
    """
    if name not in MIXTURES:
        raise SettingsError(f"found mixture {name!r}", f"one of {', '.join(MIXTURES)}", _nearest(name, MIXTURES))
    for known in get_args(Truncation):
        if known == truncation:
            return MIXTURES[name](known)
    known_truncations = get_args(Truncation)
    raise SettingsError(
        f"found truncation {truncation!r}",
        f"one of {', '.join(known_truncations)}",
        _nearest(truncation, known_truncations),
    )


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
