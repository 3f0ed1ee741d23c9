"""The unit of every descriptor of a network's nodes, taken from the first sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["NodeScale"]

_LIMIT = 5.0
"""Standard deviations of the middle of the distribution beyond which a descriptor says no more."""

_NORMAL = 1.349  # quartile range of a normal distribution with standard deviation 1


class NodeScale(nn.Module):
    """Standardises descriptors by the median and the quartiles of each species in one sample, and limits them.

    Quartiles, since pairs that overlap in a mean position leave outliers a hundred times the standard deviation.

    Args:
        n_nodes: Descriptors.
        n_species: Species; one that the sample lacks is taken as all particles are.
    """

    middle: Tensor
    unit: Tensor
    known: Tensor

    def __init__(self, n_nodes: int, n_species: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(n_species, n_nodes))
        self.register_buffer("unit", torch.ones(n_species, n_nodes))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def learn(self, nodes: Tensor, species: Tensor) -> None:
        """Take the units from a sample; nothing happens when they are known."""
        if bool(self.known):
            return
        for s in range(len(self.middle)):
            rows = nodes[species == s] if bool((species == s).any()) else nodes
            low, middle, high = torch.quantile(rows, rows.new_tensor([0.25, 0.5, 0.75]), dim=0)
            spread = torch.maximum((high - low) / _NORMAL, 0.2 * rows.std(dim=0, unbiased=False))
            self.middle[s] = middle
            self.unit[s] = torch.where(spread > 1e-6 * middle.abs() + 1e-12, spread, torch.inf)
        self.known.fill_(True)

    def forward(self, nodes: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_nodes) of order one; a descriptor that does not vary becomes zero."""
        scaled = (nodes - self.middle[species]) / self.unit[species]
        return scaled.clamp(-_LIMIT, _LIMIT)
