"""Structures for whoever needs them: read from beside the run, or computed and kept there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines import DeviceChoice, Engine, EngineChoice, get_engine
from glassmd.errors import InputError, RunError
from glassmd.inputs.cache import Cached, InputCache, Recipe
from glassmd.inputs.cage import content_of
from glassmd.inputs.computation import chosen_inputs, computed, recipe_of
from glassmd.inputs.protocol import CageProtocol, protocol_of
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.mixtures import Mixture, mixture_of
from glassmd.stream.samples import Sample
from glassmd.structure import Rattling, Structure

__all__ = ["StructureProvider"]

_WAIT = 0.2  # seconds between looks at what another process computes


class StructureProvider:
    """Hands out structures with the inputs that were asked for.

    An engine is opened when something has to be computed for the first time: thermal positions need none, nor does
    what is kept beside the run.

    Args:
        inputs: Some of :data:`glassmd.structure.INPUTS`.
        engine: As in settings.
        device: As in settings.
        protocol: Of the cages; None takes that of each run (:func:`glassmd.inputs.protocol.protocol_of`), and the
            default where there is no run.
        seed: Of the cages.
        gpu: Number of the GPU where there are several.
        check: Called about once a second while something is computed or waited for; what it raises ends it.

    Raises:
        InputError: An input that does not exist.

    Example:
        >>> provider = StructureProvider(("thermal",))
        >>> pair = Configuration(box=[5, 5], species=[0, 1], positions=[[0, 0], [2.4, 0]])
        >>> from glassmd.mixtures import get_mixture
        >>> provider.of_configuration(pair, get_mixture("kob-andersen-2d"), 0.5).available(), provider.cost
        (('thermal',), {})
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        engine: EngineChoice = "auto",
        device: DeviceChoice = "auto",
        protocol: CageProtocol | None = None,
        seed: int = 0,
        gpu: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.inputs, self.protocol, self.seed, self.check = tuple(inputs), protocol, seed, check
        self.engine_choice, self.device_choice = engine, device
        self.simulated = chosen_inputs(self.inputs)
        self._gpu = gpu
        self._engine: Engine | None = None
        self._cost: dict[str, dict[str, Any]] = {}
        self._protocols: dict[str, CageProtocol] = {}

    def structure(self, run: RunDirectory, sample: Sample) -> Structure:
        """The parent of a sample with its inputs, read from beside the run or computed and kept there.

        Args:
            run: The run that the sample is of.
            sample: Of :meth:`glassmd.stream.dataset.Run.stream`.

        Raises:
            EngineError: There is no engine to compute with, or it failed.
            InputError: The sample is of another run.
            StorageError: The result could not be kept.
        """
        if sample.key.run != run.identity["id"]:
            raise InputError(f"found a sample of run {sample.key.run}", f"one of {run.identity['id']}, {run.path}")
        key = ParentKey(sample.key.lineage, sample.key.parent)
        temperature = sample.temperature if np.isfinite(sample.temperature) else float(run.identity["temperature"])
        return self.of_parent(run, key, sample.parent, temperature)

    def of_parent(
        self, run: RunDirectory, key: ParentKey, parent: Configuration, temperature: float | None = None
    ) -> Structure:
        """As :meth:`structure`, for a parent that no sample is at hand of; the run's temperature by default."""
        mixture = mixture_of(run.identity["mixture"])
        temperature = float(run.identity["temperature"]) if temperature is None else temperature
        found = {}
        if self.simulated:
            cache, content = InputCache(run), content_of(parent)
            for name in self.simulated:
                protocol = self.protocol_for(run) if name == "cage" else CageProtocol()
                found[name] = self._fetched(name, cache, key, content, (parent, mixture, temperature, protocol))
        return _assembled(parent, mixture, temperature, found)

    def of_configuration(self, configuration: Configuration, mixture: Mixture, temperature: float) -> Structure:
        """A configuration that is of no run, with its inputs; nothing is kept.

        Raises:
            EngineError: There is no engine to compute with, or it failed.
        """
        found = {}
        for name in self.simulated:
            what = configuration, mixture, temperature, self.protocol or CageProtocol()
            found[name] = self._computed(name, what)
            self._count(name, found[name], new=True)
        return _assembled(configuration, mixture, temperature, found)

    def by_products(self, run: RunDirectory, sample: Sample, name: str = "cage") -> Mapping[str, NDArray[np.float32]]:
        """Everything that is kept of an input: for `cage` also `p_hop_mean` and `p_hop_max`, (n_particles,), σ_AA².

        Raises:
            InputError: An input that this provider does not compute.
        """
        if name not in self.simulated:
            raise InputError(f"found input {name!r}", f"one of {', '.join(self.simulated) or 'none'}")
        self.structure(run, sample)
        recipe = self.recipe(run, name)
        found = InputCache(run).read(
            recipe, ParentKey(sample.key.lineage, sample.key.parent), content_of(sample.parent)
        )
        if found is None:
            raise RunError(f"{InputCache(run).root} lost what was just written", "a directory that keeps its files")
        return found.arrays

    def protocol_for(self, run: RunDirectory) -> CageProtocol:
        """The cage protocol for a run: the one that was given, or the run's own."""
        if self.protocol is not None:
            return self.protocol
        return self._protocols.setdefault(str(run.identity["id"]), protocol_of(run))

    def recipe(self, run: RunDirectory, name: str) -> Recipe:
        """What tells the results of this provider from others."""
        return recipe_of(name, self.protocol_for(run) if name == "cage" else CageProtocol(), self.seed)

    @property
    def cost(self) -> dict[str, dict[str, Any]]:
        """By input: what it took (JSON types only).

        `computed` and `read` count configurations; `seconds` and `replica_steps` are of those computed by this
        provider, `recorded_seconds` and `recorded_replica_steps` of both, as whoever computed them recorded them
        (for `inherent` steps are evaluations of all forces); `engine` names who computed the last one.
        """
        return {name: dict(numbers) for name, numbers in self._cost.items()}

    def add_cost(self, cost: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what another provider did in this one's place; what it only read this one will read itself."""
        for name, theirs in cost.items():
            mine = self._cost.setdefault(name, _nothing())
            mine["engine"] = theirs["engine"]
            for key in ("computed", "seconds", "replica_steps"):
                mine[key] += theirs[key]

    def open(self) -> None:
        """Open the engine now, where any input needs one.

        Raises:
            EngineError: There is none.
        """
        if self.simulated and self._engine is None:
            self._engine = get_engine(self.engine_choice, self.device_choice, gpu=self._gpu)

    def _fetched(
        self,
        name: str,
        cache: InputCache,
        key: ParentKey,
        content: str,
        what: tuple[Configuration, Mixture, float, CageProtocol],
    ) -> Cached:
        recipe = recipe_of(name, what[3], self.seed)
        while True:
            if (found := cache.read(recipe, key, content)) is not None:
                self._count(name, found, new=False)
                return found
            with cache.claim(recipe, key) as granted:
                # Somebody may have finished between the two.
                if granted and cache.read(recipe, key, content) is None:
                    new = self._computed(name, what)
                    new = cache.write(recipe, key, content, new.arrays, new.sidecar)
                    self._count(name, new, new=True)
                    return new
            if not granted:
                self._pause()

    def _pause(self) -> None:
        if self.check is not None:
            self.check()
        time.sleep(_WAIT)

    def _computed(self, name: str, what: tuple[Configuration, Mixture, float, CageProtocol]) -> Cached:
        self.open()
        assert self._engine is not None
        if self._engine.device.startswith("gpu"):
            self._engine.adopt({"packed": what[3].replicas})
        return computed(name, self._engine, *what, self.seed, self.check)

    def _count(self, name: str, found: Cached, *, new: bool) -> None:
        cost = self._cost.setdefault(name, _nothing())
        facts = found.sidecar
        cost["engine"] = f"{facts['engine']} {facts['engine_version']} on {facts['device']}"
        cost["computed" if new else "read"] += 1
        cost["recorded_seconds"] += facts["seconds"]
        cost["recorded_replica_steps"] += facts["steps"]
        if new:
            cost["seconds"] += facts["seconds"]
            cost["replica_steps"] += facts["steps"]


def _nothing() -> dict[str, Any]:
    """The cost of nothing."""
    spent = {"computed": 0, "read": 0, "seconds": 0.0, "replica_steps": 0}
    return {"engine": "", **spent, "recorded_seconds": 0.0, "recorded_replica_steps": 0}


def _assembled(thermal: Configuration, mixture: Mixture, temperature: float, found: Mapping[str, Cached]) -> Structure:
    """The same numbers whether they were just computed or read: both are as they are kept."""
    arrays = {name: {key: value.astype(np.float64) for key, value in of.arrays.items()} for name, of in found.items()}
    at = {name: thermal.unwrapped + of["displacement"] for name, of in arrays.items()}
    rattling = None
    if "cage" in arrays:
        rattling = Rattling(arrays["cage"]["replica_means"], arrays["cage"]["replica_covariances"])
    return Structure(
        thermal=thermal,
        mixture=mixture,
        temperature=temperature,
        inherent=at.get("inherent"),
        cage=at.get("cage"),
        debye_waller=None if rattling is None else rattling.debye_waller,
        rattling=rattling,
    )
