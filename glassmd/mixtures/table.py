"""A mixture of one's own, as a TOML file describes it."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glassmd.errors import SettingsError
from glassmd.mixtures.known import MIXTURES
from glassmd.mixtures.mixture import TRUNCATIONS, Mixture, Truncation
from glassmd.storage import is_special

__all__ = ["MixtureTable", "build_table", "read_table", "table_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_PEAK = {2: 6.5, 3: 6.82}
"""q ρ^(-1/d) at the main peak of S_AA(q): of Kob and Andersen's liquids in two and three dimensions."""


class MixtureTable(BaseModel):
    """A Lennard-Jones mixture in units of its first species: σ_AA = ε_AA = m_A = 1.

    Attributes:
        name: Stored with data; none that glassmd has.
        dimensions: d, 2 or 3.
        species: Names, A first.
        composition: Parts of each species, such as [80, 20].
        masses: m / m_A.
        epsilon: (n_species, n_species) symmetric, ε_AA.
        sigma: (n_species, n_species) symmetric, σ_AA.
        cutoff: r_c / σ_ab, or an (n_species, n_species) table of r_c, σ_AA.
        density: Particles per σ_AA^d.
        wave_numbers: q of F_s and τ_α by species, 1/σ_AA; by default 6.82 ρ^(1/3) (6.5 ρ^(1/2) in the plane), where
            S_AA(q) of Kob and Andersen's liquids has its main peak.
        truncation: :data:`glassmd.mixtures.Truncation`.
        source: Where the numbers come from.

    Example:
        >>> table = build_table({"name": "mine", "dimensions": 3, "species": ["A", "B"], "composition": [50, 50],
        ...     "masses": [1, 1], "epsilon": [[1, 1], [1, 1]], "sigma": [[1, 1.1], [1.1, 1.2]], "cutoff": 2.5,
        ...     "density": 0.75}, "")
        >>> mixture = table.mixture("force-shifted")
        >>> float(mixture.r_cut[1, 1]), mixture.counts(10), round(mixture.wave_numbers[0], 2)
        (3.0, (5, 5), 6.2)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dimensions: Literal[2, 3]
    species: list[str] = Field(min_length=1)
    composition: list[int]
    masses: list[float]
    epsilon: list[list[float]]
    sigma: list[list[float]]
    cutoff: float | list[list[float]]
    density: float
    wave_numbers: list[float] | None = None
    truncation: Truncation | None = None
    source: str = ""

    def model_post_init(self, context: Any, /) -> None:
        """Check what types do not say.

        Raises:
            SettingsError: Naming the entry.
        """
        _check_name(self)
        n = len(self.species)
        for key, count in (("composition", n), ("masses", n), ("wave_numbers", n)):
            values = getattr(self, key)
            if values is not None and len(values) != count:
                raise SettingsError(f"found {len(values)} {key} of {self.name}", f"{n}, one per species", f"write {n}")
        for key in ("composition", "masses", "wave_numbers"):
            for index, value in enumerate(getattr(self, key) or ()):
                _require_positive(f"{key}[{index}]", value)
        _require_positive("density", self.density)
        for key in ("epsilon", "sigma", "cutoff"):
            table = getattr(self, key)
            if isinstance(table, list):
                _check_table(key, table, self.species)
            else:
                _require_positive(key, table)
        for key, value in (("epsilon", self.epsilon[0][0]), ("sigma", self.sigma[0][0]), ("masses", self.masses[0])):
            if value != 1:
                of = f"{key}[0]" if key == "masses" else f"{key}[0][0]"
                raise SettingsError(
                    f"found {of} = {value:g}",
                    f"1: {self.species[0]} gives the units",
                    f"divide all of {key} by {value:g}",
                )

    def mixture(self, truncation: str | None = None) -> Mixture:
        """The mixture with a truncation: the table's own by default, else `shifted`.

        Raises:
            SettingsError: There is no such truncation.
        """
        chosen = truncation or self.truncation or "shifted"
        known = next((one for one in TRUNCATIONS if one == chosen), None)
        if known is None:
            raise SettingsError(f"found truncation {chosen!r}", f"one of {', '.join(TRUNCATIONS)}")
        sigma = np.asarray(self.sigma)
        r_cut = np.asarray(self.cutoff) if isinstance(self.cutoff, list) else self.cutoff * sigma
        d = self.dimensions
        estimate = round(_PEAK[d] * self.density ** (1 / d), 3)
        return Mixture(
            name=self.name,
            dimensions=d,
            species=tuple(self.species),
            composition=tuple(self.composition),
            masses=tuple(self.masses),
            epsilon=tuple(map(tuple, self.epsilon)),
            sigma=tuple(map(tuple, self.sigma)),
            cutoff_factor=float(r_cut[0, 0]),
            density=self.density,
            wave_numbers=tuple(self.wave_numbers or [estimate] * len(self.species)),
            source=self.source,
            truncation=known,
            cutoffs=tuple(map(tuple, r_cut.tolist())),
        )


def _check_name(table: MixtureTable) -> None:
    if not _NAME.fullmatch(table.name) or table.name in MIXTURES:
        expected = "letters, digits and dashes, and no name of a mixture of glassmd"
        raise SettingsError(f"found name = {table.name[:80]!r}", expected, "choose another name")
    if len(set(table.species)) < len(table.species) or not all(_NAME.fullmatch(name) for name in table.species):
        raise SettingsError(f"found species {table.species}", "a name for each, all different", 'such as ["A", "B"]')


def _require_positive(entry: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"found {entry} = {value:g}", "a number above 0", f"write {entry} anew")


def _check_table(key: str, table: list[list[float]], species: list[str]) -> None:
    n = len(species)
    shape = [len(row) for row in table]
    if shape != [n] * n:
        raise SettingsError(f"found {key} with rows of {shape} numbers", f"{n} rows of {n}, one per species")
    for a in range(n):
        for b in range(n):
            _require_positive(f"{key}[{a}][{b}]", table[a][b])
            if table[a][b] != table[b][a]:
                raise SettingsError(
                    f"found {key}[{a}][{b}] = {table[a][b]:g} and {key}[{b}][{a}] = {table[b][a]:g}",
                    f"the same for {species[a]}{species[b]} and {species[b]}{species[a]}",
                    "write one of them twice",
                )


def build_table(values: Mapping[str, Any], where: str) -> MixtureTable:
    """Check what a table says; `where` stands before a key in errors.

    Raises:
        SettingsError: An unknown, missing or impossible entry.
    """
    fields = MixtureTable.model_fields
    for key in values:
        if key not in fields:
            close = get_close_matches(key, list(fields), n=1, cutoff=0.5)
            todo = f"did you mean {close[0]!r}?" if close else "see examples/own_mixture.toml"
            raise SettingsError(f"found unknown key '{where}{key}'", f"one of {', '.join(fields)}", todo)
    missing = [key for key, field in fields.items() if field.is_required() and key not in values]
    if missing:
        raise SettingsError(f"found no {where}{missing[0]}", "an entry for it", "see examples/own_mixture.toml")
    try:
        return MixtureTable(**values)
    except ValidationError as error:
        first = error.errors()[0]
        path = where + ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise SettingsError(f"found {path} = {first['input']!r}", message, "see examples/own_mixture.toml") from error


def read_table(path: Path) -> MixtureTable:
    """Read a mixture from a TOML file.

    Raises:
        SettingsError: It is missing or malformed, or an entry is unknown, missing or impossible.
    """
    if path.is_dir() or is_special(path):
        raise SettingsError(f"{path} is no regular file", "a TOML file that describes a mixture")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"found no mixture file {path}", "a TOML file", "see examples/own_mixture.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(
            f"could not read {path}: {error}", "a TOML file", "see examples/own_mixture.toml"
        ) from error
    return build_table(values, f"{path.name}: ")


def table_of(identity: Mapping[str, Any]) -> MixtureTable:
    """The table of a mixture of somebody's own, from its identity as it is stored with data and models.

    Raises:
        SettingsError: The identity lacks something.
    """
    same = ("name", "dimensions", "species", "composition", "masses", "epsilon", "sigma", "density", "wave_numbers",
            "truncation", "source")  # fmt: skip
    values = {key: identity[key] for key in same if key in identity}
    return build_table({**values, **({"cutoff": identity["r_cut"]} if "r_cut" in identity else {})}, "the mixture's ")
