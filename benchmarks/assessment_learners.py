"""The learners of the assessment, for A particles only: ridge regression and two networks, one of them equivariant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from assessment_data import Liquid
from numpy.typing import NDArray
from torch_geometric.data import Data

from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.glassnet.bond_network import BondNetwork, NodeScale
from glassmd.learners.linear.head import LinearHead
from glassmd.learners.networks.se3 import SE3Model
from glassmd.learners.part import FOLDS, Labelled
from glassmd.metrics import pearson

__all__ = ["Growing", "equivariant", "network", "scores"]

FloatArray = NDArray[np.float64]


class Growing:
    """Ridge regression that is solved again as configurations are added, for several labels at once.

    Args:
        columns: Entry of INPUT_SETS.
        n_labels: Labels of each particle, each with a penalty of its own.
    """

    def __init__(self, columns: str, n_labels: int) -> None:
        self.columns, self.n_labels = columns, n_labels
        self.lineages: list[int] = []
        self.head = LinearHead(None, n_times=n_labels, n_species=1)
        self.sums = self.head.no_sums()

    @property
    def penalty(self) -> float:
        """Of the first label, after :meth:`solve`."""
        return float(self.head.solution["0"]["penalty"][0])

    def add(self, liquid: Liquid, labels: FloatArray, folds: NDArray[np.int64] | None = None) -> None:
        """Labels are (n, n_labels); folds (n,) of particles, by default one for the lineage."""
        a = liquid.species == 0
        x, y = torch.from_numpy(liquid.columns(self.columns)[a]), torch.from_numpy(labels[a])
        data = Data(num_nodes=len(x), **{NODE_FEATURES: x, NODE_SPECIES: torch.zeros(len(x), dtype=torch.int64)})
        if liquid.lineage not in self.lineages:
            self.lineages.append(liquid.lineage)
        of = np.full(len(x), self.lineages.index(liquid.lineage) % FOLDS) if folds is None else folds[a]
        whole = Labelled(data, y, torch.ones(len(x), dtype=torch.bool), n_replicas=1, fold=0)
        if not self.sums.anchors:
            self.sums = self.sums.anchored(whole, {0})
        for fold in np.unique(of).tolist():
            self.sums = self.sums.added(whole._replace(mask=torch.from_numpy(of == fold), fold=fold))

    def solve(self) -> None:
        """All particles count alike, whatever the replicas behind their labels."""
        self.head.solve(self.sums, torch.full((1, self.n_labels), torch.nan, dtype=torch.float64))

    def predict(self, liquid: Liquid) -> FloatArray:
        """(n_A, n_labels)."""
        x = torch.from_numpy(liquid.columns(self.columns)[liquid.species == 0])
        return np.asarray(self.head(x, torch.zeros(len(x), dtype=torch.int64)).double().numpy())


def scores(predicted: Sequence[FloatArray], liquids: Sequence[Liquid], time: int = 0) -> list[float]:
    """ρ_A of each configuration against the labels of all replicas."""
    return [
        pearson(one, liquid.truth(time)[liquid.species == 0]) for one, liquid in zip(predicted, liquids, strict=True)
    ]


def network(
    train: Sequence[Liquid],
    labels: Sequence[FloatArray],
    test: Sequence[Liquid],
    *,
    columns: str,
    steps: int,
    seed: int,
) -> list[FloatArray]:
    """One member of glassnet alone, trained on A particles: predictions of A, any units.

    Args:
        train: Configurations to learn from.
        labels: (n,) of each.
        test: Configurations to predict.
        columns: Entry of INPUT_SETS.
        steps: Of AdamW, a configuration each, whatever their number.
        seed: Of weights, order and dropout.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    n_columns, n_bonds = train[0].columns(columns).shape[1], train[0].bonds[1].shape[1]
    scale = NodeScale(n_columns, 2)
    for one in train:
        scale.learn(torch.from_numpy(one.columns(columns)), torch.from_numpy(one.species))
    model = BondNetwork(n_nodes=n_columns, n_bonds=n_bonds, n_species=2, n_times=1)
    known = np.concatenate([y[one.species == 0] for one, y in zip(train, labels, strict=True)])
    graphs = [_graph(one, scale, columns) for one in train]
    targets = [torch.from_numpy((y - known.mean()) / known.std()).float() for y in labels]

    def loss(k: int) -> torch.Tensor:
        a = graphs[k][1] == 0
        return torch.as_tensor(((model(*graphs[k])[a, 0] - targets[k][a]) ** 2).mean())

    _descend(model, loss, len(train), steps=steps, generator=generator, weight_decay=0.1)
    with torch.no_grad():
        return [model(*_graph(one, scale, columns))[one.species == 0, 0].double().numpy() for one in test]


def equivariant(
    train: Sequence[Liquid], labels: Sequence[FloatArray], test: Sequence[Liquid], *, steps: int, seed: int
) -> list[FloatArray]:
    """`se3` as it is by default, on inherent positions, trained on A particles: predictions of A, any units.

    Args are those of :func:`network`.
    """
    torch.manual_seed(seed)
    model = SE3Model()
    graphs = [model.encode(one.structure) for one in train]
    model.initialise(graphs[0])
    known = np.concatenate([y[one.species == 0] for one, y in zip(train, labels, strict=True)])
    targets = [torch.from_numpy((y - known.mean()) / known.std()).float()[:, None] for y in labels]
    masks = [torch.from_numpy(one.species == 0) for one in train]

    def loss(k: int) -> torch.Tensor:
        return model.objective(graphs[k], targets[k], None, masks[k])

    _descend(model, loss, len(train), steps=steps, generator=np.random.default_rng(seed), weight_decay=0.0)
    with torch.no_grad():
        return [model(model.encode(one.structure))[one.species == 0, 0].double().numpy() for one in test]


def _descend(
    model: torch.nn.Module,
    loss: Callable[[int], torch.Tensor],
    n: int,
    *,
    steps: int,
    generator: np.random.Generator,
    weight_decay: float,
) -> None:
    """AdamW, one of n configurations a step, each as often as the others; the rate falls as a cosine."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order: list[int] = []
    model.train()
    for _ in range(steps):
        order = order or generator.permutation(n).tolist()
        optimiser.zero_grad()
        loss(order.pop()).backward()
        optimiser.step()
        schedule.step()
    model.eval()


def _graph(one: Liquid, scale: NodeScale, columns: str) -> tuple[torch.Tensor, ...]:
    species = torch.from_numpy(one.species)
    nodes = scale(torch.from_numpy(one.columns(columns)), species)
    return nodes, species, torch.from_numpy(one.bonds[0]), torch.from_numpy(one.bonds[1])
