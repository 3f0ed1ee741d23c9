"""The training loop: one for finished runs and for runs that are being simulated.

Everything random comes from two generators and the model's first weights, all derived from the seed; the loop's
whole state is a checkpoint, so that a training that was killed goes on as if nothing had happened.
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
from glassmd.graphs import batch_graphs, random_cube_symmetry, to_graph
from glassmd.interrupt import StopRequest
from glassmd.models import make_model
from glassmd.models.base import PropensityModel
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.settings import TrainSettings
from glassmd.storage import claim, remove_leftovers
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey
from glassmd.training.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    part_of,
    require_same,
    restore_optimizer,
    save_checkpoint,
)
from glassmd.training.journal import Journal
from glassmd.training.losses import label_normalisation, weighted_square_error
from glassmd.training.progress import TrainingProgress
from glassmd.training.source import SampleSource
from glassmd.training.validation import Validation

__all__ = ["Trainer"]

CACHED_GRAPHS = 256
"""Graphs kept between steps: at N = 4096 one takes 5 MB and 25 ms to build again."""

LOOK = 0.5
"""Seconds between two looks for new segments."""

RESUMABLE = ("max_steps", "checkpoint_every", "train_threads")
"""Settings that may differ when a training is taken up again."""


class Trainer:
    """Trains one model on a source of samples.

    Args:
        source: Where samples come from.
        settings: How to train.
        directory: Model directory; a checkpoint in it is taken up.
        seed: Every random number follows from it.
        follow: Whether the source still grows.
        stop: A request to stop to listen to.
        show: Called after every step, and while waiting, with the progress.

    Raises:
        ModelError: The directory holds a training with other settings or of another model.
        RunError: The data are not those that the training began with.
    """

    def __init__(
        self,
        source: SampleSource,
        settings: TrainSettings,
        directory: Path,
        *,
        seed: int = 0,
        follow: bool = False,
        stop: StopRequest | None = None,
        show: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.source, self.settings, self.directory, self.follow = source, settings, directory, follow
        self.stop = stop or StopRequest()
        self._show = show or (lambda progress: None)
        self._species = self._loss_species()
        torch.manual_seed(seed)
        species = source.mixture["species"]
        self.model: PropensityModel = make_model(
            settings.model,
            n_times=len(source.times),
            n_species=len(species),
            dimensions=int(source.mixture["dimensions"]),
            n_steps=settings.message_steps,
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.generator = np.random.default_rng([seed, 1])
        draws = np.random.default_rng([seed, 2])
        self.reservoir = Reservoir(
            settings.reservoir if follow else 2**62,
            settings.watermark,
            settings.max_reuse if follow else None,
            draws,
        )
        self.validation = Validation(species)
        self.step = 0
        self.samples_seen = 0
        self.best: dict[str, Any] = {"score": None, "step": 0, "basis": None}
        self.best_weights: dict[str, torch.Tensor] = {}
        self._backlog: list[Sample] = []
        self._graphs: dict[SampleKey, Data] = {}
        self._seed = seed
        self._validated_at, self._basis = -1, [["", 0]]
        self._steps_here = 0
        self.progress = TrainingProgress(max_steps=settings.max_steps)
        self.on_steps_done: Callable[[], None] = lambda: None
        self._identity = self._describe()
        self._resume()

    def _loss_species(self) -> list[str]:
        known = self.source.mixture["species"]
        wanted = self.settings.species or known
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ModelError(f"found species {unknown} in the loss", f"some of {known}", "change train.species")
        return list(wanted)

    def _describe(self) -> dict[str, Any]:
        settings = self.settings.model_dump(exclude=set(RESUMABLE))
        return {
            "settings": settings,
            "seed": self._seed,
            "mixture": self.source.mixture,
            "times": self.source.times,
        }

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
                    self._loop()
                    self.on_steps_done()
                except ModelError:
                    raise  # the weights are to blame: keep the checkpoint before them
                except GlassmdError:
                    self.checkpoint()
                    raise
                self.finish()

    def _loop(self) -> None:
        last_look, busy = -np.inf, 0.0
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
        if self.step % self.settings.validate_every == 0:
            self.validate()
        if self.step % self.settings.checkpoint_every == 0 and self.step < self.settings.max_steps:
            self.checkpoint()

    def _look(self) -> None:
        """Take in what has been committed since the last look."""
        self._backlog = [sample for sample in self._backlog if not self.reservoir.add(sample)]
        if self._backlog:
            return  # full of samples that nobody has seen: leave the rest on disk
        for sample in self.source.poll():
            self._graphs.pop(sample.key, None)
            split = self.source.split(sample)
            if split == "validation":
                self.validation.add(sample)
            elif split == "train" and not self.reservoir.add(sample):
                self._backlog.append(sample)

    def _wait(self) -> None:
        if not self.follow or (self.source.complete and len(self.reservoir) == 0):
            self._look()
            if len(self.reservoir) == 0:
                raise ModelError(
                    "found no samples of training lineages in the data",
                    "at least one",
                    "simulate or import some first",
                )
            self.reservoir.watermark = 0
            return
        if self.source.complete:
            self.reservoir.watermark, self.reservoir.max_reuse = 0, None  # nothing more will come
        self._report("the simulation")
        time.sleep(0.1)

    def _take_step(self) -> None:
        if self.step == 0:
            self.model.set_normalisation(*label_normalisation(self.reservoir.samples, self.model.n_species))
            self.model.initialise(self.graph(self.reservoir.samples[0]))
        self._schedule()
        batch = self.reservoir.draw(self.settings.batch_size)
        data, target, noise, mask = self._assemble(batch)
        self.model.train()
        self.optimizer.zero_grad()
        loss = weighted_square_error(
            self.model.normalised(data), target, mask, noise if self.settings.noise_weighted else None
        )
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
        graphs = [self.graph(sample) for sample in batch]
        if self.settings.augment:
            graphs = [random_cube_symmetry(graph, self.generator) for graph in graphs]
        data = batch_graphs(graphs)
        labels = np.concatenate([sample.propensity for sample in batch], axis=1).T
        noise = np.concatenate([sample.variance / sample.n_replicas for sample in batch], axis=1).T
        target = self.model.normalise(torch.from_numpy(labels.astype(np.float32)), data.species)
        scaled = torch.from_numpy(noise.astype(np.float32)) / self.model.scale[data.species] ** 2
        mask = np.concatenate([self._mask(sample) for sample in batch])
        return data, target, scaled, torch.from_numpy(mask)

    def _mask(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.isin(sample.parent.species, [self.source.mixture["species"].index(name) for name in self._species])

    def graph(self, sample: Sample) -> Data:
        """The sample's graph, from the cache where it is there."""
        if sample.key not in self._graphs:
            if len(self._graphs) >= CACHED_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[sample.key] = to_graph(sample.parent, self.model.cutoff, self.model.self_edges)
        return self._graphs[sample.key]

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
        self._validated_at, self._basis = self.step, self.validation.basis
        self.validation.score(self.predict)
        if not self.validation.scores:
            self._remember(None, self._basis)
            return
        first = self.validation.scores[self._species[0]].mean
        self.progress.pearson = first.tolist()
        self.journal.validation(
            self.step, {name: found.mean.tolist() for name, found in self.validation.scores.items()}
        )
        self._remember(float(np.nanmean(first)) if np.isfinite(first).any() else None, self._basis)

    def _remember(self, value: float | None, basis: Any) -> None:
        """Keep the weights of the best validation; scores on a smaller validation set do not compare."""
        best = self.best["score"]
        if value is None or best is None or basis != self.best["basis"] or value > best:
            self.best = {"score": value, "step": self.step, "basis": basis}
            self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    @torch.no_grad()
    def predict(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n_times, n_particles) float64 predicted propensity, σ_AA."""
        self.model.eval()
        return self.model(batch_graphs([self.graph(sample)])).numpy().astype(np.float64).T  # type: ignore[no-any-return]

    # ---- keeping --------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Save the whole state as one file, and the best model so far for others to use."""
        if self.step == 0:
            return
        if not self.best_weights:
            self._remember(None, None)
        tensors = {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self.best_weights.items()},
            **optimizer_tensors(self.optimizer),
        }
        state = {
            "identity": self._identity,
            "step": self.step,
            "samples_seen": self.samples_seen,
            "best": self.best,
            "validated_at": self._validated_at,
            "basis": self._basis,
            "source": self.source.state(),
            "reservoir": self.reservoir.state(),
            "backlog": [[s.key.run, s.key.lineage, s.key.parent] for s in self._backlog],
            "generator": self.generator.bit_generator.state,
        }
        self.journal.flush()
        save_checkpoint(self.directory, self.step, tensors, state)
        self._save_model()

    def _resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        path = latest_checkpoint(self.directory)
        if path is None:
            if (self.directory / "model.json").exists():
                found = f"{self.directory} holds a finished model without checkpoints"
                raise ModelError(found, "an empty or new directory", "choose another --out")
            return
        tensors, state = load_checkpoint(path)
        require_same(self.directory, state["identity"], self._identity)
        self.model.load_state_dict(part_of(tensors, "model."))
        self.best_weights, self.best = part_of(tensors, "best."), state["best"]
        restore_optimizer(self.optimizer, tensors)
        self.step, self.samples_seen = state["step"], state["samples_seen"]
        self._validated_at, self._basis = state["validated_at"], state["basis"]
        samples = self.source.restore(state["source"])
        self.reservoir.restore(state["reservoir"], samples)
        self._backlog = [samples[SampleKey(*key)] for key in state["backlog"]]
        for sample in samples.values():
            if self.source.split(sample) == "validation":
                self.validation.add(sample)
        self.generator.bit_generator.state = state["generator"]

    def _save_model(self) -> None:
        current = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.best_weights)
        save_model(self.directory, self.model, self._card())
        self.model.load_state_dict(current)

    def _card(self) -> ModelCard:
        densities = [float(run.identity["density"]) for run in self.source.runs]
        return ModelCard(
            model=self.settings.model,
            hyperparameters=self.model.hyperparameters(),
            mixture=self.source.mixture,
            temperatures=self.source.temperatures,
            density=densities[0],
            times=self.source.times,
            trained_species=self._species,
            residual_std=self.validation.residual,
            provenance={
                "steps": self.best["step"],
                "seed": self._seed,
                "settings": self.settings.model_dump(),
                "runs": [run.identity["id"] for run in self.source.runs],
                "liquids": sorted(liquid for liquid, split in self.source.liquids.items() if split != "test"),
                "validation_score": self.best["score"],
            },
        )

    def finish(self) -> None:
        """Validate the last weights, then measure and save the best ones."""
        if self.follow:
            self._look()
        if self._validated_at != self.step or self._basis != self.validation.basis:
            self.validate()
        self.checkpoint()
        self.model.load_state_dict(self.best_weights)
        self.validation.score(self.predict)
        self._save_model()

    def _report(self, waiting: str) -> None:
        self.progress.step, self.progress.waiting = self.step, waiting
        self.progress.samples, self.progress.segments = len(self.reservoir), self.source.n_segments
        self._show(self.progress)
