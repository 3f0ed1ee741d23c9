"""Many simulating processes on one run directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from glassmd.errors import EngineError, EquilibrationError
from glassmd.interrupt import StopRequest
from glassmd.ledger.identity import grown_settings
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.show import shown
from glassmd.simulation.apart import start_process, told
from glassmd.simulation.cluster.connection import check_address
from glassmd.simulation.cluster.host import Cluster, hosted
from glassmd.simulation.creation import as_made, fitting_engine, going_on, make_run, make_run_apart
from glassmd.simulation.given import settled
from glassmd.simulation.preparation import (
    available_cores,
    default_workers,
    gpus_of,
    prepared_engine,
    with_runtime,
)
from glassmd.simulation.summary import Progress, Tally, summary_of
from glassmd.simulation.tasks import Wanted
from glassmd.simulation.worker import Worker, settings_flags
from glassmd.storage import write_text

__all__ = ["Pool", "make_wanted", "plan", "simulate"]

RESTARTS = 3
"""A worker that dies without a word (out of memory, killed) is started again this often between two commits."""

_PATIENCE = 30.0  # seconds that a worker has to stop


class Pool:
    """Worker processes on one run, or one that has the workers of a cluster work; use as a context manager.

    Args:
        run: The run to work on.
        settings: Run-time settings (engine, device, workers).
        workers: Processes; default from the settings, else one per GPU, else one per core.
        only: Make these structures, and nothing else.
        spared_gpus: So many of the GPUs are left to others where there are more.
        nice: How far other processes go before the workers where cores are scarce, 0 to 19.
        cluster: That of the settings, where it is there already.
    """

    def __init__(
        self,
        run: RunDirectory,
        settings: RunSettings,
        workers: int | None = None,
        only: Wanted | None = None,
        *,
        spared_gpus: int = 0,
        nice: int = 0,
        cluster: Cluster | None = None,
    ) -> None:
        self.run, self.settings, self._nice = run, settings, nice
        if settings.cluster is None:
            self.n_workers = workers or default_workers(settings, spared_gpus=spared_gpus)
            self._gpus = gpus_of(settings, spared=spared_gpus)
        else:  # one process that has others work
            self.n_workers, self._gpus = 1, range(0)
        self._hosted, self._cluster = ExitStack(), cluster
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reports: dict[str, BinaryIO] = {}
        self._refusals: dict[str, EquilibrationError] = {}
        self._deaths: dict[str, tuple[int, int]] = {}
        self._folder = run.home / "workers"
        self._only = None if only is None else self._folder / f"{os.uname().nodename}-{os.getpid()}.wanted"
        if self._only is not None and only is not None:
            write_text(self._only, only.to_json())
        run.remove_leftovers()
        self._tally = Tally(run)
        self._started = time.monotonic()

    def __enter__(self) -> Pool:
        if self.settings.cluster is not None and self._cluster is None:
            self._cluster = self._hosted.enter_context(hosted(self.settings.cluster, available_cores()))
        for index in range(self.n_workers):
            self._start(f"{os.uname().nodename}-{os.getpid()}-{index}")
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start(self, name: str) -> None:
        log = self._folder / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [
            str(self.run.path), "--name", name, "--parent", str(os.getpid()),
            *(["--only", str(self._only)] if self._only else []),
        ]  # fmt: skip
        if self._cluster is None:
            arguments = [
                "glassmd.simulation.worker", *arguments, *settings_flags(self.settings, self.n_workers),
                *self._gpu_flags(name), "--nice", str(self._nice),
            ]  # fmt: skip
        else:
            settings = self.settings.model_copy(update={"cluster": self._cluster.address})
            told = settings_flags(settings, settings.workers)
            arguments = ["glassmd.simulation.cluster.dispatcher", *arguments, *told]
        with log.open("ab") as output:
            environment = {} if self._cluster is None else self._cluster.environment
            self._processes[name], self._reports[name] = start_process(arguments, output, environment)

    def _gpu_flags(self, name: str) -> list[str]:
        """Workers take turns at the GPUs where there are several."""
        number, gpus = int(name.rpartition("-")[2]), self._gpus
        return ["--gpu", str(gpus[number % len(gpus)])] if gpus and gpus[-1] > 0 else []

    def poll(self) -> bool:
        """Look after the workers; whether any is still at work.

        Raises:
            GlassmdError: What a worker raised.
            EngineError: A worker died again and again without a word.
        """
        busy = False
        for name, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                busy = True
            elif code != 0 and name not in self._refusals:
                busy |= self._ended(name, code)
        if not busy and self._refusals:
            raise next(iter(self._refusals.values()))
        return busy

    def _ended(self, name: str, code: int) -> bool:
        """See why a worker ended; whether it was started again."""
        error = told(self._reports.pop(name))
        if error is not None:
            if not isinstance(error, EquilibrationError):
                raise error
            self._refusals[name] = error  # the other workers go on with the other lineages
            return False
        self._restart(name, code)
        return True

    def _restart(self, name: str, code: int) -> None:
        self.run.poll()
        committed = len(self.run.index.log)
        deaths, then = self._deaths.get(name, (0, -1))
        self._deaths[name] = (deaths + 1 if committed == then else 1, committed)
        log = self._folder / f"{name}.log"
        if self._deaths[name][0] > RESTARTS:
            raise EngineError(
                f"a worker ended {RESTARTS + 1} times with code {code} without finishing anything",
                "it to finish",
                f"see {log}",
            )
        self._start(name)

    def stop(self) -> None:
        """Ask every worker to stop, and wait until it has; what is committed stays."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for name, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log = self._folder / f"{name}.log"
            of_ray = self._cluster is not None and process.returncode == 0  # what it says of machines that went
            if log.exists() and (of_ray or log.stat().st_size == 0):
                log.unlink()
            for status in (self._folder / f"{name}.json", *self._folder.glob(f"{name}-*.json")):
                status.unlink(missing_ok=True)
        for report in self._reports.values():
            report.close()
        if self._only is not None:
            self._only.unlink(missing_ok=True)
        self._hosted.close()
        self.run.remove_leftovers()  # of workers that were killed

    def progress(self) -> Progress:
        """How far the run is."""
        return self._tally.progress(time.monotonic() - self._started)


