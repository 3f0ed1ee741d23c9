"""Two predictions weighed against each other where neither has seen the truth, and how far the truth lies from both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from glassmd.learners.losses import shrink_offsets

__all__ = ["Blend"]

LEVELS = 12
"""Equally populated classes of the prediction, each with a spread of its own: mobile particles scatter more."""

_LEAST = 0.02  # of the residual's variance, which the noise of the labels cannot explain away
_RIDGE = 1e-3  # of the particles: two predictions may be all but the same
_RIDGE_BETWEEN = 1e-2  # the same for predictions at other times


class Blend(nn.Module):
    """For every species and time a weighted sum of two predictions at all times, and how far the truth lies from it.

    Predictions at other times help where labels are noisy, as in the method of curds and whey (L. Breiman & J. H.
    Friedman, J. R. Stat. Soc. B 59, 3 (1997)). Weights are least squares, drawn towards halves at a time's own
    predictions and towards nothing at the others; halves until then. The spread is the root of the mean square residual
    less the mean noise of the labels, in classes of the blended prediction, interpolated between the classes' means.
    """

    weights: Tensor
    constant: Tensor
    levels: Tensor
    variances: Tensor

    def __init__(self, *, n_species: int, n_times: int) -> None:
        super().__init__()
        self.register_buffer("weights", _halves(n_times).expand(n_species, n_times, 2 * n_times).clone())
        self.register_buffer("constant", torch.zeros(n_species, n_times))
        self.register_buffer("levels", torch.zeros(n_species, n_times, LEVELS))
        self.register_buffer("variances", torch.full((n_species, n_times, LEVELS), torch.nan))

    @property
    def known(self) -> bool:
        """Whether anything is known of the spread."""
        return bool(torch.isfinite(self.variances).any())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Blends of earlier versions knew of no other times."""
        old = state_dict.get(f"{prefix}weights")
        if old is not None and f"{prefix}constant" not in state_dict:
            own = [torch.diag_embed(old[..., part]) for part in (0, 1)]
            state_dict.update({f"{prefix}weights": torch.cat(own, dim=-1), f"{prefix}constant": old[..., 2]})
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, first: Tensor, second: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times) blend of two such predictions."""
        columns, out = torch.cat([first, second], dim=1), torch.empty_like(first)
        for s in range(len(self.weights)):
            rows = torch.nonzero(species == s)[:, 0]
            out[rows] = columns[rows] @ self.weights[s].T + self.constant[s]
        return out

    def spread(self, blended: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times) standard deviation of the truth around the blend, in its unit; NaN where unknown."""
        out = torch.full_like(blended, torch.nan)
        for s in range(len(self.levels)):
            rows = torch.nonzero(species == s)[:, 0]
            for t in range(blended.shape[1]):
                out[rows, t] = _interpolated(blended[rows, t], self.levels[s, t], self.variances[s, t]).sqrt()
        return out

    @torch.no_grad()
    def fit(
        self,
        first: Tensor,
        second: Tensor,
        target: Tensor,
        noise: Tensor,
        species: Tensor,
        liquid: Tensor,
        unit: Tensor | None = None,
    ) -> None:
        """Take weights and spread from predictions of particles that neither has seen.

        Args:
            first: (n_particles, n_times).
            second: (n_particles, n_times).
            target: (n_particles, n_times) labels in the same unit, NaN where there is none.
            noise: (n_particles, n_times) their variances, NaN where unknown.
            species: (n_particles,) int64.
            liquid: (n_particles,) int64, which sample a particle is of, from 0 on: weights come from how the
                particles of a sample differ, and the constant from all.
            unit: (n_particles, n_times) how much such labels vary: errors count in that unit. All alike by default.
        """
        for s in range(len(self.weights)):
            rows = torch.nonzero(species == s)[:, 0]
            if len(rows) < 4 * LEVELS:
                continue
            for t in range(target.shape[1]):
                own = rows[torch.isfinite(target[rows, t])]
                if len(own) < 4 * LEVELS:
                    continue
                columns = torch.cat([first[own], second[own]], dim=1).double()
                known = noise[own, t].nan_to_num().double()
                inverse = torch.ones_like(known) if unit is None else unit[own, t].double() ** -2
                self._fit_one(s, t, columns, target[own, t].double(), known, liquid[own], inverse / inverse.mean())

    def _fit_one(
        self, s: int, t: int, columns: Tensor, target: Tensor, noise: Tensor, liquid: Tensor, counts: Tensor
    ) -> None:
        everyone, number = torch.ones_like(liquid, dtype=torch.bool), int(liquid.max()) + 1
        inner, inner_target = (shrink_offsets(of, liquid, everyone, 0.0, number) for of in (columns, target[:, None]))
        prior = _halves(self.weights.shape[1])[t, :, None].to(columns.device, columns.dtype)
        # Where predictions say the same, the data cannot tell them apart.
        small = len(columns) * torch.where(prior > 0, _RIDGE, _RIDGE_BETWEEN)
        weighted = inner.T * counts
        gram = weighted @ inner + torch.diag(small[:, 0])
        weights = torch.linalg.solve(gram, weighted @ inner_target + small * prior)[:, 0]
        constant = (target - columns @ weights).mean()
        self.weights[s, t], self.constant[s, t] = weights.to(self.weights.dtype), constant
        blended = columns @ weights + constant
        square = (target - blended) ** 2
        order = blended.argsort()
        for level, part in enumerate(order.chunk(LEVELS)):
            total = square[part].mean()
            self.levels[s, t, level] = blended[part].mean()
            self.variances[s, t, level] = torch.maximum(total - noise[part].mean(), _LEAST * total)


def _halves(n_times: int) -> Tensor:
    """(n_times, 2 n_times) weights of the mean of both predictions at the same time."""
    return 0.5 * torch.eye(n_times).repeat(1, 2)


def _interpolated(at: Tensor, levels: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear between ascending levels, constant beyond them."""
    right = torch.searchsorted(levels.contiguous(), at.contiguous()).clamp(1, len(levels) - 1)
    low, high = levels[right - 1], levels[right]
    share = ((at - low) / (high - low).clamp_min(1e-12)).clamp(0.0, 1.0)
    return torch.lerp(values[right - 1], values[right], share)
