"""A small message-passing network on particles and bonds that are described by numbers no rotation changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from glassmd.learners.linear.temperature_sums import heat_of, interpolated

__all__ = ["BondNetwork", "NodeScale"]

NEIGHBOURS = 10.0
"""Messages are summed and divided by this: about as many as a particle has, so that sums are of order one."""

_LIMIT = 5.0
"""Standard deviations of the middle of the distribution beyond which a descriptor says no more."""

_NORMAL = 1.349  # quartile range of a normal distribution with standard deviation 1


class NodeScale(nn.Module):
    """Standardises descriptors by the median and the quartiles of each species in one sample, and limits them.

    Quartiles, since pairs that overlap in a mean position leave outliers a hundred times the standard deviation.
    Samples of several temperatures have units of their own, interpolated in ln T, which the last descriptor is.

    Args:
        n_nodes: Descriptors.
        n_species: Species; one that a sample lacks is taken as all particles are.
    """

    middle: Tensor
    unit: Tensor
    known: Tensor
    heats: Tensor

    def __init__(self, n_nodes: int, n_species: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(1, n_species, n_nodes))
        self.register_buffer("unit", torch.ones(1, n_species, n_nodes))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))
        self.register_buffer("heats", torch.zeros(1))

    @torch.no_grad()
    def learn(self, samples: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take the units from samples; nothing happens when they are known.

        Args:
            samples: Descriptors (n_particles, n_nodes) and species; the first one of a temperature counts.
        """
        if bool(self.known):
            return
        first = {heat_of(sample[0]): sample for sample in reversed(samples)}
        ascending = [first[heat] for heat in sorted(first)]
        found = [self._of(nodes, species) for nodes, species in ascending]
        self.middle, self.unit = torch.stack([middle for middle, _ in found]), torch.stack([unit for _, unit in found])
        self.heats = torch.stack([nodes[0, -1] for nodes, _ in ascending])
        self.known.fill_(True)

    def _of(self, nodes: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        middles, units = [], []
        for s in range(self.middle.shape[1]):
            rows = nodes[species == s] if bool((species == s).any()) else nodes
            low, middle, high = torch.quantile(rows, rows.new_tensor([0.25, 0.5, 0.75]), dim=0)
            spread = torch.maximum((high - low) / _NORMAL, 0.2 * rows.std(dim=0, unbiased=False))
            middles.append(middle)
            units.append(torch.where(spread > 1e-6 * middle.abs() + 1e-12, spread, torch.inf))
        return torch.stack(middles), torch.stack(units)

    def forward(self, nodes: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_nodes) of order one; a descriptor that does not vary becomes zero."""
        if len(self.heats) == 1:
            scaled = (nodes - self.middle[0, species]) / self.unit[0, species]
            return scaled.clamp(-_LIMIT, _LIMIT)
        heat, at = torch.unique(nodes[:, -1], return_inverse=True)
        middle = interpolated(heat, self.heats, self.middle)
        varies = torch.isfinite(self.unit).all(dim=0)
        logs = torch.where(varies, self.unit, 1.0).log()
        unit = torch.where(varies, interpolated(heat, self.heats, logs).exp(), torch.inf)
        scaled = ((nodes - middle[at, species]) / unit[at, species]).clamp(-_LIMIT, _LIMIT)
        scaled[:, -1] = (nodes[:, -1] - self.heats.mean()) / self.heats.std()
        return scaled

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Units say how many temperatures there are; those of earlier versions knew one."""
        middle = state_dict.get(f"{prefix}middle")
        if middle is not None and middle.ndim == 2:
            own = {name: state_dict[f"{prefix}{name}"][None] for name in ("middle", "unit")}
            state_dict.update({f"{prefix}{name}": value for name, value in own.items()})
            state_dict[f"{prefix}heats"] = torch.zeros(1)
        elif middle is not None:
            self.middle, self.unit = torch.zeros_like(middle), torch.ones_like(middle)
            self.heats = torch.zeros(len(middle))
        super()._load_from_state_dict(state_dict, prefix, *others)


class _Layer(nn.Module):
    """h_i ← h_i + φ(h_i, Σ_j ψ(h_i, h_j, bond_ij)), with φ and ψ of one hidden layer each and pre-normalisation."""

    def __init__(self, width: int, n_bonds: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ends = nn.Linear(width, 2 * width, bias=False)
        self.bond = nn.Linear(n_bonds, width)
        self.received = nn.Linear(width, width)
        self.mixed = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, sender: Tensor, receiver: Tensor, bonds: Tensor) -> Tensor:
        """(n_particles, width) after the step."""
        normal = self.norm(hidden)
        to, of = self.ends(normal).chunk(2, dim=1)
        messages = silu(self.bond(bonds) + to.index_select(0, receiver) + of.index_select(0, sender))
        received = torch.zeros_like(hidden).index_add(0, receiver, messages.to(hidden)) / NEIGHBOURS
        mixed = silu(self.mixed(torch.cat([normal, self.received(received)], dim=1)))
        step: Tensor = self.out(self.dropout(mixed))
        return hidden + step


class BondNetwork(nn.Module):
    """From nodes and bonds to n_times numbers per particle, with a linear path beside the network.

    Args:
        n_nodes: Numbers per particle.
        n_bonds: Numbers per bond.
        n_species: Species.
        n_times: Outputs per species.
        width: Channels.
        n_layers: Message-passing steps, each with weights of its own.
        dropout: Of what enters and of every step's hidden layer.
    """

    def __init__(
        self,
        *,
        n_nodes: int,
        n_bonds: int,
        n_species: int,
        n_times: int,
        width: int = 32,
        n_layers: int = 3,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_species, self.n_times = n_species, n_times
        self.enter = nn.Linear(n_nodes, width)
        self.kind = nn.Embedding(n_species, width)
        self.layers = nn.ModuleList(_Layer(width, n_bonds, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, n_species * n_times)
        self.beside = nn.Linear(n_nodes, n_species * n_times)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.leave, self.beside):
            nn.init.zeros_(layer.weight)

    def forward(self, nodes: Tensor, species: Tensor, edge_index: Tensor, bonds: Tensor) -> Tensor:
        """(n_particles, n_times).

        Args:
            nodes: (n_particles, n_nodes), of order one.
            species: (n_particles,) int64.
            edge_index: (2, n_edges) int64, sender and receiver.
            bonds: (n_edges, n_bonds), of order one.
        """
        sender, receiver = edge_index
        hidden = silu(self.enter(self.dropout(nodes))) + self.kind(species)
        for layer in self.layers:
            hidden = layer(hidden, sender, receiver, bonds)
        every: Tensor = (self.leave(self.norm(hidden)) + self.beside(nodes)).view(-1, self.n_species, self.n_times)
        chosen: Tensor = every[torch.arange(len(species), device=species.device), species]
        return chosen
