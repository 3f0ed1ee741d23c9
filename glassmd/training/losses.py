"""What training minimises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glassmd.stream.samples import Sample

__all__ = ["label_normalisation", "weighted_square_error"]


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


def label_normalisation(samples: Sequence[Sample], n_species: int) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of the labels, which become the network's units.

    Args:
        samples: At least one.
        n_species: Species that the network tells apart.

    Returns:
        Scale and shift, (n_species, n_times) float32, σ_AA; one and zero for a species that is not there.
    """
    n_times = len(samples[0].times)
    scale, shift = torch.ones(n_species, n_times), torch.zeros(n_species, n_times)
    for index in range(n_species):
        labels = [sample.propensity[:, sample.parent.species == index] for sample in samples]
        stacked = torch.from_numpy(np.concatenate(labels, axis=1))
        if stacked.shape[1] > 1:
            scale[index], shift[index] = stacked.std(dim=1).clamp_min(1e-6), stacked.mean(dim=1)
    return scale, shift
