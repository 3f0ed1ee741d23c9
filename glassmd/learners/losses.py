"""What an optimiser step lowers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Balance", "group_means", "of_one_process", "shrink_offsets", "weighted_square_error"]

Balance = Callable[[Tensor], Tensor]
"""The mean over the processes of a training of what a mean is divided by: then the mean over these of their losses is
the loss of the whole batch, however unlike their shares of it are."""


def of_one_process(divisor: Tensor) -> Tensor:
    """The :data:`Balance` of a training with one process."""
    return divisor


def weighted_square_error(
    output: Tensor, target: Tensor, mask: Tensor, noise: Tensor | None = None, balance: Balance = of_one_process
) -> Tensor:
    """Mean squared error over the chosen particles and all times, in normalised units, a scalar.

    Args:
        output: (n_particles, n_times).
        target: (n_particles, n_times); NaN, at a time that was not measured, counts for nothing.
        mask: (n_particles,) which particles count.
        noise: (n_particles, n_times) variance of the label, var/R, in the same units; a label counts with
            weight 1/(1 + noise), the inverse variance of a residual of order one plus the label's own. NaN
            (unknown) counts fully.
        balance: Of the weights, where other processes have other particles.

    Example:
        >>> one = torch.ones(2, 1)
        >>> float(weighted_square_error(one, 3 * one, torch.tensor([True, False])))
        4.0
    """
    known = mask[:, None] & torch.isfinite(target)
    weight = known.to(target.dtype)
    if noise is not None:
        weight = weight / (1.0 + torch.nan_to_num(noise, nan=0.0))
    square = torch.where(known, output - target, 0.0) ** 2
    return (weight * square).sum() / balance(weight.sum()).clamp_min(1e-12)


def shrink_offsets(values: Tensor, group: Tensor, counted: Tensor, between: float, n_groups: int) -> Tensor:
    """The same values with the mean of every group moved towards zero.

    Of residuals: what all particles of a liquid have in common then weighs less than how they differ, as in
    :class:`glassmd.learners.linear.head.LinearHead`.

    Args:
        values: (n_particles, n_times).
        group: (n_particles,) int64, from 0 on.
        counted: (n_particles,) or (n_particles, n_times) which values the means are of.
        between: What is left of a mean, 0 to 1.
        n_groups: How many groups.

    Example:
        >>> values, counted = torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([True, True, False])
        >>> shrink_offsets(values, torch.tensor([0, 0, 1]), counted, 0.5, 2).flatten().tolist()
        [0.0, 2.0, 9.0]
    """
    weight = (counted if counted.ndim == 2 else counted[:, None]).to(values.dtype).expand_as(values)
    number = values.new_zeros(n_groups, values.shape[1]).index_add(0, group, weight).clamp_min(1)
    sums = values.new_zeros(n_groups, values.shape[1]).index_add(0, group, weight * values)
    return values - (1 - between) * (sums / number)[group]


def group_means(values: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """(n_groups, …) means of values (n, …) over every group (n,); 0 for an empty one."""
    number = torch.bincount(group, minlength=n_groups).clamp_min(1).to(values.dtype)
    sums = values.new_zeros(n_groups, *values.shape[1:]).index_add(0, group, values)
    return sums / number.view(-1, *[1] * (values.dim() - 1))
