"""The unit of a learner's output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glassmd.stream.samples import Sample

__all__ = ["label_normalisation"]


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
