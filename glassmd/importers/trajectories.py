"""Trajectories of any program as data: frames are parents, later frames are where their one replica has gone.

Every file is a lineage, because nobody knows better and frames of one liquid must not end up on both sides of a split.
Its frames, at a stride, are the parents; the label of a parent is how far its particles have moved a lag later, with
one replica. Files that share their first frame are replicas of it: one parent of one lineage.

A file that another program still writes is followed: what is there is committed, and what appears after it. Nothing is
taken twice, whoever was stopped when: names of entries follow from files and frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError, SettingsError
from glassmd.fields import GSD_IDENTITY, GSD_REPLICA, GSD_TIME
from glassmd.importers.frame_pairs import digest, ends_of, followed, reaches
from glassmd.importers.imported import check_state
from glassmd.importers.labelled import has_labels, import_labelled
from glassmd.importers.unknown_liquid import measured_mixture
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import Mixture, is_unknown, mixture_of
from glassmd.trajectory import Frame, check_overlaps, encode_identity
from glassmd.trajectory.formats import format_of
from glassmd.trajectory.gsd_reading import complete_frames
from glassmd.trajectory.trajectory import Trajectory, open_trajectory

__all__ = ["FrameChoice", "import_trajectories"]

FloatArray = NDArray[np.float64]

ORIGIN = "trajectory"

PARENTS = 200
"""Of a file that is complete, unless a stride is given."""

LAGS = 4
"""Lag times, unless they are given: evenly in log t from the spacing of the frames to a tenth of the shortest file."""

_LOOK = 1.0  # seconds between two looks at a file that is followed


@dataclass(frozen=True)
class FrameChoice:
    """How frames become parents and labels.

    Attributes:
        types: Species by the name of a type of the files.
        time_step: Of one step of files that have no times, √(mσ²/ε).
        stride: Frames from one parent to the next; by default so many that there are 200 parents at most, or 1 of a
            file that is followed.
        patience: Seconds without a new frame after which whoever writes a file that is followed is done.
    """

    types: Mapping[str, str] | None = None
    time_step: float | None = None
    stride: int | None = None
    patience: float = 60.0

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise SettingsError(f"found stride {self.stride}", "frames from one parent to the next, at least 1")
        if not self.patience > 0:
            raise SettingsError(f"found patience {self.patience}", "seconds above 0")


def import_trajectories(
    sources: Sequence[Path],
    out: Path,
    *,
    mixture: Mixture | None = None,
    temperature: float | None = None,
    times: Sequence[float] | None = None,
    choice: FrameChoice | None = None,
    follow: bool = False,
    needs_potential: bool = False,
    check: Callable[[], None] = lambda: None,
    begun: Callable[[], None] = lambda: None,
) -> RunDirectory:
    """Take frames of trajectories into a run; what is there already is kept.

    Args:
        sources: Files of one liquid.
        out: Run directory.
        mixture: What they hold; by default what they say themselves, or what the run in `out` holds.
        temperature: ε_AA; by default what they say themselves, or that of their velocities.
        times: Lag times of the labels, √(mσ²/ε).
        choice: How frames become parents and labels.
        follow: Files are still being written: go on until none has grown for a while.
        needs_potential: Refuse files of which nobody says the mixture, instead of taking them without a potential.
        check: Called often; what it raises ends it, what was committed stays.
        begun: Called when the run is there.

    Raises:
        ImportDataError: Files that say neither mixture nor temperature, or are too short for the lags.
        TrajectoryError: A file that cannot be read.
        RunError: `out` holds another run.
    """
    choice = choice or FrameChoice()
    taking = _Taking(sources, out, mixture, temperature, times, choice, follow, needs_potential)
    if follow:
        taking.wait_for_files(check)
    labelled = taking.begin()
    if labelled is not None:
        return labelled
    begun()
    quiet_since = time.monotonic()
    try:
        while follow and time.monotonic() - quiet_since <= choice.patience:
            if taking.take(check, done=False):
                quiet_since = time.monotonic()
            taking.run.grow()
            _sleep(check)
        taking.take(check, done=True)
    finally:
        taking.run.grown()
    return taking.run


def _sleep(check: Callable[[], None]) -> None:
    until = time.monotonic() + _LOOK
    while time.monotonic() < until:
        check()
        time.sleep(0.05)


class _Taking:
    """Files on their way into a run."""

    def __init__(
        self,
        sources: Sequence[Path],
        out: Path,
        mixture: Mixture | None,
        temperature: float | None,
        times: Sequence[float] | None,
        choice: FrameChoice,
        follow: bool,
        needs_potential: bool,
    ) -> None:
        if not sources:
            raise ImportDataError("found no trajectories", "at least one file", "name it")
        self._sources, self._out, self._mixture, self._temperature = list(sources), out, mixture, temperature
        self._times, self._choice, self._follow = times, choice, follow
        self._needs_potential = needs_potential
        self._lengths = [0] * len(self._sources)
        self.run: RunDirectory

    def wait_for_files(self, check: Callable[[], None]) -> None:
        """Until each is there with a frame and the next one, so that the first is complete."""
        until = time.monotonic() + self._choice.patience
        for path in self._sources:
            while complete_frames(path) < 2 and time.monotonic() < until:
                if path.is_file() and path.stat().st_size and (kind := format_of(path)) != "gsd":
                    raise SettingsError(
                        f"{path} is a {kind} file",
                        "a GSD file, which can be read while it is written",
                        "wait until it is complete, and leave --stream out",
                    )
                check()
                time.sleep(_LOOK / 10)

    def _opened(self, path: Path) -> Trajectory:
        choice = self._choice
        return open_trajectory(path, mixture=self._mixture, types=choice.types, time_step=choice.time_step)

    def begin(self) -> RunDirectory | None:
        """Look at the files, and make the run; or take all of it where frames come with labels."""
        with ExitStack() as stack:
            opened = [stack.enter_context(self._opened(path)) for path in self._sources]
            if opened[0].mixture is None and (of_run := self._mixture_of_run()) is not None:
                self._mixture = of_run
                opened = [stack.enter_context(self._opened(path)) for path in self._sources]
            first = opened[0]
            if first.mixture is None and self._needs_potential:
                raise ImportDataError(
                    f"{first.path} does not say which mixture it is, and inherent or cage positions need its potential",
                    "to be told",
                    "try --mixture kob-andersen, or --input thermal",
                )
            mixture = first.mixture or measured_mixture(first)
            start = first[0]
            check_overlaps(first.path, start.configuration)
            if has_labels(start):
                known = self._known_temperature(first)
                return import_labelled(opened, self._out, mixture, known, ORIGIN)
            self._make_run(opened, start.configuration, mixture)
            starts = [one[0].configuration for one in opened]
        for path, one in zip(self._sources, starts, strict=True):
            same_box = one.box.shape == starts[0].box.shape and np.allclose(one.box, starts[0].box, rtol=1e-6)
            if one.n_particles != starts[0].n_particles or not same_box:
                raise ImportDataError(
                    f"{path} has other particles or another box than {self._sources[0]}",
                    "trajectories of one liquid",
                    "import them into another --out",
                )
        self._group([digest(one) for one in starts])
        return None

    def _mixture_of_run(self) -> Mixture | None:
        """What the run holds that goes on; None where there is none, or where it does not know either."""
        if not (self._out / "run.json").exists():
            return None
        identity = RunDirectory.open(self._out).identity["mixture"]
        return None if is_unknown(identity) else mixture_of(identity)

    def _make_run(self, opened: Sequence[Trajectory], start: Configuration, mixture: Mixture) -> None:
        first = opened[0]
        if first.time_unit != "reduced":
            found = f"{first.path} has steps and no times"
            raise ImportDataError(found, "the length of a step", "try --time-step 0.005")
        temperature = self._known_temperature(first)
        lags = list(self._times) if self._times is not None else self._own_lags(opened)
        check_state(str(first.path), temperature, lags)
        if not self._follow and not any(reaches(one, lags) for one in opened):
            raise ImportDataError(
                f"found no two frames of {first.path} that lie {lags[-1]:g} apart",
                "a trajectory longer than the longest lag",
                "give shorter --times",
            )
        self.run = RunDirectory.create(
            self._out,
            mixture,
            temperature=temperature,
            times=lags,
            n_particles=start.n_particles,
            density=round(start.density, 9),
            origin=ORIGIN,
        )
        if self._follow:
            self.run.grow()

    def _known_temperature(self, first: Trajectory) -> float:
        if self._temperature is not None:
            return self._temperature
        if first.temperature is not None:
            return first.temperature
        speeds = first[0].configuration.velocities
        if speeds is None:
            raise ImportDataError(f"{first.path} says no temperature", "to be told", "try --temperature T")
        n, d = speeds.shape
        relative = speeds - (first.masses @ speeds) / first.masses.sum()
        found = float(first.masses @ (relative**2).sum(axis=1)) / (d * (n - 1))
        raise ImportDataError(
            f"{first.path} says no temperature; its first velocities have {found:.4g}", "to be told",
            f"try --temperature {found:.2g}",
        )  # fmt: skip

    def _own_lags(self, opened: Sequence[Trajectory]) -> list[float]:
        """Lags from the spacing of the first frames on."""
        times = opened[0].times()
        spacing = float(np.diff(times).min()) if len(times) > 1 else 0.0
        if spacing <= 0:
            raise ImportDataError(f"{opened[0].path} has a single frame", "two at least", "try glassmd predict")
        if self._follow:
            return [spacing]
        longest = min(float(one.times()[-1] - one.times()[0]) for one in opened) / 10
        multiples = np.unique(np.rint(np.geomspace(1, max(1.0, longest / spacing), LAGS)))
        return [float(spacing * k) for k in multiples]

    def _group(self, digests: Sequence[str]) -> None:
        """Number the lineages: those of the run keep theirs, and files that share a first frame are one."""
        known = {
            str(entry.sidecar["first_frame"]): entry.key.lineage
            for entry in self.run.entries("parents")
            if entry.key.parent == 0
        }
        for first in digests:
            known.setdefault(first, max(known.values(), default=-1) + 1)
        self._lineages = [known[first] for first in digests]
        self._digests = list(digests)
        self._ensembles = {lineage for lineage in self._lineages if self._lineages.count(lineage) > 1}

    def take(self, check: Callable[[], None], *, done: bool) -> bool:
        """Commit what can be committed; say whether a file has grown.

        Args:
            check: Called before every parent.
            done: Nothing more will be written: the last frames count, too.
        """
        grown = False
        for number, path in enumerate(self._sources):
            if complete_frames(path) < self._lengths[number]:
                found = f"{path} has fewer frames than it had, {self._lengths[number]:,}"
                raise ImportDataError(found, "the trajectory that was followed", "choose another --out for another one")
            with self._opened(path) as trajectory:
                count = len(trajectory)
                grown |= count > self._lengths[number]
                usable = count if done else count - 1
                if count > self._lengths[number] or done:
                    self._take_one(number, trajectory, usable, check)
                self._lengths[number] = count
        return grown

    def _take_one(self, number: int, trajectory: Trajectory, usable: int, check: Callable[[], None]) -> None:
        lineage = self._lineages[number]
        times = trajectory.times()[:usable]
        ends = ends_of(times, np.asarray(self.run.times))
        stride = self._stride(lineage, len(trajectory))
        begins = np.arange(0, len(ends), stride)
        if lineage in self._ensembles:
            begins, block = begins[:1], self._lineages[:number].count(lineage)
        else:
            block = 0
        wanted = [
            (parent, int(begin))
            for parent, begin in enumerate(begins)
            if (ends[begin] >= 0).all() and not self.run.done(SegmentKey(lineage, parent, block))
        ]
        for parent, start, moved in followed(trajectory, [(p, b, ends[b]) for p, b in wanted]):
            check()
            source = f"{trajectory.path.name} step {start.step}"
            facts = {"source": source, "first_frame": self._digests[number], "stride": stride}
            self._commit(ParentKey(lineage, parent), block, start, moved, facts)

    def _stride(self, lineage: int, count: int) -> int:
        """Frames from one parent to the next: as before where the run has some of this file.

        Raises:
            ImportDataError: Another stride is asked for.
        """
        chosen = self._choice.stride
        first = self.run.entry("parents", ParentKey(lineage, 0).name)
        known = None if first is None else int(first.sidecar["stride"])
        if known is not None and chosen not in (None, known):
            found = f"{self.run.path} has parents every {known} frames of this trajectory"
            raise ImportDataError(found, f"{chosen} as asked for now", f"give --stride {known} or choose another --out")
        return known or chosen or (1 if self._follow else max(1, -(-count // PARENTS)))

    def _commit(
        self, key: ParentKey, block: int, start: Frame, ends: Sequence[Configuration], facts: dict[str, Any]
    ) -> None:
        run = self.run
        identity = {"mixture": run.identity["mixture"], "temperature": run.identity["temperature"]}
        parent = start.configuration.with_images_zero()
        shift = parent.unwrapped - start.configuration.unwrapped
        first = Frame(parent, start.step, {GSD_IDENTITY: encode_identity(identity)})
        frames = [first]
        for lag, end in zip(run.times, ends, strict=True):
            label = {GSD_REPLICA: np.array([block], np.int64), GSD_TIME: np.array([lag], np.float64)}
            at = Configuration(parent.box, parent.species, end.unwrapped + shift, parent.species_names)
            frames.append(Frame(at, start.step, label))
        run.commit(key, [first], {**facts, "steps": 0})
        told = {"holds": "replicas", "times": run.times, "n_replicas": 1, "replicas": [block], "steps": 0}
        run.commit(SegmentKey(*key, block), frames, {**told, **facts, "engine": ORIGIN})
