"""Ridge regression on the local cage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ModelError
from glassmd.features import displacement_features
from glassmd.models.ridge import RidgeModel, recursive_descriptors
from glassmd.structure import INPUTS, Structure

__all__ = ["CageModel"]


class CageModel(RidgeModel):
    """Linear in the descriptors of the cage positions and in how far a particle is from the centre of its cage.

    After R. M. Alkemade, F. Smallenburg and L. Filion, J. Chem. Phys. 158, 134512 (2023): thermal positions hide the
    cage behind vibrations, so the cage is what is described, and a particle's distance from its centre
    tells the part of the displacement that is only the way back. The Debye–Waller factor, which falls out of
    the same short replicas, is added. Of the thermal positions only the distance is seen.

    Args:
        n_times: Number of times predicted at once.
        n_species: Number of species.
        dimensions: d, 2 or 3.
        n_features: Number of descriptors; None: until the first structure is encoded.
        inputs: cage and any others (thermal and cage).
    """

    name: ClassVar[str] = "cage"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal", "cage")

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
        if "cage" not in self.inputs:
            raise ModelError(
                f"found inputs {', '.join(self.inputs)} for model cage", "cage among them", "try --input thermal,cage"
            )

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """Descriptors of the cage, and of the energy minimum where it is seen, with the displacements between them."""
        described = [name for name in self.inputs if name != "thermal"]
        sets = [recursive_descriptors(structure, name) for name in described]
        return [*sets, displacement_features(structure, inputs=self.inputs)]
