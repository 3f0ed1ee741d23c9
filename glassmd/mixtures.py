"""Model liquids as data: species, pair tables, truncation, composition and density.

Units are those of the A species throughout: length σ_AA, energy ε_AA, mass m_A, k_B = 1, time √(mσ²/ε).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import SettingsError

__all__ = ["MIXTURES", "Mixture", "Truncation", "get_mixture", "mixture_of"]

Truncation = Literal["shifted", "force-shifted", "truncated", "xplor"]
"""How the Lennard-Jones potential U ends at its cutoff r_c = 2.5 σ_ab.

`shifted`: energy zero at r_c (Kob & Andersen, PRE 51, 4626 (1995)).
`force-shifted`: energy and force zero at r_c (Shiba et al., J. Chem. Phys. 158, 084503 (2023)).
`truncated`: neither, one r_c = 2.5 σ_AA for every pair (GlassBench's evaluation of Bapst et al.'s data).
`xplor`: U·S with S(r) = (r_c² − r²)² (r_c² + 2r² − 3r_on²) / (r_c² − r_on²)³ from r_on = 1.2 σ_ab on and 1
below, so that energy and force go to zero at r_c and are continuous at r_on (HOOMD-blue's smoothing, with
the r_on of the scripts of Landes et al., PRE 101, 010602 (2020)).
"""

_ALL: tuple[Truncation, ...] = get_args(Truncation)
_ON_FACTOR = 1.2  # r_on / σ_ab of `xplor`

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
        wave_numbers: q of the main peak of the partial S_aa(q) per species, in 1/σ_AA, for F_s and τ_α.
        source: Where the numbers come from.
        truncations: Those that make sense for this mixture.
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
    truncations: tuple[Truncation, ...] = _ALL
    truncation: Truncation = "shifted"

    @property
    def r_cut(self) -> NDArray[np.float64]:
        """Pair cutoffs, (n_species, n_species), σ_AA."""
        sigma = np.asarray(self.sigma, dtype=np.float64)
        if self.truncation == "truncated":
            return np.full_like(sigma, self.cutoff_factor * sigma[0, 0])
        return self.cutoff_factor * sigma

    @property
    def r_on(self) -> NDArray[np.float64]:
        """Where `xplor` begins to smooth each pair, (n_species, n_species), σ_AA; `r_cut` where nothing is smoothed."""
        if self.truncation != "xplor":
            return self.r_cut
        return _ON_FACTOR * np.asarray(self.sigma, dtype=np.float64)

    def counts(self, n_particles: int) -> tuple[int, ...]:
        """Particles of each species among `n_particles`; rounding falls to the last species."""
        parts = np.cumsum(self.composition) / sum(self.composition)
        edges = np.concatenate([[0], np.rint(parts * n_particles)]).astype(int)
        return tuple(int(n) for n in np.diff(edges))

    def identity(self) -> dict[str, Any]:
        """What is stored with data and models to tell two liquids apart (JSON types only)."""
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
        return identity


# Wave numbers: Kob-Andersen's are the usual ones, the others were measured (docs/equilibrium.md).

_KOB_ANDERSEN = Mixture(
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
)

_KOB_ANDERSEN_2D = replace(
    _KOB_ANDERSEN,
    name="kob-andersen-2d",
    dimensions=2,
    composition=(65, 35),  # at 80:20 the plane crystallises
    wave_numbers=(7.12, 4.81),
    source="R. Brüning, D. A. St-Onge, S. Patterson and W. Kob, J. Phys.: Condens. Matter 21, 035117 (2009)",
)

_KOB_ANDERSEN_2D_TERNARY = Mixture(
    name="kob-andersen-2d-ternary",
    dimensions=2,
    species=("A", "B", "C"),
    composition=(600, 330, 360),
    masses=(1.0, 1.0, 1.0),
    epsilon=((1.0, 1.5, 0.75), (1.5, 0.5, 1.5), (0.75, 1.5, 0.75)),
    sigma=((1.0, 0.8, 0.9), (0.8, 0.88, 0.8), (0.9, 0.8, 0.94)),
    cutoff_factor=2.5,
    density=1290 / 32.8962**2,
    wave_numbers=(7.2, 4.6, 7.32),
    source="G. Jung, G. Biroli and L. Berthier, Phys. Rev. Lett. 130, 238202 (2023); GlassBench's KA2D",
)

# Cut at the minimum: energy and force are zero there once the energy is shifted, and nothing is left to smooth.
_WCA = replace(
    _KOB_ANDERSEN,
    name="wca",
    cutoff_factor=2 ** (1 / 6),
    wave_numbers=(7.23, 5.6),
    source="F. P. Landes, G. Biroli, O. Dauchot, A. J. Liu and D. R. Reichman, Phys. Rev. E 101, 010602 (2020)",
    truncations=("shifted",),
)

# The paper's unit of length is the small species' diameter, in which its density is 0.75 and the large one's
# diameter 1.2; here A is the large species: 0.75 × 1.2³ = 1.296.
_WAHNSTROM = Mixture(
    name="wahnstrom",
    dimensions=3,
    species=("A", "B"),
    composition=(50, 50),
    masses=(1.0, 0.5),
    epsilon=((1.0, 1.0), (1.0, 1.0)),
    sigma=((1.0, 11 / 12), (11 / 12, 5 / 6)),
    cutoff_factor=2.5,
    density=1.296,
    wave_numbers=(7.48, 7.94),
    source="G. Wahnström, Phys. Rev. A 44, 3752 (1991)",
)

MIXTURES = {
    mixture.name: mixture for mixture in (_KOB_ANDERSEN, _KOB_ANDERSEN_2D, _KOB_ANDERSEN_2D_TERNARY, _WCA, _WAHNSTROM)
}
"""Every mixture by name, `shifted`."""


def get_mixture(name: str, truncation: str = "shifted") -> Mixture:
    """Return the mixture called `name` with the given truncation.

    Raises:
        SettingsError: Unknown name or truncation; the message holds the nearest match. Or a truncation that
            makes no sense for this mixture.

    Example:
        >>> get_mixture("kob-andersen-2d-ternary", "xplor").counts(1290)
        (600, 330, 360)
    """
    if name not in MIXTURES:
        raise SettingsError(f"found mixture {name!r}", f"one of {', '.join(MIXTURES)}", _nearest(name, MIXTURES))
    mixture = MIXTURES[name]
    for known in _ALL:
        if known == truncation and known in mixture.truncations:
            return replace(mixture, truncation=known)
    if truncation in _ALL:
        raise SettingsError(
            f"found truncation {truncation!r} for mixture {name!r}",
            f"{' or '.join(mixture.truncations)}: with r_c = {mixture.cutoff_factor:.4g} σ_ab nothing else makes sense",
            f"try --truncation {mixture.truncations[0]}",
        )
    raise SettingsError(f"found truncation {truncation!r}", f"one of {', '.join(_ALL)}", _nearest(truncation, _ALL))


def mixture_of(identity: Mapping[str, Any]) -> Mixture:
    """Return the mixture that an identity describes: what :meth:`Mixture.identity` is read back with.

    What an identity does not hold (composition, density, wave numbers) is that of the known mixture of its name.

    Args:
        identity: As it is stored with data and models.

    Raises:
        SettingsError: The identity lacks something, its name is not known, or no cutoff factor gives its cutoffs.

    Example:
        >>> mixture = get_mixture("wca")
        >>> mixture_of(mixture.identity()) == mixture
        True
    """
    try:
        known = get_mixture(str(identity["name"]), str(identity["truncation"]))
        sigma, r_cut = identity["sigma"], identity["r_cut"]
        factor = known.cutoff_factor if r_cut == known.r_cut.tolist() else float(r_cut[0][0]) / float(sigma[0][0])
        mixture = replace(
            known,
            dimensions=int(identity["dimensions"]),
            species=tuple(identity["species"]),
            masses=tuple(identity["masses"]),
            epsilon=tuple(map(tuple, identity["epsilon"])),
            sigma=tuple(map(tuple, sigma)),
            cutoff_factor=factor,
        )
        same = mixture.identity() == dict(identity)
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise SettingsError(
            f"found an identity of a mixture that cannot be read ({type(error).__name__}: {error})",
            "what glassmd stores with data and models",
            "restore the file",
        ) from error
    if not same:
        different = [key for key, value in mixture.identity().items() if identity.get(key) != value]
        raise SettingsError(
            f"found a mixture {mixture.name!r} whose {', '.join(different) or 'keys'} no mixture has",
            "cutoffs in proportion to σ, as every mixture of glassmd has them",
            "restore the file",
        )
    return mixture


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
