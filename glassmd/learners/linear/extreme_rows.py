"""The most and the least mobile particles of a stream of samples, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import Sums
from glassmd.learners.part import Labelled, Tensors, of_prefix, with_prefix

__all__ = ["ExtremeRows", "Rows"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rows:
    """Descriptors of chosen particles.

    Attributes:
        x: (n_rows, n_features) float32.
        fold: (n_rows,) int64.
        rank: (n_rows,) float64, drawn uniformly in [0, 1): the lowest are kept.
        sample: (n_rows,) int64, which sample a row came from.
        bound: Rows of this rank or above were dropped at some time, and never come back: what is kept is a fair
            draw from everything that was added.
    """

    x: Float32
    fold: NDArray[np.int64]
    rank: NDArray[np.float64]
    sample: NDArray[np.int64]
    bound: float = 1.0

    @classmethod
    def none(cls, n_features: int) -> Rows:
        """No rows yet."""
        empty = np.zeros((0, n_features), np.float32)
        return cls(empty, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))

    def added(self, x: Float32, rank: NDArray[np.float64], fold: int, sample: int, capacity: int) -> Rows:
        """With rows of one sample; beyond `capacity` rows, those of the lowest ranks stay, in the order of ranks."""
        new = rank < self.bound
        every = Rows(
            np.concatenate([self.x, x[new]]),
            np.concatenate([self.fold, np.full(int(new.sum()), fold)]),
            np.concatenate([self.rank, rank[new]]),
            np.concatenate([self.sample, np.full(int(new.sum()), sample)]),
            self.bound,
        )
        order = np.argsort(every.rank, kind="stable")
        bound = float(every.rank[order[capacity]]) if len(order) > capacity else self.bound
        return every._chosen(order[:capacity], bound)

    def without(self, sample: int) -> Rows:
        """Without the rows of a sample."""
        return self._chosen(np.flatnonzero(self.sample != sample), self.bound)

    def plus(self, other: Rows, capacity: int) -> Rows:
        """With the rows of other samples, as if they had all been added here."""
        bound = min(self.bound, other.bound)
        both = [rows for rows in (self, other) if len(rows.rank)] or [self]
        every = Rows(
            np.concatenate([rows.x for rows in both]),
            np.concatenate([rows.fold for rows in both]),
            np.concatenate([rows.rank for rows in both]),
            np.concatenate([rows.sample for rows in both]),
        )
        order = np.argsort(every.rank, kind="stable")
        order = order[every.rank[order] < bound]
        return every._chosen(order[:capacity], float(every.rank[order[capacity]]) if len(order) > capacity else bound)

    def _chosen(self, rows: NDArray[np.intp], bound: float) -> Rows:
        return Rows(self.x[rows], self.fold[rows], self.rank[rows], self.sample[rows], bound)


class ExtremeRows(Sums):
    """Per species and time, the rows of the particles with the largest and with the smallest labels of each sample.

    Each row draws a rank from what its sample contains, so that what is kept does not depend on the samples' order.

    Args:
        share: Of the labelled particles of a species in a sample, how many count as soft, and as many as hard.
        capacity: Rows kept per species, time and class.

    Example:
        >>> from torch_geometric.data import Data
        >>> x = torch.arange(20.0)[:, None]
        >>> data = Data(features=x, species=torch.zeros(20, dtype=torch.int64))
        >>> sample = Labelled(data, x.double(), torch.ones(20, dtype=torch.bool), n_replicas=1, fold=0)
        >>> soft, hard = ExtremeRows(share=0.1, capacity=100).added(sample).of(0, 0)
        >>> sorted(soft.x.ravel().tolist()), sorted(hard.x.ravel().tolist())
        ([18.0, 19.0], [0.0, 1.0])
    """

    def __init__(
        self,
        share: float,
        capacity: int,
        rows: Mapping[tuple[int, int], tuple[Rows, Rows]] | None = None,
        *,
        exact: bool = True,
    ) -> None:
        self.share, self.capacity, self.exact = share, capacity, exact
        self._rows = dict(rows or {})

    def anchored(self, sample: Labelled, species: Collection[int]) -> ExtremeRows:
        """Nothing is counted from anything."""
        return self

    def added(self, sample: Labelled, sign: int = 1) -> ExtremeRows:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        x, labels = sample.data[NODE_FEATURES].numpy(), sample.labels.numpy()
        species, mask = sample.data[NODE_SPECIES].numpy(), sample.mask.numpy()
        content = np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(labels).tobytes()
        number = int(np.frombuffer(hashlib.blake2b(content, digest_size=8).digest(), np.int64)[0])
        rows, exact = dict(self._rows), self.exact
        for index in np.unique(species[mask]).tolist():
            chosen = np.flatnonzero(mask & (species == index))
            count = max(1, round(self.share * len(chosen)))
            ranks = np.random.default_rng([number % 2**64, index]).random(len(x))
            measured = np.flatnonzero(~np.isnan(labels[chosen]).any(axis=0))
            for time in measured.tolist() if len(chosen) > 1 else ():
                of = rows.get((index, time)) or (Rows.none(x.shape[1]), Rows.none(x.shape[1]))
                if sign < 0:
                    rows[index, time] = of[0].without(number), of[1].without(number)
                    exact = exact and all(one.bound == 1.0 for one in of)
                    continue
                order = chosen[np.argsort(labels[chosen, time], kind="stable")]
                soft, hard = (
                    one.added(x[which], ranks[which], sample.fold, number, self.capacity)
                    for one, which in zip(of, (order[-count:], order[:count]), strict=True)
                )
                rows[index, time] = soft, hard
        return ExtremeRows(self.share, self.capacity, rows, exact=exact)

    def plus(self, other: ExtremeRows) -> ExtremeRows:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        rows = dict(self._rows)
        for place, theirs in other._rows.items():
            soft, hard = zip(rows.get(place, (None, None)), theirs, strict=True)
            rows[place] = _joined(*soft, self.capacity), _joined(*hard, self.capacity)
        return ExtremeRows(self.share, self.capacity, rows, exact=self.exact and other.exact)

    def emptied(self) -> ExtremeRows:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return ExtremeRows(self.share, self.capacity)

    def of(self, species: int, time: int) -> tuple[Rows, Rows]:
        """Soft and hard rows of a species at the index of a time."""
        return self._rows.get((species, time)) or (Rows.none(0), Rows.none(0))

    def tensors(self) -> Tensors:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        found = {"exact": torch.tensor(self.exact)}
        for (species, time), both in self._rows.items():
            for side, rows in zip(("soft", "hard"), both, strict=True):
                tensors = {name: torch.as_tensor(value) for name, value in vars(rows).items() if name != "bound"}
                tensors["bound"] = torch.tensor(rows.bound, dtype=torch.float64)
                found.update(with_prefix(tensors, f"{species}.{time}.{side}."))
        return found

    def restored(self, tensors: Tensors) -> ExtremeRows:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        known = sorted({tuple(map(int, name.split(".")[:2])) for name in tensors if name != "exact"})
        rows = {(s, t): (_rows_of(tensors, f"{s}.{t}.soft."), _rows_of(tensors, f"{s}.{t}.hard.")) for s, t in known}
        return ExtremeRows(self.share, self.capacity, rows, exact=bool(tensors["exact"]))


def _joined(mine: Rows | None, theirs: Rows, capacity: int) -> Rows:
    return theirs if mine is None else mine.plus(theirs, capacity)


def _rows_of(tensors: Tensors, prefix: str) -> Rows:
    own = of_prefix(tensors, prefix)
    bound = float(own.pop("bound"))
    return Rows(**{name: tensor.numpy() for name, tensor in own.items()}, bound=bound)
