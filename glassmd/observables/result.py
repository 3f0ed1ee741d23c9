"""What was measured, and what should be known of the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.ageing import Ageing, Drift
from glassmd.analysis.moves import Dynamics
from glassmd.analysis.radial import RadialDistribution
from glassmd.analysis.scattering import StructureFactor
from glassmd.observables.source import Facts
from glassmd.simulation.protocol import Protocol

__all__ = ["Hops", "Mean", "MobilityLength", "Observables", "warnings_of"]

FloatArray = NDArray[np.float64]

_SAME_TEMPERATURE = 0.05  # relative


class Mean(NamedTuple):
    """A number and its standard error, None where either cannot be told."""

    value: float | None
    error: float | None


@dataclass(frozen=True, eq=False)
class Hops:
    """Rearrangements of the particles of a species.

    Attributes:
        rate: Peaks of p_hop above 0.2 σ_AA² per particle and unit of time; error from trajectories, √count of one.
        p_hop: (n_bins,) share of particles and frames.
        edges: (n_bins + 1,) of p_hop, σ_AA².
    """

    rate: Mean
    p_hop: FloatArray
    edges: FloatArray


class MobilityLength(NamedTuple):
    """ξ of the correlation of |Δr| between particles, σ_AA, after a lag."""

    length: Mean
    lag: float


@dataclass(frozen=True, eq=False)
class Observables:
    """What a liquid does.

    Attributes:
        facts: What was measured on.
        temperature: ε_AA; that of the momenta where nobody says it and they are there.
        kinetic_temperature: Of the momenta, or None.
        energy: U/N, ε_AA.
        pressure: ε_AA/σ_AA^d.
        radial: g(r).
        structure: S(q).
        dynamics: MSD, F_s, …; None without pairs of frames.
        tau_alpha: By species.
        diffusion: By species.
        hops: By species; empty where frames are too far apart or no trajectory is there.
        mobility: By species.
        crystalline: Fraction of particles, mean over configurations.
        most_crystalline: Largest of a configuration.
        energy_drift: Of U/N (of the total energy where velocities are there) along the trajectories.
        energy_of_drift: `U/N` or `E/N`.
        ageing: Of the trajectories.
        warnings: For people.
    """

    facts: Facts
    temperature: float | None
    kinetic_temperature: float | None
    energy: Mean
    pressure: Mean
    radial: RadialDistribution
    structure: StructureFactor
    dynamics: Dynamics | None
    tau_alpha: dict[str, Mean]
    diffusion: dict[str, Mean]
    hops: dict[str, Hops]
    mobility: dict[str, MobilityLength]
    crystalline: Mean
    most_crystalline: float
    energy_drift: Drift | None
    energy_of_drift: str
    ageing: Ageing | None
    warnings: tuple[str, ...] = ()


def warnings_of(found: Observables) -> list[str]:
    """What a number may be wrong for."""
    facts, warnings = found.facts, list(found.facts.notes)
    if facts.mixture is None:
        warnings.append("the mixture is unknown: no energy, no pressure; wave numbers are the peaks of S_aa(q)")
    if facts.time_unit == "steps":
        warnings.append("the files say steps only: times are in steps, and no hops are counted; give --time-step")
    said, kinetic = facts.temperature, found.kinetic_temperature
    if said is not None and kinetic is not None and abs(kinetic / said - 1) > _SAME_TEMPERATURE:
        warnings.append(f"the momenta have temperature {kinetic:.4g}, and the liquid is said to have {said:.4g}")
    if found.most_crystalline > Protocol().max_crystalline:
        warnings.append(f"a configuration is {found.most_crystalline:.0%} crystalline: this is no liquid")
    if found.ageing is not None and found.ageing.ageing:
        slower = found.ageing.second_over_first < 1
        warnings.append(
            f"the second half moves {found.ageing.second_over_first:.2f} times as far (⟨Δr²⟩) as the first: the liquid "
            f"{'ages' if slower else 'gets faster'}, averages over it are of no state"
        )
    return warnings
