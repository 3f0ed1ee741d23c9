"""The training loop: one for finished runs and for runs that are being simulated.

Everything random comes from two generators and the model's first weights, all derived from the seed; the loop's
whole state is a checkpoint, so that a training that was killed goes on as if nothing had happened (on CUDA up to
rounding, :func:`glassmd.training.keeping.resume`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from glassmd.errors import GlassmdError, ModelError, storage_errors
from glassmd.graphs import batch_graphs
from glassmd.interrupt import StopRequest
from glassmd.learners.base import PropensityModel
from glassmd.learners.fitting.closed_form import Summing
from glassmd.settings import TrainSettings
from glassmd.storage import claim, remove_leftovers
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey
from glassmd.stream.structures import Structures
from glassmd.training.absorbing import Absorber
from glassmd.training.choices import resolved, started, stepped_parameters
from glassmd.training.device import training_device
from glassmd.training.encoding import Encoder, Encodings
from glassmd.training.journal import Journal
from glassmd.training.keeping import keep_checkpoint, keep_model, resume
from glassmd.training.normalisation import label_normalisation
from glassmd.training.progress import TrainingProgress
from glassmd.training.source import SampleSource
from glassmd.training.undoing import undone_if_stopped
from glassmd.training.validation import Validation

__all__ = ["Trainer"]

LOOK = 0.5
"""Seconds between two looks for new segments."""


class Trainer:
    """Trains one model on a source of samples.

    Args:
        source: Where samples come from.
        settings: How to train.
        directory: Model directory; a checkpoint in it is taken up.
        seed: Every random number follows from it.
        structures: Of the samples, with the learner's inputs.
        encodings: Of the samples, shared with other trainings of the same learner; its own by default.
        follow: Whether the source still grows.
        stop: A request to stop to listen to.
        show: Called after every step, and while waiting, with the progress.

    Attributes:
        device: Where steps are taken. Samples are encoded and kept on the CPU; the model starts there, too, with the
            same weights on every device.

    Raises:
        ModelError: The directory holds a training with other settings or of another model.
        RunError: The data are not those that the training began with.
        SettingsError: The settings ask for a device that is not there.
    """

    def __init__(
        self,
        source: SampleSource,
        settings: TrainSettings,
        directory: Path,
        *,
        seed: int = 0,
        structures: Structures,
        encodings: Encodings | None = None,
        follow: bool = False,
        stop: StopRequest | None = None,
        show: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.source, self.directory, self.follow, self.seed = source, directory, follow, seed
        self.settings = resolved(settings)
        self.device = training_device(settings)
        self.stop = stop or StopRequest()
        self._show = show or (lambda progress: None)
        self.species = self._loss_species()
        torch.manual_seed(seed)
        self.model: PropensityModel = started(settings, source.mixture, len(source.times))
        self.structures = structures
        self.encoded = Encoder(
            self.model,
            structures.of,
            encodings,
            source.pair_changes,
        )
        self.absorber: Absorber | None = None
        if isinstance(self.model, Summing):
            self.absorber = Absorber(self.model, self.encoded, self.mask, source.fold)
        self.optimizer = torch.optim.AdamW(
            stepped_parameters(self.model), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.generator = np.random.default_rng([seed, 1])
        self.reservoir = Reservoir(
            settings.reservoir if follow else 2**62,
            settings.watermark,
            settings.max_reuse if follow else None,
            np.random.default_rng([seed, 2]),
        )
        self.validation = Validation(source.mixture["species"])
        self.step = 0
        self.samples_seen = 0
        self.best: dict[str, Any] = {"score": None, "step": 0, "basis": None}
        self.best_weights: dict[str, torch.Tensor] = {}
        self.backlog: list[Sample] = []
        self.validated_at, self.basis = -1, [["", 0]]
        self._steps_here = 0
        self.progress = TrainingProgress(max_steps=self.settings.max_steps)
        self.on_steps_done: Callable[[], None] = lambda: None
        self.on_lacking: Callable[[list[SampleKey]], None] = lambda keys: None
        resume(self)

    def _loss_species(self) -> list[str]:
        known = self.source.mixture["species"]
        wanted = self.settings.species or known
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ModelError(f"found species {unknown} in the loss", f"some of {known}", "change train.species")
        return list(wanted)

    # ---- the loop -------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Take optimiser steps until `max_steps`, then validate and save.

        Raises:
            Interrupted: A stop was requested; a checkpoint of the last whole step is saved.
        """
        with storage_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        with claim(self.directory / ".lock") as granted:
            if not granted:
                raise ModelError(
                    f"{self.directory} is being trained by another process",
                    "one trainer",
                    "wait, or choose another --out",
                )
            remove_leftovers(self.directory / "checkpoints")
            with closing(Journal(self.directory, self.step)) as self.journal:
                try:
                    self._loop() if self.model.stepped else self._solve()
                    self.on_steps_done()
                    self._last_validation()
                except ModelError:
                    raise  # the weights are to blame: keep the checkpoint before them
                except GlassmdError:
                    self.checkpoint()
                    raise
                self.finish()

    def _loop(self) -> None:
        last_look, busy = -np.inf, 0.0
        if self.step > 0:
            self._validate_if_due()  # what a stop had cut short
        while self.step < self.settings.max_steps:
            self.stop.check()
            waited = time.monotonic() - last_look
            if (self.follow or waited == np.inf) and (waited > LOOK or not self.reservoir.ready):
                self._look()
                last_look = time.monotonic()
            if not self.reservoir.ready:
                self._wait()
                continue
            started = time.perf_counter()
            self._take_step()
            busy += time.perf_counter() - started
            self.progress.rate = self._steps_here / busy
            self._report("")
            self._periodic()

    def _periodic(self) -> None:
        self._validate_if_due()
        if self.step % self.settings.checkpoint_every == 0 and self.step < self.settings.max_steps:
            self.checkpoint()

    def _validate_if_due(self) -> None:
        if self.step % self.settings.validate_every == 0 and self.validated_at != self.step:
            self.validate()

    def _solve(self) -> None:
        """Absorb what is there, and what comes while the source grows; solve whenever that is worth it."""
        assert self.absorber is not None
        while True:
            self.stop.check()
            complete = not self.follow or self.source.complete
            self._look()
            if self.absorber.solve(final=complete):
                self._solved()
            if complete:
                break
            self._report("the simulation")
            time.sleep(LOOK)
        if not len(self.absorber):
            raise _nothing()

    def _solved(self) -> None:
        assert self.absorber is not None
        self.step += 1
        self._steps_here += 1
        self.samples_seen = len(self.absorber)
        self.progress.max_steps = self.step
        self._report("")
        self.validate()
        self.checkpoint()

    def _look(self) -> None:
        """Take in what has been committed since the last look."""
        self.backlog = [sample for sample in self.backlog if not self.reservoir.add(sample)]
        if self.backlog:
            return  # full of samples that nobody has seen: leave the rest on disk
        for sample in self.source.poll():
            self.stop.check()
            self.encoded.grown(sample)
            split = self.source.split(sample)
            if split == "validation":
                self.validation.add(sample)
            elif split == "train":
                if self.absorber is not None:
                    self.absorber.take(sample)
                if self.model.stepped and not self.reservoir.add(sample):
                    self.backlog.append(sample)
        if self.absorber is not None and self.model.stepped and self.step > 0:
            self.absorber.solve(final=False)
        if self.follow and (lacking := self.source.lacking()) and all(run.complete for run in self.source.runs):
            self.on_lacking(lacking)  # nobody simulates any more

    def _wait(self) -> None:
        if not self.follow or (self.source.complete and len(self.reservoir) == 0):
            self._look()
            if len(self.reservoir) == 0:
                raise _nothing()
            self.reservoir.watermark = 0
            return
        if self.source.complete:
            self.reservoir.watermark, self.reservoir.max_reuse = 0, None  # nothing more will come
        self._report("the simulation")
        time.sleep(0.1)

    def _take_step(self) -> None:
        if self.step == 0:
            self.model.set_normalisation(*label_normalisation(self.reservoir.samples, self.model.n_species))
            if self.absorber is not None:
                self.absorber.solve(final=True)
            self.model.initialise(self.encoded(self.reservoir.samples[0]))
            self.model.to(self.device)
        self._schedule()
        with undone_if_stopped(self.model, self.reservoir, self.generator, self.device, self.stop):
            batch = self.reservoir.draw(self.settings.batch_size)
            data, target, noise, mask = self._assemble(batch)
            self.model.train()
            self.optimizer.zero_grad()
            loss = self.model.objective(data, target, noise if self.settings.noise_weighted else None, mask)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        self._steps_here += 1
        self.samples_seen += len(batch)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ModelError(
                f"found a loss of {value} at step {self.step}", "a finite one", "lower --set learning_rate=…"
            )
        self.progress.loss = value
        self.journal.train(self.step, value, len(self.reservoir))

    def _assemble(self, batch: list[Sample]) -> tuple[Data, torch.Tensor, torch.Tensor, torch.Tensor]:
        graphs = [self.encoded(sample) for sample in batch]
        if self.settings.augment:
            graphs = [self.model.augment(graph, self.generator) for graph in graphs]
        data = batch_graphs(graphs)
        data.fold = torch.tensor([self.source.fold(sample.key) for sample in batch])
        data = data.to(self.device)
        labels = np.concatenate([sample.propensity for sample in batch], axis=1).T
        noise = np.concatenate([sample.variance / sample.n_replicas for sample in batch], axis=1).T
        target = self.model.normalise(torch.from_numpy(labels.astype(np.float32)).to(self.device), data.species)
        scaled = torch.from_numpy(noise.astype(np.float32)).to(self.device) / self.model.scale[data.species] ** 2
        mask = np.concatenate([self.mask(sample) for sample in batch])
        return data, target, scaled, torch.from_numpy(mask).to(self.device)

    def mask(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(n_particles,) which particles of a sample count in the loss."""
        return np.isin(sample.parent.species, [self.source.mixture["species"].index(name) for name in self.species])

    def _schedule(self) -> None:
        """Set the learning rate of the step to come."""
        rate = self.settings.learning_rate
        if self.settings.schedule == "cosine":
            rate *= max(0.02, 0.5 * (1 + np.cos(np.pi * self.step / self.settings.max_steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    # ---- validation -----------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Score the held-out lineages that are there; remember the weights if they are the best so far."""
        self.validation.score(self._predict_unless_stopped)
        self.validated_at, self.basis = self.step, self.validation.basis
        if not self.validation.scores:
            self._remember(None, self.basis)
            return
        first = self.validation.scores[self.species[0]].mean
        self.progress.pearson = first.tolist()
        self.journal.validation(
            self.step, {name: found.mean.tolist() for name, found in self.validation.scores.items()}
        )
        self._remember(float(np.nanmean(first)) if np.isfinite(first).any() else None, self.basis)

    def _remember(self, value: float | None, basis: Any) -> None:
        """Keep the weights of the best validation; scores on a smaller validation set do not compare."""
        best = self.best["score"]
        if value is None or best is None or basis != self.best["basis"] or value > best:
            self.best = {"score": value, "step": self.step, "basis": basis}
            self.best_weights = _weights_of(self.model)

    def _predict_unless_stopped(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.float64]]:
        self.stop.check()
        return self.predict(sample)

    @torch.no_grad()
    def predict(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n_times, n_particles) float64 predicted propensity, σ_AA."""
        self.model.eval()
        data = batch_graphs([self.encoded(sample)]).to(self.device)
        return self.model(data).cpu().numpy().astype(np.float64).T  # type: ignore[no-any-return]

    @torch.no_grad()
    def _unseen(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """A training sample as the part of the learner predicts it that never saw its lineage, or None."""
        self.model.eval()
        data = batch_graphs([self.encoded(sample)]).to(self.device)
        found = self.model.out_of_fold(data, self.source.fold(sample.key))
        return None if found is None else found.cpu().numpy().astype(np.float64).T

    def _cross_validate(self) -> None:
        """Where no lineage is held out: score a learner that keeps its folds apart on all of them."""
        assert self.absorber is not None
        unseen = {sample.key: self._unseen(sample) for sample in self.absorber.samples}
        if all(found is not None for found in unseen.values()):
            self.validation = Validation(self.source.mixture["species"], cross_validated=True)
            for sample in self.absorber.samples:
                self.validation.add(sample)
            self.validation.score(lambda sample: unseen[sample.key])  # type: ignore[arg-type, return-value]

    # ---- keeping --------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Save the whole state as one file, and the best model so far for others to use."""
        if self.step == 0:
            return
        if not self.best_weights:
            self._remember(None, None)
        self.journal.flush()
        keep_checkpoint(self)

    def _last_validation(self) -> None:
        if self.follow:
            self._look()
        if self.validated_at != self.step or self.basis != self.validation.basis:
            self.validate()

    def finish(self) -> None:
        """Measure and save the best weights."""
        self.checkpoint()
        self.model.load_state_dict(self.best_weights)
        if self.absorber is not None and len(self.absorber):
            self.model.eval()
            self.absorber.conclude()
            self.best_weights = _weights_of(self.model)
        if self.validation.basis:
            self.validation.score(self.predict)
        elif self.absorber is not None:
            self._cross_validate()
        keep_model(self)

    def _report(self, waiting: str) -> None:
        self.progress.step, self.progress.waiting = self.step, waiting
        self.progress.samples, self.progress.segments = len(self.reservoir), self.source.n_segments
        self._show(self.progress)


def _weights_of(model: PropensityModel) -> dict[str, torch.Tensor]:
    """A copy of them on the CPU."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _nothing() -> ModelError:
    return ModelError(
        "found no samples of training lineages in the data", "at least one", "simulate or import some first"
    )
