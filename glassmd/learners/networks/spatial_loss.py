"""What a predicted field should share with the truth beside its values: its width and its correlation in space.

The idea is GlassMLP's (G. Jung, G. Biroli & L. Berthier, Phys. Rev. Lett. 130, 238202 (2023)), the form ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.features.neighbours import Neighbours
from glassmd.fields import NODE_SPECIES
from glassmd.learners.losses import Balance, group_means, of_one_process

__all__ = ["PAIR_INDEX", "PAIR_SHELL", "SHELLS", "Groups", "draw_pairs", "spatial_error", "width_error"]

SHELLS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
"""Edges of the shells in which the correlation is compared, σ_AA."""

PAIRS_PER_SHELL = 1000
"""Pairs of each species and shell that stand for all of them: their products' mean is known to 3%."""

# (2, n_pairs) int64: particles of one species; the name ends with "index" so that batches shift it
PAIR_INDEX = "pair_index"
# (n_pairs,) int64: which shell
PAIR_SHELL = "pair_shell"


def draw_pairs(
    blocks: Iterable[Neighbours], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of like species, at most :data:`PAIRS_PER_SHELL` of each species and shell.

    Args:
        blocks: Neighbours, as far as the shells shall reach, of all particles together.
        generator: Draws the pairs.

    Returns:
        (2, n_pairs) particles and (n_pairs,) shells.
    """
    ends, groups, places = np.zeros((2, 0), np.int64), np.zeros(0, np.int64), np.zeros(0)
    for near in blocks:
        own = np.arange(len(near.species))[near.block]
        centre, species = own[near.centre], near.species
        alike = (centre < near.neighbour) & (species[centre] == species[near.neighbour])
        pairs = np.flatnonzero(alike & (near.distances >= SHELLS[0]) & (near.distances < SHELLS[-1]))
        shells = np.searchsorted(SHELLS, near.distances[pairs], side="right") - 1
        place = np.empty(len(pairs))
        place[generator.permutation(len(pairs))] = np.arange(len(pairs)) / max(len(pairs), 1)
        ends = np.concatenate([ends, [centre[pairs], near.neighbour[pairs]]], axis=1)
        groups = np.concatenate([groups, species[centre[pairs]] * len(SHELLS) + shells])
        places = np.concatenate([places, place])
        order = np.lexsort((places, groups))
        kept = order[np.arange(len(order)) - np.searchsorted(groups[order], groups[order]) < PAIRS_PER_SHELL]
        ends, groups, places = ends[:, kept], groups[kept], places[kept]
    return ends, groups % len(SHELLS)


@dataclass(frozen=True)
class Groups:
    """Who belongs together: particles of one species of one configuration.

    Attributes:
        of_particle: (n_particles,) int64.
        count: How many groups.
    """

    of_particle: Tensor
    count: int

    @classmethod
    def of(cls, data: Data, n_species: int) -> Groups:
        """The groups of a configuration or of a batch of them."""
        species, batch = data[NODE_SPECIES], data.get("batch")
        if batch is None:
            return cls(species, n_species)
        return cls(batch * n_species + species, int(data.num_graphs) * n_species)


def width_error(
    output: Tensor,
    target: Tensor,
    mask: Tensor,
    noise: Tensor | None,
    groups: Groups,
    balance: Balance = of_one_process,
) -> Tensor:
    """Mean squared difference of the standard deviations of prediction and truth within a group.

    Args:
        output: (n_particles, n_times, n_members), each member a prediction.
        target: (n_particles, n_times) labels in the same units.
        mask: (n_particles,) which particles count.
        noise: (n_particles, n_times) variances of the labels, which the truth does not have; NaN: unknown.
        groups: Who belongs together.
        balance: Of the number of groups, where other processes have others.
    """
    chosen = torch.nonzero(mask).squeeze(1)
    which = groups.of_particle[chosen]
    truth = _variance(target[chosen], which, groups.count)  # NaN at times that were not measured
    if noise is not None:
        truth = truth - group_means(torch.nan_to_num(noise[chosen], nan=0.0), which, groups.count)
    found = _variance(output[chosen], which, groups.count)
    there = torch.bincount(which, minlength=groups.count) > 1
    return _mean_square(_root(found[there]), _root(truth[there]), balance)


def spatial_error(
    output: Tensor, target: Tensor, mask: Tensor, data: Data, groups: Groups, balance: Balance = of_one_process
) -> Tensor:
    """Mean squared difference of ⟨p_i p_j⟩ over like pairs of one shell and group.

    In normalised units the labels' mean over all training data is 0: the products are those of fluctuations.

    Arguments as of :func:`width_error`; `data` has the pairs of :func:`draw_pairs`.
    """
    (i, j), shell = data[PAIR_INDEX], data[PAIR_SHELL]
    both = torch.nonzero(mask[i] & mask[j]).squeeze(1)
    i, j, shell = i[both], j[both], shell[both]
    which = groups.of_particle[i] * len(SHELLS) + shell
    count = groups.count * len(SHELLS)
    there = torch.bincount(which, minlength=count) > 0
    found, truth = (
        group_means(values.index_select(0, i) * values.index_select(0, j), which, count)[there]
        for values in (output, target)
    )
    return _mean_square(found, truth, balance)


def _mean_square(found: Tensor, truth: Tensor, balance: Balance) -> Tensor:
    """Mean squared difference of (n_groups, n_times, n_members) and (n_groups, n_times), where that is not NaN."""
    known = torch.isfinite(truth).unsqueeze(2).expand_as(found)
    square = torch.where(known, found - truth.unsqueeze(2), 0.0).square()
    return square.sum() / balance(known.sum()).clamp_min(1)


def _variance(values: Tensor, which: Tensor, count: int) -> Tensor:
    mean = group_means(values, which, count)
    return group_means((values - mean.index_select(0, which)).square(), which, count)


def _root(variance: Tensor) -> Tensor:
    """√variance with a finite slope where there is none."""
    return variance.clamp_min(1e-6).sqrt()
