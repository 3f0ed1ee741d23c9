"""Two predictions weighed against each other where neither has seen the truth, and how far the truth lies from both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glassmd.learners.losses import shrink_offsets

__all__ = ["Blend"]

LEVELS = 12
"""Equally populated classes of the prediction, each with a spread of its own: mobile particles scatter more."""

_LEAST = 0.02  # of the residual's variance, which the noise of the labels cannot explain away
_RIDGE = 1e-3  # of the particles: two predictions may be all but the same


class Blend(nn.Module):
    """`w₁ first + w₂ second + c` for every species and time, and the spread of the truth around it.

    Weights are least squares; halves until then. The spread is the root of the mean square residual less the mean
    noise of the labels, in classes of the blended prediction, interpolated between the classes' means.
    """

    weights: Tensor
    levels: Tensor
    variances: Tensor

    def __init__(self, *, n_species: int, n_times: int) -> None:
        super().__init__()
        start = torch.tensor([0.5, 0.5, 0.0]).expand(n_species, n_times, 3).clone()
        self.register_buffer("weights", start)
        self.register_buffer("levels", torch.zeros(n_species, n_times, LEVELS))
        self.register_buffer("variances", torch.full((n_species, n_times, LEVELS), torch.nan))

    @property
    def known(self) -> bool:
        """Whether anything is known of the spread."""
        return bool(torch.isfinite(self.variances).any())

    def forward(self, first: Tensor, second: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times) blend of two such predictions."""
        weights = self.weights[species]
        return weights[..., 0] * first + weights[..., 1] * second + weights[..., 2]

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
        self, first: Tensor, second: Tensor, target: Tensor, noise: Tensor, species: Tensor, liquid: Tensor
    ) -> None:
        """Take weights and spread from predictions of particles that neither has seen.

        Args:
            first: (n_particles, n_times).
            second: (n_particles, n_times).
            target: (n_particles, n_times) labels in the same unit.
            noise: (n_particles, n_times) their variances, NaN where unknown.
            species: (n_particles,) int64.
            liquid: (n_particles,) int64, which sample a particle is of, from 0 on: weights come from how the
                particles of a sample differ, and the constant from all.
        """
        for s in range(len(self.weights)):
            rows = torch.nonzero(species == s)[:, 0]
            if len(rows) < 4 * LEVELS:
                continue
            for t in range(target.shape[1]):
                columns = torch.stack([first[rows, t], second[rows, t]], dim=1).double()
                known = noise[rows, t].nan_to_num().double()
                self._fit_one(s, t, columns, target[rows, t].double(), known, liquid[rows])

    def _fit_one(self, s: int, t: int, columns: Tensor, target: Tensor, noise: Tensor, liquid: Tensor) -> None:
        everyone = torch.ones_like(liquid, dtype=torch.bool)
        inner, inner_target = (shrink_offsets(of, liquid, everyone, 0.0) for of in (columns, target[:, None]))
        # Towards halves: where both say the same, the data cannot tell them apart.
        small = _RIDGE * len(columns) * torch.eye(2, dtype=torch.float64, device=columns.device)
        prior = torch.full((2, 1), 0.5, dtype=torch.float64, device=columns.device)
        weights = torch.linalg.solve(inner.T @ inner + small, inner.T @ inner_target + small @ prior)[:, 0]
        constant = (target - columns @ weights).mean()
        self.weights[s, t] = torch.cat([weights, constant[None]]).to(self.weights.dtype)
        blended = columns @ weights + constant
        square = (target - blended) ** 2
        order = blended.argsort()
        for level, part in enumerate(order.chunk(LEVELS)):
            total = square[part].mean()
            self.levels[s, t, level] = blended[part].mean()
            self.variances[s, t, level] = torch.maximum(total - noise[part].mean(), _LEAST * total)


def _interpolated(at: Tensor, levels: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear between ascending levels, constant beyond them."""
    right = torch.searchsorted(levels.contiguous(), at.contiguous()).clamp(1, len(levels) - 1)
    low, high = levels[right - 1], levels[right]
    share = ((at - low) / (high - low).clamp_min(1e-12)).clamp(0.0, 1.0)
    return torch.lerp(values[right - 1], values[right], share)