def make_wanted(
    run: RunDirectory,
    wanted: Wanted,
    settings: RunSettings,
    *,
    check: Callable[[], None] | None = None,
    show: Callable[[int, int], None] | None = None,
) -> None:
    """Have structures made that are missing, by workers of their own; what is finished is kept.

    Args:
        run: Of what; simulated or imported, finished or not.
        wanted: Which structures.
        settings: Run-time settings (engine, device, workers).
        check: Called about five times a second; what it raises ends it.
        show: Called likewise with how many are there and how many were missing.

    Raises:
        EngineError: There is no engine, it failed, or a worker died again and again.
        RunError: A parent is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    run.poll()
    total = wanted.missing(run)
    if not total:
        return
    workers = None if settings.cluster else min(total, default_workers(settings))
    with Pool(run, settings, workers, wanted) as pool:
        while pool.poll():
            if check is not None:
                check()
            if show is not None:
                show(total - wanted.missing(run), total)
            time.sleep(0.2)
    run.poll()
    if show is not None:
        show(total, total)


def simulate(
    settings: RunSettings,
    out: Path | str = "run",
    *,
    stop: StopRequest | None = None,
    show: Callable[[Progress], None] | bool | None = None,
) -> dict[str, Any]:
    """Equilibrate lineages and generate isoconfigurational data into `out`; continue where it stopped.

    Args:
        settings: What to simulate. Where `out` holds a run already, only what is set explicitly counts: it is compared
            with what the run was made with, or lets it grow.
        out: Run directory.
        stop: A request to stop to listen to.
        show: Called about twice a second with the progress. True shows it on standard error, None in a notebook only,
            False nowhere.

    Returns:
        What `glassmd simulate --json` prints.

    Raises:
        InputError: Settings that cannot be simulated, or a directory of another run.
        Interrupted: Stopped early; everything finished is committed.
    """
    out = Path(out)
    show = shown(show)
    stop = stop or StopRequest(walltime=settings.walltime)
    if settings.cluster is not None:
        check_address(settings.cluster)
    settings = as_made(settings, out)
    with ExitStack() as stack:
        cluster = None
        if settings.cluster is None:
            run = make_run(settings, out, stop.check)
        else:
            cluster = stack.enter_context(hosted(settings.cluster, available_cores()))
            run = make_run_apart(settings, out, stop.check, cluster)
        settings = with_runtime(run, settings)
        started = time.monotonic()
        tally = Tally(RunDirectory.open(run.path))  # looking at it changes nothing for the worker

        def tell() -> None:
            if show is not None:
                show(tally.progress(time.monotonic() - started))

        here = cluster is None and default_workers(settings) == 1
        if here and not gpus_of(settings):  # what a GPU does to a process may need another one
            run.remove_leftovers()
            engine = prepared_engine(run, settings, check=stop.check)
            name = f"{os.uname().nodename}-{os.getpid()}-0"  # beside others of the same run
            Worker(run, engine, stop, name, accept_unequilibrated=settings.accept_unequilibrated, show=tell).work()
        else:
            pool = stack.enter_context(Pool(run, settings, cluster=cluster))
            while pool.poll():
                stop.check()
                if show is not None:
                    show(pool.progress())
                time.sleep(0.2)
    last = tally.progress(time.monotonic() - started)
    if show is not None:
        show(last)
    return summary_of(run, last)


def plan(settings: RunSettings, out: Path | str | None = None) -> dict[str, Any]:
    """What a simulation would do, without doing it (JSON types only).

    Args:
        settings: As for :func:`simulate`.
        out: Run directory; a run that is there says what the settings do not.

    Raises:
        EngineError: No engine for it is installed, or the box is too small.
        RunError: `out` holds a run made with other settings.
    """
    if out is None:
        settings, _ = settled(settings)
    else:
        there, settings, _ = going_on(settings, Path(out))
        if there is not None:
            grown_settings(there.path, there.identity["settings"], settings.model_dump())
    if settings.cluster is None:
        engine = fitting_engine(settings)
        computes = f"{engine.name} {engine.version} on {engine.device}"
    else:
        computes = f"{settings.engine} as the machines of the cluster have it"
    replicas = settings.parents * sum(settings.n_replicas(lineage) for lineage in range(settings.lineages))
    roles = [settings.role(lineage) for lineage in range(settings.lineages)]
    return {
        "engine": computes,
        "mixture": f"{settings.liquid().name} ({settings.truncation})",
        "particles": settings.particles,
        "temperature": settings.temperature,
        "density": settings.number_density(),
        "lineages": {role: roles.count(role) for role in ("train", "validation", "test")},
        "roles": {f"L{lineage:04d}": role for lineage, role in enumerate(roles) if role != "train"},
        "replicas_per_parent": {"train": settings.replicas, "held out": settings.held_out_replicas},
        "parents": settings.parents * settings.lineages,
        "replicas": replicas,
        "times": settings.times,
        "replica_steps": replicas * settings.steps()[-1],
        "workers": default_workers(settings)
        if settings.cluster is None
        else settings.workers or "as there is room for",
    }
