"""Mixtures as they are stored with data and models, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from glassmd.errors import SettingsError
from glassmd.mixtures.choice import get_mixture
from glassmd.mixtures.mixture import Mixture
from glassmd.mixtures.tables import mixture_tables
from glassmd.mixtures.unknown import from_identity, is_unknown

__all__ = ["differences", "mixture_of"]


def mixture_of(identity: Mapping[str, Any]) -> Mixture:
    """Return the mixture that an identity describes: what :meth:`Mixture.identity` is read back with.

    What an identity does not hold (composition, density, wave numbers) is that of the known mixture of its name.

    Args:
        identity: As it is stored with data and models.

    Raises:
        SettingsError: The identity lacks something, its name is not known and it does not say what a name would, or no
            cutoff factor gives a known mixture's cutoffs.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture = get_mixture("wca")
        >>> mixture_of(mixture.identity()) == mixture
        True
    """
    if is_unknown(identity):
        return from_identity(identity)
    try:
        mixture = _own_of(identity) if "composition" in identity else _known_of(identity)
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


def _known_of(identity: Mapping[str, Any]) -> Mixture:
    known = get_mixture(str(identity["name"]), str(identity["truncation"]))
    sigma, r_cut = identity["sigma"], identity["r_cut"]
    factor = known.cutoff_factor if r_cut == known.r_cut.tolist() else float(r_cut[0][0]) / float(sigma[0][0])
    return replace(
        known,
        dimensions=int(identity["dimensions"]),
        species=tuple(identity["species"]),
        masses=tuple(identity["masses"]),
        epsilon=tuple(map(tuple, identity["epsilon"])),
        sigma=tuple(map(tuple, sigma)),
        cutoff_factor=factor,
    )


def _own_of(identity: Mapping[str, Any]) -> Mixture:
    said = {key: value for key, value in identity.items() if key not in ("r_cut", "r_on")}
    return get_mixture(mixture_tables({**said, "cutoff": identity["r_cut"]}, "the identity of a mixture"))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str]:
    """What two identities differ in, each for an error: names and truncations, else entries of their tables.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> liquid = get_mixture("kob-andersen").identity()
        >>> differences({**liquid, "masses": [1.0, 2.0]}, liquid)
        ('kob-andersen with masses[1] = 2.0', 'masses[1] = 1.0')
        >>> differences(get_mixture("wca").identity(), liquid)
        ('wca (shifted)', 'kob-andersen (shifted)')
    """
    names = [f"{one['name']} ({one['truncation']})" for one in (found, wanted)]
    if names[0] != names[1]:
        return names[0], names[1]
    before, after = _entries(found), _entries(wanted)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    # Cutoffs in proportion to sigma follow from it.
    keys = [key for key in keys if not key.startswith("r_cut") or key.replace("r_cut", "sigma") not in keys][:4]
    shown = [", ".join(f"{key} = {side.get(key, 'none')}" for key in keys) for side in (before, after)]
    return f"{found['name']} with {shown[0]}", shown[1]


def _entries(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of an identity by their place; those below the diagonal of a table are above it as well."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        for i, row in enumerate(value) if isinstance(value, list) else ():
            for j, number in enumerate(row) if isinstance(row, list) else ():
                if i <= j:
                    flat[f"{key}[{i}][{j}]"] = number
            if not isinstance(row, list):
                flat[f"{key}[{i}]"] = row
        if not isinstance(value, list):
            flat[key] = value
    return flat
