"""`train`: offline on what is there, or beside the simulations that generate it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from glassmd.errors import Interrupted, RunError
from glassmd.importers.trajectories import FrameChoice
from glassmd.interrupt import StopRequest
from glassmd.processes import Processes, started
from glassmd.settings import RunSettings, Settings
from glassmd.show import shown
from glassmd.simulation.batch import settings_of
from glassmd.simulation.creation import as_made, make_run_apart
from glassmd.simulation.pool import Pool
from glassmd.simulation.preparation import available_cores, default_workers
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import SampleKey
from glassmd.target import Target, quantity
from glassmd.training.acquisition import check_acquisition
from glassmd.training.beside import Beside, Show
from glassmd.training.choices import resolved, training_device
from glassmd.training.cluster.stream import train_on_cluster
from glassmd.training.encoding import Encodings
from glassmd.training.frames import Following, split_data, take_in
from glassmd.training.loop import Trainer
from glassmd.training.preparation import (
    begun_with,
    choose_times,
    inputs_of,
    refuse_run,
    require_known_unit,
    require_positions,
    structures_of,
)
from glassmd.training.progress import TrainingProgress
from glassmd.training.source import SampleSource

__all__ = ["Show", "train", "train_stream"]

_NICE = 10
"""How far the trainer goes before those who simulate: beside two of them on two cores it then has one of its own."""

_PATIENCE = 60.0  # seconds after which what one machine has written is seen by another, or will never be


def _open(data: Sequence[Path | str], target: Target, *, follow: bool) -> list[Run]:
    """The runs, which have labels of the target and hold something already unless they are followed."""
    runs = [open_run(path, target) for path in data]
    if not follow and not any(run.entries("segments") for run in runs):
        raise RunError(
            f"found no segments in {', '.join(str(run.path) for run in runs)}",
            "simulated or imported data",
            "simulate first, or add --stream to wait for them",
        )
    return runs


def _threads(settings: Settings, workers: int, processes: Processes) -> None:
    cores = available_cores() - workers
    torch.set_num_threads(settings.train.train_threads or max(1, cores // processes.local_size))


def _require_same_runs(runs: Sequence[Run], processes: Processes) -> None:
    """Refuse processes that read different runs, as of a directory that each machine has for itself."""
    told = processes.gather([[str(run.identity["id"]) for run in runs], processes.host])
    for ids, host in told:
        if ids != told[0][0]:
            raise RunError(
                f"{host} finds other runs than {told[0][1]} in {', '.join(str(run.path) for run in runs)}",
                "one directory that all machines see", "train on a shared file system, or on one machine",
            )  # fmt: skip


def train(
    data: Sequence[Path | str],
    out: Path | str,
    settings: Settings | None = None,
    *,
    follow: bool = False,
    frames: FrameChoice | None = None,
    held_out: Collection[tuple[str, int]] | None = None,
    encodings: Encodings | None = None,
    stop: StopRequest | None = None,
    show: Show | bool | None = None,
    processes: Processes | None = None,
) -> dict[str, Any]:
    """Train a model on run directories and trajectories.

    Args:
        data: Run directories of one mixture, whose output times are taken together, and trajectories, which become a
            run in `out/run`.
        out: Model directory; a training that was stopped there goes on.
        settings: Defaults if None. Of trajectories, mixture, temperature and times are what was set explicitly, else
            what the files say.
        follow: Others are still writing the runs, or the trajectories.
        frames: How frames of trajectories become parents and labels.
        held_out: (run id, lineage) of those that it must not see, instead of those that the data name.
        encodings: Encoded samples, shared with other trainings of the same learner and hyperparameters.
        stop: A request to stop to listen to.
        show: Called with the progress. True shows it on standard error, None in a notebook only, False nowhere. Of
            several processes the first shows it.
        processes: That train together, connected; by default those that the environment speaks of, as `torchrun`
            sets it.

    Returns:
        What `glassmd train --json` prints; in every process.

    Raises:
        InputError: Data or directory that cannot be used.
        Interrupted: Stopped early with a checkpoint saved.
    """
    with ExitStack() as stack:
        processes = processes or stack.enter_context(started())
        if processes.first:
            refuse_run(Path(out))
        show = shown(show) if processes.first else None
        settings = settings or Settings()
        stop = stop or StopRequest(walltime=settings.run.walltime)
        training_device(settings.train, processes)  # one that is not there is refused before anything is computed
        check_acquisition(settings.train, follow=follow)
        told = processes.tell([[str(path) for path in of] for of in split_data([Path(one) for one in data])])
        folders, files = ([Path(path) for path in of] for of in told)
        if files:
            stop = _taken_in(files, Path(out) / "run", settings, frames, follow, stop, stack, processes)
            folders.append(Path(out) / "run")
        return dict(processes.tell(_train(folders, out, settings, follow, held_out, encodings, stop, show, processes)))


def _taken_in(
    files: Sequence[Path],
    place: Path,
    settings: Settings,
    frames: FrameChoice | None,
    follow: bool,
    stop: StopRequest,
    stack: ExitStack,
    processes: Processes,
) -> StopRequest:
    """Have trajectories become a run, which the first process makes; what the training has to listen to."""
    potential = inputs_of(settings) != ("thermal",)

    def work(check: Callable[[], None]) -> StopRequest:
        if follow:
            return stack.enter_context(Following(files, place, settings.run, frames, potential, stop, check))
        take_in(files, place, settings.run, frames, needs_potential=potential, check=check)
        return stop

    return processes.by_first(work, stop.check) or stop


def _train(
    data: Sequence[Path],
    out: Path | str,
    settings: Settings,
    follow: bool,
    held_out: Collection[tuple[str, int]] | None,
    encodings: Encodings | None,
    stop: StopRequest,
    show: Show | None,
    processes: Processes,
) -> dict[str, Any]:
    """:func:`train` on run directories."""
    runs = _open(data, settings.train.target, follow=follow)
    _require_same_runs(runs, processes)
    choose_times(runs, settings.train, Path(out), processes)
    settings, begun = begun_with(settings, runs)
    _threads(settings, 0, processes)
    report = (lambda progress: show(progress, None)) if show else None
    structures = structures_of(runs, settings)
    share, patience = resolved(settings.train).validation_share, _PATIENCE if processes.size > 1 else 0.0
    source = SampleSource(runs, share, held_out, structures.requests, patience)
    began = time.monotonic()

    def make(keys: Iterable[SampleKey]) -> None:
        def work(check: Callable[[], None]) -> None:
            structures.make(keys, settings.run, check=check, show=_structures_shown(show))

        processes.by_first(work, stop.check)

    if not follow:
        make(source.lacking() if processes.first else [])
    elif processes.first:
        structures.ask()
    prepared = time.monotonic()
    trainer = Trainer(
        source,
        settings.train,
        Path(out),
        structures=structures,
        encodings=encodings,
        begun=begun,
        seed=settings.run.seed,
        follow=follow,
        stop=stop,
        processes=processes,
        show=report,
    )
    trainer.on_lacking = make
    trainer.train()
    if show is not None:
        show(trainer.progress, None)
    told = {**summary(trainer, time.monotonic() - began), "training_seconds": time.monotonic() - prepared}
    return {**told, **_pace(trainer)} if follow else told


def _structures_shown(show: Show | None) -> Callable[[int, int], None] | None:
    """The progress of structures as that of a training that waits for them."""
    if show is None:
        return None
    return lambda done, total: show(TrainingProgress(waiting=f"structures, {done} of {total}"), None)


def train_stream(
    settings: Settings,
    out: Path | str,
    *,
    run_directory: Path | None = None,
    stop: StopRequest | None = None,
    show: Show | bool | None = None,
    processes: Processes | None = None,
) -> dict[str, Any]:
    """Start the simulations and train on what they have committed so far, until both are done.

    Args:
        settings: Of the run and of the training.
        out: Model directory; what was stopped there goes on, simulation and training.
        run_directory: Where the data go; `out/run` by default.
        stop: A request to stop to listen to.
        show: Called with the progress of both sides; True, False and None as for :func:`train`.
        processes: As for :func:`train`; the first starts the simulations, on its machine.

    Returns:
        What `glassmd train --stream --json` prints: as :func:`train`, with the run and the overlap.
    """
    if settings.run.cluster is not None:
        return train_on_cluster(settings, settings.run.cluster, Path(out), run_directory, stop, shown(show))
    with ExitStack() as stack:
        processes = processes or stack.enter_context(started())
        told = _train_stream(settings, Path(out), run_directory, stop, shown(show), processes)
        return dict(processes.tell(told))


def _train_stream(
    settings: Settings,
    out: Path,
    run_directory: Path | None,
    stop: StopRequest | None,
    show: Show | None,
    processes: Processes,
) -> dict[str, Any]:
    """:func:`train_stream` in one of the processes."""
    first = processes.first
    if first:
        refuse_run(out)
    # A device that is not there is refused before anything is simulated.
    own_gpus = processes.local_size * (training_device(settings.train, processes).type == "cuda")
    check_acquisition(settings.train, follow=True)
    stop = stop or StopRequest(walltime=settings.run.walltime)
    place = run_directory or out / "run"
    if first:
        require_known_unit(settings.train, place)
        settings = settings.model_copy(update={"run": as_made(settings.run, place)})
        require_positions(settings)
    told = processes.tell(settings.run.model_dump(mode="json"))
    if not first:  # who may not see the run yet
        settings = settings.model_copy(update={"run": RunSettings.model_validate(told)})
    made_as = settings.run
    processes.by_first(lambda check: make_run_apart(made_as, place, check), stop.check)
    run = open_run(place, settings.train.target)
    _require_same_runs([run], processes)
    choose_times([run], settings.train, out, processes)
    settings, begun = begun_with(settings, [run])
    workers = default_workers(settings.run, spared=processes.local_size, spared_gpus=own_gpus) if first else 0
    workers = processes.tell(workers)
    _threads(settings, workers, processes)
    structures = structures_of([run], settings)
    if first:
        structures.ask()
    with Pool(run, settings.run, workers, spared_gpus=own_gpus, nice=_NICE) if first else nullcontext() as pool:
        beside = None if pool is None else Beside(pool, show)
        trainer = Trainer(
            SampleSource([run], requests=structures.requests, patience=_PATIENCE if processes.size > 1 else 0.0),
            settings.train,
            out,
            structures=structures,
            begun=begun,
            seed=settings_of(run).seed,  # which given configurations may have chosen
            follow=True,
            own_core=processes.tell(bool(own_gpus) or workers + processes.local_size <= available_cores()),
            stop=stop,
            processes=processes,
            show=None if beside is None else beside.watch,
        )

        def make(keys: Iterable[SampleKey]) -> None:
            """Structures that nobody makes any more because the budget is spent."""

            def work(check: Callable[[], None]) -> None:
                if pool is not None and not pool.poll():
                    structures.make(keys, settings.run, check=check)

            processes.by_first(work, stop.check)

        def wait(check: Callable[[], None]) -> None:
            if beside is not None:
                beside.wait(trainer.progress, check)

        if beside is not None:
            beside.steps_before = trainer.step
        trainer.on_lacking = make
        trainer.on_steps_done = lambda: processes.by_first(wait, stop.check)
        trainer.train()
        last = None if pool is None else pool.progress()
    if beside is None:
        return {}
    if show is not None:
        show(trainer.progress, last)
    if not run.complete:
        raise Interrupted("the simulation stopped before its end", "", "run again to continue")
    return {**summary(trainer, beside.seconds()), "run": str(run.path), **beside.facts(), **_pace(trainer)}


def _pace(trainer: Trainer) -> dict[str, Any]:
    """How a training kept up with the simulations that it followed."""
    return {
        "steps_redrawn": trainer.fit.redrawn,
        "idle_share": trainer.pace.idle_share,
        "commit_to_batch": trainer.pace.latency,
        "paused_seconds": trainer.pace.paused,
    }


def summary(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """The JSON object of a training."""
    return {
        "model_dir": str(trainer.directory),
        "model": trainer.settings.model,
        "device": trainer.device.type,
        "processes": trainer.processes.size,
        "parameters": trainer.model.n_parameters,
        "steps": trainer.step,
        "best_step": trainer.best["step"],
        "samples_seen": trainer.samples_seen,
        "times": trainer.source.times,
        "time_unit": trainer.source.time_unit,
        "target": trainer.settings.target,
        "unit": quantity(trainer.settings.target).unit,
        "validation": {
            name: {"pearson": found.mean.tolist(), "ceiling": found.ceiling.tolist()}
            for name, found in trainer.validation.scores.items()
        },
        "cross_validated": trainer.validation.cross_validated,
        "validation_samples": list(trainer.validation.n_samples),
        "inputs": list(trainer.model.inputs),
        "noise_known": trainer.noise_known,
        "inside_cage": trainer.structures.inside_cage(trainer.source.times, trainer.source.tau_alpha_by_temperature),
        "input_cost": trainer.structures.cost,
        "warnings": trainer.model.reservations(),
        "waited": {what: round(seconds, 3) for what, seconds in trainer.pace.waited.items()},
        "went_back": trainer.went_back,
        "seconds": seconds,
    }
