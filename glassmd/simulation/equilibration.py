"""From a random start through a melt to an equilibrated liquid, and the evidence that it is one.

The protocol: a lattice with species at random → melt at a high temperature → set the thermostat to T → run
until

* the analysed run is at least 20 τ_α long, τ_α measured on this very run (and as much as a quarter of that was run
  and discarded before it);
* U/N and the pressure of its two halves agree within three combined standard errors;
* the kinetic temperature is the thermostat's;
* it is a liquid: hardly any particle has crystalline surroundings (:mod:`glassmd.analysis.crystallinity`).

The run is extended until this holds or `max_time` is used up. In both cases the evidence is returned:
whoever refuses a lineage can say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import Interrupted
from glassmd.mixtures import Mixture
from glassmd.simulation.lineage import Conditions, Lineage
from glassmd.simulation.protocol import Protocol
from glassmd.simulation.unfinished import Unfinished

__all__ = ["Protocol", "Unfinished", "equilibrate_together"]


def equilibrate_together(
    engine: Engine,
    mixture: Mixture,
    generators: Sequence[np.random.Generator],
    *,
    n_particles: int,
    density: float,
    temperature: float,
    time_step: float,
    protocol: Protocol | None = None,
    check: Callable[[], None] | None = None,
    tell: Callable[[int, Lineage], None] | None = None,
    keep: Sequence[Unfinished] | None = None,
    leave_the_rest: bool = False,
) -> Iterator[tuple[int, Configuration, dict[str, Any]]]:
    """Make equilibrated liquids, all those that have come equally far in one simulation, and the evidence for each.

    A liquid does not depend on the others, rounding aside. Those that are interrupted are kept as last seen.

    Args:
        engine: Evolves the liquids.
        mixture: What liquid.
        generators: All randomness of one lineage each; equal generators give equal lineages.
        n_particles: N.
        density: σ_AA^-d.
        temperature: T, ε_AA.
        time_step: √(mσ²/ε).
        protocol: Lengths and thresholds; the defaults of :class:`Protocol` where None.
        check: Called about once a second; what it raises ends the run.
        tell: Called with the lineage's index whenever it was seen, several times a second where it is small.
        keep: Where to keep each lineage meanwhile; what is kept there goes on.
        leave_the_rest: End when some are finished, the others kept.

    Yields:
        The lineage's index, its last configuration, with velocities and images at zero, and a JSON-able report, each
        as soon as it is equilibrated or out of time. The report: `equilibrated`, `reasons` (why not), `tau_alpha`,
        `run_time`, `run_tau_alphas`, means with standard errors and the halves' differences of
        `energy_per_particle` and `pressure`, `kinetic_temperature`, `crystalline_fraction` and `protocol`.

    Raises:
        EngineError: The engine failed.
        StorageError: A lineage could not be kept.

    Example:
        >>> from glassmd.engines import get_engine
        >>> from glassmd.mixtures import get_mixture
        >>> _, liquid, report = next(equilibrate_together(  # doctest: +SKIP
        ...     get_engine(), get_mixture("kob-andersen"), [np.random.default_rng(1)], n_particles=500, density=1.2,
        ...     temperature=0.8, time_step=0.005))
        >>> report["equilibrated"], report["reasons"]  # doctest: +SKIP
        (True, [])
    """
    conditions = Conditions(mixture, n_particles, density, temperature, time_step, protocol or Protocol())
    places: Sequence[Unfinished | None] = keep or [None] * len(generators)
    pairs = zip(generators, places, strict=True)
    going = {Lineage(conditions, generator, place): index for index, (generator, place) in enumerate(pairs)}
    try:
        while going:
            group, until = _next_stretch(list(going))
            before = len(going)
            for lineage in _advance(engine, mixture, group, until, check):
                if tell is not None:
                    tell(going[lineage], lineage)
                if lineage.finished:
                    yield going.pop(lineage), lineage.configuration.with_images_zero(), lineage.report
            if leave_the_rest and len(going) < before:
                break
    except Interrupted:
        _keep(going, whatever=False)
        raise
    _keep(going, whatever=True)


def _keep(lineages: Iterable[Lineage], *, whatever: bool) -> None:
    for lineage in lineages:
        lineage.keep_now(whatever=whatever)


def _next_stretch(lineages: Sequence[Lineage]) -> tuple[list[Lineage], int]:
    """Who goes on now, and to which step.

    Whoever is furthest behind goes until one of them has something to do or they have caught up with the next one.
    """
    behind = min(lineages, key=lambda lineage: (lineage.stage.number, lineage.step))
    same_stage = [lineage for lineage in lineages if lineage.stage == behind.stage]
    group = [lineage for lineage in same_stage if lineage.step == behind.step]
    ahead = [lineage.step for lineage in same_stage if lineage.step > behind.step]
    return group, min([lineage.due for lineage in group] + ahead)


def _advance(
    engine: Engine, mixture: Mixture, group: Sequence[Lineage], until: int, check: Callable[[], None] | None
) -> Iterator[Lineage]:
    """Evolve lineages that are at the same step of the same stage up to step `until`; yield who was seen."""
    stage, first = group[0].stage, group[0].step
    awaited = [lineage.awaited(until) for lineage in group]
    thermostat = Thermostat(
        stage.temperature, stage.thermostat_time, tuple(lineage.seed for lineage in group), first_step=first
    )
    for seen in engine.evolve(
        [lineage.configuration for lineage in group],
        mixture,
        steps=[step - first for step in sorted(set().union(*awaited))],
        time_step=stage.time_step,
        thermostat=thermostat,
        check=check,
    ):
        step, lineage = first + seen.step, group[seen.system]
        if step in awaited[seen.system]:  # the other steps are another lineage's frames
            lineage.observe(step, seen)
            yield lineage
