"""Everything that is measured on data of a liquid, in one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.ageing import Ageing, Drift, ageing_of, drift_of
from glassmd.analysis.groups import understatement
from glassmd.analysis.moves import Dynamics, MoveSums
from glassmd.analysis.scattering import StructureFactor
from glassmd.analysis.spatial import jackknife, pair_sums
from glassmd.analysis.transport import diffusion_coefficient, tau_alpha
from glassmd.observables.rearrangements import hops_of
from glassmd.observables.result import Mean, MobilityLength, Observables, warnings_of
from glassmd.observables.source import Facts, Source
from glassmd.observables.statics import Statics, kinetic_energies, mean_of, statics_of

__all__ = ["measure"]

FloatArray = NDArray[np.float64]
Show = Callable[[int, int], None]

_PARTICLES = 200_000  # in all, for the correlation length of mobility
_MOBILITY = 10  # configurations for the correlation length of mobility


def measure(source: Source, show: Show | None = None, wave_numbers: dict[str, float] | None = None) -> Observables:
    """Measure everything that the data of a source allow.

    Args:
        source: Of one liquid.
        show: Told how many frames of how many have been read.
        wave_numbers: q of F_s by species, 1/σ_AA; the mixture's by default, or where S_aa(q) is largest.

    Raises:
        InputError: Data that cannot be read.
    """
    facts = source.facts
    statics = statics_of(source)
    radial, structure = statics.radial.result(), statics.structure.result()
    dynamics = None
    if len(facts.lags):
        counts = np.bincount(facts.species, minlength=len(facts.names)).tolist()
        chosen = {**_wave_numbers(facts, structure), **(wave_numbers or {})}
        sums = MoveSums(facts.n_groups, len(facts.lags), counts, facts.names, facts.box, chosen)
        for move in source.moves(show or (lambda done, total: None)):
            sums.add(*move)
        dynamics = sums.result(facts.lags, _understated(facts))
    kinetic = float(np.mean(statics.kinetic)) if statics.kinetic else None
    temperature = facts.temperature if facts.temperature is not None else kinetic
    energy, pressure = _energy(facts, statics, temperature)
    drift, of_what = _energy_drift(facts, statics)
    found = Observables(
        facts=facts,
        temperature=temperature,
        kinetic_temperature=kinetic,
        energy=energy,
        pressure=pressure,
        radial=radial,
        structure=structure,
        dynamics=dynamics,
        tau_alpha=_by_species(dynamics, tau_alpha, lambda tau: tau),
        diffusion=_by_species(dynamics, diffusion_coefficient),
        hops=hops_of(facts, source.stretches()),
        mobility={},
        crystalline=mean_of(statics.crystalline, statics.groups),
        most_crystalline=max(statics.crystalline),
        energy_drift=drift,
        energy_of_drift=of_what,
        ageing=_ageing(facts, dynamics),
    )
    found = replace(found, mobility=_mobility(source, found))
    return replace(found, warnings=tuple(warnings_of(found)))


def _understated(facts: Facts) -> FloatArray | None:
    """Parts of a trajectory share motion, lineages do not."""
    if not facts.parts:
        return None
    shape = facts.duration, facts.parts, facts.n_groups // facts.parts
    return np.array([understatement(float(lag), *shape) for lag in facts.lags])


def _by_species(
    dynamics: Dynamics | None, quantity: Callable[..., float | None], lag: Callable[[float], float] | None = None
) -> dict[str, Mean]:
    if dynamics is None:
        return {}
    return {name: Mean(*dynamics.jackknife(partial(quantity, species=name), lag)) for name in dynamics.species}


def _energy_drift(facts: Facts, statics: Statics) -> tuple[Drift | None, str]:
    """Along trajectories, of the total energy where every frame has velocities."""
    total = len(statics.kinetic) == len(statics.energies)
    series = list(statics.energies)
    if total:
        series = [u + k for u, k in zip(series, kinetic_energies(facts, statics), strict=True)]
    return (drift_of(statics.when, series) if facts.parts and series else None), "E/N" if total else "U/N"


def _ageing(facts: Facts, dynamics: Dynamics | None) -> Ageing | None:
    if dynamics is None or not facts.parts:
        return None
    return ageing_of(dynamics, _commonest(dynamics), facts.duration, facts.parts)


def _energy(facts: Facts, statics: Statics, temperature: float | None) -> tuple[Mean, Mean]:
    energy, virial = mean_of(statics.energies, statics.groups), mean_of(statics.virials, statics.groups)
    if virial.value is None or temperature is None:
        return energy, Mean(None, None)
    n = len(facts.species)
    return energy, Mean(virial.value + facts.density * temperature * (n - 1) / n, virial.error)


def _wave_numbers(facts: Facts, structure: StructureFactor) -> dict[str, float]:
    if facts.mixture is not None:
        return dict(zip(facts.mixture.species, facts.mixture.wave_numbers, strict=True))
    return {name: structure.main_peak(name + name) for name in facts.names if name + name in structure.partial}


def _commonest(dynamics: Dynamics) -> str:
    return max(dynamics.particles, key=lambda name: dynamics.particles[name])


def _mobility(source: Source, found: Observables) -> dict[str, MobilityLength]:
    """ξ of |Δr| of the commonest species at τ_α; where that is unknown at the peak of χ4, else at the longest lag."""
    if found.dynamics is None:
        return {}
    lags, name = found.facts.lags, _commonest(found.dynamics)
    at = found.tau_alpha[name].value
    susceptibility = found.dynamics.susceptibility(name)
    if at is None and np.isfinite(susceptibility).any():
        at = float(lags[np.nanargmax(susceptibility)])
    lag = int(np.argmin(np.abs(np.log(lags / (at if at is not None else lags[-1])))))
    most = int(np.clip(_PARTICLES // len(found.facts.species), 2, _MOBILITY))
    pairs = list(source.mobility(lag, most))
    if not pairs:
        return {}
    sums = pair_sums(
        [configuration for configuration, _ in pairs],
        [np.linalg.norm(displacement, axis=1)[None] for _, displacement in pairs],
        [configuration.of_species(name) for configuration, _ in pairs],
    )
    (value,), (error,) = jackknife(sums, lambda s: s.lengths())
    known = Mean(*(float(x) if np.isfinite(x) else None for x in (value, error)))
    return {name: MobilityLength(known, float(lags[lag]))}
