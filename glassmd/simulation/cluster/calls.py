"""Calls to other machines of a Ray cluster: what came of them, and what is at fault where nothing did."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from importlib.metadata import version
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError

from glassmd.errors import FULL, DeviceLostError, EngineError, GlassmdError, RunError, StorageError, raised_elsewhere

__all__ = ["LostError", "Losses", "answer", "lives"]

_LOST = 4
"""Times that processes may be lost over the same work, on machines that live on, before that is an error."""

_MISSED = 45.0  # seconds after which the cluster knows that a machine is gone


class LostError(Exception):
    """The process or the machine that was called is gone."""


def answer(reference: Any, host: str = "", timeout: float | None = None) -> Any:
    """What a call came to.

    Args:
        reference: The call, or several.
        host: Name of the machine, for people.
        timeout: Seconds that it may take.

    Raises:
        GlassmdError: What was raised there.
        LostError: Nobody is there any more, or a GPU there has failed.
    """
    try:
        return ray.get(reference, timeout=timeout)
    except RayTaskError as error:
        found = _raised_there(error, host)
        if isinstance(found, DeviceLostError):
            raise LostError(str(found)) from error
        raise found from error
    except RayError as error:
        if "ModuleNotFoundError" in str(error):
            raise _unknown_there() from error
        raise LostError(str(error).splitlines()[0]) from error


def _raised_there(error: RayTaskError, host: str) -> GlassmdError:
    where, cause = f" (on {host or 'a machine of the cluster'})", error.cause
    if isinstance(cause, GlassmdError):
        return raised_elsewhere({**cause.to_dict(), "found": cause.found + where})
    if isinstance(cause, OSError) and cause.errno in FULL:
        return StorageError(f"found {cause}{where}", "a file that can be written there", "see to that machine's disk")
    if "ModuleNotFoundError" in str(error) and "glassmd" in str(error):
        return _unknown_there()
    return EngineError(f"found {type(cause).__name__}: {cause}{where}", "none", "see the logs of the Ray cluster")


def _unknown_there() -> RunError:
    """A machine that cannot load the module that a call's class lives in."""
    return RunError(
        "found a machine of the cluster without glassmd, or with another release of it",
        f"glassmd {version('glassmd')}, as here",
        "install the same release on every machine",
    )


def lives(node: str) -> bool:
    """Whether a machine is part of the cluster, as far as the cluster knows: it takes seconds to miss one."""
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


class _Loss(NamedTuple):
    when: float
    nodes: Collection[str]
    work: Collection[str]
    why: str


class Losses:
    """Processes that are gone. A machine may go; what ends one after another on machines that live on is at fault.

    Args:
        who: They are, such as `workers`.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._open: list[_Loss] = []
        self._counted: Counter[str] = Counter()

    def add(self, work: Collection[str], nodes: Collection[str], why: str) -> None:
        """Some are gone.

        Args:
            work: Names of what they were doing.
            nodes: Machines that they were on, as far as that is known.
            why: As Ray says it.
        """
        self._open.append(_Loss(time.monotonic(), nodes, work, why))

    def done(self, work: Iterable[str]) -> None:
        """Somebody got on with it: what was lost over it does not count any more."""
        names = set(work)
        for name in names:
            del self._counted[name]
        self._open = [loss._replace(work=[name for name in loss.work if name not in names]) for loss in self._open]

    def look(self) -> None:
        """See which machines are gone.

        Raises:
            EngineError: Too many ended over the same work, and machines were not the reason.
        """
        for loss in [one for one in self._open if time.monotonic() - one.when > _MISSED]:
            self._open.remove(loss)
            if loss.nodes and not all(lives(node) for node in loss.nodes):
                continue
            self._counted.update(loss.work)
            worst = max(loss.work, key=self._counted.__getitem__, default="")
            if self._counted[worst] >= _LOST:
                raise EngineError(
                    f"{self._who} ended {_LOST} times without a word over {worst}: {loss.why}",
                    "them to finish it",
                    "see the logs of the Ray cluster",
                )
