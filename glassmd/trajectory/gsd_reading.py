"""GSD files, read and checked. With :mod:`glassmd.trajectory.gsd_writing` the only module that imports gsd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, TrajectoryError
from glassmd.storage import is_special
from glassmd.trajectory.frame import Frame
from glassmd.trajectory.raw import RawFrame

__all__ = ["GsdSource", "complete_frames", "read_frames"]

_BYTES_OF_A_POSITION = 12


def _open(path: Path) -> gsd.hoomd.HOOMDTrajectory:
    if path.is_dir():
        raise TrajectoryError(f"{path} is a directory", "a GSD file")
    if not path.exists():
        raise TrajectoryError(f"found no file {path}", "a GSD file", "check the path")
    if is_special(path):
        raise TrajectoryError(f"{path} is no regular file", "a GSD file", "write it to a file first")
    if path.stat().st_size == 0:
        raise TrajectoryError(f"{path} is empty (0 bytes)", "a GSD file", "write it again")
    try:
        trajectory = gsd.hoomd.open(str(path), "r")
    except Exception as error:  # gsd raises RuntimeError, OSError and ValueError for damaged files
        raise TrajectoryError(
            f"{path} is not a readable GSD file ({error})", "a complete GSD file", "copy or write it again"
        ) from error
    if len(trajectory) == 0:
        trajectory.close()
        raise TrajectoryError(f"{path} holds no frames", "a GSD file with at least one frame", "write it again")
    return trajectory


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[gsd.hoomd.HOOMDTrajectory]:
    with _open(path) as trajectory:
        yield trajectory


def complete_frames(path: Path) -> int:
    """How many frames a GSD file has that somebody may still write; 0 while it is not there or cannot be opened."""
    try:
        with gsd.hoomd.open(str(path), "r") as trajectory:
            return len(trajectory)
    except (OSError, RuntimeError, ValueError):
        return 0


class GsdSource:
    """A GSD file as a trajectory; a quantity that a frame lacks is that of frame 0 (:mod:`gsd.hoomd`).

    Args:
        path: The file.

    Raises:
        TrajectoryError: It is no readable GSD file, or has no frames.
    """

    format = "GSD"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self._count = len(self._file)
        self._begun = False

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def read(self, number: int) -> RawFrame:
        """Frame `number`; see :class:`glassmd.trajectory.raw.FrameSource`."""
        for index in (number,) if self._begun else dict.fromkeys((0, number)):
            _check_number(self.path, self._file, index)
            raw = _raw(self.path, self._file, index)
            self._begun = True  # gsd knows frame 0 now
        box, particles = np.asarray(raw.configuration.box, np.float64), raw.particles
        exists = self._file.file.chunk_exists
        if particles.N == 0:
            raise TrajectoryError(f"{self.path} has no particles", "at least one particle per frame")
        names, types = tuple(map(str, particles.types)), np.asarray(particles.typeid, np.int32)
        if int(types.max()) >= len(names):
            raise TrajectoryError(f"{self.path} has type index {types.max()} for types {names}", "an index into them")
        return RawFrame(
            lengths=box[:3],
            tilts=box[3:],
            lowest=-box[:3] / 2,
            dimensions=int(raw.configuration.dimensions or 3),
            types=types,
            type_names=names,
            positions=np.asarray(particles.position, np.float64),
            images=np.asarray(particles.image, np.int32) if self._has_images else None,
            velocities=np.asarray(particles.velocity, np.float64) if exists(number, "particles/velocity") else None,
            masses=np.asarray(particles.mass, np.float64) if exists(0, "particles/mass") else None,
            step=int(raw.configuration.step or 0),
            log={name: np.asarray(value) for name, value in raw.log.items()},
        )

    def original(self, number: int) -> Any:
        """Frame `number` as gsd has it, everything that is in the file."""
        return _raw(self.path, self._file, number)

    def steps(self) -> NDArray[np.int64]:
        """Step numbers of all frames."""
        name, file = "configuration/step", self._file.file
        first = int(file.read_chunk(0, name)[0]) if file.chunk_exists(0, name) else 0
        found = (file.read_chunk(k, name)[0] if file.chunk_exists(k, name) else first for k in range(len(self)))
        return np.fromiter(found, np.int64, len(self))

    @cached_property
    def _has_images(self) -> bool:
        """Whether images are those of each frame. HOOMD-blue writes them into the first frame even where it does not
        write them later, unless it is told `dynamic=["particles/image"]`.
        """
        exists = self._file.file.chunk_exists
        return any(exists(k, "particles/image") for k in range(min(1, len(self) - 1), len(self)))


def _raw(path: Path, trajectory: gsd.hoomd.HOOMDTrajectory, index: int) -> Any:
    try:
        return trajectory[index]
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise TrajectoryError(
            f"frame {index} of {path} cannot be read ({error})", "a complete GSD file", "copy or write it again"
        ) from error


def _check_number(path: Path, trajectory: gsd.hoomd.HOOMDTrajectory, index: int) -> None:
    """Refuse a frame that claims more particles than the file has room for, before memory is taken for them."""
    frame = index if trajectory.file.chunk_exists(index, "particles/N") else 0
    if not trajectory.file.chunk_exists(frame, "particles/N"):
        return
    found, size = int(trajectory.file.read_chunk(frame, "particles/N")[0]), path.stat().st_size
    most = size // _BYTES_OF_A_POSITION
    if found > most:
        raise TrajectoryError(
            f"frame {index} of {path} claims {found:,} particles",
            f"at most {most:,} in {size:,} bytes",
            "write it again",
        )


def _checked_box(path: Path, box: Any, dimensions: int) -> NDArray[np.float64]:
    lengths, tilts = np.asarray(box[:3], np.float64), np.asarray(box[3:], np.float64)
    if np.any(tilts != 0):
        raise TrajectoryError(
            f"{path} has a tilted box (xy, xz, yz = {tilts.tolist()})", "an orthorhombic periodic box"
        )
    if not np.all(np.isfinite(lengths)) or np.any(lengths[:dimensions] <= 0):
        raise TrajectoryError(
            f"{path} has no periodic box (L = {lengths.tolist()})",
            "an orthorhombic periodic box with positive edges",
            "set configuration/box in the file",
        )
    return lengths[:dimensions]


def _configuration(path: Path, raw: Any, species_names: Sequence[str] | None) -> Configuration:
    particles = raw.particles
    if particles.N == 0:
        raise TrajectoryError(f"{path} has no particles", "at least one particle per frame")
    dimensions = int(raw.configuration.dimensions or 3)
    box = _checked_box(path, raw.configuration.box, dimensions)
    names = tuple(str(name) for name in particles.types)
    used = sorted({int(index) for index in particles.typeid})
    if used[-1] >= len(names):
        raise TrajectoryError(f"{path} has type index {used[-1]} for types {list(names)}", "an index into the types")
    if species_names is not None:
        unknown = [names[index] for index in used if names[index] not in species_names]
        if unknown:
            raise TrajectoryError(
                f"{path} has particles of unknown type {unknown}",
                f"the types {list(species_names)}",
                "rename the types in the file or choose another --mixture",
            )
        order = np.array([species_names.index(name) if name in species_names else -1 for name in names], np.int32)
        typeid, names = order[particles.typeid], tuple(species_names)
    else:
        typeid = np.asarray(particles.typeid, np.int32)
    try:
        return Configuration(
            box=box,
            species=typeid,
            positions=np.asarray(particles.position, np.float64)[:, :dimensions],
            species_names=names,
            images=np.asarray(particles.image, np.int32)[:, :dimensions],
        )
    except TrajectoryError:
        raise
    except InputError as error:
        raise TrajectoryError(f"{path}: {error.found}", error.expected, "write the snapshot again") from error


def read_frames(
    path: Path | str,
    species_names: Sequence[str] | None = None,
    frames: Sequence[int] | None = None,
) -> list[Frame]:
    """Read and check frames of a GSD file.

    Args:
        path: GSD file of any version that gsd reads.
        species_names: Names that may occur, in the order of the species index to return; None takes the file's.
        frames: Indices, negative ones from the end; None reads all.

    Raises:
        TrajectoryError: The file is missing, empty, truncated or not GSD, has no frames or particles,
            unknown types, a tilted or missing box, or non-finite positions.
    """
    path = Path(path)
    found: dict[int, Frame] = {}
    with _opened(path) as trajectory:
        count = len(trajectory)
        asked = range(count) if frames is None else frames
        for index in asked:
            if not -count <= index < count:
                raise TrajectoryError(f"found no frame {index} in {path}", f"a frame below {count}")
        # gsd cannot go back to a first frame that lacks a log of later ones, as glassmd wrote them once: it is read
        # first, and once.
        for index in sorted({index % count for index in asked}):
            _check_number(path, trajectory, index)
            raw = _raw(path, trajectory, index)
            log = {name: np.asarray(value) for name, value in raw.log.items()}
            found[index] = Frame(_configuration(path, raw, species_names), int(raw.configuration.step or 0), log)
    return [found[index % count] for index in asked]
