"""Multi-output ridge regression from sums, its penalties chosen by leaving folds out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glassmd.learners.linear.fold_sums import Anchor, RowSums
from glassmd.learners.part import FOLDS

__all__ = ["DIRECTIONS", "RidgeSolution", "solve_ridge"]

_LEAST, _MOST = -7, 4  # exponents of the penalties that may be tried
_CAUTION = 1.4  # weight of the degrees of freedom in generalised cross-validation, against too small penalties
_ROUNDING = 1e-6  # a column that varies by less than this part of its size only shows how float32 rounds

DIRECTIONS = 64
"""Principal directions kept for the leverage, at most."""


@dataclass(frozen=True)
class RidgeSolution:
    """Ridge regression of one species; every tensor is float64.

    Prediction of time t: `bias[t] + z · weight[:, t]` with `z = (x − centre) · inverse_unit`.

    Attributes:
        centre: (n_features,) mean of the descriptors.
        inverse_unit: (n_features,) inverse standard deviation, 0 for a column that does not vary.
        weight: (n_features, n_times) from all particles, σ_AA.
        bias: (n_times,) σ_AA.
        fold_weight: (n_folds, n_features, n_times) from all particles outside each fold.
        fold_bias: (n_folds, n_times).
        penalty: (n_times,) α, in units where every column has variance 1 and the particles weigh 1 together.
        residual: (n_times,) mean square of label − prediction on particles left out, σ_AA².
        noise: (n_times,) mean variance of the labels where known, else 0, σ_AA².
        freedom: (n_times,) Σ λ/(λ + α), the degrees of freedom.
        directions: (n_features, k) principal directions of z.
        gain: (k, n_times) leverage per squared component along each.
        rest: (n_times,) leverage per square of what is left, on average.
        count: Number of particles.
        left_out: Whether penalties and residuals come from folds left out; else from generalised cross-validation.
    """

    centre: Tensor
    inverse_unit: Tensor
    weight: Tensor
    bias: Tensor
    fold_weight: Tensor
    fold_bias: Tensor
    penalty: Tensor
    residual: Tensor
    noise: Tensor
    freedom: Tensor
    directions: Tensor
    gain: Tensor
    rest: Tensor
    count: int
    left_out: bool


@dataclass(frozen=True)
class _Spectrum:
    """Covariance of z and its eigensystem, with the covariance of z and y."""

    values: Tensor
    vectors: Tensor
    rotated: Tensor
    total: Tensor

    def freedom(self, penalty: float) -> float:
        """Degrees of freedom Σ λ/(λ + α) for one penalty."""
        return float((self.values / (self.values + penalty)).sum())

    def residual(self, penalty: float) -> Tensor:
        """(n_times,) mean square of the residual on the same particles."""
        shrunk = self.rotated**2 / (self.values + penalty)[:, None]
        return self.total - (shrunk * (2 - self.values / (self.values + penalty))[:, None]).sum(dim=0)


def solve_ridge(folds: dict[int, RowSums], anchor: Anchor, noise: Tensor, *, wary: bool = False) -> RidgeSolution:
    """Choose a penalty for each time and solve.

    The columns are centred and scaled to variance 1 by all the sums. Penalties α of the normal equations
    `(C + α) w = c` (C the covariance of the columns, c that with the labels) are tried downhill from 1 by
    decades, then by half a decade, each by predicting every fold from the others; the error counts around each fold's
    own mean. Where only one fold holds particles, α minimises `RSS / (1 − 1.4 tr H / n)²`, generalised
    cross-validation (Y.-J. Kim & C. Gu, J. R. Stat. Soc. B 66, 337 (2004)): it takes particles for independent.

    Args:
        folds: Sums of one species by fold, at least one; folds without particles get the weights from all.
        anchor: Where x and y are counted from.
        noise: (n_times,) mean variance of the labels, σ_AA².
        wary: Whether one fold alone teaches nothing but a constant: the largest penalty is taken then.
    """
    standard, centre, inverse_unit, label_mean = _standardised(folds, anchor)
    everything = RowSums.total((of, 1.0) for of in standard.values())
    spectrum = _spectrum(everything)
    if len(standard) > 1:
        penalty, residual, fold_weight, fold_bias = _leave_folds_out(standard, everything)
    else:
        penalty, residual = _generalised(spectrum, everything.count, wary=wary)
        fold_weight, fold_bias = {}, {}
    weight = spectrum.vectors @ (spectrum.rotated / (spectrum.values[:, None] + penalty))
    bias = everything.y / everything.weight + label_mean  # z is centred
    freedom = torch.tensor([spectrum.freedom(float(a)) for a in penalty], dtype=torch.float64)
    directions, gain, rest = _leverage(spectrum, penalty, everything.count)
    return RidgeSolution(
        centre=centre,
        inverse_unit=inverse_unit,
        weight=weight,
        bias=bias,
        fold_weight=torch.stack([fold_weight.get(k, weight) for k in range(FOLDS)]),
        fold_bias=torch.stack([fold_bias[k] + label_mean if k in fold_bias else bias for k in range(FOLDS)]),
        penalty=penalty,
        residual=residual,
        noise=noise,
        freedom=freedom,
        directions=directions,
        gain=gain,
        rest=rest,
        count=everything.count,
        left_out=len(standard) > 1,
    )


def _standardised(folds: dict[int, RowSums], anchor: Anchor) -> tuple[dict[int, RowSums], Tensor, Tensor, Tensor]:
    """The same sums of z and y − ȳ, with the raw centre, the inverse unit and ȳ."""
    everything = RowSums.total((of, 1.0) for of in folds.values())
    weight = everything.weight
    mean, label_mean = everything.x / weight, everything.y / weight
    inner, inner_label = everything.inner_x / weight, everything.inner_y / weight
    centre, variance = anchor.x + mean, everything.xx.diagonal() / weight - inner**2
    varies = variance > _ROUNDING**2 * (variance + centre**2)
    unit = torch.where(varies, variance.clamp_min(1e-300).rsqrt(), 0.0)
    standard = {}
    for fold, m in folds.items():
        xx = torch.triu(m.xx)
        xx += torch.triu(xx, 1).T
        xx -= torch.outer(inner, m.inner_x)
        xx -= torch.outer(m.inner_x, inner)
        xx += m.weight * torch.outer(inner, inner)
        xx *= unit[:, None]
        xx *= unit
        inner_x, inner_y = m.inner_x - m.weight * inner, m.inner_y - m.weight * inner_label
        xy = m.xy - torch.outer(inner, m.inner_y) - torch.outer(inner_x, inner_label)
        yy = m.yy - 2 * inner_label * m.inner_y + m.weight * inner_label**2
        standard[fold] = replace(
            m,
            x=unit * (m.x - m.weight * mean),
            inner_x=unit * inner_x,
            xx=xx,
            xy=unit[:, None] * xy,
            y=m.y - m.weight * label_mean,
            inner_y=inner_y,
            yy=yy,
        )
    return standard, centre, unit, anchor.y + label_mean


def _covariance(m: RowSums) -> tuple[Tensor, Tensor]:
    """Of z, (n_features, n_features), and of z with y, (n_features, n_times)."""
    mean = m.inner_x / m.weight
    return m.xx / m.weight - torch.outer(mean, mean), m.xy / m.weight - torch.outer(mean, m.inner_y / m.weight)


def _spectrum(m: RowSums) -> _Spectrum:
    covariance, with_labels = _covariance(m)
    values, vectors = torch.linalg.eigh(covariance)
    mean = m.inner_y / m.weight
    return _Spectrum(values.clamp_min(0.0), vectors, vectors.T @ with_labels, m.yy / m.weight - mean**2)


def _leave_folds_out(
    folds: dict[int, RowSums], everything: RowSums
) -> tuple[Tensor, Tensor, dict[int, Tensor], dict[int, Tensor]]:
    """Penalty and residual of each time, and by fold the weights and biases at that penalty."""
    errors: dict[float, Tensor] = {}
    offsets: dict[float, Tensor] = {}
    weights: dict[tuple[float, int], Tensor] = {}
    biases: dict[tuple[float, int], Tensor] = {}

    def attempt(penalties: list[float]) -> None:
        for penalty in penalties:
            errors[penalty], offsets[penalty] = torch.zeros_like(everything.y), torch.zeros_like(everything.y)
        for fold, held_out in folds.items():
            train = RowSums.total((m, 1.0) for m in folds.values() if m is not held_out)
            covariance, with_labels = _covariance(train)
            diagonal = covariance.diagonal().clone()
            for penalty in penalties:
                covariance.diagonal().copy_(diagonal + penalty)
                w = torch.cholesky_solve(with_labels, torch.linalg.cholesky(covariance))
                b = (train.y - train.x @ w) / train.weight
                weights[penalty, fold], biases[penalty, fold] = w, b
                around, offset = _square_error(held_out, w, b)
                errors[penalty] += around
                offsets[penalty] += offset

    wanted = [-1.0, 0.0, 1.0]
    while wanted:  # downhill, decade by decade
        attempt([10.0**k for k in wanted])
        best = {round(math.log10(a)) for a in _best(errors)[0].tolist()}
        around = {float(k + step) for k in best for step in (-1, 1) if _LEAST <= k + step <= _MOST}
        wanted = sorted(k for k in around if 10.0**k not in errors)
    attempt(sorted({10.0 ** (k + step) for k in best for step in (-0.5, 0.5)}))
    penalty, error = _best(errors)
    chosen = [float(a) for a in penalty]
    error = error + torch.stack([offsets[a][t] for t, a in enumerate(chosen)])
    fold_weight = {f: torch.stack([weights[a, f][:, t] for t, a in enumerate(chosen)], dim=1) for f in folds}
    fold_bias = {f: torch.stack([biases[a, f][t] for t, a in enumerate(chosen)]) for f in folds}
    return penalty, error / everything.weight, fold_weight, fold_bias


def _square_error(m: RowSums, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(n_times,) Σ w (y − b − z·w)² over the particles of the sums: around its mean, and of the mean.

    The first is not below 0, which rounding could give.
    """
    around = m.yy + (w * (m.xx @ w - 2 * m.xy)).sum(dim=0) - (m.inner_y - m.inner_x @ w) ** 2 / m.weight
    offset = (m.y - m.weight * b - m.x @ w) ** 2 / m.weight
    return around.clamp_min(0.0), offset


