"""A trained model that goes on learning: it stays as it is, and a linear model learns what it leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar
from weakref import finalize

import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners import make_model
from glassmd.learners.base import PropensityModel
from glassmd.learners.fitting.solved import SolvedModel, Sums
from glassmd.learners.linear.temperature_head import TemperatureHead
from glassmd.learners.linear.temperature_sums import TemperatureSums
from glassmd.learners.part import Labelled, Tensors
from glassmd.mixtures import Mixture, mixture_of
from glassmd.structure import INPUTS, Structure

__all__ = ["TunedModel"]

# node, (n_particles, 1) float32: ln T, up to a constant
_HEAT = "heat"


class TunedModel(SolvedModel):
    """Another model, and ridge regression on what it leaves.

        propensity = M p + W z,

    with p what the other model predicts at its own times, M straight lines in ln t between these, and z the columns of
    p and of its descriptors, where it has some. W is solved for and its penalty chosen by leaving folds of the lineages
    out, so that a few samples change little: with the largest penalty there is nothing but a constant beside M p, and
    that is all that one lineage teaches, or several at one fold. Data in any order, all at once or on a stream, give
    the same.

    Args:
        start: `{"model": name, "hyperparameters": {…}}` of the other model; with the identity of its `mixture`, liquids
            that differ from that in how potentials are cut off are described as if they did not.
        between: M, (n_times, n_times of the other model).
        inputs: Those of the other model.

    Example:
        >>> start = {"model": "ridge", "hyperparameters": {"n_times": 2, "inputs": ["thermal"]}}
        >>> TunedModel(start=start, between=[[0.5, 0.5]]).inputs
        ('thermal',)
    """

    name: ClassVar[str] = "tuned"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    needs_rattling: ClassVar[bool] = True
    times_between: Tensor

    def __init__(
        self,
        *,
        start: Mapping[str, Any] | None = None,
        between: Sequence[Sequence[float]] | None = None,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        inputs: Sequence[str] | None = None,
    ) -> None:
        if start is None or between is None:
            raise ModelError("found no model to start from", "one", "try glassmd train --from NAME")
        other = make_model(start["model"], **start["hyperparameters"])
        super().__init__(
            n_times=n_times,
            n_species=n_species,
            dimensions=dimensions,
            inputs=other.inputs if inputs is None else inputs,
        )
        found, expected = (other.n_species, other.dimensions), (n_species, dimensions)
        if found != expected or self.inputs != other.inputs:
            raise ModelError(
                f"found a model of {found[0]} species in {found[1]} dimensions that sees {', '.join(other.inputs)} to "
                "start from",
                f"one of {expected[0]} in {expected[1]} that sees {', '.join(self.inputs)}",
                "choose another --from",
            )
        self.start, self.between = dict(start), [list(row) for row in between]
        self.other = other.requires_grad_(False).eval()
        self.register_buffer("times_between", torch.tensor(self.between, dtype=torch.float32))
        self.head = TemperatureHead(None, n_times=n_times, n_species=n_species, wary=True)

    def train(self, mode: bool = True) -> TunedModel:
        """What does not learn predicts as it always does."""
        super().train(mode)
        self.other.eval()
        return self

    def begin_with(self, other: PropensityModel) -> None:
        """Take the weights of a trained model."""
        self.other.load_state_dict(other.state_dict())

    def encode(self, structure: Structure) -> Data:
        """What the other model eats, and ln T."""
        known = self.start.get("mixture")
        data = self.other.encode(structure if known is None else structure.cut_off_as(mixture_of(known)))
        heat = torch.tensor(structure.temperature / 0.5, dtype=torch.float32).log()
        data[_HEAT] = heat.expand(structure.thermal.n_particles, 1).clone()
        return data

    def reach(self, mixture: Mixture) -> float | None:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return self.other.reach(mixture)

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return self.other.footprint(mixture, density) + 4.0 * 8 * (self.head.n_features or 0)

    def normalised(self, data: Data) -> Tensor:
        """(n_particles, n_times), σ_AA: labels are learned as they are."""
        columns, before = self.columns(data)
        left: Tensor = self.head(columns, data[NODE_SPECIES])
        return before + left

    def reservations(self) -> list[str]:
        """See :meth:`~glassmd.learners.base.PropensityModel.reservations`."""
        if self.head.folds_apart:
            return []
        return ["one lineage, or lineages of one fold, taught nothing but a constant: two or more teach the rest"]

    def out_of_fold(self, data: Data, fold: int) -> Tensor | None:
        """(n_particles, n_times), σ_AA, by the weights that never saw a fold; None where all were in one fold."""
        if not self.head.folds_apart:
            return None
        columns, before = self.columns(data)
        return before + self.head.forward_fold(columns, data[NODE_SPECIES], fold)

    def spread(self, data: Data) -> Tensor:
        """(n_particles, n_times) standard deviation of the truth around the prediction, σ_AA."""
        return self.head.spread(self.columns(data)[0], data[NODE_SPECIES])

    def with_spread(self, data: Data) -> tuple[Tensor, Tensor]:
        """See :meth:`~glassmd.learners.base.PropensityModel.with_spread`."""
        (columns, before), species = self.columns(data), data[NODE_SPECIES]
        return before + self.head(columns, species), self.head.spread(columns, species)

    @torch.no_grad()
    def said(self, data: Data) -> Tensor:
        """What the other model says, (n_particles, n_times of the other), σ_AA."""
        found: Tensor = self.other(data)
        return found

    def columns(self, data: Data, said: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is linear in, (n_particles, n_columns), and M p, (n_particles, n_times), σ_AA.

        Args:
            data: Encoded particles.
            said: :meth:`said` of them, where it is known.
        """
        said = self.said(data) if said is None else said
        described = data.get(NODE_FEATURES)
        parts = [said, data[_HEAT]] if described is None else [said, described, data[_HEAT]]
        return torch.cat(parts, dim=1), said @ self.times_between.T

    def no_sums(self) -> _Left:
        """Sums over no sample."""
        return _Left(self, self.head.no_sums())

    def solve(self, sums: _Left, variance: Tensor) -> None:
        """Weights from the sums."""
        self.head.solve(sums.of, variance)


