"""Sums over particles from which linear models are solved, one set per species and fold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from glassmd.errors import ModelError

__all__ = ["FoldSums", "Moments", "sample_weight"]

_BLOCK = 256  # columns per product; the blocks below the diagonal are never computed
_LEFT = 0.5  # share of the propensity's variance that a good linear model leaves


@dataclass
class Moments:
    """Weighted sums over particles, of descriptors x and labels y, float64.

    `x` and `y` are counted from references, so that the sums of products do not cancel. Products and `inner_` sums are
    of x − (1 − b) x̄ and y − (1 − b) ȳ, with x̄ and ȳ the means of the sample and b how much these count (1: as any
    other difference between particles).

    Attributes:
        count: Number of particles.
        weight: Σ w.
        x: (n_features,) Σ w x.
        inner_x: (n_features,) the same of moved x.
        xx: (n_features, n_features) Σ w x xᵀ; blocks below the diagonal are left empty while it grows.
        xy: (n_features, n_times) Σ w x y.
        y: (n_times,) Σ w y.
        inner_y: (n_times,) the same of moved y.
        yy: (n_times,) Σ w y².
        noise: (n_times,) Σ w · variance of the label, where it is known.
        noise_weight: (n_times,) Σ w where it is known.
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
    noise: Tensor
    noise_weight: Tensor

    _TENSORS: ClassVar[tuple[str, ...]] = ("x", "inner_x", "xx", "xy", "y", "inner_y", "yy", "noise", "noise_weight")

    @classmethod
    def empty(cls, n_features: int, n_times: int) -> Moments:
        """Sums over nothing."""
        f, t = n_features, n_times
        shapes = dict.fromkeys(cls._TENSORS, (t,)) | {"x": (f,), "inner_x": (f,), "xx": (f, f), "xy": (f, t)}
        sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        return cls(count=0, weight=0.0, **sums)

    @classmethod
    def total(cls, parts: Iterable[Moments]) -> Moments:
        """Sum of at least one set of moments from the same references."""
        first, *others = parts
        total = replace(first, **{name: getattr(first, name).clone() for name in cls._TENSORS})
        for part in others:
            total.count += part.count
            total.weight += part.weight
            for name in cls._TENSORS:
                getattr(total, name).add_(getattr(part, name))
        return total

    def add(self, x: Tensor, y: Tensor, noise: Tensor, weight: float, sign: int, between: float = 1.0) -> None:
        """Add the particles of a sample, or take them back where `sign` is −1.

        `x` (n, n_features) and `y` (n, n_times), float64, are changed; `noise` (n, n_times) is NaN where unknown. All
        particles have the same `weight` w; `between` is b.
        """
        w = sign * weight
        known = torch.isfinite(noise)
        self.count += sign * len(x)
        self.weight += w * len(x)
        self.x += w * x.sum(dim=0)
        self.y += w * y.sum(dim=0)
        x -= (1 - between) * x.mean(dim=0)
        y -= (1 - between) * y.mean(dim=0)
        self.inner_x += w * x.sum(dim=0)
        self.inner_y += w * y.sum(dim=0)
        for start in range(0, x.shape[1], _BLOCK):
            stop = start + _BLOCK
            self.xx[start:stop, start:].addmm_(x[:, start:stop].T, x[:, start:], alpha=w)
        self.xy.addmm_(x.T, y, alpha=w)
        self.yy += w * (y * y).sum(dim=0)
        self.noise += w * torch.where(known, noise, 0.0).sum(dim=0)
        self.noise_weight += w * known.sum(dim=0)


