"""A liquid whose potential nobody says: its species and their sizes, for learners on thermal positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glassmd.errors import SettingsError
from glassmd.mixtures.mixture import Mixture

__all__ = ["UNKNOWN", "from_identity", "is_unknown", "unknown_mixture"]

UNKNOWN = "unknown"
"""Its name."""


def is_unknown(identity: Mapping[str, Any]) -> bool:
    """Whether an identity, as it is stored with data, is of such a liquid."""
    return identity.get("name") == UNKNOWN


def unknown_mixture(
    species: Sequence[str],
    composition: Sequence[int],
    masses: Sequence[float],
    sigma: Sequence[Sequence[float]],
    density: float,
    dimensions: int,
    wave_numbers: Sequence[float],
) -> Mixture:
    """A mixture without a potential: its energies and forces are zero, and no engine takes it.

    Args:
        species: Names.
        composition: Particles of each.
        masses: Of each.
        sigma: (n_species, n_species) diameters, from g_ab(r), σ_AA.
        density: σ_AA^-d.
        dimensions: d.
        wave_numbers: q of the main peaks, 1/σ_AA.

    Example:
        >>> unknown_mixture(["A"], [10], [1.0], [[1.0]], 0.8, 3, [6.9]).name
        'unknown'
    """
    table = tuple(tuple(map(float, row)) for row in sigma)
    return Mixture(
        name=UNKNOWN,
        dimensions=dimensions,
        species=tuple(species),
        composition=tuple(composition),
        masses=tuple(map(float, masses)),
        epsilon=tuple(tuple(0.0 for _ in row) for row in table),
        sigma=table,
        cutoff_factor=1.5,
        density=density,
        wave_numbers=tuple(map(float, wave_numbers)),
        source="diameters from the first peaks of g(r)",
        cutoffs=tuple(tuple(1.5 * s for s in row) for row in table),
        own=True,
    )


def from_identity(identity: Mapping[str, Any]) -> Mixture:
    """What :func:`unknown_mixture` made, from its identity.

    Raises:
        SettingsError: The identity lacks something.
    """
    names = ("species", "composition", "masses", "sigma", "density", "dimensions", "wave_numbers")
    try:
        return unknown_mixture(*(identity[name] for name in names))
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"found a damaged mixture ({error!r})", "what glassmd stores", "restore the file"
        ) from error
