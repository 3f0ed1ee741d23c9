"""Model liquids of the literature as data."""

from __future__ import annotations

from dataclasses import replace

from glassmd.mixtures.mixture import Mixture

__all__ = ["MIXTURES"]

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
