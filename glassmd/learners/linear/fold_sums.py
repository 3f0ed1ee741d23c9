"""Sums over particles from which linear models are solved, one set per species, fold and number of replicas."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from glassmd.errors import ModelError
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import Sums
from glassmd.learners.part import FOLDS, Labelled, Tensors, of_prefix, with_prefix

__all__ = ["Anchor", "FoldSums", "Row", "RowSums"]

_BLOCK = 256  # columns per product; the blocks below the diagonal are never computed
_LEFT = 0.5  # share of the propensity's variance that a good linear model leaves
_LEAST_WEIGHT = 1e-3
_ASIDE = 0.005  # of the anchor's particles on each side that do not set the limits of a column
_ENOUGH = 100  # particles that show the range of a column; fewer widen it


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums over particles, of descriptors x and labels y, float64.

    `x` and `y` are counted from an anchor, so that the sums of products do not cancel. Products and `inner_` sums are
    of x − (1 − b) x̄ and y − (1 − b) ȳ, with x̄ and ȳ the means of the sample and b how much these count (1: as any
    other difference between particles).

    Attributes:
        count: Number of particles.
        weight: Σ w; where no weights were given, the number of particles.
        x: (n_features,) Σ w x.
        inner_x: (n_features,) the same of moved x.
        xx: (n_features, n_features) Σ w x xᵀ; blocks below the diagonal are empty.
        xy: (n_features, n_times) Σ w x y.
        y: (n_times,) Σ w y.
        inner_y: (n_times,) the same of moved y.
        yy: (n_times,) Σ w y².
        within: (n_times,) Σ w (y − ȳ)².
    """

    count: int
    weight: float
    x: Tensor
    inner_x: Tensor
    xx: Tensor
    xy: Tensor
    y: Tensor
    inner_y: Tensor
    yy: Tensor
    within: Tensor

    _TENSORS: ClassVar[tuple[str, ...]] = ("x", "inner_x", "xx", "xy", "y", "inner_y", "yy", "within")

    @classmethod
    def none(cls, n_features: int, n_times: int) -> RowSums:
        """Sums over nothing."""
        f, t = n_features, n_times
        shapes = dict.fromkeys(cls._TENSORS, (t,)) | {"x": (f,), "inner_x": (f,), "xx": (f, f), "xy": (f, t)}
        return cls(0, 0.0, **{name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()})

    @classmethod
    def total(cls, parts: Iterable[tuple[RowSums, float]]) -> RowSums:
        """Weighted sum of at least one set of sums from the same anchor."""
        found = list(parts)
        tensors = {name: sum(w * getattr(part, name) for part, w in found) for name in cls._TENSORS}
        return cls(
            sum(part.count for part, _ in found),
            sum(w * part.weight for part, w in found),
            **tensors,
        )

    def added(self, x: Tensor, y: Tensor, sign: int, between: float) -> RowSums:
        """With the particles of a sample, or without them where `sign` is −1.

        `x` (n, n_features) and `y` (n, n_times), float64, are changed; `between` is b.
        """
        new = {name: getattr(self, name).clone() for name in self._TENSORS}
        new["x"] += sign * x.sum(dim=0)
        new["y"] += sign * y.sum(dim=0)
        new["within"] += sign * ((y - y.mean(dim=0)) ** 2).sum(dim=0)
        x -= (1 - between) * x.mean(dim=0)
        y -= (1 - between) * y.mean(dim=0)
        new["inner_x"] += sign * x.sum(dim=0)
        new["inner_y"] += sign * y.sum(dim=0)
        for start in range(0, x.shape[1], _BLOCK):
            stop = start + _BLOCK
            new["xx"][start:stop, start:].addmm_(x[:, start:stop].T, x[:, start:], alpha=sign)
        new["xy"].addmm_(x.T, y, alpha=sign)
        new["yy"] += sign * (y * y).sum(dim=0)
        return RowSums(self.count + sign * len(x), self.weight + sign * len(x), **new)

    def at(self, times: Sequence[int]) -> RowSums:
        """Those of some times."""
        of_times = {name: getattr(self, name)[..., times] for name in ("xy", "y", "inner_y", "yy", "within")}
        return replace(self, **of_times)

    def tensors(self) -> Tensors:
        """Everything, for a checkpoint."""
        numbers = torch.tensor([self.count, self.weight], dtype=torch.float64)
        return {"numbers": numbers, **{name: getattr(self, name) for name in self._TENSORS}}

    @classmethod
    def of_tensors(cls, tensors: Tensors) -> RowSums:
        """What :meth:`tensors` gave."""
        count, weight = tensors["numbers"].tolist()
        return cls(int(count), weight, **{name: tensors[name] for name in cls._TENSORS})


