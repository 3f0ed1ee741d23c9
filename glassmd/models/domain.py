"""What liquids a model has seen, and how far another one lies from them.

Density, composition and temperature are compared as numbers. So is the structure: base descriptors of the thermal
positions, the 24 (for two species) that recursive ones begin with, each with its mean μ and spread σ over the particles
of a species as functions of the temperature, ln T being interpolated. With z = (x − μ)/σ and C the correlation of z in
the training,

    d² = zᵀ C⁻¹ z / n_descriptors      of every particle, about 1, and
    m = z̄ √n / s                       of every descriptor of a species, z̄ the mean over its n particles and s how much
                                       that scatters between samples of the training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from glassmd.configuration import Configuration
from glassmd.mixtures import Mixture, is_unknown

__all__ = ["Domain", "Finding", "SpeciesDomain", "kinetic_temperature", "measured_domain"]

FloatArray = NDArray[np.float64]

_FAR = 0.999
"""Of the training's particles that lie nearer than what counts as far."""

_LEAST_SCATTER = 1.0
"""Of a mean between samples, in units of what independent particles would have."""

_FEW = 5
"""Samples from which the scatter between them can be told; fewer are taken to scatter by :data:`_UNKNOWN_SCATTER`."""

_UNKNOWN_SCATTER = 2.0
_ROUNDING = 1e-9  # of m v²: what float32 leaves of velocities that are all the same
_RIDGE = 0.05  # of the correlation matrix: descriptors that say nearly the same
_LIMIT = 8.0  # of z: what a pair that all but overlaps adds to an energy has no bounds
_AT_ONCE = 65_536  # particles compared at a time
_GROUPS = 5  # of samples, each measured by what the others are like

# by how much a number may leave the range of the training: without a word, and with one
_TEMPERATURE = 0.02, 0.1  # relative
_DENSITY = 0.005, 0.03  # relative
_COMPOSITION = 0.01, 0.04  # shares of the particles
_MEAN = 6.0, 12.0  # m
_FAR_SHARE = 0.02, 0.1  # of a species' particles
_BY_CHANCE = 2  # particles that are far in a liquid that is like any other

_Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
Severity = Literal["edge", "outside"]


@dataclass(frozen=True)
class Finding:
    """Something that the training had not seen.

    Attributes:
        severity: `edge`: a prediction is an extrapolation that may do; `outside`: it is worth nothing.
        found: In words.
        expected: What the model has seen, in words.
    """

    severity: Severity
    found: str
    expected: str

    def __str__(self) -> str:
        return f"found {self.found}; the model has seen {self.expected}"


