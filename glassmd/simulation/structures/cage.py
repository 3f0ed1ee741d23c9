"""Cage positions: where each particle is on average before anything rearranges.

Replicas of the parent, r = 1 … R with independent momenta, are seen at times t_k; u is the displacement from the parent
in the frame of the centre of mass.

===========================  ================================================================
cage position                x + ⟨u⟩, over the replicas and the snapshots after a while
rattling of a replica        ⟨u⟩_r − ⟨u⟩ and ⟨(u − ⟨u⟩_r)(u − ⟨u⟩_r)ᵀ⟩_r, over its snapshots after a while
Debye-Waller factor          ⟨|u − ⟨u⟩|²⟩, over all of them: the trace of what these two make together
===========================  ================================================================
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine, Rattled
from glassmd.engines.thermostat import Thermostat
from glassmd.mixtures import Mixture
from glassmd.simulation.start import draw_velocities
from glassmd.simulation.structures.protocol import CageProtocol
from glassmd.structure import Rattling

__all__ = ["Cage", "cages_of", "content_of"]

FloatArray = NDArray[np.float64]

_THERMOSTAT_TIME = 2.0  # √(mσ²/ε), the default of a run's replicas


@dataclass(frozen=True, eq=False)
class Cage:
    """What short replicas of a parent show.

    Attributes:
        positions: (n_particles, d) float64 mean positions, σ_AA, continuous with the parent's unwrapped ones.
        rattling: Of each replica around them.
        steps: Steps of single systems that it took.
    """

    positions: FloatArray
    rattling: Rattling
    steps: int


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


def cages_of(
    engine: Engine,
    parents: Sequence[Configuration],
    mixture: Mixture,
    temperature: float,
    protocol: CageProtocol | None = None,
    *,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Cage]]:
    """Measure the cage of every particle of several parents, packed together as far as the engine packs.

    A cage is a function of parent, protocol and seed, for one engine, and not of the other parents: to the last bit
    where the engine runs one system at a time. Where it packs, what a system is packed with decides how sums are
    rounded, and after a while the replicas are other ones of the same ensemble.

    Args:
        engine: Evolves the replicas, as many at once as it packs.
        parents: Positions; their velocities do not matter. Those of one box and number of particles are packed.
        mixture: Pair potential and masses.
        temperature: Of the momenta and of the thermostat, ε_AA.
        protocol: Number, length and snapshots of the replicas.
        seed: All momenta follow from it and from the parent.
        check: Called about once a second; what it raises ends it.

    Yields:
        Index into `parents` and cage, as parents finish.

    Raises:
        EngineError: The engine failed.
    """
    protocol = protocol or CageProtocol()
    alike: dict[tuple[float, ...], list[int]] = {}
    for index, parent in enumerate(parents):
        alike.setdefault((parent.n_particles, *parent.box), []).append(index)
    size = engine.packed // math.gcd(engine.packed, protocol.replicas)  # the fewest whose replicas fill the packs
    for indices in alike.values():
        for first in range(0, len(indices), size):
            batch = indices[first : first + size]
            found = _together(engine, [parents[i] for i in batch], mixture, temperature, protocol, seed, check)
            for number, cage in found:
                yield batch[number], cage


def _together(
    engine: Engine,
    parents: Sequence[Configuration],
    mixture: Mixture,
    temperature: float,
    protocol: CageProtocol,
    seed: int,
    check: Callable[[], None] | None,
) -> Iterator[tuple[int, Cage]]:
    """Of parents of one box and number of particles; system s is replica s mod R of parent ⌊s/R⌋."""
    systems, baths = [], []
    for parent in parents:
        content = content_of(parent)
        for replica in range(protocol.replicas):
            momenta, bath = _seeds(seed, content, replica)
            velocities = draw_velocities(parent, mixture, temperature, np.random.default_rng(momenta))
            systems.append(parent.with_velocities(velocities))
            baths.append(bath)
    unfinished: dict[int, list[Rattled]] = {}
    for of_replica in engine.rattling(
        systems,
        mixture,
        steps=protocol.steps,
        left_out=protocol.n_left_out,
        time_step=protocol.time_step,
        thermostat=Thermostat(temperature, _THERMOSTAT_TIME, tuple(baths)),
        check=check,
    ):
        number = of_replica.system // protocol.replicas
        of_parent = unfinished.setdefault(number, [])
        of_parent.append(of_replica)
        if len(of_parent) == protocol.replicas:
            replicas = sorted(unfinished.pop(number), key=lambda one: one.system)
            yield number, _cage(parents[number], replicas, protocol)


def _cage(parent: Configuration, replicas: Sequence[Rattled], protocol: CageProtocol) -> Cage:
    means = np.array([of_replica.mean for of_replica in replicas])
    mean = means.mean(axis=0)
    covariances = np.array([of_replica.covariance for of_replica in replicas])
    rattling = Rattling.of_replicas(means - mean, covariances)
    return Cage(parent.unwrapped + mean, rattling, protocol.replica_steps)
