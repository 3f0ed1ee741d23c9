"""Ridge regression on recursive descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.features import RECIPES, begun, describe, displacement_features
from glassmd.features.recipe import reach_of
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import SolvedModel
from glassmd.learners.linear.fold_sums import FoldSums
from glassmd.learners.linear.head import LinearHead, encoded
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["RidgeModel", "recursive_descriptors"]


class RidgeModel(SolvedModel):
    """Linear in the recursive descriptors of every kind of positions that it sees.

    The descriptors are those of E. Boattini, F. Smallenburg and L. Filion, PRL 127, 088007 (2021), with local
    physical quantities among them; several kinds of positions also tell how far a particle is from one to the
    other. They are exactly invariant, and so is the prediction.

    Args:
        n_features: Number of descriptors; None: until the first structure is encoded.
        inputs: Any of thermal, inherent and cage (inherent).

    Example:
        >>> import torch
        >>> from glassmd.learners.part import Labelled
        >>> from glassmd.configuration import Configuration
        >>> from glassmd.mixtures import get_mixture
        >>> generator = np.random.default_rng(0)
        >>> liquid = Configuration([6, 6, 6], np.arange(200) % 5 == 0, generator.uniform(-3, 3, (200, 3)))
        >>> model = RidgeModel(inputs=["thermal"])
        >>> data = model.encode(Structure(liquid, get_mixture("kob-andersen"), 0.5))
        >>> sample = Labelled(data, torch.rand(200, 1), data.species == 0, n_replicas=4, fold=0)
        >>> tuple(model.fit([sample])(data).shape)
        (200, 1)
    """

    name: ClassVar[str] = "ridge"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        n_features: int | None = None,
        inputs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        self.head = LinearHead(n_features, n_times=n_times, n_species=n_species)

    @property
    def n_features(self) -> int | None:
        """Number of descriptors; None until the first structure is encoded."""
        return self.head.n_features

    def encode(self, structure: Structure) -> Data:
        """The descriptors and the species of every particle."""
        self.check_structure(structure)
        descriptors = np.hstack(self.describe(structure)).astype(np.float32, copy=False)
        self.head.fit_to(descriptors.shape[1])
        return encoded(structure, descriptors)

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """Sets of columns, (n_particles, any), that show `inputs` and nothing else."""
        sets = [recursive_descriptors(structure, name) for name in self.inputs]
        return [*sets, displacement_features(structure, inputs=self.inputs)] if len(sets) > 1 else sets

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return reach_of(RECIPES["recursive"], mixture)

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return 2000.0 + 1000.0 * len(self.inputs) + 5000.0 * (len(self.inputs) > 1)

    def normalised(self, data: Data) -> Tensor:
        """(n_particles, n_times), σ_AA: labels are learned as they are."""
        predicted: Tensor = self.head(data[NODE_FEATURES], data[NODE_SPECIES])
        return predicted.to(self.scale.dtype)

    def spread(self, data: Data) -> Tensor:
        """(n_particles, n_times) standard deviation of the truth around the prediction, σ_AA."""
        return self.head.spread(data[NODE_FEATURES], data[NODE_SPECIES])

    def out_of_fold(self, data: Data, fold: int) -> Tensor | None:
        """(n_particles, n_times), σ_AA, by the weights that never saw a fold; None where all were in one fold."""
        if not self.head.folds_apart:
            return None
        return self.head.forward_fold(data[NODE_FEATURES], data[NODE_SPECIES], fold)

    def no_sums(self) -> FoldSums:
        """Sums over no sample."""
        return self.head.no_sums()

    def solve(self, sums: FoldSums, variance: Tensor) -> None:
        """Weights from the sums."""
        self.head.solve(sums, variance)


def recursive_descriptors(structure: Structure, name: str) -> NDArray[np.float32]:
    """(n_particles, n_features) of the positions `name`."""
    thermal, mixture, recipe = structure.thermal, structure.mixture, RECIPES["recursive"]
    base = begun(thermal, mixture, recipe) if name == "thermal" else None
    return describe(structure.positions(name), thermal.box, thermal.species, mixture, recipe, base)
