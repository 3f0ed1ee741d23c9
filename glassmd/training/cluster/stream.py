"""`train --stream --cluster`: simulations and training side by side, both on machines of a Ray cluster."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from glassmd.errors import Interrupted, SettingsError
from glassmd.interrupt import StopRequest
from glassmd.processes import Processes, processes_asked
from glassmd.settings import Settings, TrainSettings
from glassmd.simulation.batch import settings_of
from glassmd.simulation.cluster.connection import check_address
from glassmd.simulation.cluster.host import hosted
from glassmd.simulation.creation import as_made, make_run_apart
from glassmd.simulation.pool import Pool
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import open_run
from glassmd.training.acquisition import check_acquisition
from glassmd.training.beside import Beside, Show
from glassmd.training.checkpoints import latest_step
from glassmd.training.cluster.start import ClusterTraining
from glassmd.training.preparation import (
    begun_with,
    choose_times,
    refuse_run,
    require_known_unit,
    require_positions,
    structures_of,
)

__all__ = ["train_on_cluster"]

_LOOK = 0.2  # seconds between two looks at the trainers


def _require_known_everywhere(train: TrainSettings) -> None:
    """Refuse to begin with a model that other machines do not have."""
    if train.from_model is not None and Path(train.from_model).exists():
        raise SettingsError(
            f"found --from {train.from_model} with --cluster",
            "a model that comes with glassmd, which every machine has",
            "see glassmd models, or train without --cluster",
        )


def train_on_cluster(
    settings: Settings, address: str, out: Path, run_directory: Path | None, stop: StopRequest | None, show: Show | None
) -> dict[str, Any]:
    """:func:`train_stream` where both sides are at work on a Ray cluster; the trainers get their machines first."""
    check_address(address)
    refuse_run(out)
    if processes_asked() > 1:
        raise SettingsError(
            f"found --cluster in one of {processes_asked()} processes", "one, which has others train",
            f"start it without torchrun, with --set processes={processes_asked()}",
        )  # fmt: skip
    _require_known_everywhere(settings.train)
    check_acquisition(settings.train, follow=True)
    stop = stop or StopRequest(walltime=settings.run.walltime)
    place = run_directory or out / "run"
    require_known_unit(settings.train, place)
    settings = settings.model_copy(update={"run": as_made(settings.run, place)})
    require_positions(settings)
    with ExitStack() as stack:
        cores = max(available_cores(), settings.train.processes + 1)  # trainers take theirs first
        cluster = stack.enter_context(hosted(address, cores))
        run = open_run(make_run_apart(settings.run, place, stop.check, cluster).path, settings.train.target)
        choose_times([run], settings.train, out, Processes())  # by which cages are asked for
        began, _ = begun_with(settings, [run])
        structures_of([run], began).ask()
        own = settings.run.model_copy(update={"seed": settings_of(run).seed})
        told = settings.model_copy(update={"run": own})
        before = latest_step(out)
        training = stack.enter_context(ClusterTraining(cluster, [run.path], out, told, follow=True))
        training.wait_until_placed(stop)
        pool = stack.enter_context(Pool(run, settings.run, cluster=cluster))
        beside = Beside(pool, show)
        beside.steps_before = before
        while training.poll():
            stop.check()
            beside.watch(training.progress())
            time.sleep(_LOOK)
        beside.wait(training.progress(), stop.check)
        if show is not None:
            show(training.progress(), pool.progress())
        facts, result = beside.facts(), training.result()
    if not run.complete:
        raise Interrupted("the simulation stopped before its end", "", "run again to continue")
    return {**result, "seconds": beside.seconds(), "run": str(run.path), **facts}