class SpeciesDomain(BaseModel):
    """Surroundings of the particles of a species.

    Attributes:
        mean: (n_temperatures, n_descriptors).
        spread: (n_temperatures, n_descriptors) standard deviation between particles, above 0.
        correlation: (n_descriptors, n_descriptors) of z.
        scatter: (n_descriptors,) s, of the mean of a sample times √n in units of `spread`.
        far: d beyond which one in a thousand particles lies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: list[list[float]]
    spread: list[list[float]]
    correlation: list[list[float]]
    scatter: list[float]
    far: float


class Domain(BaseModel):
    """What a model has seen; part of its card.

    Attributes:
        density: Lowest and highest, σ_AA^-d.
        composition: By species: lowest and highest share of the particles.
        temperatures: (n_temperatures,) ascending, ε_AA, of `surroundings`.
        surroundings: By species; empty for a mixture whose potential is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    density: _Pair
    composition: dict[str, _Pair]
    temperatures: list[float]
    surroundings: dict[str, SpeciesDomain] = {}

    def told(self) -> dict[str, Any]:
        """What it is in short (JSON types only).

        Example:
            >>> Domain(density=[1.2, 1.2], composition={"A": [0.8, 0.8]}, temperatures=[0.5, 0.8]).told()
            {'temperature': '0.5 to 0.8', 'density': '1.2', 'A': '80.0%', 'surroundings': 'not known'}
        """
        shares = {name: _range(of, ".1%") for name, of in self.composition.items()}
        temperature = _range([self.temperatures[0], self.temperatures[-1]], "g")
        surroundings = ", ".join(self.surroundings) or "not known"
        return {
            "temperature": temperature,
            "density": _range(self.density, ".4g"),
            **shares,
            "surroundings": surroundings,
        }

    def compare(self, configuration: Configuration) -> list[Finding]:
        """Density and composition of a configuration against the training's."""
        low, high = self.density
        off = max(low - configuration.density, configuration.density - high) / high
        found = [_finding(off, _DENSITY, f"density {configuration.density:.4g}", _range(self.density, ".4g"))]
        for index, name in enumerate(configuration.species_names):
            share = float((configuration.species == index).mean())
            if not (known := self.composition.get(name, [] if self.composition else [0.0, 1.0])):
                known = [0.0, 0.0]
            off = max(known[0] - share, share - known[1])
            found.append(_finding(off, _COMPOSITION, f"{share:.1%} of {name}", _range(known, ".1%")))
        return [one for one in found if one is not None]

    def compare_temperature(self, temperature: float) -> list[Finding]:
        """A temperature against the training's, ε_AA."""
        low, high = self.temperatures[0], self.temperatures[-1]
        off = max(low / temperature, temperature / high) - 1
        one = _finding(off, _TEMPERATURE, f"T = {temperature:.3g}", f"T = {_range([low, high], 'g')}")
        return [] if one is None else [one]

    def compare_structure(
        self, configuration: Configuration, mixture: Mixture, temperature: float
    ) -> tuple[list[Finding], FloatArray]:
        """The surroundings of the particles against those that the training has at a temperature.

        Args:
            configuration: Thermal positions.
            mixture: The model's.
            temperature: ε_AA.

        Returns:
            What was not seen, and (n_particles,) d over what counts as far: above 1 for one particle in a thousand of
            the training; all 0 where the model does not know surroundings.
        """
        if not self.surroundings:
            return [], np.zeros(configuration.n_particles)
        columns = _columns(configuration, mixture)
        found, distances = [], np.zeros(configuration.n_particles)
        for index, name in enumerate(configuration.species_names):
            own = configuration.species == index
            if name not in self.surroundings or not own.any():
                continue
            known = self.surroundings[name]
            rows, total = np.flatnonzero(own), np.zeros(columns.shape[1])
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                z = self._standardised(known, columns[some], temperature)
                distances[some] = _distance(z, np.array(known.correlation)) / known.far
                total += z.sum(axis=0)
            count = int((distances[own] > 1).sum())
            m = float(np.abs(_means(total / len(rows), len(rows), known)).max())
            share = max(0, count - _BY_CHANCE) / int(own.sum())
            where = f"surroundings of {name} at T = {temperature:.3g}"
            found.append(
                _finding(m, _MEAN, f"{where} whose mean is {m:.0f} standard deviations off", "liquids in equilibrium")
            )
            found.append(_finding(share, _FAR_SHARE, f"{share:.0%} of {where} unlike any", "0.1% such particles"))
        known_ones = [one for one in found if one is not None]
        return sorted(known_ones, key=lambda one: one.severity == "edge")[:1], distances

    def temperature_of(self, configuration: Configuration, mixture: Mixture) -> float | None:
        """The temperature at which its surroundings would be the most usual, ε_AA; None where nobody knows.

        The means of all descriptors are compared, the energy and the virial among them.
        """
        if not self.surroundings or len(self.temperatures) < 2:
            return None
        columns = _columns(configuration, mixture)
        tried = np.geomspace(0.7 * self.temperatures[0], 1.4 * self.temperatures[-1], 200)
        unlikely = np.zeros(len(tried))
        for index, name in enumerate(configuration.species_names):
            own = configuration.species == index
            if name in self.surroundings and own.any():
                known = self.surroundings[name]
                mean = columns[own].mean(axis=0, dtype=np.float64, keepdims=True)
                for k, temperature in enumerate(tried.tolist()):
                    z = self._standardised(known, mean, temperature)[0]
                    unlikely[k] += own.sum() * float(((z / known.scatter) ** 2).sum())
        return float(tried[int(unlikely.argmin())])

    def _standardised(self, known: SpeciesDomain, columns: NDArray[Any], temperature: float) -> FloatArray:
        at = math.log(temperature)
        where = np.log(self.temperatures)
        mean = _interpolated(at, where, np.array(known.mean))
        spread = np.exp(_interpolated(at, where, np.log(known.spread)))
        return np.clip((columns - mean) / spread, -_LIMIT, _LIMIT)


def measured_domain(samples: Iterable[tuple[Configuration, float]], mixture: Mixture) -> Domain:
    """The domain of some samples of a training.

    Args:
        samples: Configurations with their temperatures, at least one.
        mixture: Of all of them.
    """
    densities, shares, temperatures = list[float](), dict[str, list[float]](), set[float]()
    columns: dict[tuple[str, float], list[FloatArray]] = {}
    for configuration, temperature in samples:
        densities.append(configuration.density)
        temperatures.add(temperature)
        found = None if is_unknown(mixture.identity()) else _columns(configuration, mixture)
        for index, name in enumerate(configuration.species_names):
            own = configuration.species == index
            shares.setdefault(name, []).append(float(own.mean()))
            if found is not None and own.sum() > 1:
                columns.setdefault((name, temperature), []).append(found[own].astype(np.float64))
    every = sorted(temperatures)
    told = [name for name in shares if all((name, t) in columns for t in every)]
    return Domain(
        density=[min(densities), max(densities)],
        composition={name: [min(of), max(of)] for name, of in shares.items()},
        temperatures=every,
        surroundings={name: _species([columns[name, t] for t in every]) for name in told},
    )


