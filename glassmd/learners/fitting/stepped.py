"""Learners that are stepped down a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.graphs import batch_graphs
from glassmd.interrupt import StoppedAtOnce
from glassmd.learners.base import PropensityModel
from glassmd.learners.part import Advance, Part, Taken, Tensors, of_prefix, with_prefix
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample

__all__ = ["Stepped", "SteppedModel", "Stepping"]


@dataclass(frozen=True)
class Stepping:
    """How steps are taken.

    Attributes:
        max_steps: All of them.
        batch_size: Samples of a step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        schedule: Of the learning rate over all steps.
        clip: Largest norm of the gradient.
        augment: Whether samples are shown as physics allows.
        noise_weighted: Whether labels count by their noise.
        seed: Of what is drawn for the augmentation.
        device: Where steps are taken.
        check: Called after a step that was stopped at once; what it raises ends it.
    """

    max_steps: int
    batch_size: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float = 1.0
    augment: bool = True
    noise_weighted: bool = False
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    check: Callable[[], None] = lambda: None


class SteppedModel(PropensityModel):
    """A learner that is nothing but its gradient steps."""

    def parts(self, taken: Taken, settings: Stepping) -> list[Part]:
        """The steps."""
        return [Stepped(self, taken, settings)]


class Stepped(Part):
    """Optimiser steps on batches from the reservoir.

    Args:
        learner: What is stepped.
        taken: Its samples.
        settings: How.
        only: Weights whose names start so are those that the steps change, so that the best of them can be kept; all by
            default.
    """

    paces = True

    def __init__(self, learner: PropensityModel, taken: Taken, settings: Stepping, only: str = "") -> None:
        self._learner, self._taken, self._settings, self._only = learner, taken, settings, only
        self.last_step = settings.max_steps
        self._generator = np.random.default_rng([settings.seed, 1])
        moved = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(moved, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self._kept: Tensors = {}

    @property
    def hungry(self) -> bool:  # type: ignore[override]
        """Whether steps are left."""
        return self.step < self.last_step

    def due(self, reservoir: Reservoir, *, final: bool) -> bool:
        """Whether steps are left and there is something to draw."""
        return self.step < self.last_step and reservoir.ready

    def advance(self, reservoir: Reservoir) -> Advance:
        """Take a step."""
        if self.step == 0:
            self._begin()
        self._set_rate()
        with self._undone_if_stopped(reservoir):
            samples = reservoir.draw(self._settings.batch_size)
            loss = self._gradient(samples)
        self._optimizer.step()
        reservoir.used(samples)
        self.step += 1
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ModelError(
                f"found a loss of {value} at step {self.step}", "a finite one", "lower --set learning_rate=…"
            )
        return Advance(len(samples), value, learning_rate=float(self._optimizer.param_groups[0]["lr"]))

    def _begin(self) -> None:
        """The unit of the output, and first weights that suit the samples."""
        self._learner.set_normalisation(*self._taken.labels.units)
        self._learner.initialise(self._taken.encode(self._taken.sample(min(self._taken.blocks))))
        self._learner.to(self._settings.device)

    def _set_rate(self) -> None:
        """The learning rate of the step to come."""
        rate = self._settings.learning_rate
        if self._settings.schedule == "cosine":
            rate *= max(0.02, 0.5 * (1 + np.cos(np.pi * self.step / self.last_step)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _gradient(self, samples: Sequence[Sample]) -> Tensor:
        data, target, noise, mask = self._batch(samples)
        self._learner.train()
        self._optimizer.zero_grad()
        loss = self._learner.objective(data, target, noise, mask)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._learner.parameters(), self._settings.clip)
        return loss

    def _batch(self, samples: Sequence[Sample]) -> tuple[Data, Tensor, Tensor | None, Tensor]:
        learner, device = self._learner, self._settings.device
        graphs = [self._taken.encode(sample) for sample in samples]
        if self._settings.augment:
            graphs = [learner.augment(graph, self._generator) for graph in graphs]
        data = batch_graphs(graphs)
        data.fold = torch.tensor([self._taken.fold(sample.key) for sample in samples])
        data = data.to(device)
        labels = np.concatenate([sample.propensity for sample in samples], axis=1).T
        target = learner.normalise(torch.from_numpy(labels.astype(np.float32)).to(device), data.species)
        mask = torch.from_numpy(np.concatenate([self._taken.mask(sample) for sample in samples])).to(device)
        if not self._settings.noise_weighted:
            return data, target, None, mask
        noise = np.concatenate([self._taken.labels.noise(sample) for sample in samples], axis=1).T
        scaled = torch.from_numpy(noise.astype(np.float32)).to(device) / learner.scale[data.species] ** 2
        return data, target, scaled, mask

    @contextmanager
    def _undone_if_stopped(self, reservoir: Reservoir) -> Iterator[None]:
        """A step that takes too long for a stop to wait for it is one that has not begun."""
        drawn, turned = reservoir.generator.bit_generator.state, self._generator.bit_generator.state
        random, buffers = self._random(), [buffer.clone() for buffer in self._learner.buffers()]
        try:
            yield
        except StoppedAtOnce:
            reservoir.generator.bit_generator.state, self._generator.bit_generator.state = drawn, turned
            self._set_random(random)
            with torch.no_grad():
                for buffer, before in zip(self._learner.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            self._settings.check()
            raise

    def keep(self) -> None:
        """Remember what the steps have made of the weights."""
        self._kept = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in self._learner.state_dict().items()
            if name.startswith(self._only)
        }

    @property
    def kept(self) -> Tensors:
        """See :meth:`keep`."""
        return self._kept

    def finish(self) -> None:
        """The best weights are the learner's."""
        self._learner.load_state_dict({**self._learner.state_dict(), **self._kept})

    def tensors(self) -> Tensors:
        """The best weights, the optimiser's moments and the states of torch's random generators."""
        moments = {
            f"{number}.{name}": value
            for number, of in self._optimizer.state_dict()["state"].items()
            for name, value in of.items()
        }
        return {
            **with_prefix(self._kept, "kept."),
            **with_prefix(moments, "optimizer."),
            **with_prefix(self._random(), "random."),
        }

    def state(self) -> dict[str, Any]:
        """Steps so far, and the state of the generator."""
        return {"step": self.step, "generator": self._generator.bit_generator.state}

    def restore(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Return to a checkpoint."""
        if state["step"] > 0:
            self._learner.to(self._settings.device)  # before the moments, which go where the parameters are
        self._kept = of_prefix(tensors, "kept.")
        moments: dict[int, Tensors] = {}
        for name, tensor in of_prefix(tensors, "optimizer.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})
        self._set_random(of_prefix(tensors, "random."))
        self.step = state["step"]
        self._generator.bit_generator.state = state["generator"]

    def _random(self) -> Tensors:
        found = {"torch": torch.get_rng_state()}
        if self._settings.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self._settings.device)
        return found

    def _set_random(self, states: Tensors) -> None:
        """As far as the device is of the same kind."""
        torch.set_rng_state(states["torch"])
        if self._settings.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self._settings.device)
