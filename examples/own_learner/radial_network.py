"""A learner of one's own: a small network on how many particles of each species lie how far away.

    pip install examples/own_learner
    glassmd train RUN --model radial-network --out MODEL

The entry point in pyproject.toml is all that glassmd needs to know of it. A learner that is solved instead of stepped
derives from :class:`glassmd.learners.linear.ridge.RidgeModel` and says in `describe` what it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.fields import EDGE_INDEX, EDGE_VECTOR, NODE_FEATURES, NODE_SPECIES
from glassmd.graphs import to_graph
from glassmd.learners.fitting.stepped import SteppedModel
from glassmd.structure import INPUTS, Structure


class RadialNetwork(SteppedModel):
    """Counts in shells up to 2.5 σ_AA, through one hidden layer."""

    name: ClassVar[str] = "radial-network"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    one_input: ClassVar[bool] = True
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        inputs: Sequence[str] | None = None,
        width: int = 32,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        self.width = width
        self.layers = nn.Sequential(nn.Linear(16 * n_species + n_species, width), nn.SiLU(), nn.Linear(width, n_times))

    def encode(self, structure: Structure) -> Data:
        """(n_particles, 16 n_species + n_species) numbers of neighbours, and the particle's own species."""
        self.check_structure(structure)
        graph = to_graph(structure.configuration(self.inputs[0]), cutoff=2.5, self_edges=False)
        (sender, receiver), species = graph[EDGE_INDEX], graph[NODE_SPECIES]
        shell = (graph[EDGE_VECTOR].norm(dim=1) / 2.5 * 16).long().clamp(max=15)
        counts = torch.zeros(len(species), 16 * self.n_species)
        counts.index_put_((receiver, 16 * species[sender] + shell), torch.ones(len(sender)), accumulate=True)
        own = nn.functional.one_hot(species, self.n_species)
        return Data(num_nodes=len(species), **{NODE_FEATURES: torch.cat([counts, own], dim=1), NODE_SPECIES: species})

    def normalised(self, data: Data) -> Tensor:
        """(n_particles, n_times)."""
        return self.layers(data[NODE_FEATURES])
