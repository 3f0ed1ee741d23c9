"""`train`: offline on what is there, or beside the simulations that generate it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from glassmd.errors import Interrupted, RunError, SettingsError
from glassmd.importers.trajectories import FrameChoice
from glassmd.interrupt import StopRequest
from glassmd.learners import model_class
from glassmd.learners.base import PropensityModel
from glassmd.processes import Processes, processes_asked, started
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.show import shown
from glassmd.simulation.batch import settings_of
from glassmd.simulation.cluster.connection import check_address
from glassmd.simulation.cluster.host import hosted
from glassmd.simulation.creation import make_run_apart
from glassmd.simulation.pool import Pool, as_made
from glassmd.simulation.preparation import available_cores, default_workers
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import SampleKey
from glassmd.stream.structures import Structures, cage_asked
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.structure import INPUTS
from glassmd.target import PROPENSITY, Target, quantity
from glassmd.time_unit import TAU_ALPHA
from glassmd.training.acquisition import check_acquisition
from glassmd.training.beside import Beside, Show
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.choices import resolved, training_device
from glassmd.training.cluster.start import ClusterTraining
from glassmd.training.encoding import Encodings
from glassmd.training.frames import Following, split_data, take_in
from glassmd.training.loop import Trainer
from glassmd.training.progress import TrainingProgress
from glassmd.training.source import SampleSource
from glassmd.training.tuning import begun_from

__all__ = ["Show", "refuse_run", "require_positions", "train", "train_stream"]

_LOOK = 0.2  # seconds between two looks at trainers on a cluster
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


def _choose_times(runs: Sequence[Run], settings: TrainSettings, directory: Path, processes: Processes) -> None:
    """The output times and their unit, which stays that of the training that goes on."""
    if settings.time_unit == TAU_ALPHA:
        path = latest_checkpoint(directory) if processes.first else None
        known = {} if path is None else load_checkpoint(path)[1]["identity"].get("tau_alphas", {})
        use_tau_alphas(runs, settings.tau_alpha, processes.tell(known))
    if settings.first_time is not None:
        for run in runs:
            run.use_times_from(settings.first_time)


def _require_known_unit(settings: TrainSettings, place: Path) -> None:
    """Refuse a unit that nobody can know before a liquid is simulated."""
    if settings.time_unit == TAU_ALPHA and settings.tau_alpha is None and not (place / "run.json").exists():
        raise RunError(
            "found time_unit = tau_alpha for a liquid that has not been simulated yet", "to be told its τ_α",
            "try --set tau_alpha=…, in √(mσ²/ε)",
        )  # fmt: skip


def require_positions(settings: Settings) -> None:
    """Refuse a target that a simulation with these settings keeps nothing to compute from.

    Raises:
        SettingsError: It keeps propensities, and another target is asked for.
    """
    if settings.run.keep == "propensities" and settings.train.target != PROPENSITY:
        raise SettingsError(
            f"found target = {settings.train.target} for a simulation with keep = propensities",
            "positions of replicas, from which it is computed",
            "try --set keep=positions, or --target propensity",
        )


def refuse_run(out: Path) -> None:
    """Refuse to write a model into a run directory.

    Raises:
        RunError: `out` is one.
    """
    if (out / "run.json").exists():
        raise RunError(f"{out} is a run", "a model directory, or a new one", "choose another --out")


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
    potential = _inputs(settings) != ("thermal",)

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
    _choose_times(runs, settings.train, Path(out), processes)
    settings, begun = _begun(settings, runs)
    _threads(settings, 0, processes)
    report = (lambda progress: show(progress, None)) if show else None
    structures = _structures(runs, settings)
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


def _begun(settings: Settings, runs: Sequence[Run]) -> tuple[Settings, PropensityModel | None]:
    """The settings, and the trained model that they begin with."""
    train, loaded = begun_from(settings.train, runs)
    return settings.model_copy(update={"train": train}), None if loaded is None else loaded.model


def _inputs(settings: Settings) -> tuple[str, ...]:
    """What the learner of the settings sees, as far as that is known before the data."""
    if settings.train.from_model is not None:
        return tuple(settings.train.input or INPUTS)
    return tuple(settings.train.input or model_class(settings.train.model).default_inputs)


def _structures(runs: Sequence[Run], settings: Settings) -> Structures:
    """What the learner of the settings sees of the runs."""
    learner = model_class(settings.train.model)
    cage = cage_asked(settings, rattling=learner.needs_rattling)
    return Structures(runs, settings.train.input or learner.default_inputs, cage)


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
        return _train_on_cluster(settings, settings.run.cluster, Path(out), run_directory, stop, shown(show))
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
        _require_known_unit(settings.train, place)
        settings = settings.model_copy(update={"run": as_made(settings.run, place)})
        require_positions(settings)
    told = processes.tell(settings.run.model_dump(mode="json"))
    if not first:  # who may not see the run yet
        settings = settings.model_copy(update={"run": RunSettings.model_validate(told)})
    made_as = settings.run
    processes.by_first(lambda check: make_run_apart(made_as, place, check), stop.check)
    run = open_run(place, settings.train.target)
    _require_same_runs([run], processes)
    _choose_times([run], settings.train, out, processes)
    settings, begun = _begun(settings, [run])
    workers = default_workers(settings.run, spared=processes.local_size, spared_gpus=own_gpus) if first else 0
    workers = processes.tell(workers)
    _threads(settings, workers, processes)
    structures = _structures([run], settings)
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


def _require_known_everywhere(train: TrainSettings) -> None:
    """Refuse to begin with a model that other machines do not have."""
    if train.from_model is not None and Path(train.from_model).exists():
        raise SettingsError(
            f"found --from {train.from_model} with --cluster",
            "a model that comes with glassmd, which every machine has",
            "see glassmd models, or train without --cluster",
        )


def _train_on_cluster(
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
    _require_known_unit(settings.train, place)
    settings = settings.model_copy(update={"run": as_made(settings.run, place)})
    require_positions(settings)
    run = open_run(make_run_apart(settings.run, place, stop.check).path, settings.train.target)
    _choose_times([run], settings.train, out, Processes())  # by which cages are asked for
    began, _ = _begun(settings, [run])
    _structures([run], began).ask()
    own = settings.run.model_copy(update={"seed": settings_of(run).seed})
    with ExitStack() as stack:
        cores = max(available_cores(), settings.train.processes + 1)  # trainers take theirs first
        cluster = stack.enter_context(hosted(address, cores))
        told = settings.model_copy(update={"run": own})
        training = stack.enter_context(ClusterTraining(cluster, [run.path], out, told, follow=True))
        training.wait_until_placed(stop)
        pool = stack.enter_context(Pool(run, settings.run, cluster=cluster))
        beside = Beside(pool, show)
        beside.steps_before = training.progress().step
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
