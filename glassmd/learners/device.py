"""Where a learner computes, on a GPU through CUDA or on the CPU, and how precisely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from glassmd.errors import SettingsError
from glassmd.learners.base import PropensityModel

__all__ = ["in_single_precision", "torch_device"]


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


def in_single_precision(compute: Callable[..., Any], *arguments: Any) -> Any:
    """Call what mixes no precisions; under torch's autocast its tensors become single ones, and it is left alone."""
    kind = next(of.device.type for of in arguments if isinstance(of, Tensor))
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return compute(*arguments)
    with torch.autocast(kind, enabled=False):
        narrow = torch.float16, torch.bfloat16
        return compute(*(of.float() if isinstance(of, Tensor) and of.dtype in narrow else of for of in arguments))
