"""One rank of several: `python -m glassmd.engines.rank FOLDER`, as :mod:`glassmd.engines.ranks` has MPI start it.

All ranks do the same at the same time. What each decides has to follow from numbers that all of them have; the clock
is none of them, so that nothing is checked here. A rank that raises tells why and ends, and MPI's launcher ends the
others.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.handed import hand, handed_configuration
from glassmd.engines.mpi import VARIABLE, leave_nothing_in_memory
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError, GlassmdError
from glassmd.mixtures import Mixture, mixture_of
from glassmd.storage import read_json, write_json

__all__ = ["main"]

_LOOK = 0.01  # seconds between two looks for the next system


def main(folder: Path) -> int:
    """Do the job of a folder."""
    job = read_json(folder / "job.json")
    _watch_input(folder)
    engine, rank = _connected(job, folder)
    if rank == 0:
        write_json(folder / "begun.json", {}, durable=False)
    try:
        for index in range(job["systems"]):
            system = _next(folder / f"system-{index}.npz")
            for number, found in enumerate(_found(engine, job, index, system)):
                if rank == 0:
                    values = {field.name: getattr(found, field.name) for field in fields(found)}
                    hand(folder / f"found-{index}-{number}.npz", values)
    except Exception as error:
        _end_with(error, folder / f"error-{rank}.json")
    if rank == 0:
        write_json(folder / "done.json", {}, durable=False)
    while not (folder / "done.json").exists():  # a rank that ends before the others ends them
        time.sleep(_LOOK)
    return 0


def _connected(job: dict[str, Any], folder: Path) -> tuple[Engine, int]:
    """The engine, with the number of this rank."""
    from glassmd.engines.lammps import LammpsEngine

    try:
        if job["engine"] == "hoomd":
            from glassmd.engines.hoomd_domains import HoomdDomains

            engine: LammpsEngine | HoomdDomains = HoomdDomains(folder, job["device"], job["buffer"], job["gently"])
        else:
            engine = LammpsEngine()
        rank, ranks = engine.place()
        leave_nothing_in_memory()
        if ranks != job["ranks"]:
            raise EngineError(
                f"{job['ranks']} ranks of {job['engine']} were started and do not see each other",
                "the mpiexec of the MPI that it was built with",
                f"set {VARIABLE} to it, or try --ranks 1",
            )
    except Exception as error:
        _end_with(error, folder / "error-0.json")
    return engine, rank


def _end_with(error: Exception, path: Path) -> NoReturn:
    """Write down what went wrong for the process that started the ranks, and end at once.

    What ends in order takes its simulation apart, and waits for the other ranks, which may never come.
    """
    traceback.print_exception(error)
    if not isinstance(error, GlassmdError):
        error = EngineError(f"a rank failed: {type(error).__name__}: {error}", "it to work", "try --ranks 1")
    write_json(path, error.to_dict(), exclusive=True, durable=False)
    os._exit(error.exit_code)


def _watch_input(folder: Path) -> None:
    """Have a process beside the first rank end it, and so all, where the one that started them is no more.

    A thread would not do: an engine may keep Python's lock as long as it runs. Other ranks have no input.
    """
    if stat.S_ISCHR(os.fstat(0).st_mode):
        return
    rank = os.getpid()
    if os.fork():
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for output in (1, 2):  # MPI's launcher waits until nobody holds them
        os.dup2(nothing, output)
    os.closerange(3, 256)
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    if os.getppid() == rank:
        os.kill(rank, signal.SIGKILL)
    os._exit(0)


def _next(path: Path) -> Configuration:
    while not path.exists():
        time.sleep(_LOOK)
    return handed_configuration(path)


def _found(engine: Engine, job: dict[str, Any], index: int, system: Configuration) -> Iterator[Any]:
    """What is asked for of one system; on other ranks than the first possibly nothing."""
    mixture: Mixture = mixture_of(job["mixture"])
    if job["work"] == "minimise":
        yield engine.minimise(system, mixture)
        return
    bath = job["thermostat"]
    thermostat = None if bath is None else Thermostat(**{**bath, "seeds": (bath["seeds"][index],)})
    work = engine.evolve if job["work"] == "evolve" else engine.rattling
    yield from work([system], mixture, thermostat=thermostat, **job["arguments"])


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1])))  # the others may be gone
