"""Trajectories that anybody wrote, one interface for every format: frames with their time, checked and unwrapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, SettingsError, TrajectoryError
from glassmd.fields import GSD_REPLICA
from glassmd.mixtures import Mixture, mixture_of
from glassmd.trajectory.formats import open_source
from glassmd.trajectory.frame import Frame, identity_of
from glassmd.trajectory.gsd_reading import GsdSource
from glassmd.trajectory.overlaps import check_overlaps
from glassmd.trajectory.raw import FrameSource, RawFrame
from glassmd.trajectory.species import species_of_types
from glassmd.trajectory.unwrapping import NearestImages

__all__ = ["Trajectory", "open_trajectory", "read_configuration"]

_SAME_BOX = 1e-6  # relative: single precision
_LIQUID = (0.2, 3.0)
"""Number densities of liquids in reduced units; those of atoms in Å^-3 are 0.02 to 0.1."""

_SAMPLED = 64
"""Steps that are looked at before the others are taken to follow, where looking means to read a frame."""


class Trajectory:
    """The frames of one file: iterate for all of them in their order, index for one.

    Positions go on through the faces of the box: by the file's images, by its unwrapped positions, or, frame after
    frame, by the nearest image of the one before. Only iterating does the last; a frame by its number is wrapped then.

    Args:
        source: The open file.
        mixture: What it holds; by default what a file of glassmd says itself, else unknown.
        types: Species by the name of a type.
        time_step: Of one step, √(mσ²/ε); by default the file's own times, else times are in steps.
        snapshots: Frames that do not follow from each other will do: a parent of a run and its replicas, or
            configurations in which other particles are of a species.

    Attributes:
        identity: Mixture and temperature as a file of glassmd says them itself; empty else.
        mixture: What the file holds, or None where nobody says.
        temperature: As a file of glassmd says itself, ε_AA; else None.
        species_names: In the order of the species index.
        masses: (n_particles,) float64, m_A: the mixture's, else the file's, else all 1.
        notes: What was taken for granted, for people.
        time_unit: `reduced`, or `steps` where nobody says how long one is.

    Raises:
        TrajectoryError: It holds no liquid in an orthorhombic periodic box.
        SettingsError: The mixture or the types are not those of the file.
    """

    def __init__(
        self,
        source: FrameSource,
        mixture: Mixture | None = None,
        types: Mapping[str, str] | None = None,
        time_step: float | None = None,
        snapshots: bool = False,
    ) -> None:
        self._source, self.path, self.format = source, source.path, source.format
        first = source.read(0)
        self.identity = said = identity_of(first.log) or {}
        if GSD_REPLICA in first.log and not snapshots:
            raise TrajectoryError(
                f"{self.path} is a file of a run: its frames are replicas, and no trajectory",
                "the run directory",
                f"give {self.path.resolve().parent.parent}",
            )
        self.mixture = mixture or (mixture_of(said["mixture"]) if "mixture" in said else None)
        self.temperature: float | None = said.get("temperature")
        self._first, self._time_step, self._snapshots = first, time_step, snapshots
        counts = np.bincount(first.types, minlength=len(first.type_names))
        masses = None if first.masses is None else _mass_of_types(first, len(counts))
        self.species_names, order, note = species_of_types(
            self.path, first.type_names, counts.tolist(), masses, self.mixture, types
        )
        self._order = np.array(order, np.int32)
        self.notes = [*source.notes, *([f"{self.path.name}: {note}"] if note else [])]
        self._dimensions = first.dimensions if self.mixture is None else self.mixture.dimensions
        if self._dimensions != first.dimensions:
            raise SettingsError(
                f"{self.path} is in {first.dimensions}D",
                f"{self._dimensions}D as {self.mixture.name if self.mixture else 'asked for'}",
                "choose another --mixture",
            )
        self._box = self._checked_box(first, 0)
        self._require_density()
        self.masses = self._masses()
        self._counted = self._has_no_steps()
        if self._counted:
            self.notes.append(f"{self.path.name}: the file has no step numbers, its frames are counted instead")
        self.time_unit: Literal["reduced", "steps"] = (
            "reduced" if time_step is not None or self._own_times() else "steps"
        )

    def __repr__(self) -> str:
        return f"<Trajectory {self.path}: {len(self)} frames of {self.n_particles} particles, {self.format}>"

    def __len__(self) -> int:
        return len(self._source)

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    @property
    def n_particles(self) -> int:
        """Number of particles, the same in every frame."""
        return len(self._first.types)

    @property
    def wrapped(self) -> bool:
        """Whether the file has wrapped positions without images, so that moves are those to the nearest image."""
        return self._first.images is None and not self._first.unwrapped

    def times(self) -> NDArray[np.float64]:
        """(n_frames,) times of all frames, in :attr:`time_unit`.

        Where a frame must be read for its step and the first ones and the last lie at equal intervals, the others are
        taken to: whoever reads them sees whether they do.

        Raises:
            TrajectoryError: They do not increase.
        """
        steps = None if self._own_times() else self._source.steps()
        if steps is None:
            few = [self._time(self._source.read(k), k) for k in range(min(len(self), _SAMPLED))]
            last = self._time(self._source.read(len(self) - 1), len(self) - 1)
            even = np.linspace(few[0], last, len(self))
            found = even
            if not np.allclose(even[: len(few)], few, rtol=0, atol=1e-6 * max(abs(last), 1e-9)):
                found = np.array([self._time(self._source.read(k), k) for k in range(len(self))])
        else:
            counted = np.arange(len(self)) if self._counted else steps
            found = np.asarray(counted, np.float64) * (self._time_step or 1.0)
        late = np.flatnonzero(np.diff(found) <= 0)
        if late.size:
            self._refuse_order(int(late[0]) + 1, found[late[0]], found[late[0] + 1])
        return found

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """Every frame from one on in its order, unwrapped.

        Raises:
            TrajectoryError: A frame is damaged, has another number of particles, other types or another box than the
                first, or is not later than the one before; or a particle may have moved half a box between two.
        """
        follow = NearestImages(self._box) if self.wrapped else None
        before: float | None = None
        for number in range(first, len(self)):
            frame = self._checked(self._source.read(number), number, follow)
            assert frame.time is not None, "frames of a trajectory have times"
            if before is not None and frame.time <= before:
                self._refuse_order(number, before, frame.time)
            before = frame.time
            yield frame

    def original(self, number: int) -> Any:
        """A frame of a GSD file as gsd has it, with quantities that are not ours; None of other files."""
        return self._source.original(number % len(self)) if isinstance(self._source, GsdSource) else None

    def __getitem__(self, number: int) -> Frame:
        """One frame, from the end if negative; wrapped if :attr:`wrapped`.

        Raises:
            TrajectoryError: There is no such frame, or as :meth:`frames`.
        """
        count = len(self)
        if not -count <= number < count:
            raise TrajectoryError(f"found no frame {number} in {self.path}", f"a frame below {count}")
        return self._checked(self._source.read(number % count), number % count, None)

    def _checked(self, raw: RawFrame, number: int, follow: NearestImages | None) -> Frame:
        d, n = self._dimensions, self.n_particles
        if len(raw.types) != n:
            raise TrajectoryError(
                f"frame {number} of {self.path} has {len(raw.types)} particles",
                f"{n} as the first",
                "write frames of the same particles",
            )
        box = self._box if raw.lengths is self._first.lengths else self._checked_box(raw, number)
        if np.abs(box / self._box - 1).max() > _SAME_BOX:
            raise TrajectoryError(
                f"frame {number} of {self.path} has a box of {box.tolist()}",
                f"{self._box.tolist()} as the first",
                "write a trajectory at constant volume",
            )
        species = self._order[raw.types]
        same = self._snapshots or np.array_equal(raw.types, self._first.types)
        if raw.type_names != self._first.type_names or not same:
            raise TrajectoryError(f"frame {number} of {self.path} has other types", "those of the first frame")
        positions = raw.positions[:, :d] - (raw.lowest[:d] + self._box / 2)
        if follow is not None:
            positions = follow(positions, f"frame {number} of {self.path}")
        try:
            configuration = Configuration(
                box=self._box,
                species=species,
                positions=positions,
                species_names=self.species_names,
                velocities=None if raw.velocities is None else raw.velocities[:, :d],
                images=np.zeros((n, d), np.int32) if raw.images is None else raw.images[:, :d],
            )
        except InputError as error:
            raise TrajectoryError(
                f"frame {number} of {self.path}: {error.found}", error.expected, "write it again"
            ) from error
        step = number if raw.step is None or self._counted else raw.step
        return Frame(configuration, step, raw.log, self._time(raw, number))

    def _time(self, raw: RawFrame, number: int) -> float:
        if self._time_step is None and raw.time is not None:
            return raw.time
        step = number if raw.step is None or self._counted else raw.step
        return step * (self._time_step or 1.0)

    def _own_times(self) -> bool:
        return self._time_step is None and self._first.time is not None

    def _has_no_steps(self) -> bool:
        """Whether frames have neither steps nor times, or all of them step 0, as scripts write that set none."""
        if self._first.time is not None:
            return False
        if self._first.step is None:
            return True
        return len(self) > 1 and self._first.step == 0 and self._source.read(1).step == 0

    def _refuse_order(self, number: int, before: float, found: float) -> None:
        raise TrajectoryError(
            f"frame {number} of {self.path} is at {found:.12g} and the one before at {before:.12g}",
            "frames in the order of their times, each once",
            "remove what a restart wrote again",
        )

    def _checked_box(self, raw: RawFrame, number: int) -> NDArray[np.float64]:
        d = self._dimensions
        if np.any(raw.tilts != 0):
            raise TrajectoryError(
                f"frame {number} of {self.path} has a tilted box (xy, xz, yz = {raw.tilts.tolist()})",
                "an orthorhombic periodic box",
            )
        if not np.all(np.isfinite(raw.lengths[:d]) & (raw.lengths[:d] > 0)):
            raise TrajectoryError(
                f"frame {number} of {self.path} has no periodic box (L = {raw.lengths.tolist()})",
                "positive edges",
                "write the box, too",
            )
        return np.asarray(raw.lengths[:d], np.float64)

    def _require_density(self) -> None:
        density = self.n_particles / float(np.prod(self._box))
        low, high = _LIQUID
        if not low <= density <= high:
            raise TrajectoryError(
                f"{self.path} has {density:.4g} particles per unit of volume",
                f"a liquid in reduced units (σ_AA), {low:g} to {high:g}",
                "divide lengths by σ_AA: real units, perhaps?",
            )

    def _masses(self) -> NDArray[np.float64]:
        if self.mixture is not None:
            return np.asarray(self.mixture.masses, np.float64)[self._order[self._first.types]]
        return np.ones(self.n_particles) if self._first.masses is None else np.asarray(self._first.masses, np.float64)


def _mass_of_types(raw: RawFrame, count: int) -> list[float]:
    assert raw.masses is not None, "asked for where there are some"
    masses: list[float] = []
    for index in range(count):
        of_type = raw.masses[raw.types == index]
        masses.append(float(of_type[0]) if len(of_type) and np.ptp(of_type) == 0 else float("nan"))
    return masses


def open_trajectory(
    path: Path | str,
    *,
    mixture: Mixture | None = None,
    types: Mapping[str, str] | None = None,
    time_step: float | None = None,
    snapshots: bool = False,
) -> Trajectory:
    """Open a trajectory: GSD, LAMMPS dump or data, extended XYZ, by its content.

    Args:
        path: The file.
        mixture: What it holds; by default what a file of glassmd says itself, else unknown.
        types: Species by the name of a type, such as `{"1": "A", "2": "B"}`.
        time_step: Of one step, √(mσ²/ε), for files that have steps and no times.
        snapshots: Frames that do not follow from each other will do: a parent of a run and its replicas, or
            configurations in which other particles are of a species.

    Raises:
        TrajectoryError: It cannot be read, or holds no liquid in an orthorhombic periodic box.
        SettingsError: The mixture or the types are not those of the file.
    """
    if time_step is not None and not (np.isfinite(time_step) and time_step > 0):
        raise SettingsError(f"found time step {time_step}", "a number above 0", "for example --time-step 0.005")
    source = open_source(Path(path))
    try:
        return Trajectory(source, mixture, types, time_step, snapshots)
    except BaseException:
        source.close()
        raise


def read_configuration(
    path: Path | str, frame: int = -1, *, mixture: Mixture | None = None, types: Mapping[str, str] | None = None
) -> Configuration:
    """One frame of a file, the last by default, without particles that overlap; see :func:`open_trajectory`.

    Args:
        path: GSD, LAMMPS dump or data, extended XYZ.
        frame: From the end if negative.
        mixture: What it holds; by default what a file of glassmd says itself, else unknown.
        types: Species by the name of a type, such as `{"1": "A", "2": "B"}`.

    Raises:
        TrajectoryError: It cannot be read, has no such frame, or holds no liquid in an orthorhombic periodic box.
        SettingsError: The mixture or the types are not those of the file.
    """
    with open_trajectory(path, mixture=mixture, types=types, snapshots=True) as trajectory:
        found = trajectory[frame].configuration
    check_overlaps(Path(path), found)
    return found
