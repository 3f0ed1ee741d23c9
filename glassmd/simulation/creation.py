"""Making a run: here, in a process of its own, or with what a machine of a cluster measures for it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from glassmd.engines.base import Engine
from glassmd.errors import EngineError, GlassmdError, RunError
from glassmd.interrupt import StopRequest
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.settings import RunSettings, continued
from glassmd.simulation.apart import start_process, tell, told
from glassmd.simulation.batch import settings_of
from glassmd.simulation.cluster.host import Cluster
from glassmd.simulation.conservation import require_conserved
from glassmd.simulation.given import Given, all_given_are_committed, commit_given, inspect_given, settled
from glassmd.simulation.inspection import Inspected
from glassmd.simulation.preparation import engine_of, prepare

__all__ = ["Measured", "as_made", "fitting_engine", "going_on", "made_with", "make_run", "make_run_apart", "measured"]

_LOOK = 0.05  # seconds


def made_with(out: Path | None) -> RunSettings | None:
    """The settings that the run in `out` was made with; None where there is no run yet.

    Raises:
        RunError: It holds imported data, or is damaged.
    """
    if out is None or not (out / "run.json").exists():
        return None
    return settings_of(RunDirectory.open(out))


def as_made(settings: RunSettings, out: Path) -> RunSettings:
    """The settings, with what nobody said now as the run in `out` was made, where there is one.

    Raises:
        RunError: It holds imported data, or others were given to start from.
    """
    known = made_with(out)
    if known is None:
        return settings
    said = settings.model_dump(include=settings.model_fields_set)
    if "start" in said and said["start"] != known.start:  # before anything is read that is not needed
        raise RunError(
            f"{out} was made with start = {known.start}", f"{said['start']} as asked for now", "choose another --out"
        )
    return continued(known, said)


def going_on(settings: RunSettings, out: Path) -> tuple[RunDirectory | None, RunSettings, list[list[Given]]]:
    """The run in `out`, if there is one, its settings from now on, and the configurations that are given to it."""
    settings = as_made(settings, out)
    there = RunDirectory.open(out) if (out / "run.json").exists() else None
    # What is committed already need not be read again.
    read = there is None or not settings.start or not all_given_are_committed(there, settings)
    return there, *settled(settings, None if read else settings)


class Measured(NamedTuple):
    """What an engine tells of a run before it is made.

    Attributes:
        engine: Name of the engine.
        device: It computes on.
        inspected: Of given configurations; see :func:`glassmd.simulation.given.inspect_given`.
        prepared: What the engine chose for itself, JSON types only.
        chosen: Settings that follow from the engine.
    """

    engine: str
    device: str
    inspected: Mapping[ParentKey, Inspected]
    prepared: dict[str, Any]
    chosen: dict[str, Any]


Measure = Callable[[RunSettings, Sequence[Sequence[Given]], bool, Callable[[], None] | None], Measured]


def measured(
    settings: RunSettings,
    given: Sequence[Sequence[Given]],
    new: bool,
    check: Callable[[], None] | None = None,
) -> Measured:
    """Have the engine of this machine look at a run.

    Args:
        settings: Of the run.
        given: Configurations that it starts from.
        new: Whether the run is not there yet.
        check: As for :func:`make_run`.

    Raises:
        EngineError: No engine for it is installed, or the box is too small.
        InputError: The given configurations are another liquid.
        SettingsError: The potential conserves no energy at this time step.
    """
    engine = fitting_engine(settings)
    inspected = inspect_given(given, settings, engine, check)
    prepared, chosen = {}, {}
    if new:
        require_conserved(engine, settings, check)
        prepared = prepare(engine, settings, check)
        if settings.block is None:
            most = max(settings.n_replicas(lineage) for lineage in range(settings.lineages))
            block = engine.preferred_block(settings.particles, most, settings.steps()[-1])
            chosen = {"block": min(block, most)}
    return Measured(engine.name, engine.device, inspected, prepared, chosen)


def make_run(
    settings: RunSettings, out: Path, check: Callable[[], None] | None = None, measure: Measure = measured
) -> RunDirectory:
    """Make the run directory of `settings`, or open the one that is there.

    Args:
        settings: What was asked for. Of a run that is there, what was not set explicitly is as the run was made.
        out: Run directory.
        check: Called while something is measured for a new run; what it raises ends it, nothing made.
        measure: Looks at the run with an engine, here or on another machine.

    Raises:
        EngineError: No engine for it is installed.
        InputError: Given configurations cannot be read, or are another liquid.
        RunError: `out` holds a run made with other settings.
        SettingsError: The potential of a mixture of one's own conserves no energy at this time step.
    """
    there, settings, given = going_on(settings, out)
    found = measure(settings, given, there is None, check)
    run = RunDirectory.create(
        out,
        settings.liquid(),
        temperature=settings.temperature,
        times=settings.times,
        n_particles=settings.particles,
        density=settings.number_density(),
        settings=settings,
        chosen=found.chosen,
    )
    if found.prepared:
        run.record_prepared(found.engine, found.device, found.prepared)
    commit_given(run, settings, given, found.inspected)
    return run


def fitting_engine(settings: RunSettings) -> Engine:
    """The engine of the settings, after it has said that the box suits it."""
    engine, mixture = engine_of(settings), settings.liquid()
    engine.check_box((settings.particles / settings.number_density()) ** (1 / mixture.dimensions), mixture)
    return engine


def make_run_apart(
    settings: RunSettings, out: Path, check: Callable[[], None], cluster: Cluster | None = None
) -> RunDirectory:
    """:func:`make_run` in a process of its own: the one that asks opens no engine, on no GPU.

    Args:
        settings: As for :func:`make_run`.
        out: Run directory.
        check: Called while the other process is at work.
        cluster: Whose machines have the engine.

    Raises:
        GlassmdError: What the other process raised, and what `check` does.
    """
    asked = [str(out), settings.model_dump_json(exclude_unset=True), "--parent", str(os.getpid())]
    if cluster is not None:
        asked += ["--cluster", cluster.address]
    process, report = start_process([__name__, *asked], None, None if cluster is None else cluster.environment)
    try:
        while process.poll() is None:
            check()
            time.sleep(_LOOK)
    finally:
        process.terminate()
        process.wait()
    error = told(report)
    if process.returncode != 0:
        raise error or EngineError(
            f"the process that looks at the engine ended with code {process.returncode}", "0", "try glassmd doctor"
        )
    return RunDirectory.open(out)


def _measured_there(
    address: str,
    settings: RunSettings,
    given: Sequence[Sequence[Given]],
    new: bool,
    check: Callable[[], None] | None = None,
) -> Measured:
    """:func:`measured` on a machine of a cluster, where there is anything to measure."""
    if not new and not given:
        return Measured("", "", {}, {}, {})
    from glassmd.simulation.cluster.errand import called_on  # needs Ray

    alone = settings.model_copy(update={"cluster": None})
    asked = "an engine looks at the run", ("glassmd.simulation.creation", "measured")
    return Measured(*called_on(address, settings, *asked, alone, given, new, check=check or (lambda: None)))


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.simulation.creation RUN SETTINGS`, as :func:`make_run_apart` starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("settings", help="JSON of what was asked for")
    parser.add_argument("--parent", type=int, default=None, help="make nothing when this process has ended")
    parser.add_argument("--cluster", default=None, help="address of the Ray cluster whose machines have the engine")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended")
    options = parser.parse_args(arguments)
    settings = RunSettings.model_validate_json(options.settings)
    check = StopRequest(parent_process=options.parent).check
    try:
        address = options.cluster
        make_run(settings, options.run, check, measured if address is None else partial(_measured_there, address))
    except GlassmdError as error:
        return tell(options.report, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
