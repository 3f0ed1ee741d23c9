"""What a learner does with samples: one interface for what is solved, what is stepped, and what is both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.learners.labels import LabelSums
from glassmd.processes import Processes
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Blocks, Sample, SampleKey

__all__ = ["FOLDS", "Advance", "Coming", "Labelled", "Part", "Taken", "Tensors", "evenly", "of_prefix", "with_prefix"]

FOLDS = 5
"""Groups of lineages that are kept apart, so that every sample is predicted by something that never saw its lineage."""

Tensors = dict[str, Tensor]


class Labelled(NamedTuple):
    """An encoded sample with its labels.

    Attributes:
        data: What :meth:`~glassmd.learners.base.PropensityModel.encode` made of it.
        labels: (n_particles, n_times) float64 propensities, σ_AA.
        mask: (n_particles,) which particles count.
        n_replicas: Replicas behind the labels.
        fold: Which of :data:`FOLDS` its lineage belongs to.
    """

    data: Data
    labels: Tensor
    mask: Tensor
    n_replicas: int
    fold: int


class Coming(NamedTuple):
    """A sample on its way in, as all processes of a training know it.

    Attributes:
        key: Which.
        blocks: Segments behind it.
        learn: Whether it is learned from; else it tells how noisy labels are, and nothing else.
        owner: The process that reads it and adds it up.
    """

    key: SampleKey
    blocks: Blocks
    learn: bool = True
    owner: int = 0


class Advance(NamedTuple):
    """What was done.

    Attributes:
        samples: How many samples went into it; into a solution all of them, whenever they were.
        loss: What an optimiser step has lowered, a scalar on its device; None where there is no such thing.
        milestone: Whether a validation and a checkpoint are due whatever the settings say.
        learning_rate: Of the optimiser step; None where there is no such thing.
    """

    samples: int
    loss: Tensor | None = None
    milestone: bool = False
    learning_rate: float | None = None


class Taken:
    """The samples that a learner has, by key and version, and how to get at them again.

    Args:
        n_species: Of the mixture.
        n_times: Of the labels.
        encode: What the learner eats of a sample.
        mask: (n_particles,) which particles of a sample count.
        fold: Which of :data:`FOLDS` a sample's lineage belongs to.
        recall: Reads a sample again with the replicas of some segments.
        check: Called in whatever takes long; what it raises ends it.
        least_unit: Smallest unit that labels are learned in, in their own.
        processes: Of the training: what is known of samples is the same in all of them.

    Attributes:
        blocks: Segments behind every sample that is learned from.
        heard: Segments behind every other sample whose noise is known.
        uncounted: Those of whose particles none counts.
        owners: The process that adds a sample up, where that is not the first.
        labels: Sums over the labels of all of them.
    """

    def __init__(
        self,
        *,
        n_species: int,
        n_times: int,
        encode: Callable[[Sample], Data],
        mask: Callable[[Sample], NDArray[np.bool_]],
        fold: Callable[[SampleKey], int],
        recall: Callable[[SampleKey, Blocks], Sample],
        check: Callable[[], None] = lambda: None,
        least_unit: float = 1e-6,
        processes: Processes | None = None,
    ) -> None:
        self.encode, self.mask, self.fold, self.check = encode, mask, fold, check
        self.recall, self._least_unit = recall, least_unit
        self.blocks: dict[SampleKey, Blocks] = {}
        self.heard: dict[SampleKey, Blocks] = {}
        self.uncounted: set[SampleKey] = set()
        self.owners: dict[SampleKey, int] = {}
        self.processes = processes or Processes()
        self.labels = LabelSums.none(n_species, n_times)

    def sample(self, key: SampleKey) -> Sample:
        """A sample as it was taken or heard of."""
        return self.recall(key, self.blocks[key] if key in self.blocks else self.heard[key])

    def some(self, most: int) -> list[SampleKey]:
        """At most so many of the samples that are learned from, evenly over runs, and over the lineages of each.

        Runs may be of different temperatures, and one that has few samples gives all of them rather than none.
        """
        of_run: dict[str, list[SampleKey]] = {}
        for key in sorted(self.blocks):
            of_run.setdefault(key.run, []).append(key)
        found, left = list[SampleKey](), most
        for number, keys in enumerate(sorted(of_run.values(), key=len)):
            found += evenly(keys, left // (len(of_run) - number))
            left = most - len(found)
        return sorted(found)

    @property
    def units(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of the labels, (n_species, n_times) float32, as :attr:`LabelSums.units`."""
        scale, shift = self.labels.units
        return scale.clamp_min(self._least_unit), shift

    def noise(self, sample: Sample, predicted: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(n_times, n_particles) variance of a sample's labels, σ_AA²: its own, or the pooled one where it has none.

        Args:
            sample: Whose.
            predicted: As in :meth:`LabelSums.noise`.
        """
        own = sample.variance / sample.n_replicas
        return np.where(np.isfinite(own), own, self.labels.noise(sample, predicted))

    def labelled(self, sample: Sample) -> Labelled:
        """A sample as sums take it."""
        return Labelled(
            self.encode(sample),
            torch.from_numpy(sample.propensity.T),
            torch.from_numpy(self.mask(sample)),
            sample.n_replicas,
            self.fold(sample.key),
        )


class Part(ABC):
    """One way to learn. A learner has one or several (:class:`glassmd.learners.fitting.fit.Fit`).

    Attributes:
        paces: Whether the steps of a training are its steps, where it is not alone.
        step: Advances so far.
        last_step: Advances after which nothing is left to do; 0 where samples alone decide.
        redrawn: Of the advances, those on samples drawn again for want of others; they come on top of the others.
        hungry: Whether another sample would change what the learner says.
    """

    paces: ClassVar[bool] = False
    step: int = 0
    last_step: int = 0
    redrawn: int = 0
    hungry: bool = False

    def taking(self, sample: Sample | None, before: Sample | None, turn: Sequence[Coming]) -> Any:
        """What the part holds once it has a sample; nothing changes. All processes are asked together.

        Args:
            sample: New, or grown; None where this process takes none in this turn.
            before: The sample as the part has it; None where it is new.
            turn: What all processes take, each one at most.
        """
        return None

    def take(self, holding: Any) -> None:
        """Hold what :meth:`taking` gave. Doing it again changes nothing."""
        return

    @abstractmethod
    def due(self, reservoir: Reservoir, *, final: bool) -> bool:
        """Whether there is something to do now; `final` where no sample will follow."""

    @abstractmethod
    def advance(self, reservoir: Reservoir) -> Advance:
        """Do it.

        Raises:
            ModelError: What came out is no number.
        """

    def shake(self, number: int) -> None:
        """From now on other random numbers than those that led here."""
        return

    def finish(self) -> None:
        """Whatever is left to do when no sample and no advance will follow. Doing it again changes nothing."""
        return

    def keep(self) -> None:
        """The weights as they are now are the best so far."""
        return

    @property
    def kept(self) -> Tensors:
        """Weights of :meth:`keep` by name, on the CPU; those that are not there are as they are now."""
        return {}

    def tensors(self) -> Tensors:
        """What a checkpoint needs beside the learner's weights."""
        return {}

    def state(self) -> dict[str, Any]:
        """The same, JSON types only."""
        return {}

    def restore(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Return to a checkpoint; the learner's weights are there."""
        return


def evenly(keys: list[SampleKey], most: int) -> list[SampleKey]:
    """At most so many of them, at equal distances."""
    return [keys[(2 * k + 1) * len(keys) // (2 * most)] for k in range(most)] if len(keys) > most else keys


def of_prefix(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    """The same tensors under longer names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
