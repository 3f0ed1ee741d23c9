"""The most and the least mobile particles of a stream of samples, in bounded memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExtremeRows", "Rows"]

Float32 = NDArray[np.float32]


@dataclass(eq=False)
class Rows:
    """Descriptors of chosen particles.

    Attributes:
        x: (n_rows, n_features) float32.
        fold: (n_rows,) int64.
        rank: (n_rows,) float64, drawn uniformly in [0, 1): the lowest are kept.
        sample: (n_rows,) uint64, which sample a row came from.
        bound: Rows of this rank or above were dropped at some time, and never come back: what is kept is a fair
            draw from everything that is absorbed at present.
    """

    x: Float32
    fold: NDArray[np.int64]
    rank: NDArray[np.float64]
    sample: NDArray[np.uint64]
    bound: float = 1.0

    @classmethod
    def none(cls, n_features: int) -> Rows:
        """No rows yet."""
        empty = np.zeros((0, n_features), np.float32)
        return cls(empty, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint64))

    def add(self, x: Float32, rank: NDArray[np.float64], fold: int, sample: np.uint64, capacity: int) -> None:
        """Add rows of one sample; beyond `capacity` rows, those of the lowest ranks stay."""
        new = rank < self.bound
        self.x = np.concatenate([self.x, x[new]])
        self.rank = np.concatenate([self.rank, rank[new]])
        self.fold = np.concatenate([self.fold, np.full(int(new.sum()), fold)])
        self.sample = np.concatenate([self.sample, np.full(int(new.sum()), sample)])
        if len(self.rank) > capacity:
            self.bound = float(np.partition(self.rank, capacity)[capacity])
            self._keep(self.rank < self.bound)

    def take_back(self, sample: np.uint64) -> None:
        """Remove the rows of a sample."""
        self._keep(self.sample != sample)

    def _keep(self, chosen: NDArray[np.bool_]) -> None:
        self.x, self.rank = self.x[chosen], self.rank[chosen]
        self.fold, self.sample = self.fold[chosen], self.sample[chosen]


class ExtremeRows:
    """Per species and time, the rows of the particles with the largest and with the smallest labels of each sample.

    Each row draws a rank from what its sample contains, so that what is kept does not depend on the samples' order.

    Args:
        n_features: Number of descriptors.
        share: Of the labelled particles of a species in a sample, how many count as soft, and as many as hard.
        capacity: Rows kept per species, time and class.

    Example:
        >>> rows = ExtremeRows(n_features=1, share=0.1, capacity=100)
        >>> x, species = np.arange(20, dtype=np.float32)[:, None], np.zeros(20, np.int64)
        >>> rows.absorb(x, x.astype(float), species, species == 0, fold=0)
        >>> soft, hard = rows.of(0, 0)
        >>> sorted(soft.x.ravel().tolist()), sorted(hard.x.ravel().tolist())
        ([18.0, 19.0], [0.0, 1.0])
    """

    def __init__(self, n_features: int, share: float, capacity: int) -> None:
        self.n_features, self.share, self.capacity = n_features, share, capacity
        self._rows: dict[tuple[int, int], tuple[Rows, Rows]] = {}

    def absorb(
        self,
        x: Float32,
        labels: NDArray[np.float64],
        species: NDArray[np.int64],
        mask: NDArray[np.bool_],
        *,
        fold: int,
        sign: int = 1,
    ) -> None:
        """Add the extreme particles of a sample, or take them back; arguments of :meth:`FoldSums.absorb` as arrays."""
        content = np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(labels).tobytes()
        sample = np.frombuffer(hashlib.blake2b(content, digest_size=8).digest(), np.uint64)[0]
        for index in np.unique(species[mask]).tolist():
            chosen = np.flatnonzero(mask & (species == index))
            count = max(1, round(self.share * len(chosen)))
            ranks = np.random.default_rng([int(sample), index]).random(len(x))
            for time in range(labels.shape[1]):
                soft, hard = self.of(index, time)
                if sign < 0:
                    soft.take_back(sample)
                    hard.take_back(sample)
                elif len(chosen) > 1:
                    order = chosen[np.argsort(labels[chosen, time], kind="stable")]
                    for rows, which in ((hard, order[:count]), (soft, order[-count:])):
                        rows.add(x[which], ranks[which], fold, sample, self.capacity)

    def of(self, species: int, time: int) -> tuple[Rows, Rows]:
        """Soft and hard rows of a species at the index of a time."""
        if (species, time) not in self._rows:
            self._rows[species, time] = Rows.none(self.n_features), Rows.none(self.n_features)
        return self._rows[species, time]
