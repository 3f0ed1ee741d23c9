"""Where a learner computes: on a GPU through CUDA, or on the CPU."""

from __future__ import annotations

from typing import Literal

import torch

from glassmd.errors import SettingsError
from glassmd.learners.base import PropensityModel

__all__ = ["torch_device"]


def torch_device(
    asked: Literal["auto", "cpu", "gpu", "cuda"], learner: PropensityModel | type[PropensityModel]
) -> torch.device:
    """The device that a learner computes on.

    One that is solved stays on the CPU, whatever is asked for: its sums are in double precision there.

    Args:
        asked: `cpu`, `gpu` (or `cuda`, as torch says), or `auto`, which takes a GPU where torch finds one.
        learner: What computes.

    Raises:
        SettingsError: A GPU is asked for, and torch can use none.

    Example:
        >>> from glassmd.learners import model_class
        >>> torch_device("cpu", model_class("bapst"))
        device(type='cpu')
    """
    found = torch.cuda.is_available()
    if asked in ("gpu", "cuda") and not found:
        raise SettingsError(
            f"found device {asked}, and no CUDA device that torch can use",
            "one, and a torch that was built for it",
            "try --device cpu, for a training --set train_device=cpu",
        )
    return torch.device("cuda" if found and asked != "cpu" and learner.stepped else "cpu")