_Known = dict[int, Tensor]
"""By `id` of what was encoded, as long as that is kept: it has no hash."""


class _Left(Sums):
    """Sums over what a model leaves of the labels.

    Args:
        model: Whose columns and predictions count.
        of: Sums over columns and what is left.
        known: What the model says of samples that are kept encoded: one that has grown is taken back and added again.
    """

    def __init__(self, model: TunedModel, of: TemperatureSums, known: _Known | None = None) -> None:
        self._model, self.of, self._known = model, of, {} if known is None else known

    def _left(self, sample: Labelled) -> Labelled:
        number, known = id(sample.data), self._known
        if number not in known:
            known[number] = self._model.said(sample.data)
            finalize(sample.data, known.pop, number, None).atexit = False
        columns, before = self._model.columns(sample.data, known[number])
        data = Data(num_nodes=len(columns), **{NODE_FEATURES: columns, NODE_SPECIES: sample.data[NODE_SPECIES]})
        return sample._replace(data=data, labels=sample.labels - before.to(sample.labels))

    def kinds(self, sample: Labelled) -> set[Any]:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return self.of.kinds(self._left(sample))

    def anchored(self, sample: Labelled, kinds: Collection[Any]) -> _Left:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return _Left(self._model, self.of.anchored(self._left(sample), kinds), self._known)

    def added(self, sample: Labelled, sign: int = 1) -> _Left:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return _Left(self._model, self.of.added(self._left(sample), sign), self._known)

    def plus(self, other: _Left) -> _Left:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return _Left(self._model, self.of.plus(other.of), self._known)

    def emptied(self) -> _Left:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return _Left(self._model, self.of.emptied(), self._known)

    def tensors(self) -> Tensors:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return self.of.tensors()

    def restored(self, tensors: Tensors) -> _Left:
        """See :class:`~glassmd.learners.fitting.solved.Sums`."""
        return _Left(self._model, self.of.restored(tensors), self._known)
