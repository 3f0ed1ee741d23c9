"""Trajectories as something to measure on: each is cut into parts, whose scatter gives the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.dynamics import remove_drift
from glassmd.analysis.lags import LagPlan, plan_lags
from glassmd.configuration import Configuration
from glassmd.errors import TrajectoryError
from glassmd.observables.source import Facts, Moved, Snapshot, Stretch
from glassmd.trajectory import Frame, check_overlaps
from glassmd.trajectory.trajectory import Trajectory

__all__ = ["OfTrajectories"]

FloatArray = NDArray[np.float64]

PARTS = 10
"""Of each trajectory, by where a pair of frames begins."""

_KEPT = 256 * 2**20  # bytes of positions that pairs begin at

_HOP_INTERVAL = 0.5  # between frames in which hops are looked for, √(mσ²/ε), where there are as many
_HOP_LONGEST = 1.0
_HOP_FRAMES = 1000
_HOP_PARTICLES = 2000


@dataclass(frozen=True, eq=False)
class _Planned:
    """A trajectory and what is read of it."""

    trajectory: Trajectory
    times: FloatArray
    plan: LagPlan
    hops: NDArray[np.int64]  # frames at equal intervals


class OfTrajectories:
    """Frames of trajectories of one liquid; see :class:`glassmd.observables.source.Source`.

    Args:
        trajectories: Open, at least one.
        temperature: Of the liquid, where somebody says it.

    Raises:
        TrajectoryError: They are not of the same particles in the same box, or have no lag in common.
    """

    def __init__(self, trajectories: Sequence[Trajectory], temperature: float | None) -> None:
        first = trajectories[0][0].configuration
        _require_same(trajectories, first)
        for trajectory in trajectories:
            check_overlaps(trajectory.path, trajectory[0].configuration)
        alive = max(4, _KEPT // (first.positions.nbytes * 2))
        self._planned: list[_Planned] = []
        lags: FloatArray | None = None
        for trajectory in trajectories:
            times = trajectory.times()
            plan = plan_lags(times, lags=lags, most_alive=alive)
            if lags is not None and len(lags) and not len(plan.pairs):
                raise TrajectoryError(
                    f"{trajectory.path} has no two frames that lie {lags[0]:g} apart as in {trajectories[0].path}",
                    "frames at the same intervals",
                    "analyze them apart",
                )
            lags = plan.lags
            self._planned.append(_Planned(trajectory, times, plan, _hop_frames(trajectory, times)))
        assert lags is not None, "at least one trajectory"
        self._followed = np.unique(np.linspace(0, first.n_particles - 1, _HOP_PARTICLES).round().astype(np.int64))
        self._stretches: list[Stretch] = []
        self.facts = Facts(
            names=first.species_names,
            species=first.species,
            masses=_masses_of_species(trajectories[0], first),
            box=first.box,
            mixture=trajectories[0].mixture,
            temperature=temperature if temperature is not None else trajectories[0].temperature,
            time_unit=trajectories[0].time_unit,
            n_frames=sum(map(len, trajectories)),
            n_groups=PARTS * len(trajectories),
            lags=lags,
            parts=PARTS,
            duration=min(float(one.times[-1] - one.times[0]) for one in self._planned),
            notes=tuple(dict.fromkeys(note for trajectory in trajectories for note in trajectory.notes)),
        )

    def _part(self, number: int, planned: _Planned, frame: int) -> int:
        times = planned.times
        share = (times[frame] - times[0]) / max(times[-1] - times[0], 1e-300)
        return number * PARTS + min(PARTS - 1, int(PARTS * share))

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        """See :class:`glassmd.observables.source.Source`."""
        each = max(1, most // len(self._planned))
        for number, one in enumerate(self._planned):
            count = len(one.trajectory)
            for k in np.unique(np.linspace(0, count - 1, min(each, count)).round().astype(int)):
                frame = one.trajectory[int(k)]
                yield Snapshot(self._part(number, one, k), k / max(1, count - 1), frame.configuration)

    def moves(self, show: Callable[[int, int], None]) -> Iterator[Moved]:
        """See :class:`glassmd.observables.source.Source`."""
        self._stretches = []
        wanted = [np.union1d(one.plan.frames, one.hops) for one in self._planned]
        total = sum(map(len, wanted))
        done = 0
        for number, one in enumerate(self._planned):
            last_use = dict(zip(one.plan.pairs[:, 0].tolist(), one.plan.pairs[:, 1].tolist(), strict=True))
            ends = np.searchsorted(one.plan.pairs[:, 1], np.arange(len(one.trajectory) + 1))
            hops, followed = set(one.hops.tolist()), []
            kept: dict[int, FloatArray] = {}
            for k, frame in self._frames(one, wanted[number]):
                positions = frame.configuration.unwrapped
                for begin, _, lag in one.plan.pairs[ends[k] : ends[k + 1]].tolist():
                    moved = remove_drift(positions - kept[begin], one.trajectory.masses)
                    yield Moved(self._part(number, one, begin), lag, moved, frame.configuration.species)
                    if last_use[begin] == k:
                        kept.pop(begin, None)
                if last_use.get(k, -1) > k:
                    kept[k] = positions
                if k in hops:
                    followed.append(remove_drift(positions, one.trajectory.masses)[self._followed])
                done += 1
                show(done, total)
            if followed:
                interval = float(one.times[one.hops[1]] - one.times[one.hops[0]])
                species = frame.configuration.species[self._followed]
                self._stretches.append(Stretch(species, np.stack(followed), interval))

    def _frames(self, one: _Planned, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Frame]]:
        """Some frames in their order, unwrapped, at the times that they were taken to be at.

        Raises:
            TrajectoryError: One is at another time.
        """
        for k, frame in self._read(one, wanted):
            if frame.time is None or not np.isclose(frame.time, one.times[k], rtol=1e-6, atol=1e-9):
                raise TrajectoryError(
                    f"frame {k} of {one.trajectory.path} is at {frame.time:g}",
                    f"{one.times[k]:g}, at the interval of the first frames and the last",
                    "write frames at equal intervals, or steps that say where they are (a GSD file, a dump)",
                )
            yield k, frame

    @staticmethod
    def _read(one: _Planned, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Frame]]:
        """Where images tell how positions go on, no other frames are read."""
        if not one.trajectory.wrapped:
            yield from ((k, one.trajectory[k]) for k in wanted.tolist())
            return
        chosen, last = set(wanted.tolist()), int(wanted[-1]) if len(wanted) else -1
        for k, frame in enumerate(one.trajectory.frames()):
            if k in chosen:
                yield k, frame
            if k == last:
                return

    def stretches(self) -> list[Stretch]:
        """See :class:`glassmd.observables.source.Source`."""
        return self._stretches

    def mobility(self, lag: int, most: int) -> Iterator[tuple[Configuration, FloatArray]]:
        """See :class:`glassmd.observables.source.Source`."""
        each = max(1, most // len(self._planned))
        for one in self._planned:
            pairs = one.plan.pairs[one.plan.pairs[:, 2] == lag]
            chosen = pairs[np.unique(np.linspace(0, len(pairs) - 1, min(each, len(pairs))).round().astype(int))]
            begun: dict[int, Configuration] = {}
            ends = {int(end): int(begin) for begin, end, _ in chosen}
            for k, frame in self._frames(one, np.unique(chosen[:, :2])):
                if k in ends:
                    start = begun[ends[k]]
                    displacement = frame.configuration.unwrapped - start.unwrapped
                    yield start, remove_drift(displacement, one.trajectory.masses)
                begun[k] = frame.configuration


def _masses_of_species(trajectory: Trajectory, first: Configuration) -> FloatArray:
    of = [trajectory.masses[first.species == k] for k in range(len(first.species_names))]
    return np.array([float(masses.mean()) if len(masses) else 1.0 for masses in of])


def _require_same(trajectories: Sequence[Trajectory], first: Configuration) -> None:
    for other in trajectories[1:]:
        found = other[0].configuration
        same_box = found.box.shape == first.box.shape and np.allclose(found.box, first.box, rtol=1e-6)
        counts = [np.bincount(one.species, minlength=len(one.species_names)).tolist() for one in (found, first)]
        same_species = found.species_names == first.species_names and counts[0] == counts[1]
        same_species &= other.identity == trajectories[0].identity  # of files of glassmd: mixture and temperature
        if not (same_box and same_species and other.time_unit == trajectories[0].time_unit):
            raise TrajectoryError(
                f"{other.path} has another liquid, box or unit of time than {trajectories[0].path}",
                "trajectories of one liquid",
                "analyze them apart",
            )


def _hop_frames(trajectory: Trajectory, times: FloatArray) -> NDArray[np.int64]:
    """Frames at equal intervals of at most 1, from the middle of the trajectory; none where there are no such."""
    steps = np.diff(times)
    if trajectory.time_unit != "reduced" or len(steps) < 2 or np.ptp(steps) > 1e-4 * steps.mean():
        return np.zeros(0, np.int64)
    stride = max(1, int(_HOP_INTERVAL / steps.mean() + 1e-6))
    count = min(_HOP_FRAMES, (len(times) - 1) // stride + 1)
    if stride * steps.mean() > _HOP_LONGEST or count < 2:
        return np.zeros(0, np.int64)
    first = (len(times) - 1 - (count - 1) * stride) // 2
    return np.asarray(first + stride * np.arange(count), np.int64)