def _best(errors: dict[float, Tensor]) -> tuple[Tensor, Tensor]:
    """The penalty of least error of each time, the largest of equals, and that error."""
    tried = sorted(errors, reverse=True)
    least, index = torch.stack([errors[a] for a in tried]).min(dim=0)
    return torch.tensor(tried, dtype=torch.float64)[index], least


def _generalised(spectrum: _Spectrum, count: int, *, wary: bool) -> tuple[Tensor, Tensor]:
    """Penalty of each time by generalised cross-validation, and the residual that it expects on other particles."""
    scores: dict[float, Tensor] = {}
    residuals: dict[float, Tensor] = {}
    for half in range(2 * (_MOST if wary else _LEAST), 2 * _MOST + 1):
        penalty = 10.0 ** (half / 2)
        inside, used = spectrum.residual(penalty).clamp_min(0.0), spectrum.freedom(penalty) / count
        scores[penalty] = inside / (1 - _CAUTION * used) ** 2 if _CAUTION * used < 1 else inside + math.inf
        residuals[penalty] = inside / max(1 - used, 1 / count) ** 2
    penalty, _ = _best(scores)
    return penalty, torch.stack([residuals[float(a)][t] for t, a in enumerate(penalty)])


def _leverage(spectrum: _Spectrum, penalty: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of the largest eigenvalues, their gain, and the mean gain of the rest."""
    ratio = 1 / (spectrum.values[:, None] + penalty)
    n_rest = max(len(spectrum.values) - DIRECTIONS, 0)  # eigenvalues ascend
    left = spectrum.values[:n_rest]
    rest = (left[:, None] * ratio[:n_rest]).sum(dim=0) / left.sum().clamp_min(1e-300)
    return spectrum.vectors[:, n_rest:], ratio[n_rest:] / count, rest / count
