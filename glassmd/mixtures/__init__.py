"""Model liquids as data: species, pair tables, truncation, composition and density.

Units are those of the A species throughout: length σ_AA, energy ε_AA, mass m_A, k_B = 1, time √(mσ²/ε).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from glassmd.errors import SettingsError
from glassmd.mixtures.known import MIXTURES
from glassmd.mixtures.mixture import TRUNCATIONS, Mixture, Truncation
from glassmd.mixtures.table import MixtureTable, build_table, read_table, table_of
from glassmd.mixtures.unknown import from_identity, is_unknown

__all__ = [
    "MIXTURES",
    "Mixture",
    "MixtureTable",
    "Truncation",
    "build_table",
    "get_mixture",
    "is_unknown",
    "mixture_of",
    "read_table",
    "table_of",
]


def get_mixture(name: str | MixtureTable, truncation: str | None = None) -> Mixture:
    """Return the mixture called `name` with the given truncation.

    Args:
        name: Of a mixture that comes with glassmd, or a TOML file that describes one of your own
            (:class:`glassmd.mixtures.table.MixtureTable`).
        truncation: See :data:`Truncation`; by default what the file says, else `shifted`.

    Raises:
        SettingsError: Unknown name or truncation; the message holds the nearest match. Or a truncation that
            makes no sense for this mixture.

    Example:
        >>> get_mixture("kob-andersen-2d-ternary", "xplor").counts(1290)
        (600, 330, 360)
    """
    if isinstance(name, str) and name.endswith(".toml"):
        name = read_table(Path(name))
    if isinstance(name, MixtureTable):
        return name.mixture(truncation)
    truncation = truncation or "shifted"
    if name not in MIXTURES:
        raise SettingsError(
            f"found mixture {name!r}", f"one of {', '.join(MIXTURES)}, or a TOML file", _nearest(name, MIXTURES)
        )
    mixture = MIXTURES[name]
    for known in TRUNCATIONS:
        if known == truncation and known in mixture.truncations:
            return replace(mixture, truncation=known)
    if truncation in TRUNCATIONS:
        raise SettingsError(
            f"found truncation {truncation!r} for mixture {name!r}",
            f"{' or '.join(mixture.truncations)}: with r_c = {mixture.cutoff_factor:.4g} σ_ab nothing else makes sense",
            f"try --truncation {mixture.truncations[0]}",
        )
    raise SettingsError(
        f"found truncation {truncation!r}", f"one of {', '.join(TRUNCATIONS)}", _nearest(truncation, TRUNCATIONS)
    )


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
    if is_unknown(identity):
        return from_identity(identity)
    if identity.get("own"):
        return table_of(identity).mixture(str(identity.get("truncation")))
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
