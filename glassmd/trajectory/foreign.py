"""Formats other than GSD, by ASE, one frame at a time: LAMMPS dump and data, extended XYZ.

ASE reads a frame and nothing is asked of it that it gets wrong (`benchmarks/readers.py`): it is given the text of one
frame, so that memory does not follow the length of the file; columns that it would convert to its own units, and
species that are no elements, come under names that it leaves alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import TrajectoryError
from glassmd.trajectory.blocks import Blocks, dump_blocks, xyz_blocks
from glassmd.trajectory.foreign_lammps import DumpFrames, frame_of_data
from glassmd.trajectory.foreign_xyz import frame_of_xyz
from glassmd.trajectory.raw import RawFrame

__all__ = ["INSTALL", "ForeignSource"]

INSTALL = 'pip install "glassmd[formats]"'
"""What to type when ASE is missing."""

_NAMES = {"lammps-dump": "LAMMPS dump", "lammps-data": "LAMMPS data", "extxyz": "extended XYZ"}


class ForeignSource:
    """A file of another program as a trajectory; see :class:`glassmd.trajectory.raw.FrameSource`.

    Args:
        path: The file.
        kind: `lammps-dump`, `lammps-data` or `extxyz`.

    Raises:
        TrajectoryError: ASE is not installed, or the file holds no complete frame.
    """

    def __init__(self, path: Path, kind: str) -> None:
        if importlib.util.find_spec("ase") is None:
            raise TrajectoryError(f"{path} is a {_NAMES[kind]}, and ASE, which reads it, is not installed", "", INSTALL)
        self.path, self.format, self._kind = path, _NAMES[kind], kind
        self._blocks: Blocks | None = None
        if kind != "lammps-data":
            self._blocks = dump_blocks(path) if kind == "lammps-dump" else xyz_blocks(path)
        cut = self._blocks is not None and self._blocks.cut
        note = f"{path.name}: the last frame is cut; the {len(self)} before it are read"
        self.notes: tuple[str, ...] = (note,) if cut else ()
        self._dump = DumpFrames()

    def __len__(self) -> int:
        return 1 if self._blocks is None else len(self._blocks)

    def close(self) -> None:
        """Let go of the file."""
        if self._blocks is not None:
            self._blocks.close()

    def steps(self) -> NDArray[np.int64] | None:
        """Step numbers of all frames of a dump; None for other files."""
        return self._blocks.steps if self._blocks is not None else None

    def read(self, number: int) -> RawFrame:
        """Frame `number`; see :class:`glassmd.trajectory.raw.FrameSource`."""
        try:
            if self._blocks is None:
                return frame_of_data(self.path)
            text = self._blocks.text(number)
            return self._dump.frame(text) if self._kind == "lammps-dump" else frame_of_xyz(text)
        except TrajectoryError as error:
            raise TrajectoryError(
                f"frame {number} of {self.path}: {error.found}", error.expected, error.todo
            ) from error
        except Exception as error:  # ASE raises almost anything
            what = f"{type(error).__name__}: {error}"
            raise TrajectoryError(
                f"frame {number} of {self.path} cannot be read ({what})", f"a complete {self.format}", "write it again"
            ) from error
