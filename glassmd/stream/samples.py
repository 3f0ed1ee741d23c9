"""From replicas to labels: isoconfigurational averages and their known noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.errors import SegmentError
from glassmd.fields import GSD_REPLICA, GSD_TIME, label_chunk
from glassmd.ledger.run import Entry, ParentKey
from glassmd.metrics import SpeciesScores, score, within_std
from glassmd.moments import Moments
from glassmd.stream.reduction import Reduction
from glassmd.target import PROPENSITY, TARGETS, Target
from glassmd.trajectory import Frame

__all__ = [
    "Blocks",
    "Sample",
    "SampleKey",
    "at_times",
    "moments_of_segment",
    "replica_counts",
    "score_samples",
    "targets_of",
    "union_of_times",
    "within_std_of",
]

FloatArray = NDArray[np.float64]
Blocks = tuple[int, ...]


@dataclass(frozen=True, order=True, slots=True)
class SampleKey:
    """Where a sample comes from: run, lineage, parent. Splits are by (run, lineage)."""

    run: str
    lineage: int
    parent: int

    def __str__(self) -> str:
        return f"{self.run}:{ParentKey(self.lineage, self.parent).name}"


@dataclass(frozen=True, eq=False)
class Sample:
    """One parent with its labels so far.

    Attributes:
        key: Where it comes from.
        parent: The parent configuration.
        times: (n_times,) float64, in the unit of its run (:attr:`glassmd.stream.dataset.Run.time_unit`).
        propensity: (n_times, n_particles) float64, mean over replicas of what `target` says: ⟨|Δr|⟩, σ_AA, unless the
            run was asked for another (:meth:`glassmd.stream.dataset.Run.use_target`).
        variance: (n_times, n_particles) float64, unbiased variance of the same between replicas, σ_AA²; NaN where
            unknown (one replica, or published labels without replicas).
        n_replicas: Replicas behind the label; 1 where nobody knows.
        blocks: Numbers of the segments behind the label, in increasing order.
        role: `train`, `validation`, `test` or None where the data do not say.
        temperature: ε_AA.
        target: Of the labels.
        replicas_known: Whether `n_replicas` is known; published labels may come without it.
    """

    key: SampleKey
    parent: Configuration
    times: FloatArray
    propensity: FloatArray
    variance: FloatArray
    n_replicas: int
    role: str | None = None
    temperature: float = float("nan")
    blocks: Blocks = ()
    target: Target = PROPENSITY
    replicas_known: bool = True


def replica_counts(samples: Iterable[Sample]) -> list[int | None]:
    """Different numbers of replicas behind some labels, in increasing order; None last where one is unknown."""
    samples = list(samples)
    known = sorted({sample.n_replicas for sample in samples if sample.replicas_known})
    return [*known, *([] if all(sample.replicas_known for sample in samples) else [None])]


def union_of_times(several: Iterable[Sequence[float]]) -> list[float]:
    """All of some lists of times, in increasing order; those that agree in their first six digits are one.

    Example:
        >>> union_of_times([[1.0, 3.0], [3.0000001, 10.0]])
        [1.0, 3.0, 10.0]
    """
    known: dict[str, float] = {}
    for times in several:
        for time in times:
            known.setdefault(f"{time:g}", time)
    return sorted(known.values())


def at_times(sample: Sample, times: FloatArray) -> Sample:
    """A sample with labels at these times, in increasing order: NaN where it was not measured, others left out.

    Times that agree in their first six digits are one.
    """
    known = {f"{time:g}": index for index, time in enumerate(sample.times)}
    columns = [known.get(f"{time:g}") for time in times]
    if columns == list(range(len(sample.times))):
        return sample
    propensity, variance = (
        np.stack([np.full(of.shape[1], np.nan) if k is None else of[k] for k in columns])
        for of in (sample.propensity, sample.variance)
    )
    return replace(sample, times=np.asarray(times, np.float64), propensity=propensity, variance=variance)


def score_samples(predictions: Sequence[FloatArray], samples: Sequence[Sample], species: str) -> SpeciesScores:
    """:func:`glassmd.metrics.score` of (n_times, n_particles) predictions for one species of some samples."""
    return score(
        predictions,
        [sample.propensity for sample in samples],
        [sample.variance for sample in samples],
        [sample.n_replicas for sample in samples],
        [sample.parent.of_species(species) for sample in samples],
    )


def within_std_of(
    predictions: Sequence[FloatArray], spreads: Sequence[FloatArray], samples: Sequence[Sample], species: str
) -> FloatArray:
    """:func:`glassmd.metrics.within_std` of (n_times, n_particles) predictions for one species of some samples."""
    return within_std(
        predictions,
        spreads,
        [sample.propensity for sample in samples],
        [sample.variance for sample in samples],
        [sample.n_replicas for sample in samples],
        [sample.parent.of_species(species) for sample in samples],
    )


def targets_of(sidecar: Mapping[str, Any]) -> tuple[Target, ...]:
    """The targets that a segment has labels of: all of them where it holds positions.

    Args:
        sidecar: Of the segment.

    Example:
        >>> targets_of({"holds": "propensity"})
        ('propensity',)
    """
    if sidecar.get("holds") != "propensity":
        return TARGETS
    return tuple(target for target in TARGETS if target in sidecar.get("targets", (PROPENSITY,)))


def _values(
    frames: Sequence[Frame], reduction: Reduction, masses: FloatArray
) -> tuple[list[float], dict[int, FloatArray]]:
    """What a target is made of, of every replica: times, and (n_times, n_particles) by replica number."""
    parent = frames[0].configuration.unwrapped
    by_replica: dict[int, list[tuple[float, FloatArray]]] = {}
    for frame in frames[1:]:
        replica, time = int(frame.log[GSD_REPLICA][0]), float(frame.log[GSD_TIME][0])
        displacement = remove_drift(frame.configuration.unwrapped - parent, masses)
        by_replica.setdefault(replica, []).append((time, reduction(displacement)))
    times: list[float] = []
    for replica, found in by_replica.items():
        found.sort(key=lambda pair: pair[0])
        if times and [t for t, _ in found] != times:
            raise SegmentError(f"replica {replica} has times {[t for t, _ in found]}", f"{times} as the others")
        times = [t for t, _ in found]
    return times, {replica: np.stack([r for _, r in found]) for replica, found in by_replica.items()}


def moments_of_segment(entry: Entry, target: Target = PROPENSITY) -> tuple[Configuration, Moments]:
    """Verify and read a segment.

    Args:
        entry: The segment.
        target: Of which the moments are asked for.

    Returns:
        The parent and the moments of the target over the segment's replicas. Published labels that come without their
        variance have a deviation of NaN.

    Raises:
        SegmentError: The file is damaged, does not hold what its sidecar says, or holds labels of other targets.
    """
    if target not in (there := targets_of(entry.sidecar)):
        raise SegmentError(
            f"{entry.path} holds labels of {', '.join(there) or 'nothing'} and no positions of replicas",
            f"labels of {target}, or positions",
            f"try --target {there[0]}" if there else "restore the file",
        )
    frames = entry.read()
    parent = frames[0].configuration
    if entry.sidecar.get("holds") == "propensity":
        return parent, _labels(frames[0], entry, target)
    mixture = entry.sidecar["mixture"]
    masses = np.asarray(mixture["masses"], np.float64)[parent.species]
    times, values = _values(frames, Reduction(target, parent, mixture["sigma"]), masses)
    if not np.allclose(times, entry.sidecar["times"]) or sorted(values) != sorted(entry.sidecar["replicas"]):
        raise SegmentError(
            f"{entry.path} holds replicas {sorted(values)} at times {times}",
            f"{entry.sidecar['replicas']} at {entry.sidecar['times']}",
            "restore the file",
        )
    stacked = np.stack([values[replica] for replica in sorted(values)])
    mean = stacked.mean(axis=0)
    return parent, Moments(len(stacked), mean, ((stacked - mean) ** 2).sum(axis=0), frozenset(values))


def _labels(frame: Frame, entry: Entry, target: Target) -> Moments:
    """Labels instead of replicas: published ones, or our own that were reduced where they were simulated."""
    sidecar = entry.sidecar
    times, replicas = sidecar["times"], frozenset(sidecar.get("replicas", ()))
    if lacking := [name for t in times if (name := label_chunk(target, t)) not in frame.log]:
        raise SegmentError(f"{entry.path} has no {lacking[0]}", "what its sidecar says", "restore the file")
    told = sidecar.get("n_replicas", len(replicas))
    count = 1 if told is None else int(told)  # without a variance their number does not matter
    mean = np.stack([frame.log[label_chunk(target, t)] for t in times]).astype(np.float64)
    deviation = np.full_like(mean, 0.0 if count == 1 else np.nan)
    for index, t in enumerate(times):
        name = label_chunk(target, t, "variance")
        if name in frame.log:
            deviation[index] = np.asarray(frame.log[name], np.float64) * (count - 1)
    return Moments(count, mean, deviation, replicas)
