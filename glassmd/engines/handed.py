"""What is handed to ranks and back: files of a folder that each appear whole.

::

    FOLDER/job.json            what to do
    FOLDER/system-0.npz        a configuration, written when the one before is in hand
    FOLDER/found-0-0.npz       what the first rank found of it
    FOLDER/error-1.json        what a rank raised
    FOLDER/output              what else the ranks had to say
"""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from glassmd.configuration import Configuration
from glassmd.storage import write_bytes

__all__ = ["hand", "handed_configuration", "hand_configuration", "take"]

_Found = TypeVar("_Found")


def hand(path: Path, values: dict[str, Any]) -> None:
    """Write numbers and arrays."""
    content = io.BytesIO()
    np.savez(content, **values)
    write_bytes(path, content.getvalue(), durable=False)


def take(path: Path, kind: type[_Found]) -> _Found:
    """Read a dataclass of numbers and arrays, and remove the file."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {field.name: arrays[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    path.unlink()
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def hand_configuration(path: Path, system: Configuration) -> None:
    """Write a configuration as it is, to the last bit."""
    values = {"box": system.box, "species": system.species, "positions": system.positions, "images": system.images}
    if system.velocities is not None:
        values["velocities"] = system.velocities
    hand(path, {**values, "species_names": np.array(system.species_names)})


def handed_configuration(path: Path) -> Configuration:
    """Read what :func:`hand_configuration` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        values = dict(arrays)
    return Configuration(**{**values, "species_names": tuple(map(str, values["species_names"]))})
