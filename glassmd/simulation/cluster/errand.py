"""One call on a machine of a Ray cluster that has what a worker needs: the one where it is asked for may have less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import ray

from glassmd.settings import RunSettings
from glassmd.simulation.cluster.calls import Losses, LostError, answer
from glassmd.simulation.cluster.connection import connected
from glassmd.simulation.cluster.workers import needs_of

__all__ = ["called_on"]

_LOOK = 0.2  # seconds between two looks for the answer

_Found = TypeVar("_Found")


def called_on(
    address: str, settings: RunSettings, what: str, function: Callable[..., _Found], *arguments: object
) -> _Found:
    """What a function returns where a worker would be at work; asked again where a machine is lost.

    Args:
        address: Of the cluster.
        settings: They say what a worker needs.
        what: It does, as Ray's dashboard names it.
        function: Of a module of glassmd.
        arguments: Of the function.

    Raises:
        EngineError: The cluster does not answer, has no such machine, or loses one after the other.
        GlassmdError: What the function raises.
    """
    with connected(address):
        cpus, gpus = needs_of(settings)
        remote: Any = ray.remote
        task = remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(function).options(name=what)
        losses = Losses("workers")
        while True:
            asked = task.remote(*arguments)
            while not ray.wait([asked], timeout=_LOOK)[0]:
                losses.look()
            try:
                found: _Found = answer(asked)
            except LostError as error:
                losses.add([what], [], str(error))
            else:
                return found
