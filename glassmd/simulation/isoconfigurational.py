"""The isoconfigurational protocol as small pieces of work, each committed on its own.

Lineages are equilibrated liquids; parent 0 of a lineage is the end of its equilibration and parent k+1 the end
of replica 0 of parent k, evolved further if parents are to lie further apart. From every parent R replicas
start with momenta of their own (Widmer-Cooper, Harrowell & Fynewever, PRL 93, 135701 (2004)).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.crystallinity import crystalline_fraction
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError, EquilibrationError, RunError
from glassmd.fields import GSD_IDENTITY, GSD_REPLICA, GSD_TIME
from glassmd.run import ParentKey, RunDirectory, SegmentKey
from glassmd.settings import RunSettings
from glassmd.simulation.equilibration import Protocol, Unfinished, draw_velocities, equilibrate
from glassmd.simulation.seeds import Purpose, momentum_seed, thermostat_seed
from glassmd.trajectory import Frame, encode_identity

__all__ = ["Task", "execute", "tasks_of"]

Check = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """A piece of work with a name of its own: a parent to make or a block of replicas to run."""

    kind: Literal["parents", "segments"]
    key: ParentKey | SegmentKey

    @property
    def name(self) -> str:
        """Name of the files that it commits and of its claim."""
        return self.key.name

    def done(self, run: RunDirectory) -> bool:
        """Whether it is committed."""
        return run.entry(self.kind, self.name) is not None

    def ready(self, run: RunDirectory) -> bool:
        """Whether what it starts from is committed."""
        key = self.key
        if isinstance(key, SegmentKey):
            return run.entry("parents", key.of.name) is not None
        return key.parent == 0 or run.entry("segments", SegmentKey(key.lineage, key.parent - 1, 0).name) is not None


def tasks_of(run: RunDirectory) -> list[Task]:
    """All work of a run in the order in which it is useful: all lineages' first parents, then their second ones.

    One training lineage goes first, so that a trainer has something to start with; then validation, the other
    training lineages and the test lineages.
    """
    settings = _settings(run)
    training = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "train"]
    held_out = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "validation"]
    tests = [lineage for lineage in range(settings.lineages) if settings.role(lineage) == "test"]
    tasks = []
    for parent in range(settings.parents):
        for lineage in [*training[:1], *held_out, *training[1:], *tests]:
            tasks.append(Task("parents", ParentKey(lineage, parent)))
            tasks += [Task("segments", SegmentKey(lineage, parent, block)) for block in range(run.n_blocks(lineage))]
    return tasks


def execute(task: Task, run: RunDirectory, engine: Engine, check: Check) -> int:
    """Do a piece of work and commit it.

    Returns:
        Steps of single systems that it took.

    Raises:
        EquilibrationError: The lineage is no equilibrated liquid and that was not accepted.
        Interrupted: From `check`; nothing of this piece is committed.
    """
    if isinstance(task.key, SegmentKey):
        return _run_block(task.key, run, engine, check)
    if task.key.parent == 0:
        return _equilibrate(task.key, run, engine, check)
    return _next_parent(task.key, run, engine, check)


def _settings(run: RunDirectory) -> RunSettings:
    settings = run.settings
    if settings is None:
        raise RunError(
            f"{run.path} holds imported data ({run.identity['origin']})",
            "a simulated run",
            "choose another --out",
        )
    return settings


def _frame(configuration: Configuration, run: RunDirectory, settings: RunSettings) -> Frame:
    identity = {"mixture": run.identity["mixture"], "temperature": settings.temperature}
    return Frame(configuration.with_velocities(None), 0, {GSD_IDENTITY: encode_identity(identity)})


def _engine_facts(engine: Engine, started: float) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "engine_version": engine.version,
        "device": engine.device,
        "seconds": time.monotonic() - started,
    }


def _equilibrate(key: ParentKey, run: RunDirectory, engine: Engine, check: Check) -> int:
    settings, started = _settings(run), time.monotonic()
    seed = momentum_seed(settings.seed, Purpose.EQUILIBRATION, key.lineage)
    unfinished = Unfinished(run.file("parents", key.name).with_suffix(".unfinished.npz"))
    configuration, report = equilibrate(
        engine,
        settings.liquid(),
        n_particles=settings.particles,
        density=settings.number_density(),
        temperature=settings.temperature,
        time_step=settings.time_step,
        generator=np.random.default_rng(seed),
        protocol=_protocol(settings),
        check=check,
        keep=unfinished,
    )
    steps = round((float(report["total_time"]) + settings.melt_time) / settings.time_step)
    facts = {"equilibration": report, "seeds": [seed], "steps": steps, **_engine_facts(engine, started)}
    run.commit("parents", key, [_frame(configuration, run, settings)], facts)
    unfinished.forget()
    return steps


def _protocol(settings: RunSettings) -> Protocol:
    return Protocol(
        melt_temperature=settings.melt_temperature or max(2.0, 2.0 * settings.temperature),
        melt_time=settings.melt_time,
        tau_alphas=settings.tau_alphas,
        max_time=settings.max_equilibration_time,
    )


def _parent(key: ParentKey, run: RunDirectory) -> Configuration:
    entry = run.entry("parents", key.name)
    if entry is None:
        raise RunError(f"found no parent {key.name} in {run.path}", "a committed parent", "simulate again")
    return entry.read([0])[0].configuration.with_images_zero()


def refuse_unequilibrated(run: RunDirectory, lineage: int, *, accept: bool) -> bool:
    """Raise :class:`EquilibrationError` unless the lineage was shown to be an equilibrated liquid.

    `accept` lets a liquid pass that may not be in equilibrium, never a crystal. Returns whether it is in equilibrium.
    """
    entry = run.entry("parents", ParentKey(lineage, 0).name)
    report = {} if entry is None else entry.sidecar.get("equilibration", {})
    if report.get("equilibrated"):
        return True
    if report.get("crystalline_fraction", 0.0) > Protocol().max_crystalline:
        raise _crystallised(lineage, 0, report["crystalline_fraction"])
    if accept:
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


def _next_parent(key: ParentKey, run: RunDirectory, engine: Engine, check: Check) -> int:
    """The end of replica 0 of the parent before, evolved on until `parent_spacing` has passed."""
    settings, started = _settings(run), time.monotonic()
    mixture = settings.liquid()
    entry = run.entry("segments", SegmentKey(key.lineage, key.parent - 1, 0).name)
    if entry is None:
        raise RunError(f"found no segment before parent {key.name}", "a committed segment", "simulate again")
    configuration = entry.read([len(settings.times)])[0].configuration.with_images_zero()
    steps = round(max(0.0, settings.parent_spacing - settings.times[-1]) / settings.time_step)
    seeds = (
        momentum_seed(settings.seed, Purpose.SPACING, *key),
        thermostat_seed(settings.seed, Purpose.SPACING, *key),
    )
    if steps:
        generator = np.random.default_rng(seeds[0])
        start = configuration.with_velocities(draw_velocities(configuration, mixture, settings.temperature, generator))
        thermostat = Thermostat(settings.temperature, settings.thermostat_time, (seeds[1],))
        (end,) = engine.evolve(
            [start], mixture, steps=[steps], time_step=settings.time_step, thermostat=thermostat, check=check
        )
        configuration = Configuration(
            configuration.box, configuration.species, end.positions, configuration.species_names
        ).with_images_zero()
    crystalline = crystalline_fraction(configuration)
    if crystalline > Protocol().max_crystalline:
        raise _crystallised(key.lineage, key.parent, crystalline)
    facts = {
        "seeds": list(seeds),
        "steps": steps,
        "crystalline_fraction": crystalline,
        **_engine_facts(engine, started),
    }
    run.commit("parents", key, [_frame(configuration, run, settings)], facts)
    return steps


def _require_temperature(found: NDArray[np.float64], settings: RunSettings, parent: Configuration) -> None:
    """Refuse replicas whose mean kinetic temperature has left T by more than 1%, fluctuations aside.

    One replica's kinetic temperature fluctuates by √(2/d(N−1)) around T. At constant energy all replicas of a parent
    share its potential energy, whose own fluctuation shifts them together by as much at the most.

    Args:
        found: (n_replicas, n_times) kinetic temperatures, ε_AA.
        settings: Of the run.
        parent: What the replicas started from.
    """
    one = np.sqrt(2 / (parent.dimensions * (parent.n_particles - 1)))
    shared = one if settings.ensemble == "nve" else 0.0
    allowed = 0.01 + 5 * np.hypot(one / np.sqrt(len(found)), shared)
    off = found.mean(axis=0) / settings.temperature - 1
    if np.abs(off).max() > allowed:
        worst = int(np.abs(off).argmax())
        raise EngineError(
            f"the replicas' mean kinetic temperature at t = {settings.times[worst]:g} is off by {off[worst]:.1%}",
            f"at most {allowed:.1%}",
            "use --set ensemble=nvt or a smaller --set time_step=…",
        )


def _run_block(key: SegmentKey, run: RunDirectory, engine: Engine, check: Check) -> int:
    settings, started = _settings(run), time.monotonic()
    equilibrated = refuse_unequilibrated(run, key.lineage, accept=settings.accept_unequilibrated)
    mixture, parent, steps = settings.liquid(), _parent(key.of, run), settings.steps()
    size = settings.block or settings.n_replicas(key.lineage)
    replicas = range(key.block * size, min((key.block + 1) * size, settings.n_replicas(key.lineage)))
    momenta = [momentum_seed(settings.seed, Purpose.REPLICA, *key.of, replica) for replica in replicas]
    bath = [thermostat_seed(settings.seed, Purpose.REPLICA, *key.of, replica) for replica in replicas]
    systems = [
        parent.with_velocities(draw_velocities(parent, mixture, settings.temperature, np.random.default_rng(seed)))
        for seed in momenta
    ]
    thermostat = None
    if settings.ensemble == "nvt":
        thermostat = Thermostat(settings.temperature, settings.thermostat_time, tuple(bath))
    frames: dict[tuple[int, int], Frame] = {}
    measured = np.zeros((3, len(replicas), len(steps)))
    for seen in engine.evolve(
        systems, mixture, steps=steps, time_step=settings.time_step, thermostat=thermostat, check=check
    ):
        column = steps.index(seen.step)
        configuration = Configuration(parent.box, parent.species, seen.positions, parent.species_names)
        log = {
            GSD_REPLICA: np.array([replicas[seen.system]], np.int64),
            GSD_TIME: np.array([settings.times[column]], np.float64),
        }
        frames[seen.system, column] = Frame(configuration, seen.step, log)
        measured[:, seen.system, column] = seen.temperature, seen.potential_energy, seen.pressure
    if equilibrated:
        _require_temperature(measured[0], settings, parent)
    n_steps = steps[-1] * len(replicas)
    facts = {
        "holds": "replicas",
        "replicas": list(replicas),
        "seeds": {"momenta": momenta, "thermostat": bath},
        "times": settings.times,
        "steps": n_steps,
        "time_step": settings.time_step,
        "ensemble": settings.ensemble,
        "thermostat_time": settings.thermostat_time if thermostat else None,
        "kinetic_temperature": measured[0].tolist(),
        "potential_energy": measured[1].tolist(),
        "pressure": measured[2].tolist(),
        **_engine_facts(engine, started),
    }
    run.commit("segments", key, [_frame(parent, run, settings), *(frames[at] for at in sorted(frames))], facts)
    return n_steps
