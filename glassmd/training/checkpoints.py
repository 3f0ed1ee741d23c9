"""Checkpoints: the learner with its fit, the reservoir and the position in the stream, in one file.

A checkpoint is one safetensors file (tensors plus a JSON state in its header) that appears whole or not at
all; the one before it is removed only afterwards. Pickle is never written or read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from glassmd.errors import ModelError
from glassmd.settings import TrainSettings
from glassmd.storage import UNSEALED, check_sealed_bytes, metadata_of, sealed_bytes, write_bytes

__all__ = [
    "latest_checkpoint",
    "latest_step",
    "load_checkpoint",
    "require_same",
    "save_checkpoint",
    "setting_of",
]

_AGAIN = "delete it to resume from the one before"

KEPT = 2
"""Checkpoints kept, in case the newest turns out to be damaged."""

Tensors = dict[str, torch.Tensor]


def _folder(directory: Path) -> Path:
    return directory / "checkpoints"


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint of a model directory, or None."""
    found = sorted(_folder(directory).glob("step-*.safetensors"))
    return found[-1] if found else None


def latest_step(directory: Path) -> int:
    """Steps that a training has taken at its newest checkpoint; 0 where there is none."""
    found = latest_checkpoint(directory)
    return 0 if found is None else int(found.stem.removeprefix("step-"))


def save_checkpoint(directory: Path, step: int, tensors: Tensors, state: dict[str, Any]) -> Path:
    """Write a checkpoint and drop all but the newest two."""
    path = _folder(directory) / f"step-{step:09d}.safetensors"
    sealed = json.dumps({**UNSEALED, "state": state})
    content = sealed_bytes(
        save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"sealed": sealed})
    )
    write_bytes(path, content)
    for old in sorted(path.parent.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a checkpoint; those of earlier releases have no checksum.

    Raises:
        ModelError: The file is damaged.
    """
    try:
        content = path.read_bytes()
        metadata = metadata_of(content)
        if set(metadata) == {"state"}:
            state = json.loads(metadata["state"])
        else:
            check_sealed_bytes(path, content, error=ModelError, todo=_AGAIN)
            state = json.loads(metadata["sealed"])["state"]
        return load(content), state
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error})", "a checkpoint written by glassmd", _AGAIN) from error


def setting_of(stored: Mapping[str, Any], key: str) -> Any:
    """A setting that a training was done with; one that came later had no effect, as its default has none.

    Example:
        >>> setting_of({"max_steps": 5}, "max_steps"), setting_of({"max_steps": 5}, "time_unit")
        (5, 'reduced')
    """
    field = TrainSettings.model_fields.get(key)
    return stored.get(key, None if field is None else field.default)


def require_same(directory: Path, stored: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other settings or data than a training began with.

    Raises:
        ModelError: Naming the first difference.
    """
    before, after = ({**identity["settings"], "seed": identity["seed"]} for identity in (stored, now))
    for key, value in after.items():
        if (was := setting_of(before, key)) != value:
            raise ModelError(
                f"{directory} was trained with {key} = {was}",
                f"{value} as asked for now",
                f"give {key} = {was} or choose another --out",
            )
    for key in ("mixture", "times"):
        if stored[key] != now[key]:
            raise ModelError(
                f"{directory} was trained on data with another {key}",
                f"the {key} of the data given now",
                "choose another --out",
            )
