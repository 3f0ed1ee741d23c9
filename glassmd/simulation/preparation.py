"""The engine of a run, with what was measured for it on this device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines import choose_engine, get_engine, gpu_count
from glassmd.engines.base import Engine
from glassmd.engines.mpi import available_cores
from glassmd.engines.thermostat import Thermostat
from glassmd.ledger.run import RUNTIME, RunDirectory
from glassmd.mixtures import Mixture
from glassmd.settings import RunSettings
from glassmd.simulation.batch import Check, settings_of
from glassmd.simulation.equilibrium_run import moved
from glassmd.simulation.start import draw_velocities, random_start

__all__ = [
    "available_cores", "default_workers", "engine_of", "gpus_of", "melted", "prepare", "prepared_engine",
    "typical_liquid", "with_runtime",
]  # fmt: skip

_MOST = 64
"""Systems in one simulation that are tried; the table of pairs of types grows with their square."""


def engine_of(settings: RunSettings, gpu: int | None = None) -> Engine:
    """The engine that the settings ask for.

    Raises:
        EngineError: It or its device cannot be had.
    """
    return get_engine(
        settings.engine,
        settings.device,
        packed=settings.packed,
        buffer=settings.neighbor_buffer,
        gpu=gpu,
        ranks=settings.ranks,
        workers=settings.workers or 1,
    )


def gpus_of(settings: RunSettings, *, spared: int = 0) -> range:
    """Numbers of the GPUs that the settings' engine would use; none where it runs on cores.

    Args:
        settings: Of a run.
        spared: So many of the first are left to others, where there are more.

    Raises:
        EngineError: The engine cannot be had.
    """
    count = gpu_count(choose_engine(settings.engine, settings.device)[0], settings.device)
    return range(spared if count > spared else 0, count)


def default_workers(settings: RunSettings, *, spared: int = 0, spared_gpus: int = 0) -> int:
    """Simulating processes: as asked for, else one per GPU, else one per core that is not spared.

    Raises:
        EngineError: The engine cannot be had.
    """
    gpus = gpus_of(settings, spared=spared_gpus)
    return settings.workers or len(gpus) or max(1, available_cores() - spared)


def with_runtime(run: RunDirectory, settings: RunSettings) -> RunSettings:
    """The settings of a run, with those of now that say how to run and not what."""
    return settings_of(run).model_copy(update={key: getattr(settings, key) for key in RUNTIME})


def melted(
    engine: Engine,
    mixture: Mixture,
    n_particles: int,
    density: float,
    stages: Sequence[tuple[float, float, int]],
    check: Check | None = None,
) -> Configuration:
    """A lattice that was melted: of the right speed, not in equilibrium.

    Args:
        engine: Evolves it.
        mixture: What liquid.
        n_particles: N.
        density: σ_AA^-d.
        stages: Temperature, time step and steps of each, one after the other.
        check: Called about once a second; what it raises ends it.

    Raises:
        EngineError: It came apart.
    """
    generator = np.random.default_rng(0)
    liquid = random_start(mixture, n_particles, density, generator)
    liquid = liquid.with_velocities(draw_velocities(liquid, mixture, stages[0][0], generator))
    for temperature, time_step, steps in stages:
        bath = Thermostat(temperature, 0.1, (1,))
        (end,) = engine.evolve([liquid], mixture, steps=[steps], time_step=time_step, thermostat=bath, check=check)
        liquid = moved(liquid, end.positions, end.velocities).with_images_zero()
    return liquid


def typical_liquid(engine: Engine, settings: RunSettings, check: Check | None = None) -> Configuration:
    """A liquid of the run's size, density and temperature: of the right speed, not in equilibrium."""
    hot, step = max(2.0, settings.temperature), settings.time_step
    stages = (hot, 0.2 * step, 200), (hot, step, 300), (settings.temperature, step, 300)
    return melted(engine, settings.liquid(), settings.particles, settings.number_density(), stages, check)


def prepare(engine: Engine, settings: RunSettings, check: Check | None = None) -> dict[str, Any]:
    """Have the engine measure what it chooses by itself; returns what it chose (JSON types only).

    Args:
        engine: Which measures.
        settings: Of the run.
        check: Called about once a second; what it raises ends it.
    """
    most = sum(settings.n_replicas(lineage) for lineage in range(settings.lineages))  # a lineage's parents come in turn
    chosen = engine.prepare(
        lambda: typical_liquid(engine, settings, check),
        settings.liquid(),
        settings.time_step,
        min(most, _MOST),
        check=check,
    )
    return {**chosen, "asked": _asked(settings)} if chosen else {}


def _asked(settings: RunSettings) -> dict[str, Any]:
    """What was not left to measurement."""
    return {"packed": settings.packed, "neighbor_buffer": settings.neighbor_buffer}


def prepared_engine(
    run: RunDirectory, settings: RunSettings, gpu: int | None = None, *, check: Check | None = None
) -> Engine:
    """The engine for a run, with what was measured on such a device before, or is measured now.

    Args:
        run: Where it is recorded.
        settings: Those of the run with the run-time settings of now.
        gpu: Number of the GPU where there are several.
        check: Called about once a second while something is measured; what it raises ends it.

    Raises:
        EngineError: The engine or its device cannot be had.
    """
    engine = engine_of(settings, gpu)
    known = run.prepared(engine.name, engine.device)
    if known is None or known.get("asked") != _asked(settings):
        known = prepare(engine, settings, check)
        if known:
            run.record_prepared(engine.name, engine.device, known)
    engine.adopt(known)
    return engine
