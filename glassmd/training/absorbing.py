"""Samples on their way into the sums of a learner that is solved, wholly or in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.learners.fitting.closed_form import Labelled, Summing
from glassmd.stream.samples import Sample, SampleKey
from glassmd.training.encoding import Encoder

__all__ = ["Absorber"]

CONCLUDED = 100
"""Samples for :meth:`Absorber.conclude`: more of them change no figure that follows from all their particles."""


class Absorber:
    """Feeds samples to a learner, each as it is now, and knows when to solve.

    Args:
        model: A learner with sums.
        encoder: Of its samples.
        mask: Which particles of a sample count, (n_particles,).
        fold: Which of the folds a sample's lineage belongs to.
    """

    def __init__(
        self,
        model: Summing,
        encoder: Encoder,
        mask: Callable[[Sample], NDArray[np.bool_]],
        fold: Callable[[SampleKey], int],
    ) -> None:
        self._model, self._encoder, self._mask, self.fold = model, encoder, mask, fold
        self._absorbed: dict[SampleKey, Sample] = {}
        self._solved_with = 0

    def __len__(self) -> int:
        return len(self._absorbed)

    @property
    def samples(self) -> list[Sample]:
        """What was absorbed, in the order of arrival."""
        return list(self._absorbed.values())

    def take(self, sample: Sample) -> None:
        """Absorb a sample; as it was before, it is taken back."""
        before = self._absorbed.get(sample.key)
        if before is not None:
            self._add(before, -1)
        self._add(sample, 1)
        self._absorbed[sample.key] = sample

    def labelled(self, sample: Sample) -> Labelled:
        """A sample as a learner with sums takes it, where the learner is now."""
        device = self._model.scale.device
        return Labelled(
            copy(self._encoder(sample)).to(device),  # what is kept of the sample stays where it is
            torch.from_numpy(sample.propensity.T.astype(np.float32)).to(device),
            torch.from_numpy((sample.variance / sample.n_replicas).T.astype(np.float32)).to(device),
            torch.from_numpy(self._mask(sample)).to(device),
            self.fold(sample.key),
        )

    def conclude(self) -> None:
        """Let the learner do what is left when all steps are done, with the first samples that arrived."""
        self._model.conclude(self.labelled(sample) for sample in self.samples[:CONCLUDED])

    def _add(self, sample: Sample, sign: int) -> None:
        data, labels, noise, mask, fold = self.labelled(sample)
        self._model.absorb(data, labels, noise, mask, fold=fold, sign=sign)

    def solve(self, *, final: bool) -> bool:
        """Solve if that is worth it now, or if nothing more will come; say whether it was done."""
        replicas = sum(sample.n_replicas for sample in self._absorbed.values())
        if replicas in (0, self._solved_with):
            return False
        if not final and replicas < self._model.solve_again * self._solved_with:
            return False
        self._model.solve()
        self._solved_with = replicas
        return True

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs beside the samples themselves (JSON types only)."""
        return {"solved_with": self._solved_with}

    def restore(self, state: dict[str, Any], samples: Sequence[Sample]) -> None:
        """Absorb again what had been absorbed when a checkpoint was written."""
        for sample in samples:
            self.take(sample)
        self._solved_with = int(state["solved_with"])