@dataclass(frozen=True, eq=False)
class Anchor:
    """What the rows of a species are counted from, and limited by; taken from one sample.

    A column is cut off at three times the range that holds 99% of that sample's particles: mean positions of a particle
    that hops may overlap another's, with a huge repulsion.

    Attributes:
        x: (n_features,) mean.
        y: (n_times,) mean, σ_AA.
        low: (n_features,) lowest x.
        high: (n_features,) highest x.
    """

    x: Tensor
    y: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, *, limited: bool) -> Anchor:
        """Of rows (n, n_features) and (n, n_times), float64; a y that is not known is counted from 0."""
        middle = y.mean(dim=0).nan_to_num(nan=0.0)
        if not limited:
            unlimited = torch.full_like(x[0], torch.inf)
            return cls(x.mean(dim=0), middle, -unlimited, unlimited)
        ranked = x.sort(dim=0).values
        aside = int(_ASIDE * len(x))
        low, high = ranked[aside], ranked[-1 - aside]
        beyond = (high - low) * max(1.0, _ENOUGH / len(x))
        low, high = low - beyond, high + beyond
        return cls(torch.minimum(torch.maximum(x, low), high).mean(dim=0), middle, low, high)


Row = tuple[int, int, int, tuple[int, ...]]
"""Species, fold, number of replicas, and the times that were not measured."""


