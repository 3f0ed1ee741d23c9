"""Cage positions: where each particle is on average before anything rearranges.

Replicas of the parent, r = 1 … R with independent momenta, are seen at times t_k; u is the displacement from the parent
in the frame of the centre of mass.

===========================  ================================================================
cage position                x + ⟨u⟩, over the replicas and the snapshots after a while
rattling of a replica        ⟨u⟩_r − ⟨u⟩ and ⟨(u − ⟨u⟩_r)(u − ⟨u⟩_r)ᵀ⟩_r, over its snapshots after a while
Debye-Waller factor          ⟨|u − ⟨u⟩|²⟩, over all of them: the trace of what these two make together
p_hop of a replica           √(⟨|u − ⟨u⟩_B|²⟩_A · ⟨|u − ⟨u⟩_A|²⟩_B), over its two halves A, B
===========================  ================================================================

p_hop: R. Candelier, O. Dauchot and G. Biroli, PRL 102, 088001 (2009). Sums are kept and no snapshots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.mixtures import Mixture
from glassmd.simulation.start import draw_velocities
from glassmd.simulation.structures.protocol import CageProtocol
from glassmd.structure import Rattling

__all__ = ["Cage", "cage_of", "content_of"]

FloatArray = NDArray[np.float64]

_THERMOSTAT_TIME = 2.0  # √(mσ²/ε), the default of a run's replicas


@dataclass(frozen=True, eq=False)
class Cage:
    """What short replicas of a parent show.

    Attributes:
        positions: (n_particles, d) float64 mean positions, σ_AA, continuous with the parent's unwrapped ones.
        rattling: Of each replica around them.
        covariances: (n_replicas, n_particles, d, d) float64 covariance of the position within each replica, σ_AA².
        p_hop_mean: (n_particles,) float64 p_hop of the two halves of a replica, mean over replicas, σ_AA².
        p_hop_max: (n_particles,) float64 the same, maximum over replicas, σ_AA².
        steps: Steps of single systems that it took.
    """

    positions: FloatArray
    rattling: Rattling
    covariances: FloatArray
    p_hop_mean: FloatArray
    p_hop_max: FloatArray
    steps: int

    @property
    def debye_waller(self) -> FloatArray:
        """(n_particles,) float64 mean squared deviation from the cage position, σ_AA²."""
        return self.rattling.debye_waller


class _Dyads:
    """Running sums of u and u uᵀ over some snapshots.

    Args:
        shape: Of the displacements, (n_particles, d).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._count, self._sum, self._dyads = 0, np.zeros(shape), np.zeros((*shape, shape[-1]))

    def add(self, displacements: FloatArray) -> None:
        """Take in a snapshot, (n_particles, d), σ_AA."""
        self._count += 1
        self._sum += displacements
        self._dyads += displacements[:, :, None] * displacements[:, None, :]

    @property
    def mean(self) -> FloatArray:
        """(n_particles, d) ⟨u⟩, σ_AA."""
        return self._sum / self._count

    @property
    def covariance(self) -> FloatArray:
        """Displacements are small, so that the difference of the sums loses nothing."""
        return np.asarray(self._dyads / self._count - self.mean[:, :, None] * self.mean[:, None, :])


class _Sums:
    """Running sums of u and |u|² over some snapshots.

    Args:
        shape: Of the displacements, (..., n_particles, d).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(shape), np.zeros(shape[:-1])

    def add(self, displacements: FloatArray) -> None:
        """Take in a snapshot, (n_particles, d), σ_AA."""
        self._count += 1
        self._sum += displacements
        self._squares += (displacements**2).sum(axis=-1)

    @property
    def mean(self) -> FloatArray:
        """(n_particles, d) ⟨u⟩, σ_AA."""
        return self._sum / self._count

    @property
    def variance(self) -> FloatArray:
        """⟨|u − ⟨u⟩|²⟩; displacements are small, so that the difference of the sums loses nothing."""
        return np.asarray(np.maximum(self._squares / self._count - (self.mean**2).sum(axis=-1), 0.0))


def content_of(parent: Configuration) -> str:
    """What tells one parent from another: a SHA-256 of box, species and positions as a GSD file holds them.

    Neither images nor velocities count, nor where the configuration was read from.

    Example:
        >>> pair = Configuration(box=[5, 5], species=[0, 1], positions=[[0, 0], [3, 0]])
        >>> content_of(pair) == content_of(pair.with_images_zero())
        True
    """
    digest = hashlib.sha256()
    for values, kind in ((parent.box, "<f4"), (parent.species, "<i4"), (parent.positions, "<f4")):
        digest.update(np.ascontiguousarray(values, kind).tobytes())
    return digest.hexdigest()


def _seeds(seed: int, content: str, replica: int) -> tuple[int, int]:
    """Of the momenta and of the thermostat, 0 … 2^63−1; the stream of no label's replica."""
    digest = hashlib.sha256(f"cage {seed} {content} {replica}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1, int.from_bytes(digest[8:16], "little") >> 1


def cage_of(
    engine: Engine,
    parent: Configuration,
    mixture: Mixture,
    temperature: float,
    protocol: CageProtocol | None = None,
    *,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> Cage:
    """Measure the cage of every particle; a pure function of parent, protocol and seed, for one engine.

    Args:
        engine: Evolves the replicas, as many at once as it packs.
        parent: Positions; its velocities do not matter.
        mixture: Pair potential and masses.
        temperature: Of the momenta and of the thermostat, ε_AA.
        protocol: Number, length and snapshots of the replicas.
        seed: All momenta follow from it and from the parent.
        check: Called about once a second; what it raises ends it.

    Raises:
        EngineError: The engine failed.
    """
    protocol = protocol or CageProtocol()
    content = content_of(parent)
    seeds = [_seeds(seed, content, replica) for replica in range(protocol.replicas)]
    systems = [
        parent.with_velocities(draw_velocities(parent, mixture, temperature, np.random.default_rng(momenta)))
        for momenta, _ in seeds
    ]
    masses, start = np.asarray(mixture.masses)[parent.species], parent.unwrapped
    cages = [_Dyads(start.shape) for _ in systems]
    halves = [[_Sums(start.shape) for _ in range(2)] for _ in systems]
    for seen in engine.evolve(
        systems,
        mixture,
        steps=protocol.steps,
        time_step=protocol.time_step,
        thermostat=Thermostat(temperature, _THERMOSTAT_TIME, tuple(bath for _, bath in seeds)),
        check=check,
    ):
        snapshot = seen.step // protocol.interval  # from 1 on
        displacements = remove_drift(seen.positions - start, masses)
        halves[seen.system][int(2 * snapshot > protocol.n_snapshots)].add(displacements)
        if snapshot > protocol.n_left_out:
            cages[seen.system].add(displacements)
    hops = np.array([_p_hop(*of_replica) for of_replica in halves])
    means = np.array([of_replica.mean for of_replica in cages])
    mean = means.mean(axis=0)
    covariances = np.array([of_replica.covariance for of_replica in cages])
    rattling = Rattling.of_replicas(means - mean, covariances)
    return Cage(start + mean, rattling, covariances, hops.mean(axis=0), hops.max(axis=0), protocol.replica_steps)


def _p_hop(first: _Sums, second: _Sums) -> FloatArray:
    """(n_particles,) of one replica, σ_AA²: the mean square around another point is variance plus distance squared."""
    apart = ((first.mean - second.mean) ** 2).sum(axis=-1)
    return np.asarray(np.sqrt((first.variance + apart) * (second.variance + apart)))
