"""Sums of every temperature apart, and what becomes of them when a linear model of all temperatures is solved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glassmd.fields import NODE_FEATURES
from glassmd.learners.fitting.solved import Kind, Sums, species_of
from glassmd.learners.linear.fold_sums import Anchor, FoldSums, Row, RowSums
from glassmd.learners.part import FOLDS, Labelled, Tensors, of_prefix, with_prefix

__all__ = ["EveryTemperature", "Level", "TemperatureSums", "heat_of", "heat_powers", "interpolated"]

_DEGREE = 2
"""Of weights in ln T: between T = 0.44 and 0.8 straight lines lose up to 4% of the accuracy at a time at which most
labels are of the coldest liquid (docs/assessment.md)."""

_DIGITS = 4
_LEAST = 1e-6  # σ_AA, for labels that are all the same
_ROUNDING = 1e-6  # a column that varies by less than this part of its size only shows how float32 rounds


def heat_of(features: Tensor) -> float:
    """Logarithm of the temperature of a sample, up to a constant: its last column, the same for all its particles."""
    return round(float(features[0, -1]), _DIGITS)


class TemperatureSums(Sums):
    """:class:`FoldSums` by temperature; each is counted from a sample of its own, and cut off as that one shows.

    Args:
        empty: Sums over nothing.
        by_heat: Sums over something, by :func:`heat_of`.
    """

    def __init__(self, empty: FoldSums, by_heat: Mapping[float, FoldSums] | None = None) -> None:
        self._empty, self.by_heat = empty, dict(by_heat or {})

    def kinds(self, sample: Labelled) -> set[Kind]:
        """The species that count, at the sample's temperature."""
        heat = heat_of(sample.data[NODE_FEATURES])
        return {(species, heat) for species in species_of(sample)}

    def anchored(self, sample: Labelled, kinds: Collection[Kind]) -> TemperatureSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        heat = heat_of(sample.data[NODE_FEATURES])
        species = [kind[0] if isinstance(kind, tuple) else kind for kind in kinds]
        before = self.by_heat.get(heat, self._empty)
        return TemperatureSums(self._empty, {**self.by_heat, heat: before.anchored(sample, species)})

    def added(self, sample: Labelled, sign: int = 1) -> TemperatureSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        heat = heat_of(sample.data[NODE_FEATURES])
        before = self.by_heat.get(heat, self._empty)
        return TemperatureSums(self._empty, {**self.by_heat, heat: before.added(sample, sign)})

    def plus(self, other: TemperatureSums) -> TemperatureSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        found = dict(self.by_heat)
        for heat, sums in other.by_heat.items():
            found[heat] = found[heat].plus(sums) if heat in found else sums
        return TemperatureSums(self._empty, found)

    def emptied(self) -> TemperatureSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return TemperatureSums(self._empty, {heat: sums.emptied() for heat, sums in self.by_heat.items()})

    def tensors(self) -> Tensors:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        found: Tensors = {}
        for number, (heat, sums) in enumerate(sorted(self.by_heat.items())):
            found[f"heat.{number}"] = torch.tensor(heat, dtype=torch.float64)
            found.update(with_prefix(sums.tensors(), f"sums.{number}."))
        return found

    def restored(self, tensors: Tensors) -> TemperatureSums:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        heats = {number: float(heat) for number, heat in of_prefix(tensors, "heat.").items()}
        of = {heat: self._empty.restored(of_prefix(tensors, f"sums.{number}.")) for number, heat in heats.items()}
        return TemperatureSums(self._empty, of)

    @property
    def heats(self) -> list[float]:
        """Those at which there is something, ascending."""
        return sorted(heat for heat, sums in self.by_heat.items() if sums.species)


