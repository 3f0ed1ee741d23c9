"""Inputs of many parents, computed by several processes that share nothing but the run directories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from glassmd import errors
from glassmd.engines import choose_engine, gpu_count
from glassmd.errors import EngineError, GlassmdError, InputError
from glassmd.inputs.cache import InputCache
from glassmd.inputs.cage import content_of
from glassmd.inputs.provider import StructureProvider
from glassmd.inputs.work import Work, work_on
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.simulation.preparation import available_cores
from glassmd.stream.samples import Sample

__all__ = ["InputProgress", "missing", "prepare"]

_Worker = tuple[subprocess.Popen[bytes], IO[bytes]]

_LOOK = 0.2  # seconds between looks at the workers
_PATIENCE = 30.0  # seconds until a worker that was asked to stop is killed


@dataclass(frozen=True)
class InputProgress:
    """How far the inputs are.

    Attributes:
        done: Parents that have all their inputs, of those that lacked some.
        total: Parents that lacked some.
        workers: Processes at work.
    """

    done: int
    total: int
    workers: int


def missing(
    provider: StructureProvider, runs: Sequence[RunDirectory], samples: Sequence[Sample]
) -> list[tuple[RunDirectory, ParentKey]]:
    """Parents of samples that lack one of the provider's inputs.

    Raises:
        InputError: A sample of another run.
    """
    by_id = {str(run.identity["id"]): run for run in runs}
    lacking: dict[tuple[str, ParentKey], tuple[RunDirectory, ParentKey]] = {}
    for sample in samples:
        if sample.key.run not in by_id:
            raise InputError(f"found a sample of run {sample.key.run}", f"one of {', '.join(by_id)}")
        run, key = by_id[sample.key.run], ParentKey(sample.key.lineage, sample.key.parent)
        cache = InputCache(run)
        content = content_of(sample.parent) if provider.simulated else ""
        if any(cache.read(provider.recipe(run, name), key, content) is None for name in provider.simulated):
            lacking[sample.key.run, key] = run, key
    return list(lacking.values())


def prepare(
    provider: StructureProvider,
    runs: Sequence[RunDirectory],
    samples: Sequence[Sample],
    *,
    workers: int | None = None,
    show: Callable[[InputProgress], None] | None = None,
) -> None:
    """Compute all inputs of samples that are missing, each kept as soon as it is there.

    Args:
        provider: Which inputs and how; its `check` is called about once a second, and what that raises ends it. What
            it costs is added to the provider's `cost`.
        runs: The runs that the samples are of.
        samples: Whose parents.
        workers: Processes; default: one per GPU, else one per core.
        show: Called with the progress, about five times a second.

    Raises:
        EngineError: There is no engine, it failed, or a worker died.
        InputError: A sample of another run.
        StorageError: The disk is full or not writable.
    """
    work = missing(provider, runs, samples)
    if not work:
        return
    gpus = gpu_count(choose_engine(provider.engine_choice, provider.device_choice)[0], provider.device_choice)
    workers = min(len(work), workers or gpus or available_cores())
    if workers == 1:
        for done, one in enumerate(work):
            if show is not None:
                show(InputProgress(done, len(work), 1))
            work_on(provider, [one])
        if show is not None:
            show(InputProgress(len(work), len(work), 0))
        return
    _in_processes(provider, work, workers, gpus, show)


def _in_processes(
    provider: StructureProvider,
    work: Work,
    workers: int,
    gpus: int,
    show: Callable[[InputProgress], None] | None,
) -> None:
    before = {(run.path, key): _committed(provider, run, key) for run, key in work}
    started: list[_Worker] = []
    with ExitStack() as outputs:
        try:
            for index in range(workers):
                # Everybody begins elsewhere, and goes on with what the others have left.
                own = [*work[index::workers], *_others(work, index, workers)]
                task = _task(provider, own, index % gpus if gpus > 1 else None)
                started.append(_start(task, outputs.enter_context(TemporaryFile())))
            while any(process.poll() is None for process, _ in started):
                if provider.check is not None:
                    provider.check()
                _raise_failures(started)
                if show is not None:
                    done = sum(_committed(provider, run, key) > before[run.path, key] for run, key in work)
                    show(InputProgress(done, len(work), sum(process.poll() is None for process, _ in started)))
                time.sleep(_LOOK)
            _raise_failures(started)
            for _, output in started:
                provider.add_cost(_report(output)["cost"])
        finally:
            _stop([process for process, _ in started])
    if show is not None:
        show(InputProgress(len(work), len(work), 0))


def _task(provider: StructureProvider, work: Work, gpu: int | None) -> dict[str, Any]:
    """What a worker is told (JSON types only)."""
    return {
        "inputs": provider.inputs,
        "engine": provider.engine_choice,
        "device": provider.device_choice,
        "protocol": None if provider.protocol is None else provider.protocol.to_dict(),
        "seed": provider.seed,
        "gpu": gpu,
        "work": [(str(run.path), *key) for run, key in work],
    }


def _others(work: Work, index: int, workers: int) -> Work:
    """What begins with the other workers, from the end, which they reach last."""
    return [one for number, one in reversed(list(enumerate(work))) if number % workers != index]


def _committed(provider: StructureProvider, run: RunDirectory, key: ParentKey) -> bool:
    cache = InputCache(run)
    return all(cache.committed(provider.recipe(run, name), key) for name in provider.simulated)


def _start(task: dict[str, Any], output: IO[bytes]) -> _Worker:
    process = subprocess.Popen(
        [sys.executable, "-m", "glassmd.inputs.worker", "--parent", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C reaches this process, which stops its workers in order
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps(task).encode())
    return process, output


def _report(output: IO[bytes]) -> dict[str, Any]:
    """The last line that a worker wrote, or what it died with."""
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines() or [""]
    try:
        return dict(json.loads(lines[-1]))
    except ValueError:
        return {"died": lines[-1]}


def _raise_failures(started: Sequence[_Worker]) -> None:
    for process, output in started:
        code = process.poll()
        if code is None or code == 0:
            continue
        report = _report(output)
        if "error" in report:
            kind, found, expected, todo = report["error"]
            raise getattr(errors, kind, GlassmdError)(found, expected, todo)
        raise EngineError(
            f"a process that computed inputs ended with code {code}: {report.get('died', '')[:200]}",
            "it to finish",
            "give the same command again: what is finished is kept",
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
