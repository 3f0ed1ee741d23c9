"""The isoconfigurational ensemble: replicas of a parent, alike in positions and independent in their momenta.

From every parent R replicas start with momenta of their own (Widmer-Cooper, Harrowell & Fynewever, PRL 93, 135701
(2004)). They are committed in blocks; the blocks of any parents can run in one simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine, Observation
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError, EquilibrationError
from glassmd.fields import GSD_REPLICA, GSD_TIME
from glassmd.run import RunDirectory, SegmentKey
from glassmd.settings import RunSettings
from glassmd.simulation.batch import Check, Outcome, SharedTime, frame_of, settings_of
from glassmd.simulation.parents import parent_of, refuse_unequilibrated
from glassmd.simulation.seeds import Purpose, momentum_seed, thermostat_seed
from glassmd.simulation.start import draw_velocities
from glassmd.trajectory import Frame

__all__ = ["replicas_of", "run_blocks"]


def replicas_of(key: SegmentKey, settings: RunSettings) -> range:
    """The replicas in a block."""
    of_parent = settings.n_replicas(key.lineage)
    size = settings.block or of_parent
    return range(key.block * size, min((key.block + 1) * size, of_parent))


def run_blocks(keys: Sequence[SegmentKey], run: RunDirectory, engine: Engine, check: Check) -> Iterator[Outcome]:
    """Run blocks of replicas, and commit each as soon as its last replica has reached the last time.

    Args:
        keys: Which, of any parents.
        run: Where to find the parents and to commit.
        engine: Evolves them together.
        check: Called about once a second; what it raises ends it, all committed ones kept.

    Yields:
        One outcome per key, after its commit. Blocks of a lineage that is no equilibrated liquid are refused where
        that was not accepted.

    Raises:
        EngineError: The engine failed, or replicas left their temperature.
        RunError: A parent is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    blocks: list[_Block] = []
    for key in keys:
        try:
            blocks.append(_Block(key, run))
        except EquilibrationError as error:
            yield Outcome(key, 0, error)
    if not blocks:
        return
    owners = [(block, replica) for block in blocks for replica in range(len(block.replicas))]
    shared = SharedTime(len(owners))
    for seen in _evolve(blocks, settings_of(run), engine, check):
        block, replica = owners[seen.system]
        if block.observe(replica, seen):
            size = len(block.replicas)
            block.commit({**engine.facts, "seconds": shared.take(size)})
            yield Outcome(block.key, block.steps)


def _evolve(blocks: Sequence[_Block], settings: RunSettings, engine: Engine, check: Check) -> Iterator[Observation]:
    thermostat = None
    if settings.ensemble == "nvt":
        baths = tuple(seed for block in blocks for seed in block.baths)
        thermostat = Thermostat(settings.temperature, settings.thermostat_time, baths)
    return engine.evolve(
        [system for block in blocks for system in block.systems()],
        settings.liquid(),
        steps=settings.steps(),
        time_step=settings.time_step,
        thermostat=thermostat,
        check=check,
    )


class _Block:
    """Replicas of one parent that are committed together.

    Raises:
        EquilibrationError: The lineage is no equilibrated liquid and that was not accepted.
        RunError: The parent is missing or damaged.
    """

    def __init__(self, key: SegmentKey, run: RunDirectory) -> None:
        self.key, self._run, self._settings = key, run, settings_of(run)
        settings = self._settings
        self._equilibrated = refuse_unequilibrated(run, key.lineage, accept=settings.accept_unequilibrated)
        self._parent = parent_of(key, run)
        self.replicas = replicas_of(key, settings)
        seeds = [(settings.seed, Purpose.REPLICA, *key.of, replica) for replica in self.replicas]
        self.momenta = [momentum_seed(*seed) for seed in seeds]
        self.baths = [thermostat_seed(*seed) for seed in seeds]
        self._steps = settings.steps()
        self._frames: dict[tuple[int, int], Frame] = {}
        self._measured = np.zeros((3, len(self.replicas), len(self._steps)))

    @property
    def steps(self) -> int:
        """Steps of single systems."""
        return self._steps[-1] * len(self.replicas)

    def systems(self) -> list[Configuration]:
        """The parent with the momenta of each replica."""
        parent, mixture, temperature = self._parent, self._settings.liquid(), self._settings.temperature
        return [
            parent.with_velocities(draw_velocities(parent, mixture, temperature, np.random.default_rng(seed)))
            for seed in self.momenta
        ]

    def observe(self, replica: int, seen: Observation) -> bool:
        """Keep what was seen of the block's replica number `replica`; whether that was the last of all."""
        column, parent = self._steps.index(seen.step), self._parent
        configuration = Configuration(parent.box, parent.species, seen.positions, parent.species_names)
        log = {
            GSD_REPLICA: np.array([self.replicas[replica]], np.int64),
            GSD_TIME: np.array([self._settings.times[column]], np.float64),
        }
        self._frames[replica, column] = Frame(configuration, seen.step, log)
        self._measured[:, replica, column] = seen.temperature, seen.potential_energy, seen.pressure
        return len(self._frames) == len(self.replicas) * len(self._steps)

    def commit(self, engine_facts: dict[str, Any]) -> None:
        """Write the segment, and forget the frames.

        Raises:
            EngineError: The replicas of an equilibrated parent left their temperature.
            StorageError: The disk is full or not writable.
        """
        settings, (kinetic, energy, pressure) = self._settings, self._measured
        if self._equilibrated:
            _require_temperature(kinetic, settings, self._parent)
        facts = {
            "holds": "replicas",
            "replicas": list(self.replicas),
            "seeds": {"momenta": self.momenta, "thermostat": self.baths},
            "times": settings.times,
            "steps": self.steps,
            "time_step": settings.time_step,
            "ensemble": settings.ensemble,
            "thermostat_time": settings.thermostat_time if settings.ensemble == "nvt" else None,
            "kinetic_temperature": kinetic.tolist(),
            "potential_energy": energy.tolist(),
            "pressure": pressure.tolist(),
            **engine_facts,
        }
        frames = [frame_of(self._parent, self._run), *(self._frames[at] for at in sorted(self._frames))]
        self._run.commit("segments", self.key, frames, facts)
        self._frames.clear()


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
