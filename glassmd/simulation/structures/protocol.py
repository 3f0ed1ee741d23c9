"""How cage positions are measured, and for how long in which liquid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.errors import RunError, SettingsError, StorageError
from glassmd.ledger.run import RunDirectory
from glassmd.storage import check_seal, read_json, sealed, write_json

__all__ = ["CageProtocol", "cage_step", "inside_cages", "is_published", "protocol_of"]

_REPLICAS = 32
_LONGEST = 5.0  # √(mσ²/ε): within the plateau of F_s at T = 0.44, where τ_α is 4100
_OF_TAU_ALPHA = 0.1  # by then one particle in ten has left its cage at the most
_SNAPSHOTS = 50
OF_SHORTEST = 0.1
"""Of an output time, the longest cage that it may be predicted from: a longer one measures what it should predict."""

_FEWEST = 10  # steps: hotter liquids have no cages, and a mean of fewer snapshots says nothing
_LEFT_OUT = 0.2  # of the time: the replicas forget where they all started
_STEP = 0.01  # √(mσ²/ε): twice the default of a run, for a mean over snapshots asks less of a trajectory


@dataclass(frozen=True)
class CageProtocol:
    """Short replicas whose positions are averaged: the cage of every particle.

    The mean position over a few replicas, before anything rearranges, after R. M. Alkemade, F. Smallenburg and
    L. Filion, J. Chem. Phys. 158, 134512 (2023), who confine every particle to its cage; short replicas do without
    that. Many replicas tell more than long ones, for soft vibrations hardly decay in a single one (docs/assessment.md).
    The step is twice that of a run whose trajectories are labels.

    Attributes:
        replicas: Started from the parent with independent momenta.
        time: Length of a replica, √(mσ²/ε).
        after: Snapshots up to this time are left out of the mean, √(mσ²/ε).
        spacing: Between two snapshots, √(mσ²/ε).
        time_step: √(mσ²/ε).

    Raises:
        SettingsError: Numbers that leave no snapshot, or a spacing that is not a whole number of steps.

    Example:
        >>> CageProtocol().steps[:3], len(CageProtocol().steps), CageProtocol().replica_steps
        ((10, 20, 30), 50, 16000)
    """

    replicas: int = _REPLICAS
    time: float = _LONGEST
    after: float = 1.0
    spacing: float = 0.1
    time_step: float = _STEP

    def __post_init__(self) -> None:
        numbers = (self.time, self.after, self.spacing, self.time_step)
        if self.replicas < 1 or not np.all(np.isfinite(numbers)) or min(self.spacing, self.time_step) <= 0:
            raise SettingsError(
                f"found a cage protocol of {self.replicas} replicas, spacing {self.spacing}, step {self.time_step}",
                "at least one replica, and a spacing and a time step above 0",
            )
        interval = self.spacing / self.time_step
        if round(interval) < 1 or abs(interval - round(interval)) > 1e-6 * interval:
            raise SettingsError(
                f"found cage snapshots every {self.spacing:g}, which is not a multiple of the step {self.time_step:g}",
                f"for example {max(1, round(interval)) * self.time_step:g}",
            )
        if not 0 <= self.after < self.time or self.n_snapshots - self.n_left_out < 2:
            raise SettingsError(
                f"found cage replicas of length {self.time:g} with snapshots every {self.spacing:g} after "
                f"{self.after:g}",
                "at least two snapshots after that time",
            )

    @property
    def interval(self) -> int:
        """Steps between two snapshots."""
        return round(self.spacing / self.time_step)

    @property
    def n_snapshots(self) -> int:
        """Of each replica, those that are left out included."""
        return int(self.time / self.spacing * (1 + 1e-9))

    @property
    def n_left_out(self) -> int:
        """Snapshots that no mean includes."""
        return int(self.after / self.spacing * (1 + 1e-9))

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the snapshots."""
        return tuple(self.interval * (k + 1) for k in range(self.n_snapshots))

    @property
    def replica_steps(self) -> int:
        """Steps of single systems that one parent takes."""
        return self.replicas * self.steps[-1]

    def is_inside(self, time: float) -> bool:
        """Whether the cage lasts longer than a tenth of an output time, and so measures part of what is predicted."""
        return self.time > OF_SHORTEST * time * (1 + 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CageProtocol:
        """What :meth:`to_dict` gave.

        Raises:
            SettingsError: It is something else.
        """
        try:
            return cls(**stored)
        except TypeError as error:
            raise SettingsError(f"found a cage protocol of {', '.join(stored)}", ", ".join(asdict(cls()))) from error

    @classmethod
    def for_state(
        cls, tau_alpha: float | None = None, run_step: float | None = None, shortest: float | None = None
    ) -> CageProtocol:
        """The protocol for a liquid: a tenth of its relaxation time and of the shortest output time, and 5 at the most.

        Where that leaves fewer than ten steps it is ten steps, and scores at the times that are too short for it are
        marked (:meth:`is_inside`).

        Args:
            tau_alpha: √(mσ²/ε); None where it is not known, which is taken for long.
            run_step: √(mσ²/ε), of the run's own trajectories; None where it is not known. The cage takes that of
                :func:`cage_step`, and the run's own where so many steps would be too few.
            shortest: √(mσ²/ε), the shortest time that is to be predicted; None where nobody says.

        Example:
            >>> CageProtocol.for_state(16.0)
            CageProtocol(replicas=32, time=1.6, after=0.32, spacing=0.03, time_step=0.01)
            >>> CageProtocol.for_state(16.0, shortest=4.0).time
            0.4
        """
        time_step = cage_step(run_step)
        time = _LONGEST if tau_alpha is None else min(_LONGEST, _OF_TAU_ALPHA * tau_alpha)
        time = time if shortest is None else min(time, OF_SHORTEST * shortest)
        if time < _FEWEST * time_step:
            time_step = _STEP / 2 if run_step is None else run_step
        steps = max(_FEWEST, round(time / time_step))
        interval = max(1, steps // _SNAPSHOTS)
        time = round(steps * time_step, 12)
        return cls(
            time=time,
            after=round(_LEFT_OUT * time, 12),
            spacing=round(interval * time_step, 12),
            time_step=time_step,
        )


def inside_cages(
    protocols: Mapping[str, Mapping[str, Any]], times: Sequence[float], units: Mapping[str, float] | None = None
) -> list[bool]:
    """Per time: whether any of the protocols measures part of what is predicted there.

    Args:
        protocols: As numbers, by temperature; of those that were published with the data nobody knows.
        times: In the unit of that temperature.
        units: By temperature, √(mσ²/ε); 1 where they do not say.
    """
    known = [
        (CageProtocol.from_dict(stored), (units or {}).get(name, 1.0))
        for name, stored in protocols.items()
        if not is_published(stored)
    ]
    return [any(protocol.is_inside(time * unit) for protocol, unit in known) for time in times]


def is_published(stored: Mapping[str, Any]) -> bool:
    """Whether a model was trained on cages that came with its data, and stands for no protocol."""
    return bool(stored.get("published", False))


def cage_step(run_step: float | None) -> float:
    """Time step of cage replicas beside a run with steps of `run_step`, √(mσ²/ε).

    Example:
        >>> cage_step(None), cage_step(0.005), cage_step(0.001), cage_step(0.02)
        (0.01, 0.01, 0.002, 0.02)
    """
    return _STEP if run_step is None else max(run_step, min(2 * run_step, _STEP))


def protocol_of(run: RunDirectory, shortest: float | None = None) -> CageProtocol | None:
    """The cage protocol of a run, the same for all its parents and for ever; None while there is no parent to tell.

    A simulated run knows its relaxation time from the equilibration of its lineages: that of the first one that is
    committed counts, and whoever asks first writes down what follows from it.

    Args:
        run: Whose.
        shortest: √(mσ²/ε), the shortest time that is to be predicted; the run's first by default.

    Raises:
        RunError: What was written down is damaged.
    """
    own = run.home / "requests" / ("protocol.json" if shortest is None else f"protocol-from-{shortest:g}.json")
    before = [] if shortest is not None else [run.path / "inputs" / "protocol.json"]
    for path in (own, *before):
        if path.exists():
            return _written(path, run)
    found = run.entries("parents")
    if not found:
        return None
    times = [entry.sidecar.get("equilibration", {}).get("tau_alpha") for entry in found]
    known = [float(time) for time in times if time is not None]
    settings = run.settings
    protocol = CageProtocol.for_state(
        known[0] if known else None,
        None if settings is None else settings.time_step,
        min(run.times) if shortest is None else shortest,
    )
    try:
        content = sealed({**protocol.to_dict(), "run": run.identity["id"]})
        written = write_json(own, content, exclusive=True)
    except StorageError:  # it may only be read: the same follows every time
        return protocol
    return protocol if written else _written(own, run)


def _written(path: Path, run: RunDirectory) -> CageProtocol:
    """A protocol that was written down; runs of earlier releases have it in another place, without a checksum."""
    content = read_json(path)
    if path.parent.name == "requests":
        check_seal(path, content)
        if content.pop("run") != run.identity["id"]:
            raise RunError(f"{path} is of another run", "a protocol of this one", f"delete {path}")
        del content["checksum"]
    return CageProtocol.from_dict(content)
