"""Learners that are solved: sums over samples, then a small problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from glassmd.fields import NODE_SPECIES
from glassmd.learners.base import PropensityModel
from glassmd.learners.part import Advance, Coming, Labelled, Part, Taken, Tensors, of_prefix, with_prefix
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey

__all__ = ["Kind", "Solvable", "Solved", "SolvedModel", "Sums", "Together", "species_of"]


Kind = int | tuple[int, float]
"""Of particles whose values are counted from the same sample: a species, or a species at a temperature."""


class Sums(ABC):
    """Something that adds up over samples in any order. Adding returns other sums and leaves these as they are.

    Attributes:
        exact: Whether it is what adding the same samples to nothing would give; rounding apart.
    """

    exact: bool = True

    def kinds(self, sample: Labelled) -> set[Kind]:
        """The kinds of its particles that count; species by default."""
        return {*species_of(sample)}

    @abstractmethod
    def anchored(self, sample: Labelled, kinds: Collection[Any]) -> Self:
        """Count the values of some kinds from those of a sample; nothing of these kinds has been added yet."""

    @abstractmethod
    def added(self, sample: Labelled, sign: int = 1) -> Self:
        """With a sample, or without it where `sign` is −1.

        Raises:
            ModelError: Numbers that are not finite, or shapes that do not fit.
        """

    @abstractmethod
    def plus(self, other: Self) -> Self:
        """The sums over the samples of both, which count from the same ones."""

    @abstractmethod
    def emptied(self) -> Self:
        """Sums over nothing that count from the same samples."""

    @abstractmethod
    def tensors(self) -> Tensors:
        """Everything, for a checkpoint."""

    @abstractmethod
    def restored(self, tensors: Tensors) -> Self:
        """What gave these tensors, from sums over nothing."""


class Together(Sums):
    """Several sums over the same samples.

    Args:
        parts: By name.
    """

    def __init__(self, **parts: Sums) -> None:
        self.parts = parts
        self.exact = all(part.exact for part in parts.values())

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def anchored(self, sample: Labelled, kinds: Collection[Any]) -> Together:
        """See :class:`Sums`."""
        return Together(**{name: part.anchored(sample, kinds) for name, part in self.parts.items()})

    def added(self, sample: Labelled, sign: int = 1) -> Together:
        """See :class:`Sums`."""
        return Together(**{name: part.added(sample, sign) for name, part in self.parts.items()})

    def plus(self, other: Together) -> Together:
        """See :class:`Sums`."""
        return Together(**{name: part.plus(other[name]) for name, part in self.parts.items()})

    def emptied(self) -> Together:
        """See :class:`Sums`."""
        return Together(**{name: part.emptied() for name, part in self.parts.items()})

    def tensors(self) -> Tensors:
        """See :class:`Sums`."""
        return {k: v for name, part in self.parts.items() for k, v in with_prefix(part.tensors(), f"{name}.").items()}

    def restored(self, tensors: Tensors) -> Together:
        """See :class:`Sums`."""
        return Together(**{name: part.restored(of_prefix(tensors, f"{name}.")) for name, part in self.parts.items()})


class Solvable(PropensityModel):
    """A learner with a part that is solved."""

    @abstractmethod
    def no_sums(self) -> Sums:
        """Sums over nothing."""

    @abstractmethod
    def solve(self, sums: Any, variance: Tensor) -> None:
        """Weights from the sums.

        Args:
            sums: Over all samples, from :meth:`no_sums`.
            variance: (n_species, n_times) float64 of |Δr| between replicas, σ_AA²; NaN where nobody knows.

        Raises:
            ModelError: There is too little to solve for.
        """

    def fit(self, samples: Sequence[Labelled], variance: Tensor | None = None) -> Self:
        """Solve for samples at hand, without a training around it.

        Args:
            samples: Any number; columns are limited by what the first one shows.
            variance: As in :meth:`solve`; unknown by default.
        """
        sums = self.no_sums()
        anchored: set[Kind] = set()
        for sample in samples:
            new = sums.kinds(sample) - anchored
            sums = (sums.anchored(sample, new) if new else sums).added(sample)
            anchored |= new
        unknown = torch.full((self.n_species, self.n_times), torch.nan, dtype=torch.float64)
        self.solve(sums, unknown if variance is None else variance)
        return self


class SolvedModel(Solvable):
    """A learner that is nothing but the solution: it chooses nothing on held-out lineages, and needs none."""

    stepped: ClassVar[bool] = False
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType({"validation_share": 0.0})

    def parts(self, taken: Taken, settings: Any) -> list[Part]:
        """The solution."""
        return [Solved(self, taken)]


class _Holding(NamedTuple):
    """Sums over the samples of a process; which sample each kind of particles is counted from, and replicas, of all."""

    sums: Sums
    anchors: dict[Kind, SampleKey]
    replicas: int


class Solved(Part):
    """Sums over every sample that was taken, and the solution.

    The result does not depend on the order of the samples: sums do not, and what must be taken from one sample, such as
    the limits of a column, is taken from the first by its key. One that comes late has everything read again, which
    samples in a random order do about as often as the logarithm of their number.

    Each of several processes has the sums over its own samples; what is solved and saved is over all.

    Args:
        learner: What is solved for.
        taken: Its samples.
        again: While data arrive, another solution is worth its price with so many times the replicas behind the last.
    """

    hungry = True

    def __init__(self, learner: Solvable, taken: Taken, again: float = 1.25) -> None:
        self._learner, self._taken, self._again = learner, taken, again
        self._holding = _Holding(learner.no_sums(), {}, 0)
        self._solved_with = 0, 0.0
        self._of_all: Sums | None = None

    def taking(self, sample: Sample | None, before: Sample | None, turn: Sequence[Coming]) -> _Holding:
        """The sums with a sample; as it was before, it is taken back."""
        taken = self._taken
        labelled = None if sample is None else taken.labelled(sample)
        sums, known, replicas = self._holding
        more = 0 if sample is None else sample.n_replicas - (0 if before is None else before.n_replicas)
        told = taken.processes.gather([[] if labelled is None else [*sums.kinds(labelled)], more])
        anchors = dict(known)
        for coming in turn:
            for kind in map(_kind, told[coming.owner][0]):
                anchors[kind] = min(coming.key, anchors.get(kind, coming.key))
        replicas += sum(of for _, of in told)
        if any(anchors[kind] != key for kind, key in known.items()):
            return self._anew(anchors, replicas, turn)
        blocks = {one.key: one.blocks for one in turn}
        new = anchors.keys() - known.keys()
        for key in sorted({anchors[kind] for kind in new}):
            own = labelled is not None and sample is not None and key == sample.key
            of = labelled if own and labelled else taken.labelled(taken.recall(key, blocks[key]))
            sums = sums.anchored(of, {kind for kind in new if anchors[kind] == key})
        if before is not None:
            sums = sums.added(taken.labelled(before), -1)
        return _Holding(sums if labelled is None else sums.added(labelled), anchors, replicas)

    def take(self, holding: _Holding) -> None:
        """Have these sums."""
        self._holding, self._of_all = holding, None

    def _anew(self, anchors: Mapping[Kind, SampleKey], replicas: int, turn: Sequence[Coming] = ()) -> _Holding:
        """The sums over all samples of this process that were taken or are coming, in the order of the keys."""
        taken, sums = self._taken, self._learner.no_sums()
        blocks = {**taken.blocks, **{one.key: one.blocks for one in turn}}
        owners = {**taken.owners, **{one.key: one.owner for one in turn}}
        for key in sorted({*anchors.values()}):
            taken.check()
            kinds = {kind for kind, of in anchors.items() if of == key}
            sums = sums.anchored(taken.labelled(taken.recall(key, blocks[key])), kinds)
        for key in sorted(blocks):
            if owners.get(key, 0) == taken.processes.rank:
                taken.check()
                sums = sums.added(taken.labelled(taken.recall(key, blocks[key])))
        return _Holding(sums, dict(anchors), replicas)

    def due(self, reservoir: Reservoir, *, final: bool) -> bool:
        """Whether what was taken since the last solution is worth another one."""
        return self._stale and (final or self._holding.replicas >= self._again * self._solved_with[0])

    @property
    def _has(self) -> tuple[int, float]:
        """Replicas that were learned from, and those that tell the noise, which lineages that are held out do too."""
        return self._holding.replicas, float(self._taken.labels.freedom.sum())

    @property
    def _stale(self) -> bool:
        return self._holding.replicas > 0 and self._has != self._solved_with

    def advance(self, reservoir: Reservoir) -> Advance:
        """Solve."""
        self._solve()
        self.step += 1
        return Advance(len(self._taken.blocks), milestone=True)

    def _solve(self) -> None:
        if not all(self._taken.processes.gather(self._holding.sums.exact)):
            if not self._holding.sums.exact:
                self._holding = self._anew(self._holding.anchors, self._holding.replicas)
            self._of_all = None
        self._learner.solve(self._whole(), torch.from_numpy(self._taken.labels.variance))
        self._solved_with = self._has

    def _whole(self) -> Sums:
        """The sums over the samples of all processes, which are asked together."""
        if self._taken.processes.size == 1:
            return self._holding.sums
        if self._of_all is None:
            for tensors in self._taken.processes.each(self._holding.sums.tensors()):
                own = self._learner.no_sums().restored(dict(tensors))
                self._of_all = own if self._of_all is None else self._of_all.plus(own)
        assert self._of_all is not None, "no process"
        return self._of_all

    def finish(self) -> None:
        """Nothing is left out of the solution."""
        if self._stale:
            self._solve()

    def tensors(self) -> Tensors:
        """The sums."""
        return self._whole().tensors()

    def state(self) -> dict[str, Any]:
        """What is told of them."""
        anchors = [[kind, key.run, key.lineage, key.parent] for kind, key in self._holding.anchors.items()]
        return {
            "anchors": anchors,
            "replicas": self._holding.replicas,
            "solved_with": self._solved_with,
            "step": self.step,
        }

    def restore(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Return to a checkpoint; what is in its sums is the first process's."""
        anchors = {_kind(kind): SampleKey(*key) for kind, *key in state["anchors"]}
        sums = self._learner.no_sums().restored(tensors)
        own = sums if self._taken.processes.first else sums.emptied()
        self._holding, self._of_all = _Holding(own, anchors, state["replicas"]), None
        (replicas, freedom), self.step = state["solved_with"], state["step"]
        self._solved_with = replicas, freedom


def _kind(told: Any) -> Kind:
    """A kind, which in JSON is a list where it was a tuple."""
    return tuple(told) if isinstance(told, list) else told


def species_of(sample: Labelled) -> set[int]:
    """The species of the particles that count."""
    found: list[int] = sample.data[NODE_SPECIES][sample.mask].unique().tolist()
    return set(found)
