"""A mixture from what somebody says: a name, a file, or what a file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.errors import SettingsError
from glassmd.mixtures.known import MIXTURES
from glassmd.mixtures.mixture import ON_FACTOR, TRUNCATIONS, Mixture
from glassmd.mixtures.tables import MixtureTables, is_mixture_file, mixture_tables, read_mixture_file

__all__ = ["get_mixture", "mixture_setting"]

_CLOSEST_PACKED = {2: 4 * np.pi / 3**0.5 * (3**0.5 / 2) ** 0.5, 3: 2 * np.pi * 3**0.5 / 4 ** (1 / 3)}
"""First Bragg peak of the triangular and the fcc lattice of density 1. Over ρ^(1/d), S_AA has its main peak at 0.99 to
1.00 of it in :data:`glassmd.mixtures.MIXTURES` in space and 0.96 to 0.98 in the plane: docs/mixtures.md."""


def get_mixture(name: str | Path | MixtureTables, truncation: str | None = None) -> Mixture:
    """Return the mixture called `name`, or that a TOML file describes, with the given truncation.

    Args:
        name: In :data:`MIXTURES`; or a file (docs/mixtures.md), or what one says.
        truncation: `shifted` by default, or as the file says.

    Raises:
        SettingsError: Unknown name or truncation; the message holds the nearest match. A truncation that makes no
            sense for this mixture. A file that cannot be used; the message names the entry.

    Example:
        >>> get_mixture("kob-andersen-2d-ternary", "xplor").counts(1290)
        (600, 330, 360)
        >>> from glassmd.mixtures.tables import mixture_tables
        >>> own = mixture_tables(
        ...     {"name": "soft-pair", "dimensions": 3, "species": ["A", "B"], "composition": [1, 1],
        ...      "masses": [1, 1], "epsilon": [[1, 1], [1, 1]], "sigma": [[1, 0.9], [0.9, 0.8]],
        ...      "cutoff": 2.5, "truncation": "force-shifted", "density": 1.3}, "here")
        >>> get_mixture(own).truncation, round(get_mixture(own).wave_numbers[1], 2)
        ('force-shifted', 7.48)
    """
    mixture, said = _found(name)
    truncation = truncation or said or "shifted"
    for known in TRUNCATIONS:
        if known == truncation and known in mixture.truncations:
            return _with_cutoffs(replace(mixture, truncation=known))
    if truncation in TRUNCATIONS:
        raise SettingsError(
            f"found truncation {truncation!r} for mixture {mixture.name!r}",
            f"{' or '.join(mixture.truncations)}: with r_c = {mixture.cutoff_factor:.4g} σ_ab nothing else makes sense",
            f"try --truncation {mixture.truncations[0]}",
        )
    known_ones = f"one of {', '.join(TRUNCATIONS)}"
    raise SettingsError(f"found truncation {truncation!r}", known_ones, _nearest(truncation, TRUNCATIONS))


def _found(name: str | Path | MixtureTables) -> tuple[Mixture, str | None]:
    """The mixture of a name, a file or its content, and the truncation that the file says."""
    if isinstance(name, str) and name in MIXTURES:
        return MIXTURES[name], None
    if isinstance(name, str) and not is_mixture_file(name):
        known = f"one of {', '.join(MIXTURES)}, or a TOML file that describes one"
        raise SettingsError(f"found mixture {name!r}", known, _nearest(name, MIXTURES))
    tables = name if isinstance(name, MixtureTables) else read_mixture_file(Path(name).expanduser())
    mixture = _of_tables(tables)
    return (mixture if mixture.own else _as_known(mixture, tables)), tables.truncation


def _as_known(mixture: Mixture, tables: MixtureTables) -> Mixture:
    """The mixture of the literature whose name a file uses.

    Raises:
        SettingsError: The file describes another one.
    """
    known = MIXTURES[mixture.name]
    waves = mixture.wave_numbers if tables.wave_numbers else known.wave_numbers
    same = _with_cutoffs(replace(mixture, wave_numbers=waves, truncations=known.truncations))
    other = [
        key
        for key, value in vars(replace(known, truncation=mixture.truncation)).items()
        if key != "source" and getattr(same, key) != value
    ]
    if other:
        raise SettingsError(
            f"found name = {mixture.name!r} with another {', '.join(other)} than the known mixture",
            "a name of its own",
            f'write name = "my-{mixture.name}"',
        )
    return known


def _of_tables(tables: MixtureTables) -> Mixture:
    """What a file describes."""
    d, n = tables.dimensions, len(tables.species)
    sigma = np.asarray(tables.sigma)
    cutoffs = tables.cutoff if isinstance(tables.cutoff, list) else None
    factor = float((np.asarray(tables.cutoff) / (1 if cutoffs is None else sigma)).min())
    estimate = float(_CLOSEST_PACKED[d]) * tables.density ** (1 / d)
    return Mixture(
        name=tables.name,
        dimensions=d,
        species=tuple(tables.species),
        composition=tuple(tables.composition),
        masses=tuple(tables.masses),
        epsilon=tuple(map(tuple, tables.epsilon)),
        sigma=tuple(map(tuple, tables.sigma)),
        cutoff_factor=factor,
        density=tables.density,
        wave_numbers=tuple(tables.wave_numbers or [estimate] * n),
        source=tables.source,
        truncations=tuple(known for known in TRUNCATIONS if known != "xplor" or factor > ON_FACTOR),
        truncation=next((known for known in TRUNCATIONS if known == tables.truncation), "shifted"),
        cutoffs=None if cutoffs is None else tuple(map(tuple, cutoffs)),
        own=tables.name not in MIXTURES,
    )


def _with_cutoffs(mixture: Mixture) -> Mixture:
    """The same, without a table of cutoffs where the factor of its first pair says as much."""
    if mixture.cutoffs is None:
        return mixture
    plain = replace(mixture, cutoffs=None, cutoff_factor=mixture.cutoffs[0][0] / mixture.sigma[0][0])
    return plain if np.array_equal(plain.r_cut, mixture.r_cut) else mixture


def mixture_setting(given: Any) -> tuple[str | MixtureTables, str | None]:
    """What settings hold of a mixture, so that they depend on no file: its name, or what its file says.

    Args:
        given: A name, a file, a table with the keys of one, or a :class:`Mixture`.

    Returns:
        The setting, and the truncation that comes with it.

    Raises:
        SettingsError: As :func:`get_mixture`.

    Example:
        >>> mixture_setting("kob-andersen")
        ('kob-andersen', None)
        >>> mixture_setting(get_mixture("wahnstrom", "xplor"))
        ('wahnstrom', 'xplor')
    """
    if isinstance(given, Mixture):
        return (_tables_of(given) if given.own else given.name), given.truncation
    if isinstance(given, Path) or (isinstance(given, str) and is_mixture_file(given)):
        given = read_mixture_file(Path(given).expanduser())
    elif isinstance(given, Mapping):
        given = mixture_tables(given, "mixture")
    elif not isinstance(given, str | MixtureTables):
        raise SettingsError(f"found mixture = {given!r:.60}", "a name, or a TOML file that describes one")
    mixture, truncation = _found(given)
    return (given if mixture.own else mixture.name), truncation


def _tables_of(mixture: Mixture) -> MixtureTables:
    own = {key: getattr(mixture, key) for key in MixtureTables.model_fields if key != "cutoff"}
    values = {key: _lists(value) for key, value in own.items()}
    return mixture_tables(
        {**values, "cutoff": _lists(mixture.cutoffs) if mixture.cutoffs else mixture.cutoff_factor}, mixture.name
    )


def _lists(value: Any) -> Any:
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _nearest(word: str, known: Any) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
