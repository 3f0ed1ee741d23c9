"""What a training leaves on disk: checkpoints to go on from, and the best model so far for others to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassmd.errors import ModelError
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.stream.samples import SampleKey
from glassmd.training.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    part_of,
    random_tensors,
    require_same,
    restore_optimizer,
    restore_random,
    save_checkpoint,
)

if TYPE_CHECKING:
    from glassmd.training.loop import Trainer

__all__ = ["card_of", "keep_checkpoint", "keep_model", "resume"]

RESUMABLE = ("max_steps", "checkpoint_every", "train_threads", "train_device")
"""Settings that may differ when a training is taken up again."""


def identity_of(trainer: Trainer) -> dict[str, Any]:
    """What a training must have in common with the one that it takes up (JSON types only)."""
    return {
        "settings": trainer.settings.model_dump(exclude=set(RESUMABLE)),
        "seed": trainer.seed,
        "mixture": trainer.source.mixture,
        "times": trainer.source.times,
    }


def keep_checkpoint(trainer: Trainer) -> None:
    """Save the whole state as one file, and the best model so far."""
    tensors = {
        **{f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()},
        **{f"best.{name}": tensor for name, tensor in trainer.best_weights.items()},
        **optimizer_tensors(trainer.optimizer),
        **random_tensors(trainer.device),
    }
    state = {
        "identity": identity_of(trainer),
        "hyperparameters": trainer.model.hyperparameters(),
        "step": trainer.step,
        "samples_seen": trainer.samples_seen,
        "best": trainer.best,
        "validated_at": trainer.validated_at,
        "basis": trainer.basis,
        "source": trainer.source.state(),
        "reservoir": trainer.reservoir.state(),
        "backlog": [[s.key.run, s.key.lineage, s.key.parent] for s in trainer.backlog],
        "generator": trainer.generator.bit_generator.state,
        "absorbed": None if trainer.absorber is None else trainer.absorber.state(),
    }
    save_checkpoint(trainer.directory, trainer.step, tensors, state)
    keep_model(trainer)


def resume(trainer: Trainer) -> None:
    """Take up the newest checkpoint of the directory, if there is one.

    What follows is, on the CPU, what would have followed without a stop, bit for bit. On CUDA it is so up to rounding,
    because sums there are taken in no fixed order, and where the device is another one, up to rounding and dropout.

    Raises:
        ModelError: The directory holds a training with other settings, or a finished model without checkpoints.
    """
    path = latest_checkpoint(trainer.directory)
    if path is None:
        if (trainer.directory / "model.json").exists():
            found = f"{trainer.directory} holds a finished model without checkpoints"
            raise ModelError(found, "an empty or new directory", "choose another --out")
        return
    tensors, state = load_checkpoint(path)
    require_same(trainer.directory, state["identity"], identity_of(trainer))
    samples = trainer.source.restore(state["source"])
    if trainer.absorber is not None:
        learned = [sample for key, sample in sorted(samples.items()) if trainer.source.split(sample) == "train"]
        trainer.absorber.restore(state["absorbed"], learned)
    trainer.model.load_state_dict(part_of(tensors, "model."))
    trainer.model.to(trainer.device)  # before the optimiser's moments, which go where the parameters are
    trainer.best_weights, trainer.best = part_of(tensors, "best."), state["best"]
    restore_optimizer(trainer.optimizer, tensors)
    trainer.step, trainer.samples_seen = state["step"], state["samples_seen"]
    trainer.validated_at, trainer.basis = state["validated_at"], state["basis"]
    trainer.reservoir.restore(state["reservoir"], samples)
    trainer.backlog = [samples[SampleKey(*key)] for key in state["backlog"]]
    for sample in samples.values():
        if trainer.source.split(sample) == "validation":
            trainer.validation.add(sample)
    trainer.generator.bit_generator.state = state["generator"]
    restore_random(tensors, trainer.device)


def keep_model(trainer: Trainer) -> None:
    """Save the best weights so far as a model directory."""
    current = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(trainer.best_weights)
    save_model(trainer.directory, trainer.model, card_of(trainer))
    trainer.model.load_state_dict(current)


def card_of(trainer: Trainer) -> ModelCard:
    """The card of the model as it stands."""
    source = trainer.source
    return ModelCard(
        model=trainer.settings.model,
        hyperparameters=trainer.model.hyperparameters(),
        mixture=source.mixture,
        temperatures=source.temperatures,
        density=float(source.runs[0].identity["density"]),
        times=source.times,
        trained_species=trainer.species,
        residual_std=trainer.validation.residual,
        cage_protocols=trainer.structures.cage_protocols(),
        provenance={
            "steps": trainer.best["step"],
            "seed": trainer.seed,
            "device": trainer.device.type,
            "settings": trainer.settings.model_dump(),
            "runs": [run.identity["id"] for run in source.runs],
            "liquids": sorted(liquid for liquid, split in source.liquids.items() if split != "test"),
            "validation_score": trainer.best["score"],
            "cross_validated": trainer.validation.cross_validated,
            "input_cost": trainer.structures.cost,
        },
    )
