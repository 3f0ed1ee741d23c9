"""Which species the types of a file are: as it says itself, as somebody says, or by masses or numbers without doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import SettingsError, TrajectoryError
from glassmd.mixtures import Mixture

__all__ = ["parse_types", "species_of_types"]

_COMPOSITION = 0.01
"""Share of the particles by which the number of a species may differ from the mixture's."""

_MASS = 1e-3  # relative


def parse_types(text: str) -> dict[str, str]:
    """Species by the name of a type, from `1=A,2=B`.

    Raises:
        SettingsError: It cannot be read, or says two things of one type.

    Example:
        >>> parse_types("1=A, 2=B")
        {'1': 'A', '2': 'B'}
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, species = (word.strip() for word in part.partition("="))
        if not (name and equals and species) or name in found:
            raise SettingsError(f"found --types {text}", "TYPE=SPECIES, each type once", "for example --types 1=A,2=B")
        found[name] = species
    return found


def species_of_types(
    path: Path,
    names: Sequence[str],
    counts: Sequence[int],
    masses: Sequence[float] | None,
    mixture: Mixture | None,
    types: Mapping[str, str] | None,
) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    """The species that the types of a file are.

    Args:
        path: The file, for errors.
        names: Of the types, as the file has them.
        counts: Particles of each.
        masses: Of each, or None where the file does not say.
        mixture: What the file holds, where that is known.
        types: Species by name of a type, where somebody says it.

    Returns:
        Names of the species, the index into them of every type (−1 for one that no particle has), and how the types
        were recognised where the file does not say it itself.

    Raises:
        SettingsError: `types` leaves one out or names an unknown species.
        TrajectoryError: Nothing says which species a type is.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> species_of_types(Path("a.dump"), ["1", "2"], [800, 200], None, get_mixture("kob-andersen"), None)
        (('A', 'B'), (0, 1), 'types 1=A, 2=B by their numbers, 800 and 200')
    """
    used = [index for index, count in enumerate(counts) if count]
    if types is not None:
        said = _as_said(path, names, used, mixture, types)
        if mixture is not None:
            _refuse_swapped(names, used, counts, mixture, said[1])
        return said
    if mixture is None:
        species = tuple(names[index] for index in used)
        return species, tuple(used.index(index) if index in used else -1 for index in range(len(names))), ""
    if all(names[index] in mixture.species for index in used):
        return mixture.species, tuple(_index(mixture.species, name) for name in names), ""
    foreign = not any(names[index] in mixture.species for index in used)
    for what, values, found in (
        ("masses", masses, _by_masses(used, masses, mixture)),
        ("numbers", counts, _by_numbers(used, counts, mixture)),
    ):
        if foreign and found is not None:
            told = ", ".join(f"{names[index]}={mixture.species[k]}" for index, k in zip(used, found, strict=True))
            of = " and ".join(f"{values[index]:g}" for index in used) if values is not None else ""
            order = [found[used.index(index)] if index in used else -1 for index in range(len(names))]
            return mixture.species, tuple(order), f"types {told} by their {what}, {of}"
    some = ", ".join(f"{counts[index]} of type {names[index]}" for index in used)
    raise TrajectoryError(
        f"{path} has {some}",
        f"the species {', '.join(mixture.species)} of {mixture.name}",
        f"say which is which: --types {names[used[0]]}={mixture.species[0]},…, or choose another --mixture",
    )


def _refuse_swapped(
    names: Sequence[str], used: Sequence[int], counts: Sequence[int], mixture: Mixture, order: Sequence[int]
) -> None:
    """Refuse an assignment that is not the mixture's composition where another one is."""
    fits = _by_numbers(used, counts, mixture)
    if fits is None or fits == [order[index] for index in used]:
        return
    told = ", ".join(f"{counts[index]} {mixture.species[order[index]]}" for index in used)
    right = ",".join(f"{names[index]}={mixture.species[k]}" for index, k in zip(used, fits, strict=True))
    parts = ":".join(map(str, mixture.composition))
    raise SettingsError(
        f"found {told} by --types", f"{parts}, the composition of {mixture.name}", f"try --types {right}"
    )


def _index(species: Sequence[str], name: str) -> int:
    return species.index(name) if name in species else -1


def _as_said(
    path: Path, names: Sequence[str], used: Sequence[int], mixture: Mixture | None, types: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    missing = [names[index] for index in used if names[index] not in types]
    if missing or not set(types) <= set(names):
        raise SettingsError(
            f"found --types {', '.join(f'{a}={b}' for a, b in types.items())}, and types {', '.join(names)} in {path}",
            "a species for every type of the file, and for no other",
            f"for example --types {','.join(f'{name}={chr(65 + k)}' for k, name in enumerate(names))}",
        )
    species = mixture.species if mixture is not None else tuple(sorted(set(types.values())))
    unknown = sorted(set(types.values()) - set(species))
    if mixture is not None and unknown:
        raise SettingsError(
            f"found species {', '.join(unknown)} in --types", f"{', '.join(species)}, those of {mixture.name}"
        )
    return species, tuple(_index(species, types.get(name, "")) for name in names), ""


def _by_masses(used: Sequence[int], masses: Sequence[float] | None, mixture: Mixture) -> list[int] | None:
    """Species of the used types where each has a mass that one species alone has."""
    if masses is None or len(set(mixture.masses)) < len(mixture.masses):
        return None
    close = [[k for k, m in enumerate(mixture.masses) if abs(masses[i] / m - 1) < _MASS] for i in used]
    found = [one[0] for one in close if len(one) == 1]
    return found if len(found) == len(used) == len(set(found)) else None


def _by_numbers(used: Sequence[int], counts: Sequence[int], mixture: Mixture) -> list[int] | None:
    """Species of the used types where one assignment alone gives the mixture's composition."""
    if len(used) != len(mixture.species):
        return None
    n = sum(counts)
    wanted: NDArray[np.int64] = np.array(mixture.counts(n))
    fits = [
        list(order)
        for order in permutations(range(len(used)))
        if np.abs(wanted[list(order)] - [counts[i] for i in used]).max() <= max(1, _COMPOSITION * n)
    ]
    return fits[0] if len(fits) == 1 else None