class FoldSums:
    """:class:`Moments` of every species and fold, filled sample by sample in any order.

    Args:
        n_features: Number of descriptors.
        n_times: Number of times of a label.
        n_species: Number of species.
        n_folds: Number of folds.
        between: How much differences between the means of samples count beside those within a sample.

    Example:
        >>> sums = FoldSums(n_features=1, n_times=1, n_species=1, n_folds=2)
        >>> x, y, species = torch.ones(4, 1), torch.ones(4, 1), torch.zeros(4, dtype=torch.int64)
        >>> sums.absorb(x, y, None, species, torch.tensor([True, True, True, False]), fold=1)
        >>> sums.of_species(0)[1].count
        3
    """

    def __init__(self, n_features: int, n_times: int, n_species: int, n_folds: int, *, between: float = 1.0) -> None:
        self._between = between
        self.n_features, self.n_times, self.n_species, self.n_folds = n_features, n_times, n_species, n_folds
        self._moments: dict[tuple[int, int], Moments] = {}
        self._reference: dict[int, tuple[Tensor, Tensor]] = {}

    def absorb(
        self,
        x: Tensor,
        labels: Tensor,
        noise: Tensor | None,
        species: Tensor,
        mask: Tensor,
        *,
        fold: int,
        sign: int = 1,
    ) -> None:
        """Add a sample, or take it back.

        Args:
            x: (n_particles, n_features).
            labels: (n_particles, n_times).
            noise: (n_particles, n_times) variances of the labels, NaN where unknown, or None.
            species: (n_particles,) int64.
            mask: (n_particles,) which particles count.
            fold: Below `n_folds`.
            sign: 1 to add, −1 to take back.

        Raises:
            ModelError: Shapes or a fold that do not fit, or numbers that are not finite.
        """
        self._check(x, labels, mask, fold)
        for index in range(self.n_species):
            chosen = mask & (species == index)
            if not bool(chosen.any()):
                continue
            rows, y = x[chosen].cpu().double(), labels[chosen].cpu().double()
            variance = torch.full_like(y, torch.nan) if noise is None else noise[chosen].cpu().double()
            if not bool(torch.isfinite(rows).all() and torch.isfinite(y).all()):
                raise ModelError(
                    "found a descriptor or label that is not finite", "finite numbers", "mask these particles"
                )
            if index not in self._reference:
                self._reference[index] = rows.mean(dim=0), y.mean(dim=0)
            at, label_at = self._reference[index]
            moments = self._moments.get((index, fold)) or Moments.empty(self.n_features, self.n_times)
            moments.add(rows.sub_(at), y - label_at, variance, sample_weight(y, variance), sign, self._between)
            self._moments[index, fold] = moments
            if moments.count <= 0:  # all taken back: nothing is left but rounding
                del self._moments[index, fold]

    def of_species(self, index: int) -> dict[int, Moments]:
        """The folds that hold particles of a species."""
        return {fold: self._moments[s, fold] for s, fold in sorted(self._moments) if s == index}

    def reference(self, index: int) -> tuple[Tensor, Tensor]:
        """Where x, (n_features,), and y, (n_times,), of a species are counted from."""
        return self._reference[index]

    def _check(self, x: Tensor, labels: Tensor, mask: Tensor, fold: int) -> None:
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ModelError(f"found descriptors of shape {tuple(x.shape)}", f"(n_particles, {self.n_features})")
        if tuple(labels.shape) != (len(x), self.n_times) or tuple(mask.shape) != (len(x),):
            raise ModelError(
                f"found labels of shape {tuple(labels.shape)} and a mask of shape {tuple(mask.shape)}",
                f"({len(x)}, {self.n_times}) and ({len(x)},)",
            )
        if not 0 <= fold < self.n_folds:
            raise ModelError(f"found fold {fold}", f"0 to {self.n_folds - 1}")


def sample_weight(labels: Tensor, noise: Tensor) -> float:
    """How much a particle of this sample counts: the inverse variance of its residual, 1 for a label without noise.

    With S the variance of the true propensity and N the mean variance of the labels, a linear model leaves about
    S/2 + N, so that w = S/2 / (S/2 + N), averaged over the times. One number for the whole sample: mobile particles are
    the noisy ones, and a weight of each particle would bias the fit.

    Args:
        labels: (n, n_times) of one species.
        noise: (n, n_times) variances of the labels, NaN where unknown; a sample without them counts fully.

    Returns:
        w in (0, 1].

    Example:
        >>> labels = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
        >>> sample_weight(labels, torch.full((2, 1), torch.nan)), sample_weight(labels, torch.full((2, 1), 0.5))
        (1.0, 0.3333333333333333)
    """
    total = labels.var(dim=0, correction=0)
    known = torch.isfinite(noise)
    mean = torch.where(known, noise, 0.0).sum(dim=0) / known.sum(dim=0).clamp_min(1)
    left = _LEFT * torch.maximum(total - mean, 0.1 * total)
    return float(torch.where(mean > 0, left / (left + mean), 1.0).clamp_min(1e-3).mean())
