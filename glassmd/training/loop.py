"""The training loop: one for finished runs and for runs that are being simulated, and for every learner.

The trainer is the stream, the reservoir, the journal and the checkpoint; how a learner learns is its own
(:class:`glassmd.learners.fitting.fit.Fit`). Everything random follows from the seed; the loop's whole state is a
checkpoint, so that a training that was stopped goes on as if nothing had happened: on the CPU bit for bit, on CUDA up
to rounding, because sums there are taken in no fixed order, and on another device up to rounding and dropout.

Several processes (:mod:`glassmd.processes`) run the same loop. The first looks for samples, measures, writes and tells
the others when; all know the same samples and draw the same batches, and each reads, encodes, adds up and computes its
share. How many they are is no part of the training: another number goes on with a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassmd.errors import GlassmdError, ModelError, ProcessLostError, storage_errors
from glassmd.graphs import batch_graphs
from glassmd.interrupt import StopRequest
from glassmd.learners.base import PropensityModel
from glassmd.learners.fitting.fit import Fit
from glassmd.learners.fitting.stepped import Stepping
from glassmd.learners.linear.tuned import TunedModel
from glassmd.learners.part import Advance, Coming, Taken, Tensors, of_prefix, with_prefix
from glassmd.mixtures import mixture_of
from glassmd.models.card import ModelCard
from glassmd.models.domain import Domain, measured_domain
from glassmd.models.store import save_model
from glassmd.processes import Processes
from glassmd.settings import TrainSettings
from glassmd.storage import claim, remove_leftovers
from glassmd.stream.samples import Sample, SampleKey
from glassmd.stream.structures import Structures
from glassmd.target import quantity
from glassmd.training.acquisition import tell_worth, worth_of
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint, require_same, save_checkpoint
from glassmd.training.choices import resolved, started, training_device
from glassmd.training.drawing import keep_to_budget, reservoir_of
from glassmd.training.encoding import Encoder, Encodings, encodings_of
from glassmd.training.encoding_process import EncodingProcess
from glassmd.training.journal import Journal
from glassmd.training.pace import Pace
from glassmd.training.progress import TrainingProgress
from glassmd.training.soundness import Soundness
from glassmd.training.source import SampleSource
from glassmd.training.status import Status
from glassmd.training.validation import Validation

__all__ = ["Trainer"]

FloatArray = NDArray[np.float64]

LOOK = 0.2
"""Seconds between two looks for new segments."""

IDLE = 0.05
"""Seconds of sleep where nothing can be done."""

RESUMABLE = (
    "max_steps", "checkpoint_every", "train_threads", "train_device", "reservoir", "memory", "disk", "redraw",
    "min_reuse", "acquire", "processes",
)  # fmt: skip
"""Settings that may differ when a training is taken up again."""

_UNSAVED = 60.0  # seconds of taking samples in after which what was done is saved
_TAKING = 10.0  # seconds of taking samples in after which a learner on a stream goes on learning
_TYPICAL = 100  # samples that show what a liquid is like: their means are known to a few percent of their scatter
_SLOW = 0.1  # seconds of encoding a sample from which on a process of its own is worth its start


class Trainer:
    """Trains one model on a source of samples.

    Args:
        source: Where samples come from.
        settings: How to train.
        directory: Model directory; a checkpoint in it is taken up.
        seed: Every random number follows from it.
        structures: Of the samples, with the learner's inputs.
        encodings: Of the samples, shared with other trainings of the same learner; its own by default.
        begun: The trained model that the learner begins with.
        follow: Whether the source still grows.
        own_core: Whether the trainer has a core, or a GPU, that nobody simulates on.
        stop: A request to stop to listen to.
        processes: That train together; this one alone by default.
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
        begun: PropensityModel | None = None,
        follow: bool = False,
        own_core: bool = True,
        stop: StopRequest | None = None,
        processes: Processes | None = None,
        show: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.processes = processes or Processes()
        self.source, self.directory, self.follow, self.seed = source, directory, follow, seed
        self.settings, self.structures = resolved(settings), structures
        self.device = training_device(settings, self.processes)
        self.stop = stop or StopRequest()
        self._show = show or (lambda progress: None)
        self.species = self._loss_species()
        torch.manual_seed(seed)
        self.model: PropensityModel = started(settings, source.mixture, len(source.times))
        if isinstance(self.model, TunedModel) and begun is not None:
            self.model.begin_with(begun)
        room = settings.memory, settings.disk
        self._own = encodings_of(self.model, directory, *room, self.processes) if encodings is None else None
        self._encoder = Encoder(self.model, structures, encodings or self._own, source.pair_changes)  # type: ignore[arg-type]
        self._beside: EncodingProcess | None = None
        self.taken = Taken(
            n_species=len(source.mixture["species"]),
            n_times=len(source.times),
            encode=self._encoder,
            mask=self.mask,
            fold=source.fold,
            recall=source.recall,
            check=self.stop.check,
            least_unit=quantity(self.settings.target).least_unit,
            processes=self.processes,
        )
        self.fit = Fit(self.taken, self.model.parts(self.taken, self._stepping()))
        self._batch = self.settings.batch_size * self.processes.size
        self.reservoir = reservoir_of(
            self.settings, source, self.taken.sample, seed=seed, follow=follow, own_core=own_core, batch=self._batch
        )
        self.pace = Pace(source, self.reservoir)
        self.validation = Validation(source.mixture["species"], self.taken)
        self.samples_seen = 0
        self.best: dict[str, Any] = {"score": None, "step": 0, "basis": None}
        self.validated: dict[str, Any] = {"step": -1, "basis": None}
        self.went_back: int | None = None
        self._behind = self._cut_short = self._reads = False
        self._domain: Domain | None = None
        self._saved = time.monotonic()
        self._steps_here, self._busy = 0, 0.0
        self.progress = TrainingProgress(waited=self.pace.waited)
        self.status = Status(directory, self.progress, writes=self.processes.first)
        self.soundness = Soundness(self.model, self.device, self.progress)
        self.on_steps_done: Callable[[], None] = lambda: None
        self.on_lacking: Callable[[list[SampleKey]], None] = lambda keys: None
        self._resume()
        self._introduce()

    @property
    def step(self) -> int:
        """Steps so far, earlier sessions included."""
        return self.fit.step

    @property
    def noise_known(self) -> bool:
        """Whether any parent has two replicas: else a spread counts the noise of the labels as an error."""
        return bool(np.isfinite(self.taken.labels.variance).any())

    def _stepping(self) -> Stepping:
        chosen = {of.name for of in fields(Stepping)} & set(type(self.settings).model_fields)
        told = {name: getattr(self.settings, name) for name in chosen}
        told.update(seed=self.seed, device=self.device, check=self.stop.check)
        return Stepping(**told)

    def _loss_species(self) -> list[str]:
        known = self.source.mixture["species"]
        wanted = self.settings.species or known
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ModelError(f"found species {unknown} in the loss", f"some of {known}", "change train.species")
        return list(wanted)

    # ---- the loop -------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Advance until nothing is left to do, then finish, validate and save.

        Raises:
            Interrupted: A stop was requested; a checkpoint of what was taken and done is saved.
        """
        first = self.processes.first
        if first:
            with storage_errors(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
        with claim(self.directory / ".lock") if first else nullcontext(True) as granted:
            if not granted:
                raise ModelError(
                    f"{self.directory} is being trained by another process",
                    "one trainer",
                    "wait, or choose another --out",
                )
            if first:
                remove_leftovers(self.directory / "checkpoints")
            self.journal = self._journal()
            try:
                with self.status.session():
                    self._train()
            finally:
                self.pace.let_go()
                if self._beside is not None:
                    self._beside.stop()
                self.journal.close()

    def _journal(self) -> Journal:
        directory = self.directory if self.processes.first else None
        return Journal(directory, self.source.times, self.step, unit=self.source.time_unit)

    def _train(self) -> None:
        self.processes.sync()
        try:
            with self.processes.together():
                self._loop()
                self.on_steps_done()
                self._last_validation()
        except (ModelError, ProcessLostError):
            raise  # the weights are to blame, or what is not here any more: keep the checkpoint before
        except GlassmdError:
            self.checkpoint()
            raise
        self._finish()

    def _loop(self) -> None:
        final, looked = False, -np.inf
        if self.step > 0:
            self._validate_if_due()  # what a stop had cut short
        while True:
            self.stop.check()
            due = not final and time.monotonic() - looked >= LOOK
            look, self._reads = self.processes.tell([due, self.soundness.due])
            if look:
                final = self._look_around()
                looked = time.monotonic()
            started = time.perf_counter()
            done = self.fit.advance(self.reservoir, final=final)
            if done is not None:
                self._advanced(done, time.perf_counter() - started)
            elif final or not self.fit.hungry:
                break
            else:
                what = "encoding" if self._behind else "the simulation"
                self._report(what)
                self.pace.wait(what, IDLE)
        if not self.taken.blocks:
            raise ModelError(
                "found no samples of training lineages in the data", "at least one", "simulate or import some first"
            )

    def _look_around(self) -> bool:
        """Take in what is there, and see who has to wait for whom; whether nothing will follow."""
        first = self.processes.first
        complete = not self.follow or (first and self.source.complete)
        everything = self._look()
        if self.follow and first:
            keep_to_budget(self.reservoir, self.settings, self.source, self._batch)
        complete, self.reservoir.max_reuse = self.processes.tell([complete, self.reservoir.max_reuse])
        if complete:
            self.pace.complete()
            self.reservoir.redraw = 0.0  # nobody is waited for but whoever encodes
        elif first:
            self.pace.hold(draws=self.fit.hungry and self.reservoir.drawable)
        if everything and complete:
            self.reservoir.no_more()
        return everything and complete

    def _look(self) -> bool:
        """Take in what has been committed since the last look; acknowledge what the learner has.

        Returns:
            Whether that is everything: offline always, on a stream where it does not take too long.
        """
        self._behind = self._cut_short = False
        turns = self._turns() if self.processes.first else iter(())
        while told := self.processes.tell(next(turns, [])):
            self._take_turn([Coming(SampleKey(*key), tuple(blocks), *others) for key, blocks, *others in told])
            if self.processes.tell(time.monotonic() - self._saved > _UNSAVED):
                self.checkpoint()
        lacking = self.source.lacking() if self.follow and self.processes.first and not self._cut_short else []
        if self.processes.tell(bool(lacking and not self.source.made_by_others)):
            self.on_lacking(lacking)
        return bool(self.processes.tell(not (self._behind or self._cut_short)))

    def _turns(self) -> Iterator[list[list[Any]]]:
        """What the first process has the others take with it, a sample of each at a time (JSON types only)."""
        started, taken, turn = time.monotonic(), self.taken, dict[int, list[Any]]()
        new = len(taken.blocks) + len(taken.heard)
        for key, blocks in self.source.waiting():
            self.stop.check()
            if self.follow and time.monotonic() - started > _TAKING:
                self._cut_short = True
                break
            split = self.source.split(key)
            if split == "test":
                self.source.settle(key, blocks)
                continue
            if self._beside is not None and not self._beside.has(self._encoder.name(key, blocks)):
                self._behind = True
                continue
            if key in taken.blocks or key in taken.heard:  # grown: it is where it was
                owner = taken.owners.get(key, 0)
            else:
                owner, new = new % self.processes.size, new + 1
            if owner in turn:
                yield [*turn.values()]
                turn = {}
            turn[owner] = [[key.run, key.lineage, key.parent], blocks, split == "train", owner]
            if len(turn) == self.processes.size:
                yield [*turn.values()]
                turn = {}
        if turn:
            yield [*turn.values()]

    def _take_turn(self, turn: list[Coming]) -> None:
        """Take a sample of each process at most; this one reads its own."""
        own = next((coming for coming in turn if coming.owner == self.processes.rank), None)
        sample = None if own is None else self.source.recall(own.key, own.blocks)
        self.fit.take_turn(turn, sample)
        for coming in turn:
            its = sample if coming is own else None
            if coming.learn:
                self.reservoir.admit(coming.key, its)
            if its is not None:
                self.source.acknowledge(its)
            if self.processes.first:
                self._note(coming)

    def _note(self, coming: Coming) -> None:
        """The first process keeps account of what all have taken."""
        if coming.owner != self.processes.rank:
            self.source.settle(coming.key, coming.blocks)
        if self.processes.size > 1:  # whoever encodes it
            self.structures.count(coming.key)
        if self.follow and coming.learn:
            self.pace.arrived(coming.key, coming.blocks)
        if self.follow and self._beside is None:
            self._encode_beside(coming.key)

    def _encode_beside(self, key: SampleKey) -> None:
        """Have a process encode what comes, if what came took long."""
        if self._own is None or not self.model.stepped or self._own.seconds.get(key, 0.0) < _SLOW:
            return
        self._beside = EncodingProcess(self.model, self.source, self.structures, self._own, self.settings.disk)

    def _advanced(self, done: Advance, seconds: float) -> None:
        self._steps_here += done.samples > 0
        self._busy += seconds
        self.samples_seen = done.samples if done.milestone else self.samples_seen + done.samples
        self.progress.rate = self._steps_here / max(self._busy, 1e-9)
        if self.follow:
            self.pace.drew(self.reservoir.first_drawn)
        self.reservoir.first_drawn.clear()
        if done.loss is not None:
            self.soundness.note(self.step, done.loss, len(self.reservoir), done.learning_rate)
            if self._reads and not self.soundness.read(self.journal):
                self._go_back()
                return
        self._report("")
        if done.milestone:
            self.validate()
            self.checkpoint()
        elif done.samples:
            often = min(self.settings.validate_every, self.settings.checkpoint_every)
            if self.step % often == 0 and not self.soundness.sound(self.journal, self.step):
                self._go_back()
                return
            self._validate_if_due()
            if self.step % self.settings.checkpoint_every == 0 and self.step < self.fit.last_step:
                self.checkpoint()

    def _go_back(self) -> None:
        """To the last checkpoint, and on with other random numbers; once.

        Raises:
            ModelError: There is none, or that has been done before.
        """
        step, loss = self.soundness.lost
        stored = self._stored() if self.went_back is None else None
        if stored is None:
            again = "" if self.went_back is None else f", after going back from step {self.went_back}"
            raise ModelError(
                f"found a loss of {loss} at step {step}{again}", "a finite one", "lower --set learning_rate=…"
            )
        self.journal.close()
        self._restore(*stored)
        self.went_back = step
        self.fit.shake(1)
        self.reservoir.generator = np.random.default_rng([self.seed, 2, 1])
        self.journal = self._journal()
        self.journal.went_back(step, self.step, loss)

    def mask(self, sample: Sample) -> NDArray[np.bool_]:
        """(n_particles,) which particles of a sample count in the loss."""
        return np.isin(sample.parent.species, [self.source.mixture["species"].index(name) for name in self.species])

    # ---- validation -----------------------------------------------------------------------------------------

    def _validate_if_due(self) -> None:
        if self.step % self.settings.validate_every == 0 and self.validated["step"] != self.step:
            self.validate()

    def validate(self) -> None:
        """Score the held-out lineages that are there; remember the weights if they are the best so far."""
        self.validation.score(self._predict_unless_stopped)
        self.validated = {"step": self.step, "basis": self.validation.basis}
        self._remember(self.processes.tell(self._tell_validation() if self.validation.scores else None))

    def _tell_validation(self) -> float | None:
        """Write down what was measured, and tell it; ρ of the first species, mean over times."""
        first = self.validation.scores[self.species[0]].mean
        self.journal.validation(self.step, self.validation.scores, self.validation.loss(self.species))
        self._tell_scores()
        if self.follow:
            self.journal.stream(self.step, self.pace.facts())
            if self.settings.acquire == "uncertainty":
                tell_worth(self.source, worth_of(self.model, self.taken))
        return float(np.nanmean(first)) if np.isfinite(first).any() else None

    def _remember(self, value: float | None) -> None:
        """Keep the weights of the best validation; scores on a smaller validation set do not compare."""
        best, basis = self.best["score"], self.validation.basis
        if value is None or best is None or basis != self.best["basis"] or value > best:
            self.best = {"score": value, "step": self.step, "basis": basis}
            self.fit.keep()
        self.progress.best, self.progress.best_step = self.best["score"], self.best["step"]

    def _last_validation(self) -> None:
        while self.follow and not self._look():
            self._report("encoding")
            self.pace.wait("encoding", IDLE)
        if self.validated != {"step": self.step, "basis": self.validation.basis}:
            self.validate()

    def _predict_unless_stopped(self, sample: Sample) -> FloatArray:
        self.stop.check()
        return self.predict(sample)

    @torch.no_grad()
    def predict(self, sample: Sample) -> FloatArray:
        """(n_times, n_particles) float64 prediction, in the target's unit."""
        self.model.eval()
        data = batch_graphs([self.taken.encode(sample)]).to(self.model.scale.device)
        return self.model(data).cpu().numpy().astype(np.float64).T  # type: ignore[no-any-return]

    @torch.no_grad()
    def _unseen(self, sample: Sample) -> FloatArray | None:
        """A training sample as the part of the learner predicts it that never saw its lineage, or None."""
        self.model.eval()
        data = batch_graphs([self.taken.encode(sample)]).to(self.model.scale.device)
        found = self.model.out_of_fold(data, self.source.fold(sample.key))
        return None if found is None else found.cpu().numpy().astype(np.float64).T

    # ---- keeping --------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """What the learner ends as, measured and saved."""
        self.checkpoint()
        self.fit.finish()
        if self.validation.basis:
            self.validation.score(self.predict)
        else:
            self.validation.cross_validate(self._unseen)
        self.journal.validation(self.step, self.validation.scores, self.validation.loss(self.species), last=True)
        self._tell_scores()
        if self.processes.first:
            self._domain = self._measured_domain()
            self._save_model()
            if self._own is not None:
                self._own.remove()
        self.processes.sync()

    def _identity(self) -> dict[str, Any]:
        """What a training must have in common with the one that it takes up (JSON types only)."""
        return {
            "settings": self.settings.model_dump(exclude=set(RESUMABLE)),
            "seed": self.seed,
            "mixture": self.source.mixture,
            "times": self.source.times,
            "tau_alphas": self.source.tau_alphas,
        }

    def checkpoint(self) -> None:
        """Save the whole state as one file, and the best model so far for others to use."""
        if not self.taken.blocks and not self.taken.heard:
            return
        if not self.soundness.sound(self.journal, self.step):
            return
        tensors = {**with_prefix(self.model.state_dict(), "model."), **with_prefix(self.fit.tensors(), "fit.")}
        if self.processes.first:
            self._save(tensors)
        self.processes.sync()
        self._saved = time.monotonic()

    def _save(self, tensors: Tensors) -> None:
        self.journal.flush()
        state = {
            "identity": self._identity(),
            "samples_seen": self.samples_seen,
            "best": self.best,
            "validated": self.validated,
            "went_back": self.went_back,
            "source": self.source.state(),
            "reservoir": self.reservoir.state(),
            "fit": self.fit.state(),
        }
        save_checkpoint(self.directory, self.step, tensors, state)
        if self.step > 0:
            self._save_model()

    def _resume(self) -> None:
        """Take up the newest checkpoint of the directory, if there is one."""
        stored = self._stored()
        if stored is not None:
            self._restore(*stored)
        elif self.processes.first and (self.directory / "model.json").exists():
            found = f"{self.directory} holds a finished model without checkpoints"
            raise ModelError(found, "an empty or new directory", "choose another --out")

    def _stored(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The newest checkpoint, which the first process reads, if there is one."""
        path = latest_checkpoint(self.directory) if self.processes.first else None
        tensors, state = ({}, None) if path is None else load_checkpoint(path)
        state = self.processes.tell(state)
        return None if state is None else (dict(self.processes.of_first(tensors)), state)

    def _restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Return to a checkpoint."""
        if not {"fit", "went_back"} <= set(state):
            raise ModelError(
                f"found in {self.directory} a checkpoint of an earlier version", "one that this version can go on from",
                "choose another --out, or finish it with that version",
            )  # fmt: skip
        require_same(self.directory, state["identity"], self._identity())
        if self.processes.first:
            self.source.restore(state["source"])
        self.model.load_state_dict(of_prefix(tensors, "model."))
        self.fit.restore(of_prefix(tensors, "fit."), state["fit"])
        self.reservoir.restore(state["reservoir"])
        self.samples_seen, self.best, self.validated = state["samples_seen"], state["best"], state["validated"]
        self.went_back = state["went_back"]

    def _save_model(self) -> None:
        """Save the best weights so far as a model directory."""
        weights: Tensors = {**self.model.state_dict(), **self.fit.kept}
        save_model(self.directory, self.model, self.card(), weights)

    def card(self) -> ModelCard:
        """The card of the model as it stands."""
        source = self.source
        return ModelCard(
            model=self.settings.model,
            hyperparameters=self.model.hyperparameters(),
            mixture=source.mixture,
            temperatures=source.temperatures,
            density=float(source.runs[0].identity["density"]),
            times=source.times,
            tau_alphas=source.tau_alpha_by_temperature,
            target=self.settings.target,
            trained_species=self.species,
            residual_std=self.validation.residual,
            cage_protocols=self.structures.cage_protocols(),
            measured=source.times_by_temperature,
            domain=self._domain,
            provenance={
                "steps": self.best["step"],
                "seed": self.seed,
                "device": self.device.type,
                "processes": self.processes.size,
                "settings": self.settings.model_dump(),
                "runs": [run.identity["id"] for run in source.runs],
                "liquids": sorted(liquid for liquid, split in source.liquids.items() if split != "test"),
                "validation_score": self.best["score"],
                "validation_samples": list(self.validation.n_samples),
                "cross_validated": self.validation.cross_validated,
                "noise_known": self.noise_known,
                "input_cost": self.structures.cost,
            },
        )

    def _measured_domain(self) -> Domain:
        """What the samples are like that were learned from, evenly chosen over the lineages where they are many."""
        samples = (self.taken.sample(key) for key in self.taken.some(_TYPICAL))
        liquids = ((one.parent, self.structures.temperature(one)) for one in samples)
        return measured_domain(liquids, mixture_of(self.source.mixture))

    # ---- telling --------------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        """What does not change while it trains, and where it begins."""
        progress, settings = self.progress, self.settings
        progress.learner, progress.inputs, progress.device = settings.model, list(self.model.inputs), self.device.type
        progress.batch, progress.times = self._batch, list(self.source.times)
        progress.processes = self.processes.size
        progress.time_unit, progress.target = self.source.time_unit, settings.target
        progress.data = [str(run.path.absolute()) for run in self.source.runs]
        progress.samples_expected = self.source.n_expected
        progress.best, progress.best_step = self.best["score"], self.best["step"]
        self._count()

    def _count(self) -> None:
        last, redrawn = self.fit.last_step, self.fit.redrawn
        self.progress.step, self.progress.redrawn = self.step, redrawn
        self.progress.max_steps = last and max(last, self.step) - redrawn
        self.progress.samples, self.progress.segments = self.reservoir.produced, self.source.n_segments

    def _tell_scores(self) -> None:
        scores = {name: found for name, found in self.validation.scores.items() if name in self.species}
        if scores:
            self.status.validated(self.step, scores, self.validation.loss(self.species))

    def _report(self, waiting: str) -> None:
        self.progress.waiting = waiting
        self._count()
        self.status.tell()
        self._show(self.progress)
