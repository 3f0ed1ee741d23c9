"""Where inputs are kept: beside the run that they belong to.

::

    RUN/inputs/
      protocol.json                          how cages of this run are measured
      inherent/L0000-P0000.safetensors .json
      cage-1f2e3d4c/L0000-P0000.safetensors .json     one directory per protocol and seed

A file counts once its sidecar has appeared, which holds its checksum, the checksum of the parent's content, engine,
protocol and cost. What is damaged, or belongs to another parent, is as good as missing: it is computed again. Where the
run may only be read, the same tree grows in the user's cache directory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from glassmd.errors import RunError, storage_errors
from glassmd.fields import SCHEMA_VERSION
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.storage import claim, publish, read_json, sha256_of, temporary_name, write_json

__all__ = ["Cached", "InputCache", "Recipe"]

_FACTS = {"sha256", "parent", "engine", "engine_version", "device", "steps", "seconds"}
"""Without which a sidecar is damaged."""

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is computed and how: two recipes never share a file.

    Attributes:
        input: `inherent` or `cage`.
        parameters: Everything that the result depends on besides the parent (JSON types only).
        arrays: What a result holds; one that lacks any was written by an earlier release and is as good as missing.

    Example:
        >>> Recipe("inherent").folder, Recipe("cage", {"seed": 0}).folder
        ('inherent', 'cage-de7d7744')
    """

    input: str
    parameters: Mapping[str, Any] | None = None
    arrays: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of the directory of its results."""
        if self.parameters is None:
            return self.input
        text = json.dumps(dict(self.parameters), sort_keys=True)
        return f"{self.input}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, eq=False)
class Cached:
    """A result: float32 arrays by name, and its sidecar."""

    arrays: Arrays
    sidecar: dict[str, Any]


class InputCache:
    """The inputs of one run.

    Args:
        run: Whose.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._roots = [run.path / "inputs"]
        self._claims = run.path / "claims"
        self._run = run
        if not os.access(run.path, os.W_OK):
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glassmd"
            self._roots.append(home / "inputs" / str(run.identity["id"]))
            self._claims = home / "claims" / str(run.identity["id"])

    @property
    def root(self) -> Path:
        """Where results are written: in the run, or in the user's cache directory where the run may not be."""
        return self._roots[-1]

    def file(self, recipe: Recipe, key: ParentKey) -> Path:
        """Where a result is written."""
        return self.root / recipe.folder / f"{key.name}.safetensors"

    def committed(self, recipe: Recipe, key: ParentKey) -> bool:
        """Whether a result has been written; :meth:`read` says whether it is worth anything."""
        return any((root / recipe.folder / f"{key.name}.json").exists() for root in self._roots)

    def read(self, recipe: Recipe, key: ParentKey, content: str) -> Cached | None:
        """A result; None where there is none, or it is damaged or of another parent.

        Args:
            recipe: What and how.
            key: Which parent.
            content: :func:`glassmd.inputs.cage.content_of` the parent.
        """
        for root in self._roots:
            path = root / recipe.folder / f"{key.name}.safetensors"
            found = _verified(path, content) if path.with_suffix(".json").exists() else None
            if found is not None and found.arrays.keys() >= set(recipe.arrays):
                return found
        return None

    def write(self, recipe: Recipe, key: ParentKey, content: str, arrays: Arrays, facts: Mapping[str, Any]) -> Cached:
        """Commit a result, in place of one that was there.

        Raises:
            StorageError: The disk is full or not writable.
        """
        path = self.file(recipe, key)
        temporary = temporary_name(path)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)  # a reader must not meet the old one's
            try:
                save_file(arrays, temporary)
                publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        sidecar = {
            "schema_version": SCHEMA_VERSION,
            "sha256": sha256_of(path),
            "parent": content,
            "run": self._run.identity["id"],
            "input": recipe.input,
            "parameters": None if recipe.parameters is None else dict(recipe.parameters),
            **facts,
        }
        write_json(path.with_suffix(".json"), sidecar)
        return Cached(arrays, sidecar)

    @contextmanager
    def claim(self, recipe: Recipe, key: ParentKey) -> Iterator[bool]:
        """Hold the claim on a result while the block runs; yields whether it was granted."""
        with claim(self._claims / f"{recipe.folder}-{key.name}.lock") as granted:
            yield granted


def _verified(path: Path, content: str) -> Cached | None:
    try:
        sidecar, raw = read_json(path.with_suffix(".json")), path.read_bytes()
    except (RunError, OSError):
        return None
    if (
        not sidecar.keys() >= _FACTS
        or sidecar["parent"] != content
        or sidecar["sha256"] != hashlib.sha256(raw).hexdigest()
    ):
        return None
    try:
        return Cached(load(raw), sidecar)
    except SafetensorError:
        return None
