"""The structures of samples that a learner sees: asked of the runs, read where they are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from glassmd.errors import InputError
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.mixtures import mixture_of
from glassmd.settings import RunSettings, Settings
from glassmd.simulation.pool import make_wanted
from glassmd.simulation.structures import CAGE, CageProtocol, Request, ask, cage_step, inside_cages, requests_for
from glassmd.simulation.structures.making import read_structure
from glassmd.simulation.structures.published import check_cages_alike, check_published
from glassmd.simulation.tasks import Wanted
from glassmd.stream.samples import Sample, SampleKey
from glassmd.structure import Structure

__all__ = ["Structures", "add_cost", "cage_asked", "merge_cost"]


class Structures:
    """Structures of the samples of some runs; opens no engine.

    Args:
        runs: The runs.
        inputs: Some of :data:`glassmd.structure.INPUTS`.
        cage: How cages are wanted.

    Raises:
        InputError: An input that does not exist.
        RunError: Cages that came with some of the data and not with others.
    """

    def __init__(self, runs: Sequence[RunDirectory], inputs: Sequence[str], cage: Request = CAGE) -> None:
        self.inputs, self.cage, self.requests = tuple(inputs), cage, requests_for(inputs, cage)
        self._runs = {str(run.identity["id"]): run for run in runs}
        self._cost: dict[str, dict[str, Any]] = {}
        self._counted: set[SampleKey] = set()
        for request in self.requests:
            check_cages_alike(runs, request)

    def ask(self) -> None:
        """Have whoever simulates the runs make them with the replicas."""
        for run in self._runs.values():
            ask(run, [_of_run(request, run) for request in self.requests])

    def make(
        self,
        keys: Iterable[SampleKey],
        settings: RunSettings,
        *,
        check: Callable[[], None] | None = None,
        show: Callable[[int, int], None] | None = None,
    ) -> None:
        """Have what is missing for some samples made by workers; see :func:`make_wanted`.

        Raises:
            EngineError: There is no engine, or it failed.
            InputError: A sample of another run.
            RunError: What came with some of the data is missing for others.
        """
        parents: dict[str, set[ParentKey]] = {}
        for key in keys:
            self._run_of(key)
            parents.setdefault(key.run, set()).add(ParentKey(key.lineage, key.parent))
        for name, of_run in parents.items():
            wanted = Wanted(self._settled(self._runs[name]), frozenset(of_run))
            check_published(self._runs[name], wanted.requests, sorted(of_run))
            make_wanted(self._runs[name], wanted, settings, check=check, show=show)

    def of(self, sample: Sample) -> Structure:
        """The structure of a sample.

        Raises:
            InputError: The sample is of another run.
            RunError: One of its structures is missing or damaged.
        """
        run = self._run_of(sample.key)
        parent = ParentKey(sample.key.lineage, sample.key.parent)
        temperature = self.temperature(sample)
        if not self.requests:
            return Structure(sample.parent, mixture_of(run.identity["mixture"]), temperature)
        keys = [request.key(parent) for request in self._settled(run)]
        self.count(sample.key)
        return read_structure(run, sample.parent, keys, temperature)

    def temperature(self, sample: Sample) -> float:
        """Of a sample, ε_AA: its own, or its run's where it does not say."""
        known = np.isfinite(sample.temperature)
        return sample.temperature if known else float(self._run_of(sample.key).identity["temperature"])

    def count(self, key: SampleKey) -> None:
        """Somebody has the structures of a sample: they are part of :attr:`cost`."""
        if key in self._counted:
            return
        self._counted.add(key)
        run = self._run_of(key)
        for request in self._settled(run):
            entry = run.entry("structures", request.key(ParentKey(key.lineage, key.parent)).name)
            if entry is not None and "published" not in entry.sidecar:
                add_cost(self._cost, str(entry.sidecar["input"]), entry.sidecar)

    @property
    def cost(self) -> dict[str, dict[str, Any]]:
        """By input: what making what was read so far took (JSON types only).

        `configurations`, `seconds`, `replica_steps` (for `inherent` evaluations of all forces), `engine` and `ranks` of
        the last one, with `one_rank_because` where it was a big one and had one only, and `share_of_label`: its steps
        over those of the same runs' replicas per parent, None where the data do not say.
        """
        label = self._label_steps()
        return {
            name: {
                **numbers,
                "share_of_label": numbers["replica_steps"] / numbers["configurations"] / label if label else None,
            }
            for name, numbers in self._cost.items()
        }

    def _label_steps(self) -> float:
        """Steps of the replicas of a parent, mean over the runs' parents."""
        steps, parents = 0, set()
        for name, run in self._runs.items():
            for line in run.index.log:
                if line.key.kind == "segments":
                    steps += line.steps
                    parents.add((name, line.key.of))
        return steps / len(parents) if parents else 0.0

    def inside_cage(self, times: Sequence[float], units: Mapping[str, float] | None = None) -> list[bool]:
        """Per time: whether cages last so long that they measure part of what is predicted there.

        Args:
            times: Of samples.
            units: Of the times, by temperature, √(mσ²/ε); 1 where they do not say.
        """
        return inside_cages(self.cage_protocols(), times, units)

    def cage_protocols(self) -> dict[str, dict[str, Any]]:
        """By temperature: how cages were measured (JSON types only); empty where the learner sees none.

        `{"published": true}` for those that came with the data.
        """
        found = {}
        for run in self._runs.values():
            for request in self.requests:
                settled = request.settled(run)
                if settled is not None and settled.protocol is not None:
                    found[f"{float(run.identity['temperature']):g}"] = settled.protocol.to_dict()
                elif settled is not None and settled.published:
                    found[f"{float(run.identity['temperature']):g}"] = {"published": True}
        return found

    def _settled(self, run: RunDirectory) -> tuple[Request, ...]:
        settled = [request.settled(run) for request in self.requests]
        return tuple(request for request in settled if request is not None)

    def _run_of(self, key: SampleKey) -> RunDirectory:
        if key.run not in self._runs:
            raise InputError(f"found a sample of run {key.run}", f"one of {', '.join(self._runs)}")
        return self._runs[key.run]


