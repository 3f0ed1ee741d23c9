"""Learners that are stepped down a gradient."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.graphs import batch_graphs
from glassmd.interrupt import StoppedAtOnce
from glassmd.learners.base import PropensityModel
from glassmd.learners.part import Advance, Part, Taken, Tensors, of_prefix, with_prefix
from glassmd.processes import origin_of
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Blocks, Sample, SampleKey

__all__ = ["Stepped", "SteppedModel", "Stepping"]

_LABELS = 1000
"""Samples whose labels stay on the device: 20 to 200 kB each at N = 4096."""


@dataclass(frozen=True)
class Stepping:
    """How steps are taken.

    Attributes:
        max_steps: All of them.
        batch_size: Samples of a step in each process.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        schedule: Of the learning rate over all steps.
        clip: Largest norm of the gradient.
        augment: Whether samples are shown as physics allows.
        noise_weighted: Whether labels count by their noise.
        seed: Of what is drawn for the augmentation.
        device: Where steps are taken.
        precision: As Lightning Fabric names it.
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
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    check: Callable[[], None] = lambda: None


class SteppedModel(PropensityModel):
    """A learner that is nothing but its gradient steps."""

    def parts(self, taken: Taken, settings: Stepping) -> list[Part]:
        """The steps."""
        return [Stepped(self, taken, settings)]


class _Batch(NamedTuple):
    """What a thread makes of samples that were drawn, on the CPU: its process's share, and the folds of all of them."""

    data: Data
    samples: list[Sample]
    folds: list[int]


@dataclass
class _Drawn:
    """The samples of a step to come.

    Attributes:
        keys: Which samples.
        made: The batch; None until it is asked for.
    """

    keys: list[SampleKey]
    made: Future[_Batch] | None = None


class _Inputs:
    """What an objective is called with, in a box: Fabric would round all tensors that it is handed, labels too."""

    def __init__(self, data: Data, target: Tensor, noise: Tensor | None, mask: Tensor) -> None:
        self.data, self.target, self.noise, self.mask = data, target, noise, mask


class _Objective(nn.Module):
    """What Fabric wraps: calling it is what an optimiser step lowers."""

    def __init__(self, learner: PropensityModel) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, inputs: _Inputs) -> Tensor:
        """See :meth:`PropensityModel.objective`."""
        return self.learner.objective(inputs.data, inputs.target, inputs.noise, inputs.mask)


