"""What a run holds of a parent beside its labels, for whoever writes it in another format."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import RunError
from glassmd.fields import label_chunk
from glassmd.ledger.run import ParentKey, StructureKey
from glassmd.simulation.structures import Request
from glassmd.simulation.structures.making import read_structure
from glassmd.stream.dataset import Run, SegmentReader
from glassmd.stream.samples import Sample

__all__ = ["bond_breaking_of", "cage_name", "labelled", "structures_of"]

FloatArray = NDArray[np.float64]


def labelled(run: Run) -> Iterator[tuple[ParentKey, Sample]]:
    """Every parent of a run that has labels, in the order of their keys.

    Raises:
        RunError: There is none.
        SegmentError: A file of the run is damaged.
    """
    reader = SegmentReader(run)
    waiting = list(reader.waiting())
    if not waiting:
        raise RunError(f"found no labels in {run.path}", "at least one parent with replicas", "simulate or import some")
    for parent, blocks in waiting:
        yield parent, reader.sample(parent, blocks)


def cage_name(run: Run) -> str | None:
    """The name of the cages to write: the published ones, else those that most parents have."""
    run.poll()
    names = [
        line.key.structure
        for line in run.index.log
        if isinstance(line.key, StructureKey) and line.key.structure != "inherent"
    ]
    published = Request("cage", published=True).name
    return published if published in names else max(sorted(set(names)), key=names.count, default=None)


def structures_of(run: Run, sample: Sample, parent: ParentKey, cage: str | None) -> dict[str, FloatArray]:
    """Positions in the box of the parent, `inherent` and `cage`, those that are there."""
    keys = [StructureKey(*parent, name) for name in ("inherent", cage) if name is not None]
    there = [key for key in keys if run.done(key)]
    found = read_structure(run, sample.parent, there, sample.temperature)
    return {
        name: found.positions(name) - sample.parent.unwrapped + sample.parent.positions
        for name in found.available()
        if name != "thermal"
    }


def bond_breaking_of(run: Run, sample: Sample, parent: ParentKey) -> NDArray[np.float64] | None:
    """(n_times, n_particles) where it is stored; of several blocks nobody knows the mean."""
    if len(sample.blocks) != 1:
        return None
    entry = run.entry("segments", f"{parent.name}-B{sample.blocks[0]:04d}")
    if entry is None or "bond-breaking" not in entry.sidecar.get("targets", ()):
        return None
    log = entry.read([0])[0].log
    return np.stack([log[label_chunk("bond-breaking", time)] for time in run.times]).astype(np.float64)
