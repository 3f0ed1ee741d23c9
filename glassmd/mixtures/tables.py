"""A liquid of one's own: its description in a TOML file, checked entry by entry.

Units are those of the first species, as everywhere: σ = ε = m = 1 for it. docs/mixtures.md says what each key means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from glassmd.errors import SettingsError
from glassmd.mixtures.unknown import UNKNOWN
from glassmd.storage import read_toml

__all__ = ["MixtureTables", "estimates_wave_numbers", "is_mixture_file", "mixture_tables", "read_mixture_file"]

_Number = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
_Rows = list[list[_Number]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SPECIES = re.compile(r"[A-Za-z]{1,16}")  # an engine that packs systems puts numbers behind them

_PACKING = (0.05, 5.0)
"""Volume of spheres of diameter σ_aa in that of the box: glass formers have 0.55 to 0.95, what is given in other units
powers of ten more or less."""

_MOST_PARTS = 10**9

_WAVE_NUMBERS = (0.05, 4.0)
"""In units of 2π ρ^(1/d): main peaks lie at 0.7 to 1.2 of it. Far beyond, sums over wave vectors fill the memory."""


class MixtureTables(BaseModel):
    """What a file says of a mixture, and what settings hold of one: see :func:`mixture_tables`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Strict()] = Field(description="letters, digits, dots, dashes and underscores")
    dimensions: Literal[2, 3] = Field(description="2 or 3")
    species: list[Annotated[str, Strict()]] = Field(description="names of letters; the first is the unit")
    composition: list[Annotated[int, Strict(), Field(ge=1, le=_MOST_PARTS)]] = Field(
        description="parts of each species: [80, 20]"
    )
    masses: list[_Number] = Field(description="of each species")
    epsilon: _Rows = Field(description="depths of all pairs: a row per species")
    sigma: _Rows = Field(description="diameters of all pairs: a row per species")
    cutoff: _Rows | _Number = Field(description="r_c in σ_ab (a number), or in σ_AA for each pair (a row per species)")
    truncation: Annotated[str, Strict()] = Field(
        "shifted", description="shifted, force-shifted, truncated or xplor; default: shifted"
    )
    density: _Number = Field(description="number density")
    wave_numbers: list[_Number] | None = Field(None, description="q of F_s of each species; default: estimated")
    source: Annotated[str, Strict()] = Field("", description="where the numbers come from")


def estimates_wave_numbers(setting: object) -> bool:
    """Whether the setting of a mixture leaves its wave numbers to be estimated."""
    return isinstance(setting, MixtureTables) and setting.wave_numbers is None


def is_mixture_file(name: str) -> bool:
    """Whether a mixture is named by a file that describes it.

    Example:
        >>> is_mixture_file("liquid.toml"), is_mixture_file("kob-andersen")
        (True, False)
    """
    return name.lower().endswith(".toml") or "/" in name


def read_mixture_file(path: Path) -> MixtureTables:
    """Read and check a TOML file that describes a mixture.

    Raises:
        SettingsError: It cannot be read, or an entry is missing or makes no sense; the message names it.
    """
    advice = "a run that is there knows its own mixture: leave --mixture out, or see glassmd init --mixture"
    return mixture_tables(read_toml(path, "mixture file", advice), str(path))


def mixture_tables(values: Mapping[str, Any], where: str) -> MixtureTables:
    """Check what somebody says of a mixture.

    Args:
        values: By key of :class:`MixtureTables`.
        where: Stands in front of an entry in the error.

    Raises:
        SettingsError: An unknown or missing key, a wrong shape, an entry that is not positive and finite, tables that
            are not symmetric, other units than the first species', a density or wave numbers of no liquid.

    Example:
        >>> tables = mixture_tables(
        ...     {"name": "soft-pair", "dimensions": 3, "species": ["A", "B"], "composition": [1, 1],
        ...      "masses": [1, 1], "epsilon": [[1, 1], [1, 1]], "sigma": [[1, 0.9], [0.9, 0.8]],
        ...      "cutoff": 2.5, "truncation": "force-shifted", "density": 1.3}, "here")
        >>> tables.sigma[0]
        [1.0, 0.9]
    """
    _check_keys(values, where)
    try:
        tables = MixtureTables(**values)
    except ValidationError as error:
        raise _unusable(error, where) from error
    _check_names(tables, where)
    _check_shapes(tables, where)
    _check_symmetry(tables, where)
    _check_units(tables, where)
    _check_density(tables, where)
    _check_wave_numbers(tables, where)
    return tables


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    known = MixtureTables.model_fields
    for key in values:
        if key not in known:
            close = get_close_matches(str(key), list(known), n=1, cutoff=0.5)
            raise SettingsError(
                f"found unknown key {key!r} in {where}",
                f"keys among {', '.join(known)}",
                f"did you mean {close[0]!r}?" if close else "",
            )
    for key, field in known.items():
        if field.is_required() and key not in values:
            raise SettingsError(
                f"found no {key} in {where}", f"{key}: {field.description}", "see glassmd init --mixture"
            )


