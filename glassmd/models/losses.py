"""What an optimiser step lowers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["weighted_square_error"]


def weighted_square_error(output: Tensor, target: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
    """Mean squared error over the chosen particles and all times, in normalised units.

    Args:
        output: (n_particles, n_times).
        target: (n_particles, n_times).
        mask: (n_particles,) which particles count.
        noise: (n_particles, n_times) variance of the label, var/R, in the same units; a label counts with
            weight 1/(1 + noise), the inverse variance of a residual of order one plus the label's own. NaN
            (unknown) counts fully.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> one = torch.ones(2, 1)
        >>> float(weighted_square_error(one, 3 * one, torch.tensor([True, False])))
        4.0
    """
    square = (output - target)[mask] ** 2
    if noise is None:
        return square.mean()
    weight = 1.0 / (1.0 + torch.nan_to_num(noise[mask], nan=0.0))
    return (weight * square).sum() / weight.sum()
