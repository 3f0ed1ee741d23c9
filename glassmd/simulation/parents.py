"""The parents of a run's replicas: equilibrated liquids, and where they have got to later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EquilibrationError, RunError
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.settings import RunSettings
from glassmd.simulation.batch import Check, Outcome, SharedTime, frame_of, settings_of
from glassmd.simulation.equilibration import Protocol, Unfinished, equilibrate_together
from glassmd.simulation.equilibrium_run import moved
from glassmd.simulation.protocol import LineageProgress, standing
from glassmd.simulation.seeds import Purpose, momentum_seed, thermostat_seed
from glassmd.simulation.start import draw_velocities

__all__ = ["equilibrate_lineages", "make_next_parents", "parent_of", "refuse_unequilibrated"]


def equilibrate_lineages(
    keys: Sequence[ParentKey],
    run: RunDirectory,
    engine: Engine,
    check: Check,
    tell: Callable[[int, LineageProgress], None] | None = None,
) -> Iterator[Outcome]:
    """Make the first parents of lineages, and commit each as soon as its equilibration has ended.

    One that is not equilibrated is committed with the evidence against it; :func:`refuse_unequilibrated` reads it.
    When some have ended, the others are put aside for later: replicas of the former come first.

    Args:
        keys: Which; all with parent 0.
        run: Where to commit.
        engine: Evolves them together.
        check: Called about once a second; what it raises ends it, all committed ones kept.
        tell: Called with the number of a lineage and how far it is, whenever it was seen.

    Yields:
        One outcome per key that has ended, after its commit.

    Raises:
        EngineError: The engine failed.
        StorageError: The disk is full or not writable.
    """
    settings, shared = settings_of(run), SharedTime(len(keys))
    seeds = [momentum_seed(settings.seed, Purpose.EQUILIBRATION, key.lineage) for key in keys]
    unfinished = [Unfinished(unfinished_file(run, key.name)) for key in keys]
    for index, configuration, report in equilibrate_together(
        engine,
        settings.liquid(),
        [np.random.default_rng(seed) for seed in seeds],
        n_particles=settings.particles,
        density=settings.number_density(),
        temperature=settings.temperature,
        time_step=settings.time_step,
        protocol=_protocol(settings),
        check=check,
        tell=None if tell is None else lambda index, lineage: tell(keys[index].lineage, lineage.progress),
        keep=unfinished,
        leave_the_rest=True,
    ):
        steps = round((float(report["total_time"]) + settings.melt_time) / settings.time_step)
        facts = {"equilibration": report, "seeds": [seeds[index]], "steps": steps}
        facts |= {**engine.facts, "seconds": shared.take(1)}
        run.commit(keys[index], [frame_of(configuration, run)], facts)
        unfinished[index].forget()
        yield Outcome(keys[index], steps)


def unfinished_file(run: RunDirectory, name: str) -> Path:
    """Where the equilibration that makes a parent is kept meanwhile."""
    return run.file("parents", name).with_suffix(".unfinished.npz")


def _protocol(settings: RunSettings) -> Protocol:
    return Protocol(
        melt_temperature=settings.melt(),
        melt_time=settings.melt_time,
        tau_alphas=settings.tau_alphas,
        max_time=settings.max_equilibration_time,
    )


def make_next_parents(keys: Sequence[ParentKey], run: RunDirectory, engine: Engine, check: Check) -> Iterator[Outcome]:
    """Take the end of replica 0 of each parent before, evolved on until `parent_spacing` has passed.

    Args:
        keys: Which; all with a parent above 0.
        run: Where to find what they start from and to commit.
        engine: Evolves them together.
        check: Called about once a second; what it raises ends it, all committed ones kept.

    Yields:
        One outcome per key, after its commit; a liquid that has crystallised is refused.

    Raises:
        EngineError: The engine failed.
        RunError: What they start from is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    settings, shared = settings_of(run), SharedTime(len(keys))
    steps = round(max(0.0, settings.parent_spacing - settings.times[-1]) / settings.time_step)
    ends = [_end_of_replica(key, run, settings) for key in keys]
    for index, end in _evolved(keys, ends, steps, settings, engine, check):
        key, crystalline = keys[index], crystalline_fraction(end)
        seconds = shared.take(1)
        if crystalline > Protocol().max_crystalline:
            yield Outcome(key, steps, _crystallised(key.lineage, key.parent, crystalline))
            continue
        facts = {"seeds": list(_spacing_seeds(key, settings)), "steps": steps, "crystalline_fraction": crystalline}
        run.commit(key, [frame_of(end, run)], {**facts, **engine.facts, "seconds": seconds})
        yield Outcome(key, steps)