def kinetic_temperature(configuration: Configuration, mixture: Mixture) -> float | None:
    """The mean of m v² / d, ε_AA, without the motion of the centre of mass; None without velocities.

    Velocities that are all 0, or all the same, are none: some programs write them so.
    """
    v = configuration.velocities
    if v is None or configuration.n_particles < 2 or not v.any():
        return None
    masses = np.asarray(mixture.masses, np.float64)[configuration.species][:, None]
    inner = v - (masses * v).sum(axis=0) / masses.sum()
    found = float(np.sum(masses * inner**2) / (v.shape[1] * (len(v) - 1)))
    return found if found > _ROUNDING * float(np.mean(masses * v**2)) else None


def _columns(configuration: Configuration, mixture: Mixture) -> NDArray[np.float32]:
    from glassmd.features import RECIPES, thermal_base  # which load torch: cards are read without

    return thermal_base(configuration, mixture, RECIPES["recursive"])


def _species(by_temperature: Sequence[Sequence[FloatArray]]) -> SpeciesDomain:
    """Of the particles of a species: one array of rows for every sample, by temperature."""
    mean = np.array([np.vstack(of).mean(axis=0) for of in by_temperature])
    spread = np.array([np.vstack(of).std(axis=0) for of in by_temperature])
    spread = np.maximum(spread, 1e-6 * np.abs(mean) + 1e-9)
    z = [
        np.clip((one - m) / s, -_LIMIT, _LIMIT)
        for of, m, s in zip(by_temperature, mean, spread, strict=True)
        for one in of
    ]
    rows = np.vstack(z)
    correlation = _correlation(rows)
    # each mean was taken from the same samples, of which there are k: they scatter around it by √(1 − 1/k) too little
    lost = sum(1 for of in by_temperature if len(of) > 0)
    if len(z) - lost < _FEW:
        scatter = np.full(mean.shape[1], _UNKNOWN_SCATTER)
    else:
        squares = sum(len(one) * one.mean(axis=0) ** 2 for one in z)
        scatter = np.sqrt(squares / (len(z) - lost))
    return SpeciesDomain(
        mean=mean.tolist(),
        spread=spread.tolist(),
        correlation=correlation.tolist(),
        scatter=np.maximum(scatter, _LEAST_SCATTER).tolist(),
        # a quantile beyond the last of few rows is not known
        far=float(np.quantile(_unseen_distances(z), _FAR)) * (1 + rows.shape[1] / len(rows)),
    )


def _unseen_distances(z: Sequence[FloatArray]) -> FloatArray:
    """(n,) d of the rows of all samples, each by a correlation that some of the samples left out give.

    One sample alone is divided.
    """
    parts = list(z) if len(z) > 1 else [z[0][half::2] for half in range(2)]
    groups = [parts[k::_GROUPS] for k in range(min(_GROUPS, len(parts)))]
    found = []
    for k, group in enumerate(groups):
        others = np.vstack([one for j, of in enumerate(groups) if j != k for one in of])
        found.append(_distance(np.vstack(group), _correlation(others)))
    return np.concatenate(found)


def _correlation(rows: FloatArray) -> FloatArray:
    """Of the columns of rows z, drawn to the unit matrix, the more so the fewer the rows are."""
    n, k = rows.shape
    share = max(_RIDGE, k / (n + k))
    return np.asarray((1 - share) * (rows.T @ rows) / n + share * np.eye(k))


def _distance(z: FloatArray, correlation: FloatArray) -> FloatArray:
    """(n,) d of rows z."""
    return np.asarray(np.sqrt(np.einsum("nk,kn->n", z, np.linalg.solve(correlation, z.T)) / len(correlation)))


def _means(mean: FloatArray, n: int, known: SpeciesDomain) -> FloatArray:
    """(n_descriptors,) m of n rows whose mean is z̄."""
    return np.asarray(mean * math.sqrt(n) / np.array(known.scatter))


def _interpolated(at: float, where: FloatArray, values: FloatArray) -> FloatArray:
    """Linear between ascending points, and beyond them along the last two."""
    if len(where) == 1:
        return np.asarray(values[0])
    right = int(np.clip(np.searchsorted(where, at), 1, len(where) - 1))
    share = (at - where[right - 1]) / (where[right] - where[right - 1])
    return np.asarray((1 - share) * values[right - 1] + share * values[right])


def _finding(off: float, limits: tuple[float, float], found: str, expected: str) -> Finding | None:
    silent, spoken = limits
    if off <= silent:
        return None
    return Finding("edge" if off <= spoken else "outside", found, expected)


def _range(values: Sequence[float], form: str) -> str:
    low, high = (format(value, form) for value in values)
    return low if low == high else f"{low} to {high}"
