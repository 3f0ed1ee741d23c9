"""Softness: how far on the side of those that rearrange a particle's surroundings are.

Sources: E. D. Cubuk et al., Phys. Rev. Lett. 114, 108001 (2015); S. S. Schoenholz, E. D. Cubuk, D. M. Sussman,
E. Kaxiras & A. J. Liu, Nature Physics 12, 469 (2016); F. P. Landes, G. Biroli, O. Dauchot, A. J. Liu & D. R. Reichman,
Phys. Rev. E 101, 010602 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.features import RECIPES, describe
from glassmd.features.recipe import n_columns, reach_of
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import SolvedModel, Together
from glassmd.learners.linear.extreme_rows import ExtremeRows
from glassmd.learners.linear.fold_sums import FoldSums, RowSums
from glassmd.learners.linear.head import encoded
from glassmd.learners.linear.hyperplane import CrossValidation, Hyperplane, Method, cross_validate, fit_hyperplane
from glassmd.learners.linear.ridge import RidgeModel
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["SoftnessModel", "SoftnessRegressionModel", "structure_functions"]

_LEAST = 0.01  # of the residual's variance, which the noise of the labels cannot explain away


class SoftnessModel(SolvedModel):
    """A linear support vector machine on the 166 structure functions of the paper (of two species), per species.

    In every sample the particles with the largest and the smallest propensity of a species at a time are soft and hard,
    and each time has its plane. Those that were about to hop and those that had not for long are found by
    :func:`glassmd.analysis.hops.select_soft_hard`, and separated by :func:`fit_hyperplane`.

    The propensity is `intercept + slope × softness`, per species and time, a line through all labelled particles. Its
    softness is that of planes that had not seen their fold: a plane exaggerates the distances of its own rows.

    Attributes:
        accuracy: (n_species, n_times) buffer, cross-validated share of right answers, the mean over soft and hard.
        accuracy_error: (n_species, n_times) buffer, its standard error over the folds.
        variance: (n_species, n_times) buffer, of the true propensity around the line, σ_AA².

    Args:
        inputs: The one kind of positions that are described; thermal, as in a simulation's snapshots, by default.
        share: Of the particles of a species in a sample, how many count as soft, and as many as hard.
        capacity: Rows kept per species, time and class (3000: our choice).
    """

    name: ClassVar[str] = "softness"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    one_input: ClassVar[bool] = True
    method: ClassVar[Method] = "svm"
    centre: Tensor
    normal: Tensor
    offset: Tensor
    slope: Tensor
    intercept: Tensor
    variance: Tensor
    accuracy: Tensor
    accuracy_error: Tensor

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        inputs: Sequence[str] | None = None,
        share: float = 0.1,
        capacity: int = 3000,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        if not (0 < share <= 0.5 and capacity >= 1):
            raise ModelError(f"found share={share}, capacity={capacity}", "0 < share <= 0.5 and at least one row")
        self.share, self.capacity = share, capacity
        self.n_features = n_columns(RECIPES["schoenholz"], n_species)
        s, t, f = n_species, n_times, self.n_features
        self.register_buffer("centre", torch.zeros(s, t, f, dtype=torch.float64))
        self.register_buffer("normal", torch.zeros(s, t, f, dtype=torch.float64))
        for name in ("offset", "intercept"):
            self.register_buffer(name, torch.zeros(s, t, dtype=torch.float64))
        self.register_buffer("slope", torch.ones(s, t, dtype=torch.float64))
        for name in ("variance", "accuracy", "accuracy_error"):
            self.register_buffer(name, torch.full((s, t), torch.nan, dtype=torch.float64))

    def encode(self, structure: Structure) -> Data:
        """The structure functions of every particle."""
        self.check_structure(structure)
        return structure_functions(structure, self.inputs[0])

    def no_sums(self) -> Together:
        """Sums over no sample, and no extreme particles."""
        everyone = FoldSums(self.n_times, self.n_species)
        return Together(everyone=everyone, extreme=ExtremeRows(self.share, self.capacity))

    def solve(self, sums: Together, variance: Tensor) -> None:
        """Planes from the extreme particles, and propensities from softness.

        Raises:
            ModelError: There are no samples.
        """
        solved = 0
        for index in range(self.n_species):
            for time in range(self.n_times):
                soft, hard = sums["extreme"].of(index, time)
                if len(soft.x) and len(hard.x):
                    found = cross_validate(soft.x, hard.x, soft.fold, hard.fold, method=self.method)
                    plane = fit_hyperplane(soft.x, hard.x, method=self.method, penalty=found.penalty)
                    self._keep(index, time, plane, found)
                    self._calibrate(index, time, found, sums["everyone"], variance[index])
                    solved += 1
        if not solved:
            raise ModelError("found no labelled particle to solve from", "at least one sample")

    def softness(self, data: Data) -> Tensor:
        """(n_particles, n_times) float64 signed distance to the plane, positive where soft."""
        x: Tensor = data[NODE_FEATURES].double()
        species: Tensor = data[NODE_SPECIES]
        found = x.new_zeros((len(x), self.n_times))
        for index in range(self.n_species):
            of = species == index
            for time in range(self.n_times):
                found[of, time] = (x[of] - self.centre[index, time]) @ self.normal[index, time]
        found += self.offset[species]
        return found

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return reach_of(RECIPES["schoenholz"], mixture)

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return 3000.0

    def normalised(self, data: Data) -> Tensor:
        """Propensity, (n_particles, n_times), σ_AA."""
        species = data[NODE_SPECIES]
        return (self.intercept[species] + self.slope[species] * self.softness(data)).float()

    def spread(self, data: Data) -> Tensor | None:
        """(n_particles, n_times) standard deviation of the true propensity around the prediction, σ_AA."""
        return self.variance[data[NODE_SPECIES]].sqrt().float()

    def _keep(self, index: int, time: int, plane: Hyperplane, found: CrossValidation) -> None:
        self.centre[index, time] = torch.from_numpy(plane.centre)
        self.normal[index, time] = torch.from_numpy(plane.normal)
        self.offset[index, time] = plane.offset
        self.accuracy[index, time], self.accuracy_error[index, time] = found.mean, found.error

    def _calibrate(self, index: int, time: int, found: CrossValidation, everyone: FoldSums, variance: Tensor) -> None:
        """Straight line of propensity against softness, over folds that the plane had not seen."""
        times = next(group for group in everyone.together() if time in group)
        everyone, variance, at = everyone.at(times), variance[times], times.index(time)
        anchor, weights = everyone.anchors[index], everyone.weights(index, variance)
        whole = Hyperplane(*(getattr(self, name)[index, time].numpy() for name in ("centre", "normal", "offset")))
        sums = np.zeros(6)
        for fold, rows in everyone.folds(index, weights).items():
            sums += _line_sums(found.left_out.get(fold, whole), rows, anchor.x.numpy(), at)
        s, ss, sy, y, yy = sums[1:] / sums[0]
        cross, square = sy - s * y, ss - s * s
        slope = cross / square if square > 0 else 0.0
        self.slope[index, time], self.intercept[index, time] = slope, float(anchor.y[at]) + y - slope * s
        residual = max(yy - y * y - slope * cross, 0.0)
        noise = float(everyone.noise(index, weights, variance)[at])
        self.variance[index, time] = max(residual - noise, _LEAST * residual)


class SoftnessRegressionModel(RidgeModel):
    """Ridge regression of propensities on the structure functions of :class:`SoftnessModel`.

    It needs no choice of soft and hard particles: every particle counts, with the propensity that it has. On rows of
    soft and hard particles, without propensities, the counterpart is
    :func:`glassmd.learners.linear.hyperplane.fit_hyperplane` with `method="regression"`.
    """

    name: ClassVar[str] = "softness-regression"
    one_input: ClassVar[bool] = True
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal",)

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return reach_of(RECIPES["schoenholz"], mixture)

    def describe(self, structure: Structure) -> list[NDArray[np.float32]]:
        """The structure functions."""
        return [_functions(structure, self.inputs[0])]


def structure_functions(structure: Structure, positions: str) -> Data:
    """Radial and angular structure functions of the paper, at one kind of positions, encoded.

    Args:
        structure: The liquid.
        positions: One of :data:`glassmd.structure.INPUTS`.

    Raises:
        InputError: The structure has no such positions.
    """
    return encoded(structure, _functions(structure, positions))


def _functions(structure: Structure, positions: str) -> NDArray[np.float32]:
    chosen = structure.configuration(positions)
    return describe(chosen.positions, chosen.box, chosen.species, structure.mixture, RECIPES["schoenholz"])


def _line_sums(plane: Hyperplane, rows: RowSums, at: np.ndarray[Any, Any], time: int) -> np.ndarray[Any, Any]:
    """Σw of 1, S, S², S y, y and y² over a fold's particles, y counted from its anchor."""
    n, start = plane.normal, float(plane.softness(at))
    sx = float(n @ rows.x.numpy())
    upper = rows.xx.triu().numpy()
    sxx = float(2 * n @ upper @ n - n**2 @ upper.diagonal())
    sxy = float(n @ rows.xy[:, time].numpy())
    w, y, yy = rows.weight, float(rows.y[time]), float(rows.yy[time])
    return np.array([w, sx + w * start, sxx + 2 * start * sx + w * start**2, sxy + start * y, y, yy])