def _unusable(error: ValidationError, where: str) -> SettingsError:
    """What pydantic found, with the entry's place in the table and what the key should hold."""
    errors = error.errors()
    # Of a number that is no cutoff it says first that it is no table either.
    first = next((one for one in errors if one["type"] not in ("list_type", "float_type")), errors[0])
    key, *place = first["loc"]
    entry = f"{key}{''.join(f'[{part}]' for part in place if isinstance(part, int))}"
    expected = first["msg"].removeprefix("Input should be ")
    expected = f"a number {expected}" if expected.startswith("greater") else expected
    description = MixtureTables.model_fields[str(key)].description
    return SettingsError(f"found {entry} = {first['input']!r:.60} in {where}", expected, f"{key}: {description}")


def _check_names(tables: MixtureTables, where: str) -> None:
    if not _NAME.fullmatch(tables.name) or is_mixture_file(tables.name) or tables.name == UNKNOWN:
        raise SettingsError(
            f"found name = {tables.name!r:.80} in {where}",
            f"letters, digits, dots, dashes and underscores, no name of a file, not {UNKNOWN}",
            'for example name = "my-liquid"',
        )
    wrong = [name for name in tables.species if not _SPECIES.fullmatch(name)]
    if wrong or not tables.species or len(set(tables.species)) < len(tables.species):
        raise SettingsError(
            f"found species = {tables.species!r:.80} in {where}",
            "different names of letters alone",
            'for example species = ["A", "B"]',
        )


def _check_shapes(tables: MixtureTables, where: str) -> None:
    n = len(tables.species)
    for key in ("composition", "masses", "wave_numbers"):
        values = getattr(tables, key)
        if values is not None and len(values) != n:
            raise SettingsError(
                f"found {key} = {values!r:.80} in {where}, {len(values)} for {n} species",
                f"one for each of {', '.join(tables.species)}",
            )
    for key, rows in _tables(tables):
        if len(rows) != n or any(len(row) != n for row in rows):
            raise SettingsError(
                f"found {key} = {rows!r:.80} in {where}",
                f"{n} rows of {n} numbers, one for each of {', '.join(tables.species)}",
                "write the table out in full, such as [[1.0, 0.8], [0.8, 0.88]]",
            )


def _tables(tables: MixtureTables) -> Iterator[tuple[str, Sequence[Sequence[float]]]]:
    yield "epsilon", tables.epsilon
    yield "sigma", tables.sigma
    if isinstance(tables.cutoff, list):
        yield "cutoff", tables.cutoff


def _check_symmetry(tables: MixtureTables, where: str) -> None:
    for key, rows in _tables(tables):
        for a, b in combinations_with_replacement(range(len(rows)), 2):
            if rows[a][b] != rows[b][a]:
                pair = f"{tables.species[a]} and {tables.species[b]}"
                raise SettingsError(
                    f"found {key}[{a}][{b}] = {rows[a][b]:g} and {key}[{b}][{a}] = {rows[b][a]:g} in {where}",
                    f"the same number twice: both are of {pair}",
                    f"write {rows[a][b]:g} or {rows[b][a]:g} in both places",
                )


def _check_units(tables: MixtureTables, where: str) -> None:
    length, energy, mass = tables.sigma[0][0], tables.epsilon[0][0], tables.masses[0]
    with_density = f"multiply density by {length**tables.dimensions:.10g} and wave_numbers by {length:.10g}"
    for entry, value, todo in (
        ("sigma[0][0]", length, f"divide sigma and a table of cutoffs by {length:.10g}, {with_density}"),
        ("epsilon[0][0]", energy, f"divide epsilon by {energy:.10g}"),
        ("masses[0]", mass, f"divide masses by {mass:.10g}"),
    ):
        if value != 1:
            raise SettingsError(
                f"found {entry} = {value:g} in {where}",
                f"1: the first species, {tables.species[0]}, is the unit of length, energy and mass",
                todo,
            )


def _check_density(tables: MixtureTables, where: str) -> None:
    d, total = tables.dimensions, sum(tables.composition)
    sphere = math.pi ** (d / 2) / math.gamma(d / 2 + 1) / 2**d
    share = sum(
        parts / total * sphere * tables.sigma[a][a] ** d for a, parts in enumerate(tables.composition)
    )  # volume of a particle
    packing = tables.density * share
    if not _PACKING[0] <= packing <= _PACKING[1]:
        raise SettingsError(
            f"found density = {tables.density:g} in {where}: its particles would fill {packing:.3g} of the box",
            f"particles per σ^{d} of {tables.species[0]}, 0.5 to 1 of the box filled in a supercooled liquid",
            f"for example density = {0.6 / share:.3g}",
        )


def _check_wave_numbers(tables: MixtureTables, where: str) -> None:
    unit = 2 * math.pi * tables.density ** (1 / tables.dimensions)
    least, most = (factor * unit for factor in _WAVE_NUMBERS)
    for a, q in enumerate(tables.wave_numbers or []):
        if not least <= q <= most:
            raise SettingsError(
                f"found wave_numbers[{a}] = {q:g} in {where}",
                f"q in 1/σ of {tables.species[0]}, {least:.2g} to {most:.3g} at this density",
                f"peaks lie near {unit:.2g}; leave wave_numbers out to have them estimated",
            )
