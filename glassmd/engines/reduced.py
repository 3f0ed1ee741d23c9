"""What is left of replicas when only their displacements count: moments over the replicas of a parent.

R replicas of N particles at n times are R·n·N positions. Their propensity, its known noise and the scattering
function are 2·n·N + n numbers: an engine that reduces them where they are has little to hand over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import allowed_wave_vectors, remove_drift, self_intermediate_scattering
from glassmd.configuration import Configuration
from glassmd.mixtures import Mixture

__all__ = ["Displacements", "scattering_vectors", "single"]

_WAVE_VECTORS = 24
"""Wave vectors per species that F_s is averaged over; N particles are averaged over besides."""


@dataclass(frozen=True, eq=False)
class Displacements:
    """|Δr| since the start, of some systems of one group at one step, reduced over these systems.

    Attributes:
        group: Number of the group.
        systems: Which systems, as numbered in `Engine.displacements`.
        step: Steps since the start.
        mean: (n_particles,) float64 mean of |Δr| over the systems, centre-of-mass drift removed, σ_AA.
        deviation: (n_particles,) float64 Σ (|Δr| − mean)² over the systems, σ_AA².
        scattering: (n_species,) F_s at the species' own wave number, mean over the systems.
        potential_energy: (n_systems,) U/N, ε_AA.
        temperature: (n_systems,) kinetic, ε_AA.
        pressure: (n_systems,) ε_AA/σ_AA^d.
        ends: Unwrapped positions by system, (n_particles, d) float64, σ_AA, of those that were asked for.
    """

    group: int
    systems: tuple[int, ...]
    step: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    scattering: NDArray[np.float64]
    potential_energy: NDArray[np.float64]
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]
    ends: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def scattering_vectors(box: NDArray[np.float64], mixture: Mixture) -> list[NDArray[np.float64]]:
    """Wave vectors of F_s per species, (n_vectors, d) each, 1/σ_AA."""
    return [allowed_wave_vectors(box, q, most=_WAVE_VECTORS) for q in mixture.wave_numbers]


def single(
    start: Configuration, positions: NDArray[np.float64], mixture: Mixture, vectors: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """|Δr| of one system, (n_particles,) σ_AA, and its F_s per species, (n_species,), NaN for one that is absent.

    Args:
        start: Where it came from.
        positions: (n_particles, d) unwrapped, σ_AA.
        mixture: Masses and species.
        vectors: Of :func:`scattering_vectors`.
    """
    moved = remove_drift(positions - start.unwrapped, np.asarray(mixture.masses)[start.species])
    scattering = [
        float(self_intermediate_scattering(moved[start.species == kind], wave))
        if (start.species == kind).any()
        else np.nan
        for kind, wave in enumerate(vectors)
    ]
    return np.linalg.norm(moved, axis=1), np.array(scattering)
