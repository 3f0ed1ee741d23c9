"""The regression counterpart of softness: the same structure functions, every particle, least squares."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from glassmd.features import RECIPES, describe
from glassmd.models.ridge import RidgeModel
from glassmd.structure import Structure

__all__ = ["SoftnessRegressionModel"]


class SoftnessRegressionModel(RidgeModel):
    """Ridge regression of propensities on the structure functions of :class:`glassmd.models.softness.SoftnessModel`.

    It needs no choice of soft and hard particles: every particle counts, with the propensity that it has. On rows of
    soft and hard particles, without propensities, the counterpart is
    :func:`glassmd.models.hyperplane.fit_hyperplane` with `method="regression"`.

    Source of the descriptors: S. S. Schoenholz et al., Nature Physics 12, 469 (2016).
    """

    name: ClassVar[str] = "softness-regression"
    one_input: ClassVar[bool] = True
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal",)

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """The structure functions."""
        chosen = structure.configuration(self.inputs[0])
        return [describe(chosen.positions, chosen.box, chosen.species, structure.mixture, RECIPES["schoenholz"])]