def _of_run(request: Request, run: RunDirectory) -> Request:
    """What others are told who do not know which times of a run are learned."""
    if request.structure != "cage" or request.protocol is not None or request.published or run.shortest is None:
        return request
    return replace(request, shortest=run.shortest)


def add_cost(cost: dict[str, dict[str, Any]], name: str, facts: Mapping[str, Any]) -> None:
    """Add what a structure took to the cost of an input."""
    mine = cost.setdefault(name, {"engine": "", "ranks": 1, "configurations": 0, "seconds": 0.0, "replica_steps": 0})
    mine.pop("one_rank_because", None)
    mine |= {"ranks": 1} | {key: facts[key] for key in ("ranks", "one_rank_because") if key in facts}
    mine["engine"] = f"{facts['engine']} {facts['engine_version']} on {facts['device']}"
    mine["configurations"] += 1
    mine["seconds"] += facts["seconds"]
    mine["replica_steps"] += facts["steps"]


def merge_cost(total: dict[str, dict[str, Any]], cost: Mapping[str, Mapping[str, Any]]) -> None:
    """Add :attr:`Structures.cost` of one run to those of others; `engine` and `share_of_label` are the last one's."""
    for name, numbers in cost.items():
        before = total.get(name, {})
        summed = {key: before.get(key, 0) + numbers[key] for key in ("configurations", "seconds", "replica_steps")}
        total[name] = {**numbers, **summed}


def cage_asked(settings: Settings, *, rattling: bool = False) -> Request:
    """How the settings want cages: what they leave open is for the runs to say.

    Args:
        settings: `cage_time` and `cage_replicas`.
        rattling: Whether the learner wants to know how particles shake in them.
    """
    train = settings.train
    usual = CageProtocol()
    if train.cage_time is None:
        usually = train.cage_replicas == usual.replicas
        return Request("cage", replicas=None if usually else train.cage_replicas, rattling=rattling)
    step = cage_step(settings.run.time_step)
    spacing = max(1, round(train.cage_time / (usual.time / usual.spacing) / step)) * step
    after = train.cage_time * usual.after / usual.time
    return Request("cage", CageProtocol(train.cage_replicas, train.cage_time, after, spacing, step))
