"""Run directories as something to measure on: parents are configurations, replicas are how they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.errors import RunError
from glassmd.fields import GSD_TIME
from glassmd.ledger.run import Entry
from glassmd.mixtures import is_unknown, mixture_of
from glassmd.observables.source import Facts, Moved, Snapshot, Stretch
from glassmd.stream.dataset import Run

__all__ = ["OfRuns"]

FloatArray = NDArray[np.float64]


class OfRuns:
    """Parents and replicas of runs of one liquid; see :class:`glassmd.observables.source.Source`.

    Groups are lineages, or parents where there are fewer than three lineages.

    Args:
        runs: At least one.

    Raises:
        RunError: They hold nothing, or are not of one liquid.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        identity = runs[0].identity
        for other in runs[1:]:
            for key in ("mixture", "temperature", "n_particles", "density", "times"):
                if other.identity.get(key) != identity.get(key):
                    raise RunError(
                        f"{other.path} has another {key} than {runs[0].path}",
                        "runs of one liquid",
                        "analyze them apart",
                    )
        self._parents = [entry for run in runs for entry in run.entries("parents")]
        self._segments = [entry for run in runs for entry in run.entries("segments")]
        if not self._parents:
            raise RunError(f"found no parents in {', '.join(str(run.path) for run in runs)}", "some", "simulate first")
        few = len({self._lineage(entry) for entry in self._parents}) < 3
        self._by = (lambda entry: (entry.root, entry.key.of)) if few else self._lineage
        self._groups = {key: k for k, key in enumerate(dict.fromkeys(map(self._by, self._parents)))}
        first = self._parents[0].read([0])[0].configuration
        with_positions = [entry for entry in self._segments if entry.sidecar.get("holds") != "propensity"]
        notes = []
        if self._segments and not with_positions:
            notes.append("the run keeps propensities instead of positions: no dynamics")
        self._segments = with_positions
        self._mixture = mixture_of(identity["mixture"])
        self.facts = Facts(
            names=first.species_names,
            species=first.species,
            masses=np.asarray(self._mixture.masses, np.float64),
            box=first.box,
            mixture=None if is_unknown(identity["mixture"]) else self._mixture,
            temperature=float(identity["temperature"]),
            time_unit="reduced",
            n_frames=len(self._parents)
            + sum(
                int(e.sidecar.get("n_replicas", len(e.sidecar["replicas"]))) * len(runs[0].times)
                for e in with_positions
            ),
            n_groups=len(self._groups),
            lags=np.asarray(runs[0].times, np.float64) if with_positions else np.zeros(0),
            notes=tuple(notes),
        )

    @staticmethod
    def _lineage(entry: Entry) -> Any:
        return entry.root, entry.key.lineage

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        """See :class:`glassmd.observables.source.Source`."""
        count = len(self._parents)
        for k in np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)):
            entry = self._parents[k]
            yield Snapshot(self._groups[self._by(entry)], 0.0, entry.read([0])[0].configuration)

    def moves(self, show: Callable[[int, int], None]) -> Iterator[Moved]:
        """See :class:`glassmd.observables.source.Source`."""
        for number, entry in enumerate(self._segments):
            for parent, lag, displacement in self._displacements(entry):
                yield Moved(self._groups[self._by(entry)], lag, displacement, parent.species)
            show(number + 1, len(self._segments))

    def _displacements(self, entry: Entry) -> Iterator[tuple[Configuration, int, FloatArray]]:
        frames = entry.read()
        parent = frames[0].configuration
        masses = np.asarray(self._mixture.masses, np.float64)[parent.species]
        for frame in frames[1:]:
            lag = int(np.argmin(np.abs(self.facts.lags - float(frame.log[GSD_TIME][0]))))
            yield parent, lag, remove_drift(frame.configuration.unwrapped - parent.unwrapped, masses)

    def stretches(self) -> list[Stretch]:
        """Nothing: replicas have few output times."""
        return []

    def mobility(self, lag: int, most: int) -> Iterator[tuple[Configuration, FloatArray]]:
        """See :class:`glassmd.observables.source.Source`; one replica of each of some segments."""
        count = len(self._segments)
        for k in np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)):
            for parent, found, displacement in self._displacements(self._segments[k]):
                if found == lag:
                    yield parent, displacement
                    break
