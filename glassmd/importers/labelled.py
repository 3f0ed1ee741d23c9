"""Frames that come with labels, as `glassmd export --format extxyz` and `lammps` write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ImportDataError
from glassmd.fields import ROLES, label_chunk
from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.mixtures import Mixture
from glassmd.target import Target
from glassmd.trajectory import Frame
from glassmd.trajectory.trajectory import Trajectory

__all__ = ["has_labels", "import_labelled"]

_LABEL = re.compile(r"particles/propensity_t([0-9.eE+-]+)")
_TOLD = ("n_replicas", "lineage", "parent", "role")


def has_labels(frame: Frame) -> bool:
    """Whether a frame has labels, with what says where they belong."""
    return bool(_times(frame)) and all(f"particles/{name}" in frame.log for name in _TOLD)


def _times(frame: Frame) -> list[float]:
    return sorted(float(found[1]) for name in frame.log if (found := _LABEL.fullmatch(name)))


def import_labelled(
    trajectories: Sequence[Trajectory], out: Path, mixture: Mixture, temperature: float, origin: str
) -> RunDirectory:
    """Write parents with their labels as a run.

    Args:
        trajectories: Open files.
        out: Run directory.
        mixture: What they hold.
        temperature: ε_AA.
        origin: Of the run.

    Raises:
        ImportDataError: Frames without a label that others have, or that belong in one place.
        RunError: `out` holds another run.
    """

    def items() -> Iterator[Imported]:
        for trajectory in trajectories:
            for number in range(len(trajectory)):
                yield _imported(trajectory[number], f"{trajectory.path.name} frame {number}", trajectory.path)

    return commit_imported(items(), out, mixture, temperature, origin)


def _imported(frame: Frame, source: str, path: Path) -> Imported:
    if not has_labels(frame):
        raise ImportDataError(f"{source} has no labels", "as the first frame of the files", f"leave {path} out")
    times, told = _times(frame), {name: _one(frame, name, source) for name in _TOLD}
    if not 0 <= told["role"] < len(ROLES) or min(told.values()) < 0:
        raise ImportDataError(f"{source} has {told}", "what glassmd export writes", "export it again")
    parent = frame.configuration.with_velocities(None).with_images_zero()
    structures = {
        name: parent.positions + frame.log[f"particles/{name}"][:, : parent.dimensions]
        for name in ("inherent", "cage")
        if f"particles/{name}" in frame.log
    }
    propensity = _of(frame, times, "propensity")
    assert propensity is not None, "the times are those of its columns"
    return Imported(
        parent,
        times,
        source,
        told["n_replicas"] or None,
        propensity=propensity,
        variance=_variance(frame, times),
        bond_breaking=_of(frame, times, "bond-breaking"),
        structures=structures,
        role=ROLES[told["role"]],
        key=ParentKey(told["lineage"], told["parent"]),
    )


def _one(frame: Frame, name: str, source: str) -> int:
    values = np.asarray(frame.log[f"particles/{name}"]).ravel()
    if np.ptp(values) != 0 or values[0] % 1:
        raise ImportDataError(f"{source} has different numbers {name}", "one for all particles", "export it again")
    return int(values[0])


def _of(frame: Frame, times: Sequence[float], target: Target) -> NDArray[np.float64] | None:
    """(n_times, n_particles), or None unless every time is there."""
    rows = [frame.log.get(label_chunk(target, time)) for time in times]
    there = [np.asarray(row, np.float64).ravel() for row in rows if row is not None]
    return np.stack(there) if len(there) == len(rows) else None


def _variance(frame: Frame, times: Sequence[float]) -> NDArray[np.float64] | None:
    """(n_times, n_particles), NaN at times that have none; None where no time has one."""
    n = frame.configuration.n_particles
    rows = [frame.log.get(label_chunk("propensity", time, "variance")) for time in times]
    if all(row is None for row in rows):
        return None
    return np.stack([np.full(n, np.nan) if row is None else np.asarray(row, np.float64).ravel() for row in rows])
