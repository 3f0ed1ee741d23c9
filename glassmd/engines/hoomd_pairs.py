"""Pair potentials in HOOMD-blue, with particle types of its own for every system: `A0` and `B0` of the first one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from glassmd.mixtures import Mixture

__all__ = ["energy_offset", "pair_force"]

_HUGE = 1e8
"""Width of a Gaussian that is a constant to 1e-16 within any cutoff, σ_AA."""


def _same_system_pairs(mixture: Mixture, n_systems: int) -> Iterator[tuple[tuple[str, str], int, int]]:
    """Pairs of types that interact, with the species that they stand for."""
    count = len(mixture.species)
    for slot in range(n_systems):
        for a, b in itertools.combinations_with_replacement(range(count), 2):
            yield (f"{mixture.species[a]}{slot}", f"{mixture.species[b]}{slot}"), a, b


def pair_force(hoomd: Any, mixture: Mixture, n_systems: int, neighbors: Any) -> Any:
    """The pair potential within each system, none between them."""
    pair = hoomd.md.pair
    if mixture.truncation == "force-shifted":
        force = pair.ForceShiftedLJ(nlist=neighbors, default_r_cut=0.0)
    else:
        mode = {"shifted": "shift", "truncated": "none", "xplor": "xplor"}[mixture.truncation]
        force = pair.LJ(nlist=neighbors, default_r_cut=0.0, mode=mode)
    force.params.default = {"epsilon": 0.0, "sigma": 1.0}
    for types, a, b in _same_system_pairs(mixture, n_systems):
        force.params[types] = {"epsilon": float(mixture.epsilon[a][b]), "sigma": float(mixture.sigma[a][b])}
        force.r_cut[types] = float(mixture.r_cut[a, b])
        if mixture.truncation == "xplor":
            force.r_on[types] = float(mixture.r_on[a, b])
    return force


def energy_offset(hoomd: Any, mixture: Mixture, n_systems: int, neighbors: Any) -> Any:
    """What HOOMD's force-shifted potential lacks to be zero at the cutoff: minus its value there, for every pair.

    It does not act on anything: a Gaussian so wide that it is constant, evaluated when energies are asked for.
    """
    if mixture.truncation != "force-shifted":
        return None
    offset = hoomd.md.pair.Gaussian(nlist=neighbors, default_r_cut=0.0)
    offset.params.default = {"epsilon": 0.0, "sigma": _HUGE}
    for types, a, b in _same_system_pairs(mixture, n_systems):
        r_cut = float(mixture.r_cut[a, b])
        power = (float(mixture.sigma[a][b]) / r_cut) ** 6
        offset.params[types] = {"epsilon": -4.0 * float(mixture.epsilon[a][b]) * (power**2 - power), "sigma": _HUGE}
        offset.r_cut[types] = r_cut
    return offset
