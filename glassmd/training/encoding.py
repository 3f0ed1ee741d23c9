"""What the learner eats of every sample, made once and kept in memory and on disk while there is room."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.learners.base import PropensityModel
from glassmd.processes import Processes
from glassmd.storage import UNSEALED, check_sealed_bytes, metadata_of, sealed_bytes, temporary_name
from glassmd.stream.pairs import PairChanges
from glassmd.stream.samples import Blocks, Sample, SampleKey
from glassmd.stream.structures import Structures

__all__ = ["Encoder", "Encodings", "Name", "encodings_of"]

GIB = 2**30
_READ = 2e8  # bytes per second that reading and checking a file takes: what is encoded faster is not written

Name = tuple[SampleKey, Blocks]
"""Of what is encoded: the sample, and the segments behind it where it depends on them."""


class Encodings:
    """Encoded samples: the latest used in memory, and those that it has no room for on disk; any thread may ask.

    Trainings of one learner with the same hyperparameters may share them: what is encoded does not depend on weights.
    At N = 4096 a graph takes 5 MB, and the descriptors and bonds of `glassnet` 15 MB and a second and a half to make.

    Args:
        memory: GiB to keep in memory; the longest unused sample leaves first.
        directory: Where others go, if making them took longer than reading them will, and where another process may put
            some; nowhere by default.
        disk: GiB to keep there; what finds no room is made again when it is needed.
        shared: Whether other processes look there: what is made goes there at once.

    Attributes:
        seconds: By sample, what encoding it took.
        spent: Seconds of all encoding so far.
    """

    def __init__(
        self, memory: float = 3.0, directory: Path | None = None, disk: float = 20.0, *, shared: bool = False
    ) -> None:
        self._kept: OrderedDict[Name, Data] = OrderedDict()
        self._memory, self._disk = memory * GIB, disk * GIB
        self.directory, self._shared = directory, shared
        self._lock = threading.RLock()
        self.seconds: dict[SampleKey, float] = {}
        self.spent = 0.0

    def get(self, name: Name, encode: Callable[[], Data]) -> Data:
        """What is kept of a sample, or what `encode` makes of it."""
        with self._lock:
            return self._get(name, encode)

    def there(self, name: Name) -> bool:
        """Whether a sample is kept, so that :meth:`get` need not make it."""
        path = self._path(name)
        return name in self._kept or (path is not None and path.exists())

    def put(self, name: Name, data: Data) -> bool:
        """Write an encoded sample for another process that asks for it; whether there was room."""
        path = self._path(name)
        return path is not None and self._save(path, data)

    def _get(self, name: Name, encode: Callable[[], Data]) -> Data:
        data = self._kept.get(name)
        if data is not None:
            self._kept.move_to_end(name)
            return data
        data = self._read(name)
        if data is None:
            started = time.perf_counter()
            data = encode()
            self.seconds[name[0]] = time.perf_counter() - started
            self.spent += self.seconds[name[0]]
            if self._shared:
                self._write(name, data)
        self._kept[name] = data
        self._memory -= _size(data)
        while self._memory < 0 and len(self._kept) > 1:
            oldest, leaving = self._kept.popitem(last=False)
            self._memory += _size(leaving)
            self._write(oldest, leaving)
        return data

    def remove(self) -> None:
        """Remove what is on disk."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, name: Name) -> Path | None:
        key, blocks = name
        version_of = hashlib.sha256(str(blocks).encode()).hexdigest()[:8]
        text = f"{key.run}-{key.lineage}-{key.parent}-{version_of}"
        return None if self.directory is None else self.directory / f"{text}.safetensors"

    def _read(self, name: Name) -> Data | None:
        path = self._path(name)
        if path is None or not path.exists():
            return None
        with suppress(OSError, ValueError, KeyError, SafetensorError, ModelError):  # damaged: it is made again
            content = path.read_bytes()
            check_sealed_bytes(path, content, error=ModelError, todo="")
            return Data(**load(content), **json.loads(metadata_of(content)["sealed"])["numbers"])
        return None

    def _write(self, name: Name, data: Data) -> None:
        path = self._path(name)
        if path is not None and self.seconds.get(name[0], 0.0) * _READ >= _size(data) and not path.exists():
            self._save(path, data)

    def _save(self, path: Path, data: Data) -> bool:
        """Write a file where there is room for it; whether there was."""
        size = _size(data)
        if size > self._disk:
            return False
        fields = data.to_dict()
        tensors = {key: value.contiguous() for key, value in fields.items() if isinstance(value, torch.Tensor)}
        numbers = {key: value for key, value in fields.items() if isinstance(value, int | float)}
        content = sealed_bytes(save(tensors, {"sealed": json.dumps({**UNSEALED, "numbers": numbers})}))
        with suppress(OSError):  # a full disk costs time, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_name(path)
            temporary.write_bytes(content)
            os.replace(temporary, path)  # unflushed: the checksum tells
            self._disk -= size
            return True
        return False


def encodings_of(
    model: PropensityModel, directory: Path, memory: float, disk: float, processes: Processes | None = None
) -> Encodings:
    """Where a training keeps what one learner eats; what another has left in `directory/encodings` is removed.

    Several processes each take their share of the disk, and read what others have made.
    """
    made_by = [version("glassmd"), model.name, {k: v for k, v in model.hyperparameters().items() if k != "n_features"}]
    own = hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode()).hexdigest()[:16]
    place = directory / "encodings"
    for other in place.glob("*") if place.is_dir() else ():
        if other.name != own:
            shutil.rmtree(other, ignore_errors=True)
    size = 1 if processes is None else processes.size
    return Encodings(memory, place / own, disk / size if model.stepped else 0.0, shared=size > 1)  # sums need it once


@runtime_checkable
class PairLabelled(Protocol):
    """A learner that takes labels of pairs beside those of particles."""

    def attach_labels(self, data: Data, changes: PairChanges) -> Data:
        """Put them into what it made of the parent."""


class Encoder:
    """Encodes samples for one learner.

    Args:
        model: The learner.
        structures: Of the samples, with the learner's inputs.
        encodings: Where they are kept.
        pairs_of: Labels of a sample's pairs, for a learner that takes them; None where there are none.
    """

    def __init__(
        self,
        model: PropensityModel,
        structures: Structures,
        encodings: Encodings,
        pairs_of: Callable[[Sample], PairChanges | None] = lambda sample: None,
    ) -> None:
        self._model, self._structures, self._pairs_of = model, structures, pairs_of
        self._encodings = encodings

    def __call__(self, sample: Sample) -> Data:
        """The encoded sample; one that grew has the structure that it had, and other labels of its pairs."""
        self._structures.count(sample.key)
        return self._encodings.get(self.name(sample.key, sample.blocks), lambda: self.encode(sample))

    def name(self, key: SampleKey, blocks: Blocks) -> Name:
        """What the encoded sample is kept under."""
        return key, blocks if isinstance(self._model, PairLabelled) else ()

    def encode(self, sample: Sample) -> Data:
        """Encode a sample, whether it is kept or not."""
        data = self._model.encode(self._structures.of(sample))
        if isinstance(self._model, PairLabelled):
            changes = self._pairs_of(sample)
            if changes is not None:
                self._model.attach_labels(data, changes)
        return data


def _size(data: Data) -> int:
    return sum(value.nbytes for value in data.to_dict().values() if isinstance(value, torch.Tensor))
