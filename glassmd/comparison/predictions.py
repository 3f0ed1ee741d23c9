"""What a trained model says about samples that it never saw: one file, there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from glassmd.errors import RunError, storage_errors
from glassmd.storage import publish, temporary_name

__all__ = ["Predictions"]

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
        content = save(arrays, {"facts": json.dumps(self.facts)})
        temporary = temporary_name(path)
        with storage_errors(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
                publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file.

        Raises:
            RunError: It is damaged.
        """
        found: dict[str, dict[str, FloatArray]] = {"propensity": {}, "std": {}}
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()["facts"])
                for name in file.keys():  # noqa: SIM118  (a file, not a mapping)
                    kind, _, key = name.partition("/")
                    found[kind][key] = file.get_tensor(name).astype(np.float64)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"could not read {path}: {error}", "predictions written by glassmd", "delete it and repeat the command"
            ) from error
        return cls(facts, found["propensity"], found["std"])