@dataclass(frozen=True, eq=False)
class Level:
    """What the columns and the labels of a species are around at one temperature.

    Attributes:
        low: (n_features,) Lowest that counts.
        high: (n_features,) Highest that counts.
        centre: (n_features,) Mean.
        inverse_unit: (n_features,) Inverse standard deviation, 0 for a column that does not vary.
        mean: (n_times,) Of the labels; NaN at times that were not measured.
        fold_mean: (n_folds, n_times) Of the labels outside each fold; the mean of all where there are no others.
        unit: (n_times,) Standard deviation of the labels within samples; NaN at times that were not measured.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    inverse_unit: Tensor
    mean: Tensor
    fold_mean: Tensor
    unit: Tensor

    @classmethod
    def of(cls, anchor: Anchor, sums: FoldSums, species: int) -> Level:
        """Of the sums of one temperature."""
        every = RowSums.total((rows, 1.0) for _, _, rows in sums.rows_of(species))
        x = every.x / every.count
        variance = (every.xx.diagonal() / every.count - (every.inner_x / every.count) ** 2).clamp_min(0.0)
        centre = anchor.x + x
        varies = variance > _ROUNDING**2 * (variance + centre**2)
        count, label, within = torch.zeros((3, FOLDS, len(every.y)), dtype=torch.float64)
        for fold, missing, rows in sums.rows_of(species):
            there = torch.ones_like(every.y)
            there[list(missing)] = 0.0
            count[fold] += rows.count * there
            label[fold] += rows.y * there
            within[fold] += rows.within * there
        mean = anchor.y + label.sum(dim=0) / _above_zero(count.sum(dim=0))
        others = anchor.y + (label.sum(dim=0) - label) / _above_zero(count.sum(dim=0) - count)
        return cls(
            anchor.low,
            anchor.high,
            centre,
            torch.where(varies, variance.clamp_min(1e-300).rsqrt(), 0.0),
            mean,
            torch.where(others.isnan(), mean, others),
            (within.sum(dim=0) / _above_zero(count.sum(dim=0))).clamp_min(0.0).sqrt(),
        )


def _above_zero(count: Tensor) -> Tensor:
    return torch.where(count > 0, count, torch.nan)


class EveryTemperature:
    """The sums of several temperatures as those of one linear model, on z, h z and h² z.

    z are the columns in the units of their own temperature (:class:`Level`), h is ln T from the middle of all
    temperatures, and the labels are counted from their mean at their temperature. So a weight is a parabola in ln T,
    which a penalty keeps flat, or a straight line where there are two temperatures. Particles of a temperature count by
    the inverse variance of their labels there: of a cold liquid they vary most, and would decide alone.

    Args:
        sums: Of at least two temperatures.
        between: How much differences between the means of samples count in them.
    """

    def __init__(self, sums: TemperatureSums, between: float) -> None:
        self._between, self._sums = between, sums
        self.heats = sums.heats
        self.middle = sum(self.heats) / len(self.heats)
        self.degree = min(_DEGREE, len(self.heats) - 1)
        self.levels = {
            (species, heat): Level.of(of.anchors[species], of, species)
            for heat in self.heats
            for of in [sums.by_heat[heat]]
            for species in of.species
        }

    def together(self) -> list[list[int]]:
        """See :meth:`FoldSums.together`."""
        groups = [self._sums.by_heat[heat].together() for heat in self.heats]
        n_times = next(iter(self._sums.by_heat.values())).n_times
        where = {
            time: tuple(next((k for k, of in enumerate(group) if time in of), -1) for group in groups)
            for time in range(n_times)
        }
        found: dict[tuple[int, ...], list[int]] = {}
        for time, of in where.items():
            if any(k >= 0 for k in of):
                found.setdefault(of, []).append(time)
        return list(found.values())

    def at(self, times: Sequence[int]) -> FoldSums:
        """See :meth:`FoldSums.at`."""
        parts: dict[Row, list[tuple[RowSums, float]]] = {}
        shape: dict[int, int] = {}
        measured = {
            heat: every.at(times)
            for heat, every in ((heat, self._sums.by_heat[heat]) for heat in self.heats)
            if any(set(times) <= set(group) for group in every.together())
        }
        for species in sorted({species for sums in measured.values() for species in sums.species}):
            balance = self._balance(
                {heat: sums for heat, sums in measured.items() if species in sums.species}, species, times
            )
            for heat, factor in balance.items():
                level, anchor = self.levels[species, heat], self._sums.by_heat[heat].anchors[species]
                powers = heat_powers(heat - self.middle, self.degree)
                shape[species] = len(powers) * len(level.centre)
                for key, rows in measured[heat].rows.items():
                    if key[0] == species:
                        moved = _moved(rows, anchor, level, times, self._between)
                        parts.setdefault(key, []).append((_with_powers(moved, powers), factor))
        nothing = {
            species: Anchor(
                torch.zeros(size, dtype=torch.float64),
                torch.zeros(len(times), dtype=torch.float64),
                torch.full((size,), -torch.inf, dtype=torch.float64),
                torch.full((size,), torch.inf, dtype=torch.float64),
            )
            for species, size in shape.items()
        }
        every_row = {key: RowSums.total(of) for key, of in parts.items()}
        return FoldSums(
            len(times), next(iter(self._sums.by_heat.values())).n_species, between=self._between, limited=True,
            anchors=nothing, rows=every_row,
        )  # fmt: skip

    def _balance(self, sums: Mapping[float, FoldSums], species: int, times: Sequence[int]) -> dict[float, float]:
        """How much a particle of each temperature counts: the inverse variance of the labels, on the whole the same.

        The geometric mean over times, since all of them share the sums over columns.
        """
        variance = {
            heat: float((2 * self.levels[species, heat].unit[times].clamp_min(_LEAST).log()).mean().exp())
            for heat in sums
        }
        count = {heat: sum(rows.count for _, _, rows in of.rows_of(species)) for heat, of in sums.items()}
        mean = sum(count[heat] * variance[heat] for heat in sums) / sum(count.values())
        return {heat: mean / of for heat, of in variance.items()}


def _moved(rows: RowSums, anchor: Anchor, level: Level, times: Sequence[int], between: float) -> RowSums:
    """The same sums of (x − centre) / unit and y − mean; whole products in `xx`."""
    mean, label = level.centre - anchor.x, level.mean[times] - anchor.y[times]
    inner, inner_label, unit = between * mean, between * label, level.inverse_unit
    xx = torch.triu(rows.xx)
    xx += torch.triu(xx, 1).T
    xx -= torch.outer(inner, rows.inner_x) + torch.outer(rows.inner_x, inner)
    xx += rows.weight * torch.outer(inner, inner)
    inner_x, inner_y = rows.inner_x - rows.weight * inner, rows.inner_y - rows.weight * inner_label
    xy = rows.xy - torch.outer(inner, rows.inner_y) - torch.outer(inner_x, inner_label)
    return replace(
        rows,
        x=unit * (rows.x - rows.weight * mean),
        inner_x=unit * inner_x,
        xx=unit[:, None] * xx * unit,
        xy=unit[:, None] * xy,
        y=rows.y - rows.weight * label,
        inner_y=inner_y,
        yy=rows.yy - 2 * inner_label * rows.inner_y + rows.weight * inner_label**2,
    )


def heat_powers(h: float, degree: int) -> Tensor:
    """(degree + 1,) powers of h, the factors of a column."""
    return torch.tensor([h**power for power in range(degree + 1)], dtype=torch.float64)


def _with_powers(rows: RowSums, powers: Tensor) -> RowSums:
    """Sums of the columns times each of some factors."""

    def several(tensor: Tensor) -> Tensor:
        return torch.cat([factor * tensor for factor in powers])

    return replace(
        rows,
        x=several(rows.x),
        inner_x=several(rows.inner_x),
        xx=torch.kron(torch.outer(powers, powers), rows.xx),
        xy=several(rows.xy),
    )


def interpolated(at: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """(n, …) values at n points: straight lines between ascending ones, and beyond them as the last two go on.

    Args:
        at: (n,).
        where: (n_points,) at least two, ascending.
        values: (n_points, …).
    """
    right = torch.searchsorted(where, at.contiguous()).clamp(1, len(where) - 1)
    share = (at - where[right - 1]) / (where[right] - where[right - 1])
    return torch.lerp(values[right - 1], values[right], share.view(-1, *[1] * (values.ndim - 1)))
