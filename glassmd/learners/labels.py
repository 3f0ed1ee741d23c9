"""What the labels of a run have in common: their units, and how noisy one of few replicas is."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassmd.processes import Processes
from glassmd.stream.samples import Sample
from glassmd.target import quantity

__all__ = ["LabelSums"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelSums:
    """Sums over the labels of samples, by species and time, in any order of the samples.

    The variance of |Δr| between replicas cannot be told from one replica and hardly from two, so that it is pooled: one
    for every species and time, and where a particle's mobility is known beforehand, in proportion to its square, as it
    would be if the distributions of |Δr| of all particles differed in their scale alone.

    Attributes:
        count: (n_species, n_times) labels; NaN ones, of times that were not measured, count for nothing.
        label: (n_species, n_times) Σ of labels, σ_AA.
        square: (n_species, n_times) Σ of their squares.
        freedom: (n_species, n_times) Σ (R − 1) where the variance is known.
        deviation: (n_species, n_times) Σ (R − 1) × variance between replicas, σ_AA².
        mobility: (n_species, n_times) Σ (R − 1) × squared propensity without its noise.

    Example:
        >>> sums = LabelSums.none(1, 1)
        >>> bool(np.isnan(sums.variance).all())
        True
    """

    count: FloatArray
    label: FloatArray
    square: FloatArray
    freedom: FloatArray
    deviation: FloatArray
    mobility: FloatArray

    _LEAST: ClassVar[float] = 1e-6
    """σ_AA: the unit of labels that do not vary."""

    @classmethod
    def none(cls, n_species: int, n_times: int) -> LabelSums:
        """Sums over nothing."""
        return cls(**{of.name: np.zeros((n_species, n_times)) for of in fields(cls)})

    def added(self, sample: Sample, sign: int = 1, *, learn: bool = True) -> LabelSums:
        """With a sample, or without it where `sign` is −1; only its noise counts where nobody learns from it."""
        new = {of.name: getattr(self, of.name).copy() for of in fields(self)}
        dof = sign * (sample.n_replicas - 1)
        for s in range(len(self.count)):
            own = sample.parent.species == s
            y, variance = sample.propensity[:, own], sample.variance[:, own]
            there = np.isfinite(y)
            if learn:
                new["count"][s] += sign * there.sum(axis=1)
                new["label"][s] += sign * np.where(there, y, 0.0).sum(axis=1)
                new["square"][s] += sign * np.where(there, y**2, 0.0).sum(axis=1)
            known = np.isfinite(variance) & there
            if dof != 0 and known.any():
                new["freedom"][s] += dof * known.sum(axis=1)
                new["deviation"][s] += dof * np.where(known, variance, 0.0).sum(axis=1)
                truth = np.where(known, y**2 - variance / sample.n_replicas, 0.0)
                new["mobility"][s] += dof * truth.sum(axis=1)
        return replace(self, **new)

    def added_up(self, processes: Processes) -> LabelSums:
        """Over what all processes have added, each to sums of its own."""
        if processes.size == 1:
            return self
        every = processes.add_up(torch.from_numpy(np.stack([getattr(self, of.name) for of in fields(self)])))
        return LabelSums(*every.numpy())

    @property
    def units(self) -> tuple[Tensor, Tensor]:
        """Standard deviation and mean of the labels, (n_species, n_times) float32, σ_AA; 1 and 0 of fewer than two."""
        n = np.maximum(self.count, 2)
        mean = self.label / n
        scale = np.sqrt(np.maximum(self.square - n * mean**2, 0.0) / (n - 1)).clip(min=self._LEAST)
        known = self.count > 1
        return tuple(  # type: ignore[return-value]
            torch.from_numpy(np.where(known, of, nothing).astype(np.float32)) for of, nothing in ((scale, 1), (mean, 0))
        )

    @property
    def variance(self) -> FloatArray:
        """(n_species, n_times) variance of |Δr| between replicas of a particle, σ_AA²; NaN where nobody knows."""
        return _ratio(self.deviation, self.freedom)

    @property
    def relative(self) -> FloatArray:
        """(n_species, n_times) that variance over the squared propensity."""
        return _ratio(self.deviation, self.mobility)

    def noise(self, sample: Sample, predicted: FloatArray | None = None) -> FloatArray:
        """(n_times, n_particles) variance of a sample's labels, σ_AA²; NaN where nobody knows.

        With a prediction p that has not seen the label y the variance follows the truth's square, of which p² is a
        part only: truth² = p² + s² on average, and (y − p)² = s² + c (p² + s²)/R with c the relative variance gives s².
        Not so for labels whose distributions do not differ in their scale, such as fractions.

        Args:
            sample: Whose.
            predicted: (n_times, n_particles) p, σ_AA.
        """
        species, n = sample.parent.species, sample.n_replicas
        if predicted is None or not quantity(sample.target).scales:
            return np.asarray(self.variance[species].T / n)
        found = np.full_like(predicted, np.nan)
        for s in range(len(self.count)):
            own = species == s
            p, share = predicted[:, own], self.relative[s][:, None] / n
            square = (sample.propensity[:, own] - p) ** 2  # NaN at times that were not measured: their noise is unknown
            left = (square - share * p**2).mean(axis=1, keepdims=True) / (1 + share)
            found[:, own] = share * (p**2 + np.maximum(left, 0.0))
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {of.name: torch.from_numpy(getattr(self, of.name)) for of in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> LabelSums:
        """What :meth:`tensors` gave."""
        return cls(**{name: tensor.numpy() for name, tensor in tensors.items()})


def _ratio(of: FloatArray, by: FloatArray) -> FloatArray:
    return np.divide(of, by, out=np.full_like(of, np.nan), where=by > 0)
