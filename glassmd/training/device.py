"""Where a training computes: on a GPU through CUDA, or on the CPU."""

from __future__ import annotations

import torch

from glassmd.errors import SettingsError
from glassmd.learners import model_class
from glassmd.settings import TrainSettings

__all__ = ["training_device"]


def training_device(settings: TrainSettings) -> torch.device:
    """The device that optimiser steps are taken on.

    A learner that is solved stays on the CPU, whatever is asked for: its sums are in double precision there.

    Raises:
        ModelError: There is no such learner.
        SettingsError: CUDA is asked for, and torch has no such device.

    Example:
        >>> training_device(TrainSettings(model="bapst", train_device="cpu"))
        device(type='cpu')
    """
    found = torch.cuda.is_available()
    if settings.train_device == "cuda" and not found:
        raise SettingsError(
            "found train_device = cuda, and no CUDA device that torch can use",
            "one, and a torch that was built for it",
            "leave train_device out, or --set train_device=cpu",
        )
    wanted = found and settings.train_device != "cpu" and model_class(settings.model).stepped
    return torch.device("cuda" if wanted else "cpu")