def _end_of_replica(key: ParentKey, run: RunDirectory, settings: RunSettings) -> Configuration:
    entry = run.entry("segments", SegmentKey(key.lineage, key.parent - 1, 0).name)
    if entry is None:
        raise RunError(f"found no segment before parent {key.name}", "a committed segment", "simulate again")
    # The frames of replica 0 follow the parent; of replicas that were reduced only its last one is kept.
    last = len(settings.times) if entry.sidecar["holds"] == "replicas" else 1
    return entry.read([last])[0].configuration.with_images_zero()


def _spacing_seeds(key: ParentKey, settings: RunSettings) -> tuple[int, int]:
    """Of the momenta and of the thermostat."""
    return (
        momentum_seed(settings.seed, Purpose.SPACING, *key),
        thermostat_seed(settings.seed, Purpose.SPACING, *key),
    )


def _evolved(
    keys: Sequence[ParentKey],
    liquids: Sequence[Configuration],
    steps: int,
    settings: RunSettings,
    engine: Engine,
    check: Check,
) -> Iterator[tuple[int, Configuration]]:
    """The liquids so many steps later, with new momenta, in any order; as they are where there are no steps."""
    if not steps:
        yield from enumerate(liquids)
        return
    mixture, temperature = settings.liquid(), settings.temperature
    seeds = [_spacing_seeds(key, settings) for key in keys]
    starts = [
        liquid.with_velocities(draw_velocities(liquid, mixture, temperature, np.random.default_rng(momenta)))
        for liquid, (momenta, _) in zip(liquids, seeds, strict=True)
    ]
    thermostat = Thermostat(temperature, settings.thermostat_time, tuple(bath for _, bath in seeds))
    for seen in engine.evolve(
        starts, mixture, steps=[steps], time_step=settings.time_step, thermostat=thermostat, check=check
    ):
        yield seen.system, moved(liquids[seen.system], seen.positions, seen.velocities).with_images_zero()


def parent_of(key: SegmentKey, run: RunDirectory) -> Configuration:
    """The parent of a segment.

    Raises:
        RunError: It is missing or damaged.
    """
    entry = run.entry("parents", key.of.name)
    if entry is None:
        raise RunError(f"found no parent {key.of.name} in {run.path}", "a committed parent", "simulate again")
    return entry.read([0])[0].configuration.with_images_zero()


def refuse_unequilibrated(run: RunDirectory, lineage: int, *, accept: bool) -> bool:
    """Raise :class:`EquilibrationError` unless the lineage was shown to be an equilibrated liquid, or given.

    Whoever gives a lineage vouches for it, unless something was found against it. `accept` lets a liquid pass that may
    not be in equilibrium, never a crystal. Returns whether it was shown to be in equilibrium.
    """
    entry = run.entry("parents", ParentKey(lineage, 0).name)
    report = {} if entry is None else entry.sidecar.get("equilibration", {})
    known = standing(report)
    if known:
        return True
    if report.get("crystalline_fraction", 0.0) > Protocol().max_crystalline:
        raise _crystallised(lineage, 0, report["crystalline_fraction"])
    if accept or (known is None and "given" in report):
        return False
    raise EquilibrationError(
        f"lineage {lineage} of {run.path} is not equilibrated: {'; '.join(report.get('reasons', ['no report']))}",
        "an equilibrated liquid as parent",
        "use another --out with a larger --set max_equilibration_time=…, or give --accept-unequilibrated",
    )


def _crystallised(lineage: int, parent: int, fraction: float) -> EquilibrationError:
    return EquilibrationError(
        f"lineage {lineage} has crystallised before parent {parent} ({fraction:.0%} of its particles)",
        f"a liquid, with at most {Protocol().max_crystalline:.0%}",
        "use another --out with another --seed, fewer parents, or a higher temperature",
    )
