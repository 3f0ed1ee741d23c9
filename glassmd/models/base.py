"""What every network that predicts propensities looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import NODE_SPECIES

__all__ = ["PropensityModel"]


class PropensityModel(nn.Module, ABC):
    """A network from a graph to the propensity of every particle at every time.

    A subclass computes :meth:`normalised`, numbers of order one; `propensity = shift + scale × normalised`
    with one scale and one shift per species and time gives them their unit. Both are the identity until
    :meth:`set_normalisation` takes them from training data, so that imported weights predict what they
    always did.

    Attributes:
        name: What `--model` calls it.
        cutoff: Largest pair distance of its graphs, σ_AA.
        self_edges: Whether its graphs connect every particle with itself.
        dimensions: d of its graphs, 2 or 3.
        n_times: Number of times predicted at once.
        n_species: Number of species told apart by the normalisation.
        scale: (n_species, n_times) buffer, σ_AA.
        shift: (n_species, n_times) buffer, σ_AA.
    """

    name: ClassVar[str]
    cutoff: ClassVar[float] = 2.0
    self_edges: ClassVar[bool] = True
    scale: Tensor
    shift: Tensor

    def __init__(self, *, n_times: int = 1, n_species: int = 2, dimensions: int = 3) -> None:
        super().__init__()
        if n_times < 1 or n_species < 1 or dimensions not in (2, 3):
            raise ModelError(
                f"found n_times={n_times}, n_species={n_species}, dimensions={dimensions}",
                "at least one time and one species, in 2 or 3 dimensions",
            )
        self.n_times, self.n_species, self.dimensions = n_times, n_species, dimensions
        self.register_buffer("scale", torch.ones(n_species, n_times))
        self.register_buffer("shift", torch.zeros(n_species, n_times))

    @abstractmethod
    def normalised(self, data: Data) -> Tensor:
        """Raw output, (n_particles, n_times), in units of `scale` around `shift`: what the loss sees."""

    def initialise(self, graph: Data) -> None:
        """Adapt fresh weights to graphs like `graph` before training; a network that needs nothing does nothing."""

    def hyperparameters(self) -> dict[str, Any]:
        """Arguments that make the same network again (JSON types only)."""
        return {"n_times": self.n_times, "n_species": self.n_species, "dimensions": self.dimensions}

    def forward(self, data: Data) -> Tensor:
        """Predicted propensities, (n_particles, n_times), in the unit of the targets, σ_AA.

        Raises:
            ModelError: The graph has another dimension or more species than the network.
        """
        self.check_graph(data)
        species = data[NODE_SPECIES]
        return torch.addcmul(self.shift[species], self.scale[species], self.normalised(data))

    def normalise(self, targets: Tensor, species: Tensor) -> Tensor:
        """Targets (n_particles, n_times), σ_AA, in the network's own units; inverse of what `forward` adds.

        Args:
            targets: (n_particles, n_times), σ_AA.
            species: (n_particles,) int64.
        """
        return (targets - self.shift[species]) / self.scale[species]

    def set_normalisation(self, scale: Tensor, shift: Tensor) -> None:
        """Fix the unit of the output, usually standard deviation and mean of the training labels.

        Args:
            scale: (n_species, n_times), σ_AA, above 0; species without labels keep 1.
            shift: (n_species, n_times), σ_AA.

        Raises:
            ModelError: Other shapes, or numbers that cannot scale.
        """
        expected = (self.n_species, self.n_times)
        if tuple(scale.shape) != expected or tuple(shift.shape) != expected:
            found = f"scale {tuple(scale.shape)} and shift {tuple(shift.shape)}"
            raise ModelError(f"found {found}", f"shape (n_species, n_times) = {expected}")
        if not (torch.isfinite(shift).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            raise ModelError("found a scale or shift that is not finite or not above 0", "labels that vary")
        self.scale.copy_(scale)
        self.shift.copy_(shift)

    def check_graph(self, data: Data) -> None:
        """Refuse a graph the network was not made for.

        Raises:
            ModelError: The graph has another dimension or more species than the network.
        """
        d = int(data.edge_attr.shape[1])
        if d != self.dimensions:
            raise ModelError(f"found a graph in {d} dimensions", f"{self.dimensions}, as the model")
        species = data[NODE_SPECIES]
        if species.numel() and int(species.max()) >= self.n_species:
            raise ModelError(
                f"found species {int(species.max())} in the graph",
                f"an index below {self.n_species}, as the model",
            )
