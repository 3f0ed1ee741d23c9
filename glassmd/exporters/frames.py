"""A run as extended XYZ or LAMMPS dumps: a file per lineage, a frame per parent, a column per label.

Columns `propensity_t<time>` and `_variance`, `bond_breaking_t<time>` where that is stored, `inherent` and `cage` (where
each particle is then, from where it is), and the same number for all particles: `n_replicas` (0: unknown), `lineage`,
`parent` and `role` (0: not said, 1 train, 2 validation, 3 test). `glassmd import --format trajectory` makes the same
samples of them.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import minimum_image
from glassmd.exporters.place import new_folder
from glassmd.exporters.stored import bond_breaking_of, cage_name, labelled, structures_of
from glassmd.fields import ROLES, label_chunk
from glassmd.ledger.run import ParentKey
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample
from glassmd.trajectory import Frame
from glassmd.trajectory.writing import FrameWriter

__all__ = ["export_frames"]

_ENDINGS = {"extxyz": ".xyz", "lammps": ".dump"}


def export_frames(run: Path | str, out: Path | str, kind: Literal["extxyz", "lammps"]) -> dict[str, Any]:
    """Write a run as text of other programs.

    Args:
        run: Run directory.
        out: A new folder, which appears whole or not at all.
        kind: Of the files.

    Returns:
        What `glassmd export --json` prints.

    Raises:
        RunError: There is nothing to export, or `out` cannot be used.
        SegmentError: A file of the run is damaged.
        StorageError: The disk is full or not writable.
    """
    source, out = open_run(run), Path(out)
    cage = cage_name(source)
    held: set[str] = set()
    files = 0
    with new_folder(out) as folder:
        for lineage, parents in groupby(labelled(source), key=lambda found: found[0].lineage):
            files += 1
            with FrameWriter(folder / f"L{lineage:04d}{_ENDINGS[kind]}") as writer:
                for parent, sample in parents:
                    columns = _columns(source, sample, parent, cage)
                    held |= set(columns)
                    writer.append(Frame(sample.parent, parent.parent, columns))
    return {
        "run": str(source.path),
        "format": kind,
        "out": str(out),
        "files": files,
        "columns": sorted(name.removeprefix("particles/") for name in held),
    }


def _columns(run: Run, sample: Sample, parent: ParentKey, cage: str | None) -> dict[str, NDArray[Any]]:
    n = sample.parent.n_particles
    found: dict[str, NDArray[Any]] = {}
    for k, time in enumerate(run.times):
        found[label_chunk("propensity", time)] = sample.propensity[k]
        if np.isfinite(sample.variance[k]).all():
            found[label_chunk("propensity", time, "variance")] = sample.variance[k]
    if (broken := bond_breaking_of(run, sample, parent)) is not None:
        found |= {label_chunk("bond-breaking", time): broken[k] for k, time in enumerate(run.times)}
    for name, positions in structures_of(run, sample, parent, cage).items():
        found[f"particles/{name}"] = minimum_image(positions - sample.parent.positions, sample.parent.box)
    told = {
        "n_replicas": sample.n_replicas if sample.replicas_known else 0,
        "lineage": parent.lineage,
        "parent": parent.parent,
        "role": ROLES.index(sample.role),
    }
    return {**found, **{f"particles/{name}": np.full(n, value, np.int64) for name, value in told.items()}}
