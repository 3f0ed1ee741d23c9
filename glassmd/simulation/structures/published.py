"""Structures that came with published configurations: entries like those that are made here.

Energy minima are what they are, whoever found them. Published cages have a protocol of their own that no file tells,
and nothing is known of how the particles shake in them: they are kept under a name without a digest, and a learner
either takes them for all of its parents or has cages made for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import minimum_image
from glassmd.errors import RunError
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.simulation.structures.making import commit_structure
from glassmd.simulation.structures.request import Request, has_published_cages

__all__ = ["check_cages_alike", "check_published", "keep_published"]

_REQUESTS = {"inherent": Request("inherent"), "cage": Request("cage", published=True)}


def keep_published(
    run: RunDirectory, parent: ParentKey, structures: Mapping[str, NDArray[np.float64]], origin: str
) -> None:
    """Commit published positions of a parent; what is there already is kept.

    Args:
        run: Where the parent is committed.
        parent: Which.
        structures: `inherent` and `cage` positions, (n_particles, d), σ_AA, in whatever image of the box.
        origin: Of the data.

    Raises:
        StorageError: The disk is full or not writable.
    """
    if not structures:
        return
    entry = run.entry("parents", parent.name)
    assert entry is not None, "structures follow their parent"
    at = entry.read([0])[0].configuration
    for name, positions in structures.items():
        displacement = minimum_image(positions - at.positions, at.box)
        request = _REQUESTS[name]
        facts: dict[str, Any] = {"steps": 0, "seconds": 0.0, "engine": origin, "engine_version": "", "device": ""}
        arrays = {"displacement": displacement.astype(np.float32)}
        commit_structure(run, request.key(parent), request, at, arrays, {**facts, "published": origin})


def check_cages_alike(runs: Sequence[RunDirectory], request: Request) -> None:
    """Refuse cages of two kinds, whose positions and descriptors differ, in one set of data.

    Raises:
        RunError: Some of the runs have published cages, others would get their own.
    """
    if not request.takes_published:
        return
    with_cages = [run for run in runs if has_published_cages(run)]
    without = [run for run in runs if run not in with_cages]
    if with_cages and without:
        raise RunError(
            f"found published cage positions in {with_cages[0].path} and none in {without[0].path}",
            "cages of one kind",
            "have them made for all: --set cage_time=5",
        )


def check_published(run: RunDirectory, requests: Sequence[Request], parents: Sequence[ParentKey]) -> None:
    """Refuse to go on where published structures are wanted that were not published.

    Raises:
        RunError: Parents lack them; nobody can make them.
    """
    for request in requests:
        if not request.published:
            continue
        lacking = [parent for parent in parents if not run.done(request.key(parent))]
        if lacking:
            raise RunError(
                f"found {len(lacking)} parents in {run.path} without published cage positions, {lacking[0].name} first",
                "them for all parents, as others of the run have them",
                "import those that have them into a run of their own, or have cages made: --set cage_time=5",
            )
