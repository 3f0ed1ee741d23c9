"""Learners that are solved from sums over samples, wholly or in part, instead of stepped down a gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from torch import Tensor
from torch_geometric.data import Data

from glassmd.learners.base import PropensityModel

__all__ = ["FOLDS", "ClosedFormModel", "Labelled", "Summing"]

FOLDS = 5
"""Groups of lineages whose sums are kept apart, so that a penalty can be chosen by cross-validation."""


class Labelled(NamedTuple):
    """An encoded sample with its labels.

    Attributes:
        data: What :meth:`PropensityModel.encode` made of it.
        labels: (n_particles, n_times) propensities, σ_AA.
        noise: (n_particles, n_times) variances of the labels, var/R, σ_AA², NaN where unknown; None: count all alike.
        mask: (n_particles,) which particles count.
        fold: Which of :data:`FOLDS` its lineage belongs to.
    """

    data: Data
    labels: Tensor
    noise: Tensor | None
    mask: Tensor
    fold: int


class Summing(PropensityModel):
    """A learner with a part that needs each sample once, in any order, and then the solution of a small problem.

    A sample that has grown is taken back as it was and absorbed anew.

    Attributes:
        solve_again: While data arrive, a new solution is worth its price when there are this many times the
            replicas behind it.
    """

    solve_again: ClassVar[float] = 1.25

    @abstractmethod
    def absorb(
        self, data: Data, labels: Tensor, noise: Tensor | None, mask: Tensor, *, fold: int, sign: int = 1
    ) -> None:
        """Add the parts of a :class:`Labelled` to the sums, or take them back where `sign` is −1."""

    @abstractmethod
    def solve(self) -> None:
        """Weights from the sums.

        Raises:
            ModelError: Nothing was absorbed, or too little to solve for.
        """

    def conclude(self, samples: Iterable[Labelled]) -> None:
        """Whatever is left to do with the training samples when all steps are done; nothing by default."""


class ClosedFormModel(Summing):
    """A learner that is nothing but the solution: it chooses nothing on held-out lineages, and needs none."""

    stepped: ClassVar[bool] = False
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType({"validation_share": 0.0})
