"""One call on a machine of a Ray cluster that has what a worker needs: the one where it is asked for may have less."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import ray

from glassmd.settings import RunSettings
from glassmd.simulation.cluster.calls import Losses, LostError, answer
from glassmd.simulation.cluster.connection import connected
from glassmd.simulation.cluster.simulator import who_is_there
from glassmd.simulation.cluster.workers import needs_of, same_release

__all__ = ["called_on"]

_LOOK = 0.2  # seconds between two looks for the answer


class _Errand:
    """Made an actor, so that it can say where it is before it begins."""

    def hello(self) -> dict[str, Any]:
        """See :func:`glassmd.simulation.cluster.simulator.who_is_there`."""
        return who_is_there()

    def call(self, module: str, name: str, arguments: tuple[object, ...]) -> object:
        """Call a function of a module."""
        return getattr(import_module(module), name)(*arguments)


def called_on(
    address: str,
    settings: RunSettings,
    what: str,
    function: tuple[str, str],
    *arguments: object,
    check: Callable[[], None],
) -> Any:
    """What a function returns where a worker would be at work; asked again where a machine is lost.

    Args:
        address: Of the cluster.
        settings: They say what a worker needs.
        what: It does, as Ray's dashboard names it.
        function: Its module and its name.
        arguments: Of the function.
        check: Called several times a second; what it raises ends it.

    Raises:
        EngineError: The cluster does not answer, has no such machine, or loses one after the other.
        GlassmdError: What the function raises.
        RunError: The machine has another release of glassmd.
    """
    with connected(address):
        cpus, gpus = needs_of(settings)
        remote: Any = ray.remote
        kind, losses = remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Errand), Losses("workers")

        def wait_for(reference: Any, host: str = "") -> Any:
            while not ray.wait([reference], timeout=_LOOK)[0]:
                losses.look()
                check()
            return answer(reference, host)

        while True:
            actor, nodes = kind.remote(), []
            try:
                told = wait_for(actor.hello.options(name="a worker starts").remote())
                same_release(told)
                nodes = [told["node"]]
                return wait_for(actor.call.options(name=what).remote(*function, arguments), told["host"])
            except LostError as error:
                losses.add([what], nodes, str(error))
                losses.look()
                time.sleep(_LOOK)
            finally:
                ray.kill(actor)
