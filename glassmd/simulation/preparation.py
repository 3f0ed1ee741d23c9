"""The engine of a run, with what was measured for it on this device."""

from __future__ import annotations

import os

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines import get_engine
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.equilibration import draw_velocities, random_start

__all__ = ["available_cores", "default_workers", "engine_of", "prepare", "prepared_engine", "typical_liquid"]

_MOST = 64
"""Systems in one simulation that are tried; the table of pairs of types grows with their square."""


def engine_of(settings: RunSettings, gpu: int | None = None) -> Engine:
    """The engine that the settings ask for.

    Raises:
        EngineError: It or its device cannot be had.
    """
    return get_engine(
        settings.engine, settings.device, packed=settings.packed, buffer=settings.neighbor_buffer, gpu=gpu
    )


def available_cores() -> int:
    """Cores that this process may use, which a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(settings: RunSettings, *, spared: int = 0) -> int:
    """Simulating processes: as asked for, else one per GPU, else one per core that is not spared.

    Raises:
        EngineError: The engine or its device cannot be had.
    """
    return settings.workers or engine_of(settings).processes or max(1, available_cores() - spared)


def typical_liquid(engine: Engine, settings: RunSettings) -> Configuration:
    """A liquid of the run's size, density and temperature: of the right speed, not in equilibrium."""
    mixture, generator = settings.liquid(), np.random.default_rng(0)
    liquid = random_start(mixture, settings.particles, settings.number_density(), generator)
    hot = max(2.0, settings.temperature)
    liquid = liquid.with_velocities(draw_velocities(liquid, mixture, hot, generator))
    for temperature, time_step, steps in (
        (hot, 0.2 * settings.time_step, 200),
        (hot, settings.time_step, 300),
        (settings.temperature, settings.time_step, 300),
    ):
        (end,) = engine.evolve(
            [liquid], mixture, steps=[steps], time_step=time_step, thermostat=Thermostat(temperature, 0.1, (1,))
        )
        liquid = Configuration(
            liquid.box, liquid.species, end.positions, liquid.species_names, end.velocities
        ).with_images_zero()
    return liquid


def prepare(engine: Engine, settings: RunSettings) -> dict[str, object]:
    """Have the engine measure what it chooses by itself; returns what it chose (JSON types only)."""
    most = settings.parents * sum(settings.n_replicas(lineage) for lineage in range(settings.lineages))
    return engine.prepare(
        lambda: typical_liquid(engine, settings), settings.liquid(), settings.time_step, min(most, _MOST)
    )


def prepared_engine(run: RunDirectory, settings: RunSettings, gpu: int | None = None) -> Engine:
    """The engine for a run, with what was measured on such a device before, or is measured now.

    Args:
        run: Where it is recorded.
        settings: Those of the run with the run-time settings of now.
        gpu: Number of the GPU where there are several.

    Raises:
        EngineError: The engine or its device cannot be had.
    """
    engine = engine_of(settings, gpu)
    known = run.prepared(engine.name, engine.device)
    if known is None:
        known = prepare(engine, settings)
        if known:
            run.record_prepared(engine.name, engine.device, known)
    engine.adopt(known)
    return engine
