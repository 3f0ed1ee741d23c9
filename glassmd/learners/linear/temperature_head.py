"""A linear model whose weights are smooth functions of ln T."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from glassmd.learners.linear.head import BETWEEN, LinearHead
from glassmd.learners.linear.temperature_sums import EveryTemperature, Level, TemperatureSums, heat_powers, interpolated
from glassmd.learners.part import FOLDS

__all__ = ["TemperatureHead", "filled"]

_COLUMNS = ("level_low", "level_high", "level_centre", "level_inverse_unit")
_LEVELS = (*_COLUMNS, "level_mean", "level_fold_mean", "level_unit")


class TemperatureHead(LinearHead):
    """:class:`LinearHead` for liquids of one temperature, and for several the same on columns in units of their own.

    Of several temperatures every column and every label is counted from its mean at that temperature, columns in units
    of their standard deviation there: an energy is told from others of the same liquid. Means and units in between are
    interpolated in ln T, and beyond them extrapolated. The weights are fitted to all temperatures together, each of
    them a line or a parabola in ln T (:class:`EveryTemperature`), so that what holds at all of them is learned from all
    of them. The last column is ln T.

    Args:
        n_features: Number of descriptors, the temperature included.
        n_times: Number of times.
        n_species: Number of species.
        wary: See :class:`LinearHead`.
    """

    heats: Tensor
    middle: Tensor
    level_low: Tensor
    level_high: Tensor
    level_centre: Tensor
    level_inverse_unit: Tensor
    level_mean: Tensor
    level_fold_mean: Tensor
    level_unit: Tensor

    def __init__(self, n_features: int | None, *, n_times: int = 1, n_species: int = 2, wary: bool = False) -> None:
        super().__init__(n_features, n_times=n_times, n_species=n_species, wary=wary)
        self._levels(0, n_features or 0)

    def _levels(self, n_heats: int, n_columns: int) -> None:
        """Buffers for so many temperatures; none where all are the same."""
        h, s, f, t = n_heats, self.n_species, n_columns if n_heats else 0, self.n_times
        self.register_buffer("heats", torch.zeros(h, dtype=torch.float64))
        self.register_buffer("middle", torch.zeros((), dtype=torch.float64))
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(_COLUMNS, (h, s, f)),
            **dict.fromkeys(("level_mean", "level_unit"), (h, s, t)),
        }
        shapes["level_fold_mean"] = (h, s, FOLDS, t)
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def no_sums(self) -> TemperatureSums:  # type: ignore[override]
        """Sums over no sample."""
        return TemperatureSums(super().no_sums())

    def solve(self, sums: TemperatureSums, variance: Tensor) -> None:  # type: ignore[override]
        """See :meth:`LinearHead.solve`."""
        device, heats = self.weight.device, sums.heats
        if len(heats) < 2:
            alone = sums.by_heat[heats[0]] if heats else super().no_sums()
            width = next((len(anchor.x) for anchor in alone.anchors.values()), 0)
            self._take(width, 0, device)
            super().solve(alone, variance)
            return
        every = EveryTemperature(sums, BETWEEN)
        width = len(next(iter(every.levels.values())).centre)
        self._take(width, len(heats), device, every.degree)
        self.heats.copy_(torch.tensor(heats))
        self.middle.fill_(every.middle)
        for species in range(self.n_species):
            self._keep_levels(species, [every.levels.get((species, heat)) for heat in heats])
        super().solve(every, variance)  # type: ignore[arg-type]

    def _take(self, width: int, n_heats: int, device: torch.device, degree: int = 0) -> None:
        """Have room for so many columns and temperatures, and weights of some degree in ln T."""
        size = (degree + 1) * width
        if size and self.n_features != size:
            self.others = torch.nn.ModuleList()
            self._allocate(size)
        if len(self.heats) != n_heats:
            self._levels(n_heats, width)
        self.to(device)

    def _keep_levels(self, species: int, levels: list[Level | None]) -> None:
        """Levels of a species; where it is not there, or a time was not measured, as next to it."""
        there = [k for k, level in enumerate(levels) if level is not None]
        for k in range(len(levels)):
            nearest = sorted((abs(other - k), other) for other in there)
            level = levels[nearest[0][1]] if nearest else None
            if level is None:
                continue
            self.level_unit[k, species].copy_(level.unit.nan_to_num(nan=0.0))
            values = (level.low, level.high, level.centre, level.inverse_unit)
            for name, value in zip(_COLUMNS, values, strict=True):
                getattr(self, name)[k, species].copy_(value)
        for name in ("mean", "fold_mean"):
            kept = getattr(self, f"level_{name}")
            unknown = torch.full_like(kept[0, species], torch.nan)
            found = [unknown if level is None else getattr(level, name).to(unknown) for level in levels]
            kept[:, species] = torch.where(torch.isnan(of := filled(self.heats, torch.stack(found))), 0.0, of)

    @property
    def has_levels(self) -> bool:
        """Whether labels are counted from their mean at every temperature."""
        return len(self.heats) > 0

    def level(self, x: Tensor, species: Tensor, fold: int | None = None) -> Tensor:
        """(n_particles, n_times) mean of the labels at the particles' temperature, of all folds or of all but one."""
        means = self.level_mean if fold is None else self.level_fold_mean[:, :, fold]
        mean = x.new_empty((len(x), self.n_times))
        for heat, s, rows in self._alike(x, species):
            mean[rows] = interpolated(heat, self.heats, means[:, s])[0].to(x.dtype)
        return mean

    def unit(self, x: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times) standard deviation of the labels at the particles' temperature; NaN if not known."""
        unit = x.new_full((len(x), self.n_times), torch.nan)
        if self.has_levels:
            for heat, s, rows in self._alike(x, species):
                unit[rows] = interpolated(heat, self.heats, self.level_unit[:, s])[0].to(x.dtype)
        return torch.where(unit > 0, unit, torch.nan)

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """See :meth:`LinearHead.forward`."""
        if not self.has_levels:
            return super().forward(x, species)
        return super().forward(self._in_units(x, species), species).to(x.dtype) + self.level(x, species)

    def forward_fold(self, x: Tensor, species: Tensor, fold: int) -> Tensor:
        """See :meth:`LinearHead.forward_fold`."""
        if not self.has_levels:
            return super().forward_fold(x, species, fold)
        columns = self._in_units(x, species)

        def around(head: LinearHead) -> Tensor:
            """What the weights say, without a constant: that of the whole may know the fold."""
            return head._predicted(columns, species, head.fold_weight[:, fold], torch.zeros_like(head.bias))

        return self._joined(around(self), around).to(x.dtype) + self.level(x, species, fold)

    def spread(self, x: Tensor, species: Tensor) -> Tensor:
        """See :meth:`LinearHead.spread`."""
        if not self.has_levels:
            return super().spread(x, species)
        return super().spread(self._in_units(x, species), species).to(x.dtype)

    def weights_to_predict(self) -> dict[str, Tensor]:
        """See :meth:`LinearHead.weights_to_predict`."""
        found = super().weights_to_predict()
        return {name: of for name, of in found.items() if name not in {"level_fold_mean", "level_unit"}}

    def _in_units(self, x: Tensor, species: Tensor) -> Tensor:
        """(n_particles, (degree + 1) n_columns): z times the powers of h."""
        columns = x.new_empty((len(x), self.n_features or 0), dtype=self.heats.dtype)
        degree = columns.shape[1] // x.shape[1] - 1
        for heat, s, rows in self._alike(x, species):
            low, high, centre = (
                interpolated(heat, self.heats, of[:, s])[0]
                for of in (self.level_low, self.level_high, self.level_centre)
            )
            within = torch.minimum(torch.maximum(x[rows].to(low.dtype), low), high)
            z = (within - centre) * self._inverse_unit(heat)[s]
            powers = heat_powers(float(heat - self.middle), degree)
            columns[rows] = torch.cat([factor * z for factor in powers.to(z)], dim=1)
        return columns

    def _alike(self, x: Tensor, species: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
        """The logarithm of T, (1,), species and rows of the particles that have these in common."""
        heats, at = torch.unique(x[:, -1].to(self.heats.dtype), return_inverse=True)
        for k in range(len(heats)):
            for s in range(self.n_species):
                yield heats[k : k + 1], s, torch.nonzero((at == k) & (species == s))[:, 0]

    def _inverse_unit(self, heat: Tensor) -> Tensor:
        """(n_species, n_columns), interpolated as a logarithm; 0 for a column that does not vary somewhere."""
        varies = (self.level_inverse_unit > 0).all(dim=0)
        logs = torch.where(varies, self.level_inverse_unit, 1.0).log()
        return torch.where(varies, interpolated(heat, self.heats, logs)[0].exp(), 0.0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Weights say how many temperatures there are; those of earlier versions knew one."""
        centre = state_dict.get(f"{prefix}level_centre")
        if centre is None:
            self._levels(0, 0)
            own = {name: getattr(self, name).clone() for name in ("heats", "middle", *_LEVELS)}
            state_dict.update({f"{prefix}{name}": value for name, value in own.items()})
        else:
            weight = state_dict.get(f"{prefix}weight")
            if weight is not None and self.n_features != (weight.shape[1] or None):
                self._allocate(weight.shape[1] or None)
            self._levels(len(centre), centre.shape[2])
            mean = state_dict[f"{prefix}level_mean"]
            state_dict.setdefault(f"{prefix}level_fold_mean", mean[:, :, None].expand(-1, -1, FOLDS, -1))
            state_dict.setdefault(f"{prefix}level_unit", torch.zeros_like(mean))
        super()._load_from_state_dict(state_dict, prefix, *others)


def filled(heats: Tensor, values: Tensor) -> Tensor:
    """Means at every temperature and time, where some were not measured.

    A mean that is missing is that of the other temperatures, along lines in ln T. Where that misses the measured ones
    at other times of the same temperature, it is taken to miss by the same factor, or between two such times by what
    lies between.

    Args:
        heats: (n_heats,) ln T, ascending.
        values: (n_heats, …, n_times), NaN where nothing was measured.

    Returns:
        The same shape; NaN at times that no temperature has.
    """
    flat = values.reshape(len(values), -1, values.shape[-1])
    there, found = torch.isfinite(flat).all(dim=1), flat.clone()

    def others(k: int, known: Tensor, time: int) -> Tensor:
        return _along(heats[k : k + 1], heats[known], flat[known][..., time])[0]

    for time in range(flat.shape[-1]):
        known = torch.nonzero(there[:, time])[:, 0]
        for k in torch.nonzero(~there[:, time])[:, 0].tolist() if len(known) else []:
            factors: dict[int, Tensor] = {}
            for own in torch.nonzero(there[k])[:, 0].tolist():
                both = known[there[known, own]]
                if len(both):
                    factors[own] = flat[k, :, own] / others(k, both, own)
            sound = {own: of for own, of in factors.items() if bool((of > 0).all() & torch.isfinite(of).all())}
            found[k, :, time] = others(k, known, time) * _at(time, sound)
    return found.reshape(values.shape)


def _at(time: int, known: dict[int, Tensor]) -> Tensor | float:
    """Something that is known at some numbers, at another: between the nearest two, or as at the nearest; else 1."""
    before, after = ([own for own in known if (own < time) == side] for side in (True, False))
    if not before or not after:
        return known[min(known, key=lambda own: abs(own - time))] if known else 1.0
    low, high = max(before), min(after)
    return torch.lerp(known[low], known[high], (time - low) / (high - low))


def _along(at: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """(n, …) lines through known points, along the nearest two beyond them; the same everywhere where one is known."""
    return values.repeat(len(at), *[1] * (values.ndim - 1)) if len(where) == 1 else interpolated(at, where, values)