class FoldSums(Sums):
    """:class:`RowSums` of every species, fold and number of replicas, filled sample by sample in any order.

    How much a label of few replicas counts beside one of many follows from all labels, and is known at the end only:
    until then they are kept apart. So are samples that were not measured at the same times: sums over those that have a
    time, or several, are :meth:`at` it.

    Args:
        n_times: Number of times of a label.
        n_species: Number of species.
        between: How much differences between the means of samples count beside those within a sample.
        limited: Whether the columns are cut off, see :class:`Anchor`.

    Example:
        >>> from torch_geometric.data import Data
        >>> data = Data(features=torch.ones(4, 1), species=torch.zeros(4, dtype=torch.int64))
        >>> sample = Labelled(data, torch.ones(4, 1), torch.tensor([True, True, True, False]), n_replicas=1, fold=1)
        >>> sums = FoldSums(n_times=1, n_species=1)
        >>> sums.anchored(sample, {0}).added(sample).folds(0, {1: 1.0})[1].count
        3
    """

    def __init__(
        self,
        n_times: int,
        n_species: int,
        *,
        between: float = 1.0,
        limited: bool = False,
        anchors: Mapping[int, Anchor] | None = None,
        rows: Mapping[Row, RowSums] | None = None,
    ) -> None:
        self._between, self._limited = between, limited
        self.n_times, self.n_species = n_times, n_species
        self.anchors, self.rows = dict(anchors or {}), dict(rows or {})

    def _with(self, anchors: Mapping[int, Anchor], rows: Mapping[Row, RowSums]) -> FoldSums:
        return FoldSums(
            self.n_times, self.n_species, between=self._between, limited=self._limited, anchors=anchors, rows=rows
        )

    def anchored(self, sample: Labelled, species: Collection[int]) -> FoldSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        anchors = dict(self.anchors)
        for index in species:
            anchors[index] = Anchor.of(*self._of_species(sample, index), limited=self._limited)
        return self._with(anchors, self.rows)

    def added(self, sample: Labelled, sign: int = 1) -> FoldSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        self._check(sample)
        rows = dict(self.rows)
        for index in self.anchors:
            x, y = self._of_species(sample, index)
            if not len(x):
                continue
            anchor, missing = self.anchors[index], tuple(torch.nonzero(y.isnan().all(dim=0))[:, 0].tolist())
            key, y[:, missing] = (index, sample.fold, sample.n_replicas, missing), 0.0
            x = torch.minimum(torch.maximum(x, anchor.low), anchor.high).sub_(anchor.x)
            before = rows.get(key) or RowSums.none(x.shape[1], self.n_times)
            rows[key] = before.added(x, y - anchor.y, sign, self._between)
            if rows[key].count <= 0:  # all taken back: nothing is left but rounding
                del rows[key]
        return self._with(self.anchors, rows)

    def plus(self, other: FoldSums) -> FoldSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        rows = dict(self.rows)
        for key, of in other.rows.items():
            rows[key] = RowSums.total([(rows[key], 1.0), (of, 1.0)]) if key in rows else of
        return self._with({**self.anchors, **other.anchors}, rows)

    def emptied(self) -> FoldSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return self._with(self.anchors, {})

    def rows_of(self, index: int) -> list[tuple[int, tuple[int, ...], RowSums]]:
        """All sums of a species, each with the fold and the times that its samples were not measured at."""
        return [(fold, missing, rows) for (s, fold, _, missing), rows in self.rows.items() if s == index]

    @property
    def species(self) -> list[int]:
        """The species that have particles."""
        return sorted({index for index, *_ in self.rows})

    def together(self) -> list[list[int]]:
        """The times, in groups of those that the same samples were measured at; those of no sample are left out."""
        patterns = sorted({missing for *_, missing in self.rows})
        groups: dict[tuple[bool, ...], list[int]] = {}
        for time in range(self.n_times):
            groups.setdefault(tuple(time not in missing for missing in patterns), []).append(time)
        return [times for there, times in groups.items() if any(there)]

    def at(self, times: Sequence[int]) -> FoldSums:
        """Sums over the samples that were measured at some times, all of them in one of :meth:`together`."""
        if len(times) == self.n_times and not any(missing for *_, missing in self.rows):
            return self
        parts: dict[Row, list[tuple[RowSums, float]]] = {}
        for (s, fold, n, missing), rows in self.rows.items():
            if not set(times) & set(missing):
                parts.setdefault((s, fold, n, ()), []).append((rows.at(times), 1.0))
        anchors = {index: replace(anchor, y=anchor.y[times]) for index, anchor in self.anchors.items()}
        found = FoldSums(len(times), self.n_species, between=self._between, limited=self._limited, anchors=anchors)
        return found._with(anchors, {key: RowSums.total(of) for key, of in parts.items()})

    def weights(self, index: int, variance: Tensor, error: Tensor | None = None) -> dict[int, float]:
        """How much a particle of a species counts by the number of replicas behind its label.

        The inverse variance of a residual: with E what the model leaves of the truth and N = variance/R,
        w = E/(E + N), averaged over the times where the variance is known. One number for all particles: mobile ones
        are the noisy ones, and a weight of each particle would bias the fit.

        Args:
            index: Of the species.
            variance: (n_times,) of |Δr| between replicas, σ_AA², NaN where nobody knows: then all count alike.
            error: (n_times,) E, σ_AA²; half the variance of the truth within samples by default.
        """
        replicas = sorted({n for s, _, n, _ in self.rows if s == index})
        known = torch.isfinite(variance)
        if error is None:
            truth, count = torch.zeros_like(variance), 0
            for n in replicas:
                rows = RowSums.total((of, 1.0) for (s, _, r, _), of in self.rows.items() if (s, r) == (index, n))
                total = rows.within / rows.count
                truth, count = truth + rows.count * torch.maximum(total - variance / n, 0.1 * total), count + rows.count
            error = _LEFT * truth / max(count, 1)
        found = {}
        for n in replicas:
            whole = error + variance / n  # 0 at a time when all labels are the same: nothing is noise
            share = torch.where(whole > 0, error / whole, 1.0)[known].clamp_min(_LEAST_WEIGHT)
            found[n] = float(share.mean()) if bool(known.any()) else 1.0
        return found

    def folds(self, index: int, weights: Mapping[int, float]) -> dict[int, RowSums]:
        """The folds that hold particles of a species, with weights by number of replicas."""
        own = {(fold, n): rows for (s, fold, n, _), rows in sorted(self.rows.items()) if s == index}
        return {
            fold: RowSums.total((rows, weights[n]) for (f, n), rows in own.items() if f == fold)
            for fold in sorted({fold for fold, _ in own})
        }

    def noise(self, index: int, weights: Mapping[int, float], variance: Tensor) -> Tensor:
        """(n_times,) weighted mean variance of the labels, σ_AA²; 0 where nobody knows."""
        of = [(weights[n] * rows.weight, n) for (s, _, n, _), rows in self.rows.items() if s == index]
        share = sum(weight / n for weight, n in of) / sum(weight for weight, _ in of)
        return variance.nan_to_num(nan=0.0) * share

    def tensors(self) -> Tensors:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        found: Tensors = {}
        for index, anchor in self.anchors.items():
            found.update({f"anchor.{index}.{name}": value for name, value in vars(anchor).items()})
        for (s, fold, n, missing), rows in self.rows.items():
            found.update(with_prefix(rows.tensors(), f"rows.{s}.{fold}.{n}.{'-'.join(map(str, missing))}."))
        return found

    def restored(self, tensors: Tensors) -> FoldSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        anchors, rows = of_prefix(tensors, "anchor."), of_prefix(tensors, "rows.")
        species = sorted({int(name.partition(".")[0]) for name in anchors})
        known = sorted({tuple(name.split(".")[:4]) for name in rows})
        return self._with(
            {index: Anchor(**of_prefix(anchors, f"{index}.")) for index in species},
            {
                (int(s), int(f), int(n), tuple(map(int, m.split("-"))) if m else ()): RowSums.of_tensors(
                    of_prefix(rows, f"{s}.{f}.{n}.{m}.")
                )
                for s, f, n, m in known
            },
        )

    @staticmethod
    def _of_species(sample: Labelled, index: int) -> tuple[Tensor, Tensor]:
        """Descriptors and labels of its particles that count, float64 on the CPU."""
        chosen = sample.mask & (sample.data[NODE_SPECIES] == index)
        x, y = sample.data[NODE_FEATURES][chosen].double(), sample.labels[chosen].double()
        part = y.isnan().any(dim=0) & ~y.isnan().all(dim=0)  # of a time that was measured
        nothing = len(y) > 0 and bool(y.isnan().all())
        if nothing or not bool(torch.isfinite(x).all()) or bool(part.any() or y.isinf().any()):
            raise ModelError("found a descriptor or label that is not finite", "finite numbers", "mask these particles")
        return x, y

    def _check(self, sample: Labelled) -> None:
        x = sample.data[NODE_FEATURES]
        known = next((len(anchor.x) for anchor in self.anchors.values()), None)
        if x.ndim != 2 or (known is not None and x.shape[1] != known):
            raise ModelError(f"found descriptors of shape {tuple(x.shape)}", f"(n_particles, {known or 'any'})")
        if tuple(sample.labels.shape) != (len(x), self.n_times) or tuple(sample.mask.shape) != (len(x),):
            raise ModelError(
                f"found labels of shape {tuple(sample.labels.shape)} and a mask of shape {tuple(sample.mask.shape)}",
                f"({len(x)}, {self.n_times}) and ({len(x)},)",
            )
        if not 0 <= sample.fold < FOLDS:
            raise ModelError(f"found fold {sample.fold}", f"0 to {FOLDS - 1}")
