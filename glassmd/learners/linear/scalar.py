"""One number per particle, averaged over the best length: what any learner has to beat.

Samples are added up to sums over particles; the length whose average correlates best with the labels inside
configurations is chosen for every species and time, and a line gives it the labels' unit. Nothing else is learned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.features import coarse_grain
from glassmd.features.neighbours import find_neighbours, neighbour_blocks
from glassmd.features.physical import energies_and_forces
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import SolvedModel, Together
from glassmd.learners.linear.fold_sums import FoldSums, RowSums
from glassmd.learners.linear.head import encoded
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["LENGTHS", "DebyeWallerModel", "DensityModel", "PotentialEnergyModel", "ScalarModel"]

LENGTHS = (0.0, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
"""Lengths ξ of the weights e^{−r/ξ}, σ_AA, 0 for the particle alone; correlations peak between 1 and 2."""

_BLOCK = 4096  # particles whose energies are summed at a time
_REACH = 3.0  # particles farther than this many lengths do not count
_FIRST_SHELL = 1.4  # σ_AA, the first minimum of g_AA in Kob and Andersen's liquid
_LEAST_DEBYE_WALLER = 1e-8  # σ_AA², so that its logarithm is finite


class ScalarModel(SolvedModel):
    """A line through one number, at one of :data:`LENGTHS` for each species and time.

    Attributes:
        chosen: (n_species, n_times) int64 buffer, index into :data:`LENGTHS`.
        slope: (n_species, n_times) buffer, σ_AA per unit of the number.
        bias: (n_species, n_times) buffer, σ_AA.
        variance: (n_species, n_times) buffer, of the truth around the line, σ_AA²; NaN without labels.
    """

    accepts: ClassVar[tuple[str, ...]] = INPUTS
    one_input: ClassVar[bool] = True
    chosen: Tensor
    slope: Tensor
    bias: Tensor
    variance: Tensor

    def __init__(
        self, *, n_times: int = 1, n_species: int = 2, dimensions: int = 3, inputs: Sequence[str] | None = None
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        shape = (n_species, n_times)
        self.register_buffer("chosen", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("slope", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.full(shape, torch.nan, dtype=torch.float64))

    @abstractmethod
    def number(self, structure: Structure) -> NDArray[np.float64]:
        """(n_particles,) what is averaged."""

    def encode(self, structure: Structure) -> Data:
        """The number averaged over each of :data:`LENGTHS`, and the species of every particle."""
        self.check_structure(structure)
        positions, box = structure.positions(self.inputs[0]), structure.thermal.box
        averages = coarse_grain(self.number(structure), LENGTHS, positions, box, reach=_REACH)[:, :, 0]
        return encoded(structure, averages.astype(np.float32))

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return _REACH * max(LENGTHS) + max(_FIRST_SHELL, float(np.max(mixture.r_cut)))

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return 4000.0

    def normalised(self, data: Data) -> Tensor:
        """(n_particles, n_times), σ_AA: labels are learned as they are."""
        species = data[NODE_SPECIES]
        values = data[NODE_FEATURES].to(self.slope.dtype).gather(1, self.chosen[species])
        predicted: Tensor = self.bias[species] + self.slope[species] * values
        return predicted.to(self.scale.dtype)

    def spread(self, data: Data) -> Tensor:
        """(n_particles, n_times) standard deviation of the truth around the line, σ_AA."""
        spread: Tensor = self.variance[data[NODE_SPECIES]].sqrt()
        return spread.to(self.scale.dtype)

    def no_sums(self) -> Together:
        """Sums over no sample, over all particles and inside samples."""
        sizes = self.n_times, self.n_species
        return Together(everyone=FoldSums(*sizes), inside=FoldSums(*sizes, between=0.0))

    def solve(self, sums: Together, variance: Tensor) -> None:
        """The length of the largest |Pearson correlation| inside samples, and the line of least squares over all.

        Raises:
            ModelError: There are no samples.
        """
        everyone, inside = sums["everyone"], sums["inside"]
        if not everyone.species:
            raise ModelError("found no labelled particle to solve from", "at least one sample")
        self.slope.zero_()
        self.bias.zero_()
        self.variance.fill_(torch.nan)
        for times in everyone.together():
            self._solve(everyone.at(times), inside.at(times), variance[:, times], times)

    def _solve(self, everyone: FoldSums, inside: FoldSums, variance: Tensor, times: list[int]) -> None:
        for index in everyone.species:
            weights = everyone.weights(index, variance[index])
            x_variance, _, covariance = _moments(_total(inside, index, weights))
            chosen = (covariance**2 / x_variance[:, None]).argmax(dim=0)  # squared correlation times variance of y
            total = _total(everyone, index, weights)
            x_variance, y_variance, covariance = _moments(total)
            covariance = covariance.gather(0, chosen[None])[0]
            slope = covariance / x_variance[chosen]
            left = (y_variance - slope * covariance).clamp_min(0.0)
            anchor = everyone.anchors[index]
            x_mean = (anchor.x + total.x / total.weight)[chosen]
            self.chosen[index, times] = chosen
            self.slope[index, times] = slope
            self.bias[index, times] = anchor.y + total.y / total.weight - slope * x_mean
            noise = everyone.noise(index, weights, variance[index])
            self.variance[index, times] = torch.maximum(left - noise, 0.01 * left)


def _total(sums: FoldSums, index: int, weights: dict[int, float]) -> RowSums:
    return RowSums.total((of, 1.0) for of in sums.folds(index, weights).values())


def _moments(total: RowSums) -> tuple[Tensor, Tensor, Tensor]:
    """Variances of x and y, (n,) and (n_times,), and their covariance, (n, n_times)."""
    x, y = total.inner_x / total.weight, total.inner_y / total.weight
    x_variance = (total.xx.diagonal() / total.weight - x**2).clamp_min(1e-300)
    y_variance = (total.yy / total.weight - y**2).clamp_min(0.0)
    return x_variance, y_variance, total.xy / total.weight - torch.outer(x, y)


class DensityModel(ScalarModel):
    """Local density: the number of neighbours in the first shell, within 1.4 σ_AA."""

    name: ClassVar[str] = "density"
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)

    def number(self, structure: Structure) -> NDArray[np.float64]:
        """(n_particles,) neighbours within 1.4 σ_AA."""
        box, species = structure.thermal.box, structure.thermal.species
        shell = find_neighbours(
            structure.positions(self.inputs[0]), box, species, _FIRST_SHELL, self.n_species, with_vectors=False
        )
        return np.bincount(shell.centre, minlength=shell.n_particles).astype(np.float64)


class PotentialEnergyModel(ScalarModel):
    """Potential energy of a particle, half of its pairs'."""

    name: ClassVar[str] = "potential-energy"
    default_inputs: ClassVar[tuple[str, ...]] = ("inherent",)

    def number(self, structure: Structure) -> NDArray[np.float64]:
        """(n_particles,) U_i = ½ Σ_j u(r_ij), ε_AA."""
        box, species, mixture = structure.thermal.box, structure.thermal.species, structure.mixture
        reach = float(np.max(mixture.r_cut))
        energies = np.empty(len(species))
        for near in neighbour_blocks(
            structure.positions(self.inputs[0]), box, species, reach, len(mixture.species), size=_BLOCK
        ):
            energies[near.block] = energies_and_forces(near, mixture)[0][:, 0]
        return energies


class DebyeWallerModel(ScalarModel):
    """Logarithm of the Debye–Waller factor, the mean squared deviation from the cage position.

    A. Widmer-Cooper and P. Harrowell, PRL 96, 185701 (2006) found the factor in the map of the propensity.
    """

    name: ClassVar[str] = "debye-waller"
    accepts: ClassVar[tuple[str, ...]] = ("cage",)
    needs_rattling: ClassVar[bool] = True
    default_inputs: ClassVar[tuple[str, ...]] = ("cage",)

    def number(self, structure: Structure) -> NDArray[np.float64]:
        """(n_particles,) ln(⟨u²⟩/σ_AA²).

        Raises:
            ModelError: The structure came without Debye–Waller factors.
        """
        if structure.debye_waller is None:
            raise ModelError(
                "found cage positions without Debye–Waller factors", "both", "compute them with --input cage"
            )
        return np.log(np.maximum(structure.debye_waller, _LEAST_DEBYE_WALLER))
