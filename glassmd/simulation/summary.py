"""What a run has come to: how far it is, and what its liquids did, with errors over parents."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import InputError, Interrupted, SegmentError
from glassmd.ledger.run import ParentKey, RunDirectory, StructureKey
from glassmd.settings import RunSettings
from glassmd.show import bar, remaining
from glassmd.simulation.activity import WorkerStatus, workers_of
from glassmd.simulation.equilibrium_run import whole_run
from glassmd.simulation.protocol import LineageProgress, standing
from glassmd.simulation.structures import Request, requests_of

__all__ = ["Lineages", "Progress", "Tally", "dynamics_of", "spread", "summary_of"]

MOST = 1000
"""Equilibrations of a run that is opened that are looked at, evenly spread."""


@dataclass(frozen=True)
class Lineages:
    """How far the lineages of a run are on their way to equilibrium.

    Attributes:
        expected: How many there will be.
        equilibrated: Shown to be in equilibrium.
        refused: Shown not to be.
        unchecked: Given, and nobody has looked.
        tau_alpha: Shortest and longest τ_α of those that are there, √(mσ²/ε); None where none is known.
        going: Those that some worker equilibrates now, by number.
    """

    expected: int
    equilibrated: int = 0
    refused: int = 0
    unchecked: int = 0
    tau_alpha: tuple[float, float] | None = None
    going: dict[int, LineageProgress] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        segments: Committed and expected segments.
        replicas: Committed replicas.
        replica_steps: Steps of single systems committed since whoever counts began to, equilibration included.
        seconds: Since whoever counts began to.
        path: Of the run.
        liquid: Mixture, dimensions, temperature, particles.
        entries: Committed and expected ones by kind; None where nobody knows how many there will be.
        lineages: On their way to equilibrium; None where that is not known (imported data).
        workers: Who is at work.
        lost: Names of workers that ended without a word.
        seconds_left: Until everything is there; None while that cannot be told.
        complete: Whether everything is there.
        problems: What could not be read, in a line each.
    """

    segments: tuple[int, int]
    replicas: int
    replica_steps: int
    seconds: float
    path: str = ""
    liquid: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    lineages: Lineages | None = None
    workers: tuple[WorkerStatus, ...] = ()
    lost: tuple[str, ...] = ()
    seconds_left: float | None = None
    complete: bool = False
    problems: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Replica-steps per second that were committed."""
        return self.replica_steps / self.seconds if self.seconds > 0 else 0.0

    @property
    def speed(self) -> float | None:
        """Replica-steps per second of all workers over the last minute; None where none says."""
        known = [worker.rate for worker in self.workers if worker.rate is not None]
        return sum(known) if known else None

    def __str__(self) -> str:
        """A line with a bar."""
        done, expected = self.segments
        facts = [f"{done}/{expected} segments"]
        lineages = self.lineages
        if lineages is not None and lineages.equilibrated + lineages.unchecked < lineages.expected:
            facts.append(f"{lineages.equilibrated}/{lineages.expected} lineages equilibrated")
        if (speed := self.speed) is not None:
            facts.append(f"{speed:,.0f} replica-steps/s")
        if not self.complete:
            facts.append(remaining(self.seconds_left))
        return f"simulation {bar(done, expected)} {', '.join(facts)}"


class Tally:
    """Counts what is committed as it is heard of, and asks the workers what they do.

    Args:
        run: Of what; steps are counted from now on.
        strict: Whether a damaged sidecar is an error; else it is one of the problems.
    """

    def __init__(self, run: RunDirectory, *, strict: bool = True) -> None:
        self._run, self._strict, self._position, self._replicas, self._steps = run, strict, 0, 0, 0
        self._structures: Counter[str] = Counter()
        self._structure_steps: Counter[str] = Counter()
        self._equilibrations: dict[int, dict[str, Any]] = {}
        self._count()
        self._steps = 0

    def _count(self) -> None:
        if self._strict:
            self._run.poll()
        else:
            self._run.index.poll()
        fresh, self._position = self._run.since(self._position)
        self._steps += sum(line.steps for line in fresh)
        self._replicas += sum(line.replicas for line in fresh)
        for line in fresh:
            if isinstance(line.key, StructureKey):
                self._structures[line.key.structure] += 1
                self._structure_steps[line.key.structure] += line.steps
        if self._run.settings is not None:
            firsts = [line.key for line in fresh if isinstance(line.key, ParentKey) and line.key.parent == 0]
            for key in spread(firsts, MOST):
                self._equilibrations[key.lineage] = self._report_of(key)

    def _report_of(self, key: ParentKey) -> dict[str, Any]:
        """Of an equilibration; empty where there is none, or none that can be read: who needs it will say so."""
        try:
            entry = self._run.entry("parents", key.name)
            found = {} if entry is None else entry.sidecar.get("equilibration", {})
        except SegmentError:
            return {}
        return found if isinstance(found, dict) else {}

    def _complete(self) -> bool:
        try:
            return self._run.index.count("segments") > 0 and self._run.complete
        except SegmentError:
            if self._strict:
                raise
            return self._run.index.count("segments") >= self._run.n_expected_segments

    def progress(self, seconds: float) -> Progress:
        """How far the run is now, after so many seconds; steps of equilibrations and structures are in it."""
        self._count()
        run, problems = self._run, [str(error) for error in self._run.index.damaged.values()]
        segments = run.index.count("segments"), run.n_expected_segments
        all_workers, unreadable = workers_of(run)
        workers = tuple(worker for worker in all_workers if worker.at_work)
        settings, mixture = run.settings, run.identity["mixture"]
        lineages = None if settings is None else self._lineages(settings, workers)
        wanted = self._wanted(settings)
        found = Progress(
            segments,
            self._replicas,
            self._steps,
            seconds,
            path=str(run.path),
            liquid={
                "mixture": mixture["name"],
                "dimensions": mixture["dimensions"],
                "temperature": run.identity["temperature"],
                "n_particles": run.identity["n_particles"],
            },
            entries=self._entries(settings, wanted),
            lineages=lineages,
            workers=workers,
            lost=tuple(worker.name for worker in all_workers if not worker.at_work),
            complete=self._complete(),
            problems=(*problems, *unreadable),
        )
        if settings is None or lineages is None:
            return found
        return replace(found, seconds_left=self._seconds_left(found, settings, lineages, wanted))

    def _wanted(self, settings: RunSettings | None) -> dict[str, Request]:
        """Structures that are asked for of every parent by name, as far as that is settled."""
        if settings is None:
            return {}
        try:
            requests = requests_of(self._run)
        except InputError:
            if self._strict:
                raise
            return {}
        told = (self._run.home / "requests" / "protocol.json").exists()  # else to ask would write it
        settled = [(request.settled(self._run) if told else None) or request for request in requests]
        return {request.name: request for request in settled}

    def _entries(
        self, settings: RunSettings | None, wanted: Mapping[str, Request]
    ) -> dict[str, tuple[int, int | None]]:
        index = self._run.index
        if settings is None:
            made = {name: (count, None) for name, count in self._structures.items()}
            return {"parents": (index.count("parents"), None), **made, "replicas": (self._replicas, None)}
        parents = settings.lineages * settings.parents
        structures: dict[str, tuple[int, int | None]] = {}
        for name, request in wanted.items():
            done, expected = structures.get(request.structure, (0, 0))
            structures[request.structure] = done + self._structures[name], (expected or 0) + parents
        return {
            "parents": (index.count("parents"), parents),
            **structures,
            "segments": (index.count("segments"), self._run.n_expected_segments),
            "replicas": (self._replicas, _expected_replicas(settings)),
        }

    def _lineages(self, settings: RunSettings, workers: Sequence[WorkerStatus]) -> Lineages:
        reports = list(self._equilibrations.values())
        standings = [standing(report) for report in reports]
        known = [float(tau) for report in reports if (tau := report.get("tau_alpha")) is not None]
        return Lineages(
            expected=settings.lineages,
            equilibrated=standings.count(True),
            refused=standings.count(False),
            unchecked=standings.count(None),
            tau_alpha=(min(known), max(known)) if known else None,
            going={
                number: progress
                for worker in workers
                for number, progress in worker.lineages.items()
                if self._run.index.get(ParentKey(number, 0)) is None  # else its worker has not said so yet
            },
        )

    def _seconds_left(
        self, found: Progress, settings: RunSettings, lineages: Lineages, wanted: Mapping[str, Request]
    ) -> float | None:
        """What is left at the speed of now; None while somebody's τ_α or the speed is unknown."""
        if found.complete or not found.speed:
            return 0.0 if found.complete else None
        spent = sum(self._run.index.steps.values())
        budget = math.inf if settings.budget is None else max(0.0, settings.budget - spent)
        left = min(budget, self._steps_left(found, settings, lineages, wanted))
        return left / found.speed if math.isfinite(left) else None

    def _steps_left(
        self, found: Progress, settings: RunSettings, lineages: Lineages, wanted: Mapping[str, Request]
    ) -> float:
        """Until everything is there that was asked for; infinite while somebody's τ_α is unknown."""
        steps = _steps_to_equilibrate(settings, lineages)
        parents = settings.lineages * settings.parents
        later = parents - max(found.entries["parents"][0], settings.lineages)
        steps += max(0, later) * max(0.0, settings.parent_spacing - settings.times[-1]) / settings.time_step
        steps += max(0, _expected_replicas(settings) - found.replicas) * settings.steps()[-1]
        for name, request in wanted.items():
            done = self._structures[name]
            usual = self._structure_steps[name] / done if done else 0.0
            steps += (parents - done) * (usual if request.protocol is None else request.protocol.replica_steps)
        return steps


