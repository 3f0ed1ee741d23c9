"""How a blend of predictions errs at each of several temperatures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from glassmd.learners.linear.temperature_sums import interpolated

__all__ = ["Calibration"]

_FEW = 200
"""Labels of a species, temperature and time without which the others are believed."""

_LEAST, _MOST = 0.25, 4.0  # of a variance: more than a factor of two in the spread is no calibration


class Calibration(nn.Module):
    """What is left at each temperature: a mean error, and how much the squared spread misses the squared error.

    Both are by species and time, interpolated in ln T, and held where they end. Nothing where all temperatures are the
    same: there a blend leaves no mean error, and its spread is the error's.
    """

    heats: Tensor
    offsets: Tensor
    factors: Tensor

    def __init__(self, *, n_species: int, n_times: int) -> None:
        super().__init__()
        self._shape = n_species, n_times
        self._allocate(0)

    def _allocate(self, n_heats: int) -> None:
        self.register_buffer("heats", torch.zeros(n_heats))
        self.register_buffer("offsets", torch.zeros(n_heats, *self._shape))
        self.register_buffer("factors", torch.ones(n_heats, *self._shape))

    def offset(self, species: Tensor, heat: Tensor) -> Tensor:
        """(n_particles, n_times) mean of the truth less the blend, of particles of a species at ln T."""
        return self._at(self.offsets, species, heat) if len(self.heats) else torch.zeros_like(heat[:, None])

    def factor(self, species: Tensor, heat: Tensor) -> Tensor:
        """(n_particles, n_times) of the blend's variance."""
        return self._at(self.factors.log(), species, heat).exp() if len(self.heats) else torch.ones_like(heat[:, None])

    def _at(self, values: Tensor, species: Tensor, heat: Tensor) -> Tensor:
        places, at = torch.unique(heat, return_inverse=True)
        within = places.clamp(float(self.heats[0]), float(self.heats[-1])).to(self.heats.dtype)
        return interpolated(within, self.heats, values)[at, species].to(heat.dtype)

    @torch.no_grad()
    def fit(self, residual: Tensor, variance: Tensor, noise: Tensor, species: Tensor, heat: Tensor) -> None:
        """Take it from particles that no part of the blend has seen.

        Args:
            residual: (n_particles, n_times) label less blend; NaN where there is no label.
            variance: (n_particles, n_times) squared spread of the truth around the blend; NaN where nobody knows.
            noise: (n_particles, n_times) variance of the labels; NaN where nobody knows.
            species: (n_particles,) int64.
            heat: (n_particles,) ln T, up to a constant.
        """
        heats = torch.unique(heat)
        self._allocate(0 if len(heats) < 2 else len(heats))
        self.to(residual.device)
        if len(heats) < 2:
            return
        self.heats.copy_(heats)
        known = torch.isfinite(residual)
        for s in range(self._shape[0]):
            for t in range(self._shape[1]):
                found: dict[int, tuple[Tensor, Tensor]] = {}
                for k, place in enumerate(heats):
                    rows = torch.nonzero(known[:, t] & (species == s) & (heat == place))[:, 0]
                    if len(rows) >= _FEW:
                        found[k] = _left(residual[rows, t], variance[rows, t], noise[rows, t])
                for k in range(len(heats)):
                    nearest = sorted((abs(other - k), other) for other in found)
                    if nearest:
                        self.offsets[k, s, t], self.factors[k, s, t] = found[nearest[0][1]]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Weights say how many temperatures there are; earlier versions knew none."""
        heats = state_dict.get(f"{prefix}heats")
        self._allocate(0 if heats is None else len(heats))
        if heats is None:
            own = {f"{prefix}{name}": getattr(self, name).clone() for name in ("heats", "offsets", "factors")}
            state_dict.update(own)
        super()._load_from_state_dict(state_dict, prefix, *others)


def _left(residual: Tensor, variance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of some residuals, and their square without noise over what was expected of it."""
    offset = residual.mean()
    truth = ((residual - offset) ** 2 - noise.nan_to_num()).mean()
    expected = variance.mean()
    ratio = truth / expected if bool(expected > 0) else torch.ones_like(expected)
    return offset, ratio.clamp(_LEAST, _MOST)