class Stepped(Part):
    """Optimiser steps on batches from the reservoir, each made by a thread while the step before it is taken.

    Steps on what was drawn beyond :attr:`Reservoir.ready` come on top of `max_steps`, at the learning rate that the
    others have come to. Lightning Fabric has the precision. The loss of a step stays on its device until it is read.

    Several processes draw one batch, and each computes its share of it: the step is that of one process with the whole
    batch, up to rounding and dropout.

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
        moved = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(moved, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        accelerator = "cuda" if settings.device.type == "cuda" else "cpu"
        self._processes, self._moved = taken.processes, moved
        if self._processes.size > 1:
            learner.balance = self._processes.mean
        self._whole_batch = settings.batch_size * self._processes.size
        self._fabric = Fabric(
            accelerator=accelerator,
            devices=[settings.device.index or 0] if accelerator == "cuda" else 1,
            precision=settings.precision,
            plugins=[LightningEnvironment()],  # whoever started this process, it does not concern Fabric
        )
        self._objective, self._optimizer = self._fabric.setup(_Objective(learner), optimizer, move_to_device=False)
        self.redrawn = self._shaken = 0
        self._ahead: deque[_Drawn] = deque()
        self._maker = ThreadPoolExecutor(1, "batches")
        self._labels: OrderedDict[tuple[SampleKey, Blocks], tuple[Tensor, Tensor]] = OrderedDict()
        self._kept: Tensors = {}

    @property
    def last_step(self) -> int:  # type: ignore[override]
        """The step after which none is left."""
        return self._settings.max_steps + self.redrawn

    @property
    def hungry(self) -> bool:  # type: ignore[override]
        """Whether steps are left."""
        return self.step < self.last_step

    def due(self, reservoir: Reservoir, *, final: bool) -> bool:
        """Whether steps are left and there is something to draw."""
        return self.hungry and (bool(self._ahead) or reservoir.drawable)

    def advance(self, reservoir: Reservoir) -> Advance:
        """Take a step."""
        if self.step == 0:
            self._begin()
        self._set_rate()
        if not self._ahead:
            self._draw(reservoir)
        self._fit_to_processes(reservoir)
        with self._undone_if_stopped():
            batch = self._made(self._ahead[0], reservoir)
            if len(self._ahead) < 2 and self.step + 1 < self.last_step and reservoir.drawable:
                self._draw(reservoir)
            for drawn in self._ahead:
                self._make(drawn, reservoir)
            loss = self._gradient(batch)
        self._optimizer.step()
        self._ahead.popleft()
        self.step += 1
        rate = float(self._optimizer.param_groups[0]["lr"])
        return Advance(self._whole_batch, loss, learning_rate=rate)

    def _begin(self) -> None:
        """The unit of the output, and first weights that suit the samples."""
        if self._processes.first:
            self._learner.set_normalisation(*self._taken.units)
            first = {key.run: key for key in sorted(self._taken.blocks, reverse=True)}
            self._learner.initialise(*(self._taken.encode(self._taken.sample(key)) for key in sorted(first.values())))
        if self._processes.size > 1:
            self._learner.load_state_dict(dict(self._processes.of_first(self._learner.state_dict())))
        self._learner.to(self._settings.device)

    def _draw(self, reservoir: Reservoir) -> None:
        """Draw the samples of another step."""
        self.redrawn += not reservoir.ready
        self._ahead.append(_Drawn(reservoir.draw(self._whole_batch)))

    def _fit_to_processes(self, reservoir: Reservoir) -> None:
        """What another number of processes has drawn becomes a batch of these."""
        for drawn in self._ahead:
            if len(drawn.keys) != self._whole_batch:
                more = self._whole_batch - len(drawn.keys)
                drawn.keys = [*drawn.keys, *(reservoir.draw(more) if more > 0 else [])][: self._whole_batch]

    def _make(self, drawn: _Drawn, reservoir: Reservoir) -> Future[_Batch]:
        """Have a batch made."""
        if drawn.made is None:
            number = self.step + self._ahead.index(drawn)
            drawn.made = self._maker.submit(self._batch, drawn.keys, number, reservoir)
        return drawn.made

    def _made(self, drawn: _Drawn, reservoir: Reservoir) -> _Batch:
        return self._make(drawn, reservoir).result()

    def _batch(self, keys: Sequence[SampleKey], number: int, reservoir: Reservoir) -> _Batch:
        """This process's share of the batch of a step with this number; runs in a thread of its own."""
        share = self._share
        samples = [reservoir.sample(key) for key in keys[share.start : share.stop]]
        graphs = [self._taken.encode(sample) for sample in samples]
        if self._settings.augment:
            seed = [self._settings.seed, 1, number, self._shaken]
            graphs = [
                self._learner.augment(graph, np.random.default_rng([*seed, place] if place else seed))
                for place, graph in zip(share, graphs, strict=True)
            ]
        data = batch_graphs(graphs)
        folds = [-1 if key in self._taken.uncounted else self._taken.fold(key) for key in keys]
        return _Batch(data.pin_memory() if self._settings.device.type == "cuda" else data, samples, folds)

    @property
    def _share(self) -> range:
        """Places in a batch whose samples this process computes."""
        size = self._settings.batch_size
        return range(self._processes.rank * size, (self._processes.rank + 1) * size)

    def _set_rate(self) -> None:
        """The learning rate of the step to come."""
        rate = self._settings.learning_rate
        if self._settings.schedule == "cosine":
            done = (self.step - self.redrawn) / self._settings.max_steps
            rate *= max(0.02, 0.5 * (1 + np.cos(np.pi * done)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _gradient(self, batch: _Batch) -> Tensor:
        inputs = self._on_device(batch)
        self._learner.train()
        self._optimizer.zero_grad()
        if not self._processes.first:  # dropout of its own, the same whenever the training is taken up
            torch.manual_seed(self._own_seed())
        loss: Tensor = self._objective(inputs)
        self._fabric.backward(loss)
        loss = self._of_all(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._learner.parameters(), self._settings.clip)
        return loss

    def _own_seed(self) -> int:
        told = [self._settings.seed, 3, self.step, self._shaken, self._processes.rank]
        return int(np.random.SeedSequence(told).generate_state(1)[0])

    def _of_all(self, loss: Tensor) -> Tensor:
        """The mean of the processes' losses; gradients become the mean of theirs, none where no process has one."""
        if self._processes.size == 1:
            return loss
        wide = torch.promote_types(loss.dtype, torch.float32)
        there = torch.tensor([of.grad is not None for of in self._moved], dtype=wide, device=loss.device)
        parts = [torch.zeros_like(of) if of.grad is None else of.grad for of in self._moved]
        flat = torch.cat([loss.to(wide).view(1), there, *(of.flatten().to(wide) for of in parts)])
        flat = self._processes.add_up(flat) / self._processes.size
        loss, there, *found = torch.split(flat, [1, len(parts), *(of.numel() for of in parts)])
        for parameter, grad, share in zip(self._moved, found, there.tolist(), strict=True):
            parameter.grad = grad.view_as(parameter).to(parameter.dtype) if share > 0 else None
        return loss[0]

    def _on_device(self, batch: _Batch) -> _Inputs:
        learner, device, samples = self._learner, self._settings.device, batch.samples
        data = batch.data.to(device, non_blocking=True)
        known = [self._labels_of(sample) for sample in samples]
        labels, mask = (torch.cat(of) for of in zip(*known, strict=True))
        share = self._share
        data.fold = torch.tensor(batch.folds[share.start : share.stop])  # on the CPU, where it is decided by
        data.folds_of_all = batch.folds
        target = learner.normalise(labels, data.species)
        if not self._settings.noise_weighted:
            return _Inputs(data, target, None, mask)
        noise = np.concatenate([self._taken.labels.noise(sample) for sample in samples], axis=1).T
        scaled = torch.from_numpy(noise.astype(np.float32)).to(device) / learner.scale[data.species] ** 2
        return _Inputs(data, target, scaled, mask)

    def _labels_of(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Labels (n_particles, n_times) and mask (n_particles,) on the device, which they go to once."""
        name = sample.key, sample.blocks
        if name not in self._labels:
            labels = torch.from_numpy(sample.propensity.T.astype(np.float32)).to(self._settings.device)
            self._labels[name] = labels, torch.from_numpy(self._taken.mask(sample)).to(self._settings.device)
            if len(self._labels) > _LABELS:
                self._labels.popitem(last=False)
        self._labels.move_to_end(name)
        return self._labels[name]

    @contextmanager
    def _undone_if_stopped(self) -> Iterator[None]:
        """A step that takes too long for a stop to wait for it, or that fails, is one that has not begun."""
        random, buffers = self._random(), [buffer.clone() for buffer in self._learner.buffers()]
        try:
            yield
        except BaseException as error:
            self._set_random(random)
            with torch.no_grad():
                for buffer, before in zip(self._learner.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            if isinstance(error, StoppedAtOnce) and origin_of(error) is None:
                self._settings.check()
            raise

    def shake(self, number: int) -> None:
        """Other dropout, other symmetries, other samples."""
        self._shaken = number
        self._ahead.clear()
        torch.manual_seed(self._settings.seed + number)

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
        self._maker.shutdown()
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
        """Steps so far, and what was drawn for those to come."""
        ahead = [[[key.run, key.lineage, key.parent] for key in drawn.keys] for drawn in self._ahead]
        return {"step": self.step, "redrawn": self.redrawn, "shaken": self._shaken, "ahead": ahead}

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
        self.step, self.redrawn, self._shaken = state["step"], state["redrawn"], state["shaken"]
        self._ahead = deque(_Drawn([SampleKey(*key) for key in keys]) for keys in state["ahead"])

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
