"""What a run has come to: how far it is, and what its liquids did, with errors over parents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import InputError, Interrupted
from glassmd.ledger.run import ParentKey, RunDirectory

__all__ = ["Progress", "Tally", "dynamics_of", "spread", "summary_of"]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        segments: Committed and expected segments.
        replicas: Committed replicas.
        replica_steps: Steps of single systems committed since the pool started, equilibration included.
        seconds: Since the pool started.
        tasks: What each worker is doing.
    """

    segments: tuple[int, int]
    replicas: int
    replica_steps: int
    seconds: float
    tasks: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Replica-steps per second."""
        return self.replica_steps / self.seconds if self.seconds > 0 else 0.0


class Tally:
    """Counts what is committed as it is heard of.

    Args:
        run: Of what; steps are counted from now on.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._position, self._replicas, self._steps = run, 0, 0, 0
        self._count()
        self._steps = 0

    def _count(self) -> None:
        self._run.poll()
        fresh, self._position = self._run.since(self._position)
        self._steps += sum(line.steps for line in fresh)
        self._replicas += sum(line.replicas for line in fresh)

    def progress(self, seconds: float, tasks: tuple[str, ...] = ()) -> Progress:
        """How far the run is now, after so many seconds; steps of equilibrations and structures are in it."""
        self._count()
        segments = self._run.index.count("segments"), self._run.n_expected_segments
        return Progress(segments, self._replicas, self._steps, seconds, tasks)


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
