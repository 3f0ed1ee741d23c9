"""What a trained model says about samples that it never saw: one file, there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from glassmd.errors import RunError
from glassmd.storage import UNSEALED, check_sealed_bytes, metadata_of, sealed_bytes, write_bytes

__all__ = ["Predictions"]

_AGAIN = "delete it and repeat the command"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of one model, by sample.

    Attributes:
        facts: What the model is and what it took (JSON types only).
        propensity: By sample, (n_times, n_particles) predicted propensity, σ_AA.
        std: By sample, (n_times, n_particles) its expected distance from the truth, σ_AA; NaN where unknown.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    propensity: Mapping[str, FloatArray] = field(default_factory=dict)
    std: Mapping[str, FloatArray] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Commit to a file, in single precision as models predict.

        Raises:
            StorageError: The disk is full or not writable.
        """
        arrays = {f"propensity/{key}": values.astype(np.float32) for key, values in self.propensity.items()}
        arrays |= {f"std/{key}": values.astype(np.float32) for key, values in self.std.items()}
        sealed = json.dumps({**UNSEALED, "facts": dict(self.facts)})
        write_bytes(path, sealed_bytes(save(arrays, {"sealed": sealed})))

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file; those of earlier releases have no checksum.

        Raises:
            RunError: It is damaged.
        """
        found: dict[str, dict[str, FloatArray]] = {"propensity": {}, "std": {}}
        try:
            content = path.read_bytes()
            metadata = metadata_of(content)
            if set(metadata) == {"facts"}:
                facts = json.loads(metadata["facts"])
            else:
                check_sealed_bytes(path, content, error=RunError, todo=_AGAIN)
                facts = json.loads(metadata["sealed"])["facts"]
            for name, values in load(content).items():
                kind, _, key = name.partition("/")
                found[kind][key] = values.astype(np.float64)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunError(f"could not read {path}: {error}", "predictions written by glassmd", _AGAIN) from error
        return cls(facts, found["propensity"], found["std"])
