"""What the assessment is made on: liquids with their descriptors by kind, their bonds and every replica's |Δr|."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.features import RECIPES, describe, displacement_features
from glassmd.features.bonds import bond_features
from glassmd.features.rattling import rattling_features
from glassmd.fields import GSD_REPLICA, GSD_TIME
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.stream.dataset import open_run
from glassmd.stream.structures import Structures
from glassmd.structure import INPUTS, Structure

__all__ = ["FOLDS", "INPUT_SETS", "RECIPE", "Liquid", "distances", "folds_of", "load"]

FloatArray = NDArray[np.float64]

FOLDS = 5
CUTOFF = 1.5  # σ_AA: bonds, as in glassnet
RECIPE = RECIPES["recursive"]

INPUT_SETS: dict[str, tuple[str, ...]] = {
    "thermal": ("thermal",),
    "inherent": ("inherent",),
    "cage": ("cage",),
    "thermal + inherent": ("inherent", "moved thermal inherent"),
    "thermal + cage": ("cage", "moved thermal cage"),
    "inherent + cage": ("inherent", "cage", "moved inherent cage"),
    "all": ("inherent", "cage", "moved all"),
    "all + rattling": ("inherent", "cage", "moved all", "rattling"),
    "all + rattling + thermal descriptors": ("thermal", "inherent", "cage", "moved all", "rattling"),
    "cage + rattling": ("cage", "moved cage", "rattling"),
    "no descriptors: displacements + rattling": ("moved all", "rattling"),
}
"""Groups of columns by what the learner is given; displacements between inputs come with every pair of them."""
_MOVED = {"all": INPUTS, **{" ".join(pair): pair for pair in (INPUTS[:2], INPUTS[::2], INPUTS[1:])}, "cage": ("cage",)}


@dataclass
class Liquid:
    """One parent.

    Attributes:
        species: (n,) int.
        groups: Columns by kind, (n, any) float32.
        bonds: (2, n_edges) and (n_edges, n_columns), as glassnet sees them.
        distances: (n_times, n_replicas, n) |Δr|, σ_AA.
        times: (n_times,).
        seconds: What each group of columns took to compute.
        structure: What they were computed from.
        lineage: Parents of one lineage are parts of one trajectory.
        role: train, validation or test, of the lineage.
    """

    species: NDArray[np.int64]
    groups: dict[str, NDArray[np.float32]]
    bonds: tuple[NDArray[np.int64], NDArray[np.float32]]
    distances: NDArray[np.float32]
    times: FloatArray
    seconds: dict[str, float]
    structure: Structure
    lineage: int = 0
    role: str | None = None

    def columns(self, which: str) -> NDArray[np.float32]:
        """Of an entry of :data:`INPUT_SETS`."""
        return np.hstack([self.groups[name] for name in INPUT_SETS[which]])

    def label(self, replicas: Sequence[int] | NDArray[np.int64], time: int = 0) -> FloatArray:
        """(n,) mean |Δr| over some replicas, σ_AA."""
        return np.asarray(self.distances[time][replicas].mean(axis=0, dtype=np.float64))

    def truth(self, time: int = 0) -> FloatArray:
        """(n,) mean over all replicas."""
        return self.label(np.arange(self.distances.shape[1]), time)

    def reliability(self, time: int = 0) -> float:
        """Share of the variance between A particles of the label that is not noise."""
        here = self.distances[time][:, self.species == 0].astype(np.float64)
        return float(1 - here.var(axis=0, ddof=1).mean() / len(here) / here.mean(axis=0).var(ddof=1))


def folds_of(liquids: Sequence[Liquid]) -> list[tuple[list[int], list[int]]]:
    """Test and training configurations of each fold, lineages whole; the training order starts elsewhere in each."""
    lineages, n = sorted({one.lineage for one in liquids}), len(liquids)
    folds = []
    for k in range(FOLDS):
        test = [j for j, one in enumerate(liquids) if one.lineage in lineages[k::FOLDS]]
        order = [(test[0] + 1 + j) % n for j in range(n)]
        folds.append((test, [j for j in order if j not in test]))
    return folds


def load(path: Path) -> tuple[RunDirectory, list[Liquid]]:
    """All parents of a run that have labels, with the inputs that are kept beside it."""
    run = open_run(path)
    directory = RunDirectory.open(path)
    structures = Structures([run], INPUTS)
    samples = run.samples()
    structures.make([sample.key for sample in samples], RunSettings())
    liquids = []
    for sample in samples:
        key = (sample.key.lineage, sample.key.parent)
        liquid = _described(structures.of(sample))
        liquid.distances, liquid.times = distances(directory, key)
        liquid.lineage, liquid.role = sample.key.lineage, sample.role
        liquids.append(liquid)
        print(f"{path.name}: described {sample.key}", flush=True)
    return directory, liquids


def _described(structure: Structure) -> Liquid:
    box, species, mixture = structure.thermal.box, structure.thermal.species, structure.mixture
    groups, seconds = {}, {}
    for name in INPUTS:
        start = perf_counter()
        groups[name] = describe(structure.positions(name), box, species, mixture, RECIPE)
        seconds[name] = perf_counter() - start
    start = perf_counter()
    for name, inputs in _MOVED.items():
        groups[f"moved {name}"] = displacement_features(structure, inputs=inputs, count=RECIPE.generations)
    seconds["displacements"] = (perf_counter() - start) / len(_MOVED)
    start = perf_counter()
    groups["rattling"] = rattling_features(structure, count=RECIPE.generations)
    seconds["rattling"] = perf_counter() - start
    start = perf_counter()
    bonds = bond_features(structure, INPUTS, CUTOFF)
    seconds["bonds"] = perf_counter() - start
    nothing = np.zeros((0, 0, 0), np.float32)
    return Liquid(species.astype(np.int64), groups, bonds, nothing, np.zeros(0), seconds, structure)


def distances(run: RunDirectory, key: tuple[int, int]) -> tuple[NDArray[np.float32], FloatArray]:
    """|Δr| of every replica in the parent's segments, without the drift of the centre of mass."""
    found: dict[float, dict[int, NDArray[np.float32]]] = {}
    for entry in run.entries("segments"):
        if (entry.key.of.lineage, entry.key.of.parent) != key:  # type: ignore[union-attr]
            continue
        frames = entry.read()
        parent = frames[0].configuration
        masses = np.asarray(entry.sidecar["mixture"]["masses"], np.float64)[parent.species]
        for frame in frames[1:]:
            moved = remove_drift(frame.configuration.unwrapped - parent.unwrapped, masses)
            at = found.setdefault(round(float(frame.log[GSD_TIME][0]), 6), {})
            at[int(frame.log[GSD_REPLICA][0])] = np.linalg.norm(moved, axis=1).astype(np.float32)
    times = sorted(found)
    return np.stack([np.stack([found[t][r] for r in sorted(found[t])]) for t in times]), np.array(times)
