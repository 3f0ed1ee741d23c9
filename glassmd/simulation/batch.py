"""What pieces of work have in common that are done together, each committed on its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from glassmd.configuration import Configuration
from glassmd.errors import EquilibrationError, RunError
from glassmd.fields import GSD_IDENTITY
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey, StructureKey
from glassmd.settings import RunSettings
from glassmd.trajectory import Frame, encode_identity

__all__ = ["Check", "Outcome", "SharedTime", "frame_of", "settings_of"]

Check = Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work.

    Attributes:
        key: What was to be made.
        steps: Steps of single systems that it took.
        refused: Why it was not made; None where it is committed.
    """

    key: ParentKey | StructureKey | SegmentKey
    steps: int
    refused: EquilibrationError | None = None


class SharedTime:
    """The wall time of a simulation of several systems, shared out as they are finished.

    Whoever is finished takes the time since the start that nobody has taken yet, in proportion to its systems among
    those still there. So all shares together are the time that passed.

    Args:
        systems: In the simulation.
    """

    def __init__(self, systems: int) -> None:
        self._systems, self._given = systems, time.monotonic()

    def take(self, systems: int) -> float:
        """Seconds of `systems` that leave the simulation now."""
        share = (time.monotonic() - self._given) * systems / self._systems
        self._systems -= systems
        self._given += share
        return share


def settings_of(run: RunDirectory) -> RunSettings:
    """The settings of a simulated run.

    Raises:
        RunError: It holds imported data.
    """
    settings = run.settings
    if settings is None:
        raise RunError(
            f"{run.path} holds imported data ({run.identity['origin']})",
            "a simulated run",
            "choose another --out",
        )
    return settings


def frame_of(configuration: Configuration, run: RunDirectory) -> Frame:
    """A parent as it is committed: without velocities, with what it is a liquid of."""
    identity = {"mixture": run.identity["mixture"], "temperature": run.identity["temperature"]}
    return Frame(configuration.with_velocities(None), 0, {GSD_IDENTITY: encode_identity(identity)})
