"""GSD files: validated reads and atomic writes. The only module that imports gsd."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, TrajectoryError, storage_errors
from glassmd.fields import GSD_IDENTITY, GSD_TIME
from glassmd.storage import is_special, publish, temporary_name

__all__ = ["Frame", "read_configuration", "read_frames", "write_frames"]

OVERLAP = 0.3
"""Closest distance accepted in a snapshot, σ_AA. A pair with σ = 0.8 and ε = 1.5 has an energy of 8·10^5 there."""

_BYTES_OF_A_POSITION = 12


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a GSD file.

    Attributes:
        configuration: Particles and box.
        step: Time step number.
        log: Logged arrays by name, without the leading `log/`.
    """

    configuration: Configuration
    step: int = 0
    log: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any] | None:
        """Mixture and temperature stored by glassmd, or None in a foreign file."""
        raw = self.log.get(GSD_IDENTITY)
        if raw is None:
            return None
        try:
            identity = json.loads(np.asarray(raw, np.uint8).tobytes().decode())
        except ValueError as error:
            raise TrajectoryError(f"found a damaged {GSD_IDENTITY} chunk", "JSON written by glassmd") from error
        return identity if isinstance(identity, dict) else None


def encode_identity(identity: Mapping[str, Any]) -> NDArray[np.uint8]:
    """JSON as a uint8 array, which every GSD reader takes."""
    return np.frombuffer(json.dumps(dict(identity)).encode(), np.uint8)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[gsd.hoomd.HOOMDTrajectory]:
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
    with trajectory:
        if len(trajectory) == 0:
            raise TrajectoryError(f"{path} holds no frames", "a GSD file with at least one frame", "write it again")
        yield trajectory


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


def check_overlaps(path: Path, configuration: Configuration) -> None:
    """Refuse a snapshot in which two particles sit on each other.

    Raises:
        TrajectoryError: Naming the closest pair.
    """
    from vesin import NeighborList  # imports torch, which a simulating worker does without

    n, d = configuration.positions.shape
    points, box = np.zeros((n, 3)), np.eye(3)
    points[:, :d], box[range(d), range(d)] = configuration.positions, configuration.box
    search = NeighborList(cutoff=OVERLAP, full_list=False, n_threads=1)
    i, j, distance = search.compute(points, box, [True, True, d == 3], "ijd")
    if len(distance):
        worst = int(np.argmin(distance))
        raise TrajectoryError(
            f"{path} has overlapping particles: {int(i[worst])} and {int(j[worst])} are {distance[worst]:.3g} apart",
            f"distances above {OVERLAP:g} σ_AA",
            "check the box and the units",
        )


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
            try:
                raw = trajectory[index]
                log = {name: np.asarray(value) for name, value in raw.log.items()}
            except (RuntimeError, OSError, KeyError, ValueError) as error:
                raise TrajectoryError(
                    f"frame {index} of {path} cannot be read ({error})",
                    "a complete GSD file",
                    "copy or write it again",
                ) from error
            found[index] = Frame(_configuration(path, raw, species_names), int(raw.configuration.step or 0), log)
    return [found[index % count] for index in asked]


def read_configuration(path: Path | str, frame: int = -1, species_names: Sequence[str] | None = None) -> Configuration:
    """Read one frame (the last by default) and refuse overlapping particles; see :func:`read_frames`."""
    found = read_frames(path, species_names, [frame])[0].configuration
    check_overlaps(Path(path), found)
    return found


def _snapshot(frame: Frame) -> gsd.hoomd.Frame:
    configuration = frame.configuration
    n, d = configuration.positions.shape
    raw = gsd.hoomd.Frame()
    raw.configuration.step = frame.step
    raw.configuration.dimensions = d
    raw.configuration.box = [*configuration.box, *([0.0] if d == 2 else []), 0.0, 0.0, 0.0]
    raw.particles.N = n
    raw.particles.types = list(configuration.species_names)
    raw.particles.typeid = configuration.species.astype(np.uint32)
    position, image = np.zeros((n, 3), np.float32), np.zeros((n, 3), np.int32)
    position[:, :d], image[:, :d] = configuration.positions, configuration.images
    raw.particles.position, raw.particles.image = position, image
    if configuration.velocities is not None:
        velocity = np.zeros((n, 3), np.float32)
        velocity[:, :d] = configuration.velocities
        raw.particles.velocity = velocity
    raw.log = {name: np.asarray(value) for name, value in frame.log.items()}
    return raw


def _nothing(name: str, like: NDArray[Any]) -> NDArray[Any]:
    """What the first frame says of a log that only later ones have.

    The time since the parent is 0 there; other numbers are NaN, or −1 where they are whole, and bytes are 0.
    """
    if name == GSD_TIME:
        return np.zeros_like(like)
    if np.issubdtype(like.dtype, np.floating):
        return np.full_like(like, np.nan)
    return np.full_like(like, -1 if np.issubdtype(like.dtype, np.signedinteger) else 0)


def _with_all_logs(frames: Sequence[Frame]) -> Iterator[Frame]:
    """The frames as they are written: the first has every log of any frame, others what differs from the first.

    gsd takes what a frame lacks from the first one; where that lacks it too, it cannot read the frames in any order,
    and `gsd.hoomd.read_log` leaves the log out without a word.
    """
    if not frames:
        return
    logs = [{name: np.asarray(value) for name, value in frame.log.items()} for frame in frames]
    first = dict(logs[0])
    for log in logs[1:]:
        first |= {name: _nothing(name, value) for name, value in log.items() if name not in first}
    yield replace(frames[0], log=first)
    for frame, log in zip(frames[1:], logs[1:], strict=True):
        yield replace(frame, log={name: value for name, value in log.items() if not _same(value, first[name])})


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def write_frames(path: Path | str, frames: Iterable[Frame]) -> None:
    """Write a GSD file that appears whole or not at all (single precision, as every GSD reader expects).

    Any reader finds every log in every frame, in whatever order it reads them: the first frame has −1 or NaN for what
    only later ones say, and time 0. A log that a later frame lacks is that of the first frame.

    Raises:
        StorageError: The disk is full or not writable; no partial file is left behind.
    """
    path = Path(path)
    temporary = temporary_name(path)
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with gsd.hoomd.open(str(temporary), "w") as trajectory:
                for number, frame in enumerate(_with_all_logs(list(frames))):
                    if number == 0 and frame.step == 0:  # gsd leaves it out, and then cannot read the log
                        trajectory.file.write_chunk("configuration/step", np.zeros(1, np.uint64))
                    trajectory.append(_snapshot(frame))
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
