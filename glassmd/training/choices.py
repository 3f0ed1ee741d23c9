"""What nobody chose: the learner's own settings, and its hyperparameters for these data."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch

from glassmd.errors import SettingsError
from glassmd.learners import make_model, model_class
from glassmd.learners.base import PropensityModel
from glassmd.learners.device import torch_device
from glassmd.processes import Processes
from glassmd.settings import Count, Positive, TrainSettings

__all__ = ["Resolved", "resolved", "started", "training_device"]

FALLBACK: dict[str, Any] = {
    "max_steps": 1000,
    "batch_size": 1,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "noise_weighted": False,
    "validation_share": 0.2,
}
"""Settings of a learner that says nothing."""

PRETRAINED = 10
"""One step in so many is pretraining, for a learner that has some."""


class Resolved(TrainSettings):
    """Training settings with nothing left open that the loop needs."""

    max_steps: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    noise_weighted: bool
    validation_share: float


def resolved(settings: TrainSettings) -> Resolved:
    """The settings with everything filled in that was left to the learner.

    Raises:
        ModelError: There is no such learner.

    Example:
        >>> resolved(TrainSettings(model="bapst", max_steps=10)).learning_rate
        0.0001
    """
    suits = {**FALLBACK, **model_class(settings.model).suggested}
    left = {key: value for key, value in suits.items() if getattr(settings, key) is None}
    return Resolved(**{**settings.model_dump(), **left})


def training_device(settings: TrainSettings, processes: Processes | None = None) -> torch.device:
    """The device that optimiser steps are taken on; see :func:`glassmd.learners.device.torch_device`.

    Args:
        settings: What is asked for.
        processes: Of the training; each has a GPU of its own, the one with its number among those of its machine, or
            the only one that it is shown.

    Raises:
        ModelError: There is no such learner.
        SettingsError: CUDA is asked for, and torch has no such device, or not one for each process.
    """
    found = torch_device(settings.train_device, model_class(settings.model))
    if processes is None or processes.size == 1:
        return found
    place = None
    if found.type == "cuda":
        found = torch.device("cuda", processes.local_rank % torch.cuda.device_count())
        place = str(torch.cuda.get_device_properties(found).uuid)
    told = processes.gather([processes.host, found.type, place])
    if len({kind for _, kind, _ in told}) > 1 or (place is not None and len({(h, p) for h, _, p in told}) < len(told)):
        raise SettingsError(
            "found " + ", ".join(f"{kind} on {host}" for host, kind, _ in told) + f" for {len(told)} processes",
            "a GPU of its own for each, or none", "start fewer processes, or try --set train_device=cpu",
        )  # fmt: skip
    if found.type == "cuda":
        torch.cuda.set_device(found)
    return found


def started(settings: TrainSettings, mixture: dict[str, Any], n_times: int) -> PropensityModel:
    """The learner for these data, with fresh weights.

    Args:
        settings: With its name, inputs and hyperparameters. Where these do not say how long to pretrain a learner
            that can be, it is a tenth of the steps.
        mixture: :meth:`glassmd.mixtures.Mixture.identity` of the data.
        n_times: Output times.

    Raises:
        ModelError: There is no such learner, or it does not know a hyperparameter.
        SettingsError: Message-passing steps for a learner that has none.
    """
    chosen = dict(settings.hyperparameters)
    if settings.message_steps is not None:
        if "n_steps" not in inspect.signature(model_class(settings.model)).parameters:
            raise SettingsError(
                f"found message_steps = {settings.message_steps} for model {settings.model}",
                "a learner with message-passing steps to choose",
                "leave it out, or try --model bapst",
            )
        chosen["n_steps"] = settings.message_steps
    if "pretrain_steps" in inspect.signature(model_class(settings.model)).parameters:
        # so that a short training is not all pretraining
        chosen.setdefault("pretrain_steps", resolved(settings).max_steps // PRETRAINED)
    given = {
        "n_times": n_times,
        "n_species": len(mixture["species"]),
        "dimensions": int(mixture["dimensions"]),
        "inputs": settings.input,
    }
    twice = sorted(set(chosen) & set(given))
    if twice:
        raise SettingsError(
            f"found hyperparameter {twice[0]!r}", "one that the data leave open", "choose inputs with --input"
        )
    return make_model(settings.model, **given, **chosen)
