"""How imported configurations enter a run directory: one lineage each, because nobody knows better."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError
from glassmd.fields import GSD_IDENTITY, GSD_PROPENSITY, GSD_PROPENSITY_VARIANCE, GSD_REPLICA, GSD_TIME
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import Mixture
from glassmd.trajectory import Frame, encode_identity

__all__ = ["Imported", "check_state", "commit_imported"]

FloatArray = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Imported:
    """One published configuration.

    Attributes:
        parent: The configuration.
        times: Output times, √(mσ²/ε).
        source: File name it came from.
        n_replicas: Replicas behind the labels.
        ends: (n_replicas, n_times, n_particles, d) unwrapped positions, or None if only labels were published.
        propensity: (n_times, n_particles) labels where `ends` is None, σ_AA.
        variance: (n_times, n_particles) variances between replicas where known, else NaN.
    """

    parent: Configuration
    times: list[float]
    source: str
    n_replicas: int
    ends: FloatArray | None = None
    propensity: FloatArray | None = None
    variance: FloatArray | None = None


def _frames(item: Imported, identity: dict[str, Any]) -> list[Frame]:
    log: dict[str, NDArray[Any]] = {GSD_IDENTITY: encode_identity(identity)}
    if item.ends is None:
        assert item.propensity is not None, "an importer gives replicas or labels"
        for index, time in enumerate(item.times):
            name = GSD_PROPENSITY.format(time=time)
            log[name] = item.propensity[index].astype(np.float32)
            if item.variance is not None and np.isfinite(item.variance[index]).all():
                log[GSD_PROPENSITY_VARIANCE.format(time=time)] = item.variance[index].astype(np.float32)
        return [Frame(item.parent, 0, log)]
    frames = [Frame(item.parent, 0, log)]
    for replica, ends in enumerate(item.ends):
        for time, positions in zip(item.times, ends, strict=True):
            label = {GSD_REPLICA: np.array([replica], np.int64), GSD_TIME: np.array([time], np.float64)}
            parent = item.parent
            frames.append(Frame(Configuration(parent.box, parent.species, positions, parent.species_names), 0, label))
    return frames


def check_state(source: str, temperature: float, times: Sequence[float]) -> None:
    """Refuse a temperature or output times that no experiment has.

    Raises:
        ImportDataError: Not finite, not positive, or times that are not increasing.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ImportDataError(f"{source} has temperature {temperature}", "a finite temperature above 0")
    if not times or not all(np.isfinite(time) and time > 0 for time in times):
        raise ImportDataError(f"{source} has times {list(times)}", "finite times above 0")
    # labels are kept under names with six digits of their time
    if any(float(f"{a:g}") >= float(f"{b:g}") for a, b in pairwise(times)):
        raise ImportDataError(f"{source} has times {list(times)}", "times that differ in their first six digits")


def _check(item: Imported, temperature: float) -> None:
    """Refuse numbers that are not finite, not in the range of their kind, or not those that others claim."""
    parent, source, count = item.parent, item.source, len(item.times)
    check_state(source, temperature, item.times)
    if not 0 < round(parent.density, 9) < 1e9:
        raise ImportDataError(f"{source} has a density of {parent.density:.3g}", "particles that fill their box")
    if item.n_replicas < 1:
        raise ImportDataError(f"{source} has {item.n_replicas} replicas", "at least one")
    if item.ends is not None:
        shape = item.n_replicas, count, *parent.positions.shape
        _require(source, "end positions", item.ends, shape)
        return
    assert item.propensity is not None, "an importer gives replicas or labels"
    shape = count, parent.n_particles
    _require(source, "propensities", item.propensity, shape, lowest=0.0)
    if item.variance is not None:
        unknown = np.isnan(item.variance).all(axis=-1, keepdims=True)
        _require(source, "variances", np.where(unknown, 0.0, item.variance), shape, lowest=0.0)


def _require(source: str, what: str, values: FloatArray, shape: tuple[int, ...], lowest: float = -_LARGEST) -> None:
    """`values` have this shape and lie between `lowest` and what single precision can hold."""
    if values.shape != shape:
        raise ImportDataError(f"{source} has {what} of shape {values.shape}", f"{shape}")
    wrong = ~((values >= lowest) & (values <= _LARGEST))
    if wrong.any():
        least = "0 or more" if lowest == 0 else "in single precision"
        raise ImportDataError(
            f"{source} has {int(wrong.sum())} {what} such as {values[wrong][0]:g}", f"finite numbers, {least}"
        )


def commit_imported(
    items: Iterable[Imported], out: Path, mixture: Mixture, temperature: float, origin: str
) -> RunDirectory:
    """Write published configurations as a run; what is there already is kept.

    Raises:
        ImportDataError: Nothing to import, numbers that are not finite or out of range, or configurations that do
            not belong in one run.
        RunError: `out` holds another run.
    """
    run: RunDirectory | None = None
    for item in items:
        _check(item, temperature)
        if run is None:
            run = RunDirectory.create(
                out,
                mixture,
                temperature=temperature,
                times=item.times,
                n_particles=item.parent.n_particles,
                density=round(item.parent.density, 9),
                origin=origin,
            )
        if item.times != run.times:
            raise ImportDataError(
                f"{item.source} has times {item.times}",
                f"{run.times} as the files before it",
                "import it into another --out",
            )
        known = [entry.sidecar["source"] for entry in run.entries("parents")]
        lineage = known.index(item.source) if item.source in known else len(known)
        identity = {"mixture": mixture.identity(), "temperature": temperature}
        frames = _frames(item, identity)
        facts = {
            "holds": "propensity" if item.ends is None else "replicas",
            "source": item.source,
            "times": item.times,
            "n_replicas": item.n_replicas,
            "replicas": list(range(item.n_replicas)),
            "steps": 0,
            "engine": origin,
        }
        run.commit(ParentKey(lineage, 0), frames[:1], {"source": item.source})
        run.commit(SegmentKey(lineage, 0, 0), frames, facts)
    if run is None:
        raise ImportDataError("found no files to import", "at least one")
    return run