def _expected_replicas(settings: RunSettings) -> int:
    return settings.parents * sum(settings.n_replicas(lineage) for lineage in range(settings.lineages))


def _steps_to_equilibrate(settings: RunSettings, lineages: Lineages) -> float:
    """Steps until the lineages that are left have run as many of their τ_α as they have to; infinite if unknown."""
    left = lineages.expected - lineages.equilibrated - lineages.refused - lineages.unchecked
    taus = [one.tau_alpha for one in lineages.going.values() if one.tau_alpha is not None]
    if left <= 0 or settings.start:
        return 0.0
    if not taus and lineages.tau_alpha is None:
        return math.inf
    usual = sum(taus) / len(taus) if lineages.tau_alpha is None else sum(lineages.tau_alpha) / 2
    time = max(0, left - len(lineages.going)) * (settings.melt_time + whole_run(settings.tau_alphas * usual))
    for one in lineages.going.values():
        run = whole_run(one.required * (usual if one.tau_alpha is None else one.tau_alpha))
        time += run + settings.melt_time - one.time if one.melting else max(0.0, run - one.time)
    return min(time, left * settings.max_equilibration_time) / settings.time_step


def dynamics_of(run: RunDirectory, most: int | None = None) -> dict[str, Any]:
    """Averages over parents of what each segment's sidecar says, with standard errors (JSON types only).

    Args:
        run: Of what.
        most: Parents to look at, evenly spread over all of them; None: all.

    Parents of one lineage follow each other in time, so that their errors may be too small; with one parent per
    lineage they are what they say.

    Returns:
        `n_parents`, `times`, and per species `mean_displacement` (⟨|Δr|⟩, σ_AA) and `scattering` (F_s at the
        species' wave number), each with `mean` and `error` by time; `energy_per_particle`, `pressure` and
        `kinetic_temperature` over all times likewise. Errors are NaN for a single parent. Nothing where no
        segment says so (imported data).
    """
    of_parent: dict[Any, list[dict[str, Any]]] = {}
    entries = run.entries("segments")
    chosen = set(spread(sorted({entry.key.of for entry in entries}), most))
    for entry in entries:
        if entry.key.of in chosen and "dynamics" in (sidecar := entry.sidecar):
            of_parent.setdefault(entry.key.of, []).append({key: sidecar[key] for key in _READ})
    if not of_parent:
        return {}
    species = [str(name) for name in run.identity["mixture"]["species"]]
    moved, scattering = (
        np.array([_over_replicas(entries, key) for entries in of_parent.values()])  # (n_parents, n_species, n_times)
        for key in ("mean_displacement", "scattering")
    )
    thermo = {
        name: _with_error(np.array([_thermo(entries, key) for entries in of_parent.values()]))
        for name, key in (
            ("energy_per_particle", "potential_energy"),
            ("pressure", "pressure"),
            ("kinetic_temperature", "kinetic_temperature"),
        )
    }
    return {
        "n_parents": len(of_parent),
        "times": run.times,
        "species": {
            name: {
                "mean_displacement": _with_error(moved[:, kind]),
                "scattering": _with_error(scattering[:, kind]),
            }
            for kind, name in enumerate(species)
        },
        **thermo,
    }


