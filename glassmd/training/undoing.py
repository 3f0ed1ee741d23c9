"""An optimiser step that takes too long for a stop to wait for it is one that has not begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.learners.base import PropensityModel
from glassmd.stream.reservoir import Reservoir
from glassmd.training.checkpoints import random_tensors, restore_random

__all__ = ["undone_if_stopped"]


@contextmanager
def undone_if_stopped(
    model: PropensityModel,
    reservoir: Reservoir,
    generator: np.random.Generator,
    device: torch.device,
    stop: StopRequest,
) -> Iterator[None]:
    """What is drawn and counted in the block is as it was before, where the block is stopped at once.

    The weights must not change in it: a checkpoint then is that before the step.

    Raises:
        Interrupted: It was stopped by a signal that `stop` listens to.
    """
    drawn, state, random = reservoir.state(), generator.bit_generator.state, random_tensors(device)
    buffers = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except StoppedAtOnce:
        reservoir.restore(drawn, {sample.key: sample for sample in reservoir.samples})
        generator.bit_generator.state = state
        restore_random(random, device)
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        stop.check()
        raise
