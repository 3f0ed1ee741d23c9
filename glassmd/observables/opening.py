"""`analyze`: whatever data somebody has of a liquid, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from glassmd.errors import InputError, SettingsError
from glassmd.mixtures import Mixture
from glassmd.observables.measure import measure
from glassmd.observables.result import Observables
from glassmd.observables.runs import OfRuns
from glassmd.observables.trajectories import OfTrajectories
from glassmd.show import Counted, shown
from glassmd.stream.dataset import open_run
from glassmd.trajectory.trajectory import open_trajectory

__all__ = ["analyze"]


def _told(show: Callable[..., None] | None) -> Callable[[int, int], None]:
    started: list[float] = []

    def told(done: int, total: int) -> None:
        now = time.monotonic()
        started[:] = started or [now]
        if show is not None:
            show(Counted(done, total, now - started[0]))

    return told


def analyze(
    data: Sequence[Path | str] | Path | str,
    *,
    mixture: Mixture | None = None,
    types: Mapping[str, str] | None = None,
    temperature: float | None = None,
    time_step: float | None = None,
    wave_numbers: Mapping[str, float] | None = None,
    show: Callable[[Counted], None] | bool | None = None,
) -> Observables:
    """Measure what a liquid does: energies, structure, dynamics, order.

    Args:
        data: Run directories, or trajectories (GSD, LAMMPS dump or data, extended XYZ), of one liquid.
        mixture: What trajectories hold that do not say it themselves; without it energy and pressure are unknown.
        types: Species by the name of a type of the files, such as `{"1": "A", "2": "B"}`.
        temperature: ε_AA; by default what the files say, or that of their velocities.
        time_step: Of one step of the files, √(mσ²/ε); by default the files' own times, else times are in steps.
        wave_numbers: q of F_s by species, 1/σ_AA; by default the mixture's, else where S_aa(q) is largest.
        show: Called with how far it is; True shows it on standard error, None in a notebook only, False nowhere.

    Raises:
        InputError: Data that cannot be read, or do not belong together.

    Example:
        ::

            found = glassmd.analyze("liquid.gsd", mixture=glassmd.get_mixture("kob-andersen"), time_step=0.005)
            print(found.tau_alpha["A"], found.diffusion["A"])
    """
    paths = [Path(data)] if isinstance(data, Path | str) else [Path(one) for one in data]
    if not paths:
        raise InputError("found no data", "run directories or trajectories", "try glassmd analyze RUN")
    if temperature is not None and not temperature > 0:
        raise SettingsError(f"found temperature {temperature}", "a temperature above 0")
    told = _told(shown(show))
    folders = [path for path in paths if path.is_dir()]
    if folders and len(folders) < len(paths):
        raise InputError("found runs and trajectories together", "the one or the other", "analyze them apart")
    if folders:
        said = {"mixture": mixture, "types": types, "temperature": temperature, "time_step": time_step}
        for name, value in said.items():
            if value is not None:
                raise SettingsError(
                    f"found a {name} for a run",
                    "none: a run says its own",
                    f"leave --{name.replace(chr(95), chr(45))} out",
                )
        return measure(OfRuns([open_run(path) for path in paths]), told, dict(wave_numbers or {}))
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_trajectory(path, mixture=mixture, types=types, time_step=time_step))
            for path in paths
        ]
        return measure(OfTrajectories(opened, temperature), told, dict(wave_numbers or {}))