_READ = ("replicas", "dynamics", "potential_energy", "pressure", "kinetic_temperature")
"""What is needed of a segment's sidecar."""


def spread(parents: Sequence[ParentKey], most: int | None) -> Sequence[ParentKey]:
    """At most so many of them, evenly spread."""
    if most is None or len(parents) <= most:
        return parents
    return [parents[index] for index in np.linspace(0, len(parents) - 1, most).round().astype(int)]


def _over_replicas(entries: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    """(n_species, n_times) mean over all replicas of a parent."""
    weights = [len(entry["replicas"]) for entry in entries]
    return np.average([entry["dynamics"][key] for entry in entries], axis=0, weights=weights)


def _thermo(entries: list[dict[str, Any]], key: str) -> float:
    return float(np.concatenate([np.ravel(entry[key]) for entry in entries]).mean())


def _with_error(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean over the first axis and its standard error."""
    n = len(values)
    error = values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(values[0], np.nan)
    return {"mean": values.mean(axis=0).tolist(), "error": np.asarray(error).tolist()}


def summary_of(run: RunDirectory, progress: Progress) -> dict[str, Any]:
    """What `glassmd simulate --json` prints.

    Raises:
        Interrupted: Not everything is committed.
        InputError: There is nothing.
    """
    if not run.complete:
        raise Interrupted(
            f"stopped at {progress.segments[0]} of {progress.segments[1]} segments",
            "",
            "run again to continue",
        )
    entries = run.entries("segments")
    if not entries:
        raise InputError(f"found no segments in {run.path}", "at least one")
    facts = entries[-1].sidecar
    return {
        "run": str(run.path),
        "engine": facts["engine"],
        "engine_version": facts["engine_version"],
        "device": facts["device"],
        "segments": len(entries),
        "replicas": progress.replicas,
        "parents": len({entry.key.of for entry in entries}),
        "lineages": len({entry.key.lineage for entry in entries}),
        "steps": progress.replica_steps,
        "seconds": progress.seconds,
        "replica_steps_per_second": progress.rate,
        "dynamics": dynamics_of(run),
    }
