"""The trainings behind a leaderboard: each an ordinary one, done once, and what its model says of the left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.comparison.entries import Entry
from glassmd.comparison.folds import Fold
from glassmd.comparison.predictions import Predictions
from glassmd.engines import DeviceChoice, EngineChoice
from glassmd.errors import ModelError
from glassmd.interrupt import StopRequest
from glassmd.models.store import LoadedModel, load_model
from glassmd.prediction import predict_samples
from glassmd.settings import RunSettings, Settings
from glassmd.storage import sha256_of
from glassmd.stream.dataset import Run
from glassmd.stream.samples import Sample
from glassmd.stream.structures import merge_cost
from glassmd.training.checkpoints import latest_checkpoint, setting_of
from glassmd.training.choices import resolved, started
from glassmd.training.encoding import Encodings, encodings_of
from glassmd.training.session import Show, train

__all__ = ["Laboratory", "Training"]

PREDICTIONS_FILE = "predictions.safetensors"

RUNTIME = {"checkpoint_every", "train_device", "train_threads", "memory", "disk", "processes"}
"""Settings that say how to train and not what."""


@dataclass(frozen=True)
class Training:
    """One training of a comparison.

    Attributes:
        entry: Of what.
        fold: On what.
        seed: Its every random number follows from it.
    """

    entry: Entry
    fold: Fold
    seed: int

    @property
    def folder(self) -> Path:
        """Its directory, relative to the comparison's trainings."""
        return Path(self.entry.folder, f"fold-{self.fold.number}", f"seed-{self.seed}")

    def __str__(self) -> str:
        return f"{self.entry.name}, fold {self.fold.number + 1}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Laboratory:
    """Where trainings are done and kept.

    Attributes:
        directory: Of the comparison.
        runs: The data.
        times: Of all of them together.
        samples: All of theirs.
        engine: As in settings.
        device: As in settings.
        stop: A request to stop to listen to.
        show: Called with the progress of a training, if it is a function.
        announce: Called with a line about what begins.
        cluster: Ray cluster that the trainings are done on, as in settings; None: this machine.
    """

    directory: Path
    runs: Sequence[Run]
    times: Sequence[float]
    samples: Sequence[Sample]
    engine: EngineChoice
    device: DeviceChoice
    stop: StopRequest
    show: Show | bool
    announce: Callable[[str], None]
    cluster: str | None = None

    def done(self, training: Training) -> Predictions | None:
        """What a training left behind, or None where it has not come to its end.

        Raises:
            ModelError: It was done with other settings than now.
        """
        path = self.directory / "trainings" / training.folder / PREDICTIONS_FILE
        if not path.exists():
            return None
        found = Predictions.read(path)
        wanted = _told(training.entry)
        differs = sorted(key for key, value in wanted.items() if setting_of(found.facts["settings"], key) != value)
        if differs:
            raise ModelError(
                f"found a training of {training.entry.name} in {path.parent} with {differs[0]} = "
                f"{setting_of(found.facts['settings'], differs[0])}",
                f"{wanted[differs[0]]} as asked for now",
                "choose another --out, or delete that training",
            )
        return found

    def encodings(self, entry: Entry) -> Encodings:
        """Where all trainings of an entry keep what its learner eats."""
        first, settings = self.runs[0], entry.settings
        model = started(settings, first.identity["mixture"], len(self.times))
        return encodings_of(model, self.directory / "trainings" / entry.folder, settings.memory, settings.disk)

    def carry_out(self, training: Training, encodings: Encodings) -> Predictions:
        """Train, predict what was left out, and keep that; a training that was stopped goes on.

        Args:
            training: What to do.
            encodings: Encoded samples, shared by all trainings of the entry.

        Raises:
            Interrupted: A stop was requested; a checkpoint is saved.
        """
        folder = self.folder(training)
        resumed = latest_checkpoint(folder) is not None
        fold, spent = training.fold, encodings.spent
        result = train(
            [run.path for run in self.runs],
            folder,
            self.settings(training),
            held_out=None if fold.told else fold.held_out,
            encodings=encodings,
            stop=self.stop,
            show=self.show,
        )
        # as if it had encoded what it saw, and nothing for others
        encoded = sum(encodings.seconds.get(s.key, 0.0) for s in self.samples if s not in self._unseen(training))
        seconds = result["training_seconds"] - (encodings.spent - spent) + encoded
        return self.keep(training, result["steps"], None if resumed else seconds)

    def folder(self, training: Training) -> Path:
        """Model directory of a training."""
        return self.directory / "trainings" / training.folder

    def settings(self, training: Training) -> Settings:
        """Of a training."""
        return Settings(
            run=RunSettings(seed=training.seed, engine=self.engine, device=self.device), train=training.entry.settings
        )

    def _unseen(self, training: Training) -> list[Sample]:
        return [sample for sample in self.samples if (sample.key.run, sample.key.lineage) in training.fold.held_out]

    def keep(self, training: Training, steps: int, seconds: float | None) -> Predictions:
        """Predict what was left out of a training that is done, and keep that.

        Args:
            training: Which.
            steps: That it took.
            seconds: That it took; None where nobody knows.
        """
        folder = self.folder(training)
        facts = {"settings": _told(training.entry), "training_seconds": seconds, "steps": steps}
        self._predicted(load_model(folder), self._unseen(training), facts).write(folder / PREDICTIONS_FILE)
        return Predictions.read(folder / PREDICTIONS_FILE)

    def finished(self, directory: Path, scored: Sequence[Sample]) -> Predictions:
        """What a model that is finished says of the samples whose liquids it has not seen.

        Raises:
            ModelError: It has seen all of them, or does not fit them.
        """
        loaded = load_model(directory)
        known = set(loaded.card.provenance.get("liquids", []))
        by_id = {run.identity["id"]: run for run in self.runs}
        unseen = [s for s in scored if by_id[s.key.run].fingerprint(s.key.lineage) not in known]
        if not unseen:
            raise ModelError(
                f"found {directory}, which has seen every liquid of the data in its training",
                "a model with something left to be tested on",
                "leave it out, or give other data",
            )
        checksum = sha256_of(directory / "weights.safetensors")
        path = self.directory / "models" / f"{directory.resolve().name}-{checksum[:12]}.safetensors"
        if not path.exists():
            self._predicted(loaded, unseen, {"settings": {}, "training_seconds": None, "steps": None}).write(path)
        return Predictions.read(path)

    def _predicted(self, loaded: LoadedModel, samples: Sequence[Sample], facts: dict[str, Any]) -> Predictions:
        propensity, std, seconds = {}, {}, []
        cost: dict[str, dict[str, Any]] = {}
        settings = RunSettings(engine=self.engine, device=self.device)
        for run in self.runs:
            own = [sample for sample in samples if sample.key.run == run.identity["id"]]
            predictions, of_run = predict_samples(loaded, run, own, settings, self.stop.check, self.times)
            for sample, found in zip(own, predictions, strict=True):
                propensity[str(sample.key)], std[str(sample.key)] = found.propensity, found.std
                seconds.append(found.seconds)
            merge_cost(cost, of_run)
        return Predictions(
            {
                **facts,
                "model": loaded.card.model,
                "inputs": list(loaded.model.inputs),
                "trained_species": list(loaded.card.trained_species),
                "parameters": loaded.model.n_parameters,
                "seconds_per_configuration": float(np.median(seconds)),
                "input_cost": _per_configuration(cost),
            },
            propensity,
            std,
        )


def _told(entry: Entry) -> dict[str, Any]:
    """The settings that a training must share with one that is there (JSON types only)."""
    aside = RUNTIME if "cage" in entry.inputs else RUNTIME | {"cage_replicas", "cage_time"}
    return {**resolved(entry.settings).model_dump(exclude=aside), "input": list(entry.inputs)}


def _per_configuration(total: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: numbers[key] / numbers["configurations"] for key in ("replica_steps", "seconds")}
        for name, numbers in total.items()
        if numbers["configurations"]
    }
