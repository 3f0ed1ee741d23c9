"""A block of replicas of one parent: what is gathered while they evolve, and the segment that comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Observation, displacements_of
from glassmd.engines.reduced import Displacements, scattering_vectors
from glassmd.errors import EngineError
from glassmd.fields import GSD_PROPENSITY, GSD_PROPENSITY_VARIANCE, GSD_REPLICA, GSD_TIME
from glassmd.ledger.run import RunDirectory, SegmentKey
from glassmd.moments import Moments
from glassmd.settings import RunSettings
from glassmd.simulation.batch import frame_of, settings_of
from glassmd.simulation.parents import parent_of, refuse_unequilibrated
from glassmd.simulation.seeds import Purpose, momentum_seed, thermostat_seed
from glassmd.simulation.start import draw_velocities
from glassmd.trajectory import Frame

__all__ = ["Block", "replicas_of"]


def replicas_of(key: SegmentKey, settings: RunSettings) -> range:
    """The replicas in a block."""
    of_parent = settings.n_replicas(key.lineage)
    size = settings.block or of_parent
    return range(key.block * size, min((key.block + 1) * size, of_parent))


class Block:
    """Replicas of one parent that are committed together.

    What is written is either the positions of every replica at every time, or the propensity and its variance
    (setting `keep`); what the sidecar says of the dynamics is the same.

    Args:
        key: Which block.
        run: Where to find the parent and to commit.

    Raises:
        EquilibrationError: The lineage is no equilibrated liquid and that was not accepted.
        RunError: The parent is missing or damaged.
    """

    def __init__(self, key: SegmentKey, run: RunDirectory) -> None:
        self.key, self._run, self._settings = key, run, settings_of(run)
        settings = self._settings
        self._equilibrated = refuse_unequilibrated(run, key.lineage, accept=settings.accept_unequilibrated)
        self._parent, self._mixture = parent_of(key, run), settings.liquid()
        self._vectors = scattering_vectors(self._parent.box, self._mixture)
        self.replicas = replicas_of(key, settings)
        seeds = [(settings.seed, Purpose.REPLICA, *key.of, replica) for replica in self.replicas]
        self.momenta = [momentum_seed(*seed) for seed in seeds]
        self.baths = [thermostat_seed(*seed) for seed in seeds]
        self._steps = settings.steps()
        n_times, n_replicas = len(self._steps), len(self.replicas)
        self._frames: dict[tuple[int, int], Frame] = {}
        self._moments: list[Moments | None] = [None] * n_times
        self._scattering = np.zeros((n_times, len(self._mixture.species)))  # summed over replicas
        self._measured = np.zeros((3, n_replicas, n_times))

    @property
    def steps(self) -> int:
        """Steps of single systems."""
        return self._steps[-1] * len(self.replicas)

    def systems(self) -> list[Configuration]:
        """The parent with the momenta of each replica."""
        parent, mixture, temperature = self._parent, self._mixture, self._settings.temperature
        return [
            parent.with_velocities(draw_velocities(parent, mixture, temperature, np.random.default_rng(seed)))
            for seed in self.momenta
        ]

    def observe(self, replica: int, seen: Observation) -> bool:
        """Keep what was seen of a replica, positions included; whether the block is full now."""
        self._keep_positions(replica, seen.step, seen.positions)
        return self.add([replica], displacements_of(seen, self._parent, self._mixture, self._vectors))

    def add(self, replicas: list[int], part: Displacements) -> bool:
        """Add what is left of some replicas at a step; whether the block is full now."""
        column, rows = self._steps.index(part.step), [replica - self.replicas[0] for replica in replicas]
        for end in part.ends.values():
            self._keep_positions(0, part.step, end)
        new, known = Moments(len(replicas), part.mean, part.deviation, frozenset(replicas)), self._moments[column]
        self._moments[column] = new if known is None else known.merge(new)
        self._scattering[column] += len(replicas) * part.scattering
        self._measured[:, rows, column] = part.temperature, part.potential_energy, part.pressure
        return all(moments is not None and moments.count == len(self.replicas) for moments in self._moments)

    def _keep_positions(self, replica: int, step: int, positions: NDArray[np.float64]) -> None:
        column, parent = self._steps.index(step), self._parent
        log = {
            GSD_REPLICA: np.array([replica], np.int64),
            GSD_TIME: np.array([self._settings.times[column]], np.float64),
        }
        configuration = Configuration(parent.box, parent.species, positions, parent.species_names)
        self._frames[replica, column] = Frame(configuration, step, log)

    def commit(self, engine_facts: dict[str, Any]) -> None:
        """Write the segment, and forget the frames.

        Raises:
            EngineError: The replicas of an equilibrated parent left their temperature.
            StorageError: The disk is full or not writable.
        """
        settings, (kinetic, energy, pressure) = self._settings, self._measured
        if self._equilibrated:
            _require_temperature(kinetic, settings, self._parent)
        off = _temperature_off(kinetic, settings, self._parent)
        facts = {
            **({} if off is None else {"kinetic_temperature_off": off}),
            "holds": "replicas" if settings.keep == "positions" else "propensity",
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
            "dynamics": self._dynamics(),
            **engine_facts,
        }
        parent = frame_of(self._parent, self._run)
        if settings.keep == "propensities":
            parent = Frame(parent.configuration, parent.step, {**parent.log, **self._labels()})
        self._run.commit(self.key, [parent, *(self._frames[at] for at in sorted(self._frames))], facts)
        self._frames.clear()

    def _found(self) -> list[Moments]:
        return [moments for moments in self._moments if moments is not None]

    def _dynamics(self) -> dict[str, list[list[float]]]:
        """Mean |Δr| and F_s, (n_species, n_times) each, over the replicas."""
        species = range(len(self._mixture.species))
        moved = [[float(m.mean[self._parent.species == kind].mean()) for m in self._found()] for kind in species]
        scattering = (self._scattering / len(self.replicas)).T
        return {"mean_displacement": moved, "scattering": scattering.tolist()}

    def _labels(self) -> dict[str, NDArray[np.float32]]:
        """Propensity and variance between replicas at every time, as they are logged."""
        log = {}
        for time, moments in zip(self._settings.times, self._found(), strict=True):
            log[GSD_PROPENSITY.format(time=time)] = moments.mean.astype(np.float32)
            if moments.count > 1:
                log[GSD_PROPENSITY_VARIANCE.format(time=time)] = moments.variance.astype(np.float32)
        return log


def _temperature_off(
    found: NDArray[np.float64], settings: RunSettings, parent: Configuration
) -> dict[str, float] | None:
    """Whether the replicas' mean kinetic temperature has left T by more than 1%, fluctuations aside.

    One replica's kinetic temperature fluctuates by √(2/d(N−1)) around T. At constant energy all replicas of a parent
    share its potential energy, whose own fluctuation shifts them together by as much at the most.

    Args:
        found: (n_replicas, n_times) kinetic temperatures, ε_AA.
        settings: Of the run.
        parent: What the replicas started from.

    Returns:
        The `time` at which it is off most, by how much (`off`) and what is `allowed`, both relative; None where it has
        not left.
    """
    one = np.sqrt(2 / (parent.dimensions * (parent.n_particles - 1)))
    shared = one if settings.ensemble == "nve" else 0.0
    allowed = 0.01 + 5 * np.hypot(one / np.sqrt(len(found)), shared)
    off = found.mean(axis=0) / settings.temperature - 1
    worst = int(np.abs(off).argmax())
    if abs(off[worst]) <= allowed:
        return None
    return {"time": settings.times[worst], "off": float(off[worst]), "allowed": float(allowed)}


def _require_temperature(found: NDArray[np.float64], settings: RunSettings, parent: Configuration) -> None:
    """Refuse what :func:`_temperature_off` finds: in equilibrium the time step is at fault."""
    off = _temperature_off(found, settings, parent)
    if off is not None:
        raise EngineError(
            f"the replicas' mean kinetic temperature at t = {off['time']:g} is off by {off['off']:.1%}",
            f"at most {off['allowed']:.1%}",
            "use --set ensemble=nvt or a smaller --set time_step=…",
        )
