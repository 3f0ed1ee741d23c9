"""How imported configurations enter a run directory: one lineage each, where nobody knows better."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError
from glassmd.fields import (
    GSD_IDENTITY,
    GSD_PROPENSITY,
    GSD_PROPENSITY_VARIANCE,
    GSD_PUBLISHED,
    GSD_REPLICA,
    GSD_TIME,
    label_chunk,
)
from glassmd.importers.imported import Imported, check_imported
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import Mixture
from glassmd.simulation.structures.published import keep_published
from glassmd.trajectory import Frame, encode_identity

__all__ = ["commit_imported"]

Log = dict[str, NDArray[Any]]


def _labels(item: Imported) -> Log:
    """What was published of the labels, where there are no replicas."""
    log: Log = {}
    assert item.propensity is not None, "an importer gives replicas or labels"
    for index, time in enumerate(item.times):
        log[GSD_PROPENSITY.format(time=time)] = item.propensity[index].astype(np.float32)
        if item.variance is not None and np.isfinite(item.variance[index]).all():
            log[GSD_PROPENSITY_VARIANCE.format(time=time)] = item.variance[index].astype(np.float32)
        if item.bond_breaking is not None:
            log[label_chunk("bond-breaking", time)] = item.bond_breaking[index].astype(np.float32)
    return log


def _frames(item: Imported, identity: dict[str, Any]) -> list[Frame]:
    log: Log = {GSD_IDENTITY: encode_identity(identity)}
    if item.ends is None:
        return [Frame(item.parent, 0, log | _labels(item))]
    frames = [Frame(item.parent, 0, log)]
    for replica, ends in enumerate(item.ends):
        for time, positions in zip(item.times, ends, strict=True):
            label = {GSD_REPLICA: np.array([replica], np.int64), GSD_TIME: np.array([time], np.float64)}
            parent = item.parent
            frames.append(Frame(Configuration(parent.box, parent.species, positions, parent.species_names), 0, label))
    return frames


def _published(item: Imported, identity: dict[str, Any]) -> Frame:
    """The parent with the predictions that were published for it."""
    log: Log = {GSD_IDENTITY: encode_identity(identity)}
    for method, values in item.predictions.items():
        for index, time in enumerate(item.times):
            log[GSD_PUBLISHED.format(method=method, time=time)] = values[index].astype(np.float32)
    return Frame(item.parent, 0, log)


def _facts(item: Imported, origin: str) -> dict[str, Any]:
    targets = {} if item.bond_breaking is None else {"targets": ["propensity", "bond-breaking"]}
    return {
        "holds": "propensity" if item.ends is None else "replicas",
        **targets,
        "source": item.source,
        "times": item.times,
        "n_replicas": item.n_replicas,
        "replicas": list(range(item.n_replicas or 0)),
        "steps": 0,
        "engine": origin,
    }


def _same_liquid(item: Imported, run: RunDirectory) -> None:
    """Refuse what does not belong to a run.

    Raises:
        ImportDataError: Other times, or another number of particles.
    """
    if item.times != run.times:
        raise ImportDataError(
            f"{item.source} has times {item.times}",
            f"{run.times} as the files before it",
            "import it into another --out",
        )
    if item.parent.n_particles != run.identity["n_particles"]:
        raise ImportDataError(
            f"{item.source} has {item.parent.n_particles} particles",
            f"{run.identity['n_particles']} as the files before it",
            "import it into another --out",
        )


def _place(item: Imported, known: dict[str, ParentKey], taken: set[ParentKey]) -> ParentKey:
    """Where a configuration goes: where it is, where its data say, or into the next lineage.

    Raises:
        ImportDataError: Another one is there.
    """
    if item.source in known:
        return known[item.source]
    key = item.key or ParentKey(1 + max((parent.lineage for parent in taken), default=-1), 0)
    if key in taken:
        other = next(source for source, parent in known.items() if parent == key)
        raise ImportDataError(
            f"{item.source} and {other} are both parent {key.name}", "every one once", "import it into another --out"
        )
    return key


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
    known: dict[str, ParentKey] = {}
    identity = {"mixture": mixture.identity(), "temperature": temperature}
    for item in items:
        check_imported(item, temperature)
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
            known = {str(entry.sidecar["source"]): entry.key.of for entry in run.entries("parents")}
        _same_liquid(item, run)
        parent = known[item.source] = _place(item, known, set(known.values()))
        facts: dict[str, Any] = {"source": item.source}
        if item.role is not None:
            facts["role"] = item.role
        if item.predictions:
            facts["predictions"] = sorted(item.predictions)
        run.commit(parent, [_published(item, identity)], facts)
        keep_published(run, parent, item.structures, origin)
        run.commit(SegmentKey(*parent, 0), _frames(item, identity), _facts(item, origin))
    if run is None:
        raise ImportDataError("found no files to import", "at least one")
    return run
