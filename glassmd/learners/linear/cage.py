"""Ridge regression on the local cage."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from glassmd.features import displacement_features
from glassmd.learners.linear.ridge import RidgeModel, recursive_descriptors
from glassmd.structure import Structure

__all__ = ["CageModel"]


class CageModel(RidgeModel):
    """Linear in the descriptors of the cage positions and in how far a particle is from the centre of its cage.

    After R. M. Alkemade, F. Smallenburg and L. Filion, J. Chem. Phys. 158, 134512 (2023): thermal positions hide the
    cage behind vibrations, so the cage is what is described, and a particle's distance from its centre
    tells the part of the displacement that is only the way back. The Debye–Waller factor, which falls out of
    the same short replicas, is added. Of the thermal positions only the distance is seen.
    """

    name: ClassVar[str] = "cage"
    needs: ClassVar[tuple[str, ...]] = ("cage",)
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal", "cage")

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """Descriptors of the cage, and of the energy minimum where it is seen, with the displacements between them."""
        described = [name for name in self.inputs if name != "thermal"]
        sets = [recursive_descriptors(structure, name) for name in described]
        return [*sets, displacement_features(structure, inputs=self.inputs)]
