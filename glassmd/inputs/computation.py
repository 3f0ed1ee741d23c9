"""One input of one configuration: what the engine does for it, and what is kept of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.errors import InputError
from glassmd.inputs.cache import Cached, Recipe
from glassmd.inputs.cage import cage_of
from glassmd.inputs.protocol import CageProtocol
from glassmd.mixtures import Mixture

__all__ = ["SIMULATED", "chosen_inputs", "computed", "recipe_of"]

SIMULATED = ("inherent", "cage")
"""The inputs that need an engine."""

_OF_CAGE = ("displacement", "replica_means", "replica_covariances", "p_hop_mean", "p_hop_max")


def chosen_inputs(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that need an engine, cheapest first.

    Raises:
        InputError: A name that no input has.

    Example:
        >>> chosen_inputs(("cage", "thermal"))
        ('cage',)
    """
    for name in names:
        if name not in ("thermal", *SIMULATED):
            raise InputError(f"found input {name!r}", f"thermal, {', '.join(SIMULATED)}", "try --input thermal")
    return tuple(name for name in SIMULATED if name in names)


def recipe_of(name: str, protocol: CageProtocol, seed: int) -> Recipe:
    """What tells one result from another."""
    if name == "inherent":
        return Recipe(name, arrays=("displacement",))
    return Recipe(name, {"protocol": protocol.to_dict(), "seed": seed}, _OF_CAGE)


def computed(
    name: str,
    engine: Engine,
    configuration: Configuration,
    mixture: Mixture,
    temperature: float,
    protocol: CageProtocol,
    seed: int,
    check: Callable[[], None] | None = None,
) -> Cached:
    """Compute an input.

    Args:
        name: `inherent` or `cage`.
        engine: Which computes.
        configuration: The parent.
        mixture: Its mixture.
        temperature: ε_AA.
        protocol: Of the cage.
        seed: Of the cage.
        check: Called about once a second; what it raises ends it.

    Returns:
        Arrays as they are kept: `displacement` from the thermal positions, (n_particles, d), σ_AA, and for the cage
        `replica_means`, (n_replicas, n_particles, d), σ_AA, `replica_covariances`, (n_replicas, n_particles, d, d),
        σ_AA², `p_hop_mean` and `p_hop_max`, (n_particles,), σ_AA². Facts: engine, `steps`, `seconds`.

    Raises:
        EngineError: The engine failed.
    """
    started = time.monotonic()
    facts: dict[str, Any] = dict(engine.facts)
    if name == "inherent":
        minimum = engine.minimise(configuration, mixture, check=check)
        arrays = {"displacement": _kept(minimum.positions - configuration.unwrapped)}
        facts |= {
            "steps": minimum.evaluations,
            "potential_energy": minimum.potential_energy,
            "residual_force": minimum.residual_force,
        }
    else:
        cage = cage_of(engine, configuration, mixture, temperature, protocol, seed=seed, check=check)
        arrays = {
            "displacement": _kept(cage.positions - configuration.unwrapped),
            "replica_means": _kept(cage.rattling.means),
            "replica_covariances": _kept(cage.rattling.covariances),
            "p_hop_mean": _kept(cage.p_hop_mean),
            "p_hop_max": _kept(cage.p_hop_max),
        }
        facts |= {"steps": cage.steps}
    return Cached(arrays, {**facts, "seconds": time.monotonic() - started})


def _kept(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """As positions are kept in GSD files: single precision, of numbers that are small here."""
    return np.ascontiguousarray(values, np.float32)
