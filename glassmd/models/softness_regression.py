"""The regression counterpart of softness: the same structure functions, every particle, least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from glassmd.features import RECIPES, describe
from glassmd.models.base import require_one_input
from glassmd.models.ridge import RidgeModel
from glassmd.structure import Structure

__all__ = ["SoftnessRegressionModel"]


class SoftnessRegressionModel(RidgeModel):
    """Ridge regression of propensities on the structure functions of :class:`glassmd.models.softness.SoftnessModel`.

    It needs no choice of soft and hard particles: every particle counts, with the propensity that it has. On rows of
    soft and hard particles, without propensities, the counterpart is
    :func:`glassmd.models.hyperplane.fit_hyperplane` with `method="regression"`.

    Source of the descriptors: S. S. Schoenholz et al., Nature Physics 12, 469 (2016).

    Args:
        n_times: Number of times predicted at once.
        n_species: Number of species.
        dimensions: d, 2 or 3.
        n_features: Number of descriptors; None: until the first structure is encoded.
        inputs: The one kind of positions that are described (thermal).
    """

    name: ClassVar[str] = "softness-regression"
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal",)

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        n_features: int | None = None,
        inputs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            n_times=n_times, n_species=n_species, dimensions=dimensions, n_features=n_features, inputs=inputs
        )
        require_one_input(self)

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """The structure functions."""
        chosen = structure.configuration(self.inputs[0])
        return [describe(chosen.positions, chosen.box, chosen.species, structure.mixture, RECIPES["schoenholz"])]
