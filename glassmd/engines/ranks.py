"""One big system in several ranks: an engine that has another one do its work in processes that MPI connects.

The box is cut into domains, one per rank. This process has no MPI: it starts the ranks with `mpiexec`, hands them one
system after the other and takes what the first rank found (:mod:`glassmd.engines.handed`). The ranks do what one
process does, with sums that are rounded in another order: an inherent structure is the same one unless the way down
forks within rounding, a trajectory the same until it has forgotten its last digits.

Whatever ends this process, a kill included, ends the ranks: the first one notices the end of its standard input.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from glassmd.configuration import Configuration
from glassmd.engines.base import (
    Engine,
    InRanks,
    Minimum,
    Observation,
    Rattled,
    require_possible,
    require_possible_minimum,
)
from glassmd.engines.handed import hand_configuration, take
from glassmd.engines.mpi import VARIABLE, mpiexec, rank_environment
from glassmd.engines.rattling import require_snapshots
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError, raised_elsewhere
from glassmd.mixtures import Mixture
from glassmd.storage import read_json, write_json

__all__ = ["Ranks", "start_problem"]

_Found = TypeVar("_Found", Observation, Rattled, Minimum)

_LOOK = 0.02  # seconds between two looks for what the ranks have found
_CHECK = 0.5  # seconds between two calls of `check`
_PATIENCE = 2.0  # seconds that ranks have to end


class Ranks(Engine):
    """An engine in several ranks of one MPI program.

    Args:
        engine: What computes; it says how it is opened in a rank.
        ranks: How many.

    Raises:
        EngineError: There is no `mpiexec`.
    """

    def __init__(self, engine: Engine, ranks: int) -> None:
        mpiexec()
        self._engine, self._ranks = engine, ranks
        self.name, self.version, self.device = engine.name, engine.version, engine.device

    def evolve(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Observation]:
        """Evolve the systems one after the other; see :meth:`glassmd.engines.base.Engine.evolve`."""
        require_possible(systems, mixture, steps, time_step, thermostat)
        job = self._job("evolve", mixture, thermostat, steps=list(steps), time_step=time_step)
        return self._counted(self._found(job, systems, Observation, len(steps), check), len(steps), steps)

    def rattling(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        left_out: int,
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Rattled]:
        """Add up displacements in the first rank; see :meth:`glassmd.engines.base.Engine.rattling`."""
        require_possible(systems, mixture, steps, time_step, thermostat)
        require_snapshots(len(steps), left_out)
        job = self._job("rattling", mixture, thermostat, steps=list(steps), left_out=left_out, time_step=time_step)
        return self._counted(self._found(job, systems, Rattled, 1, check), 1, steps)

    def minimise(
        self, configuration: Configuration, mixture: Mixture, *, check: Callable[[], None] | None = None
    ) -> Minimum:
        """The minimum below a configuration; see :meth:`glassmd.engines.base.Engine.minimise`."""
        require_possible_minimum(configuration, mixture)
        job = self._job("minimise", mixture, None)
        try:
            (found,) = self._found(job, [configuration], Minimum, 1, check)
        except EngineError:
            if not self._engine.in_ranks(mixture).gentler:
                raise
            (found,) = self._found({**job, "gently": True}, [configuration], Minimum, 1, check)
        return found

    def _job(self, work: str, mixture: Mixture, thermostat: Thermostat | None, **arguments: Any) -> dict[str, Any]:
        """JSON types only."""
        return {
            **self._engine.in_ranks(mixture).opened,
            "work": work,
            "ranks": self._ranks,
            "mixture": mixture.identity(),
            "thermostat": None if thermostat is None else asdict(thermostat),
            "arguments": arguments,
            "gently": False,
        }

    def _counted(self, found: Iterator[_Found], per_system: int, steps: Sequence[int]) -> Iterator[_Found]:
        for number, one in enumerate(found):
            if (number + 1) % per_system == 0:
                self._engine.replica_steps += steps[-1]
            yield one

    def _found(
        self,
        job: dict[str, Any],
        systems: Sequence[Configuration],
        kind: type[_Found],
        per_system: int,
        check: Callable[[], None] | None,
    ) -> Iterator[_Found]:
        """What the ranks find of one system after the other; the next one is handed to them ahead."""
        with _started({**job, "systems": len(systems)}) as ranks:
            for index in range(len(systems)):
                if index == 0:
                    hand_configuration(ranks.folder / "system-0.npz", systems[0])
                if index + 1 < len(systems):
                    hand_configuration(ranks.folder / f"system-{index + 1}.npz", systems[index + 1])
                for number in range(per_system):
                    found = take(ranks.wait_for(f"found-{index}-{number}.npz", check), kind)
                    yield found if isinstance(found, Minimum) else replace(found, system=index)
                (ranks.folder / f"system-{index}.npz").unlink()
            ranks.wait_for("done.json", check)


def start_problem(described: InRanks, ranks: int) -> str:
    """Why so many ranks of an engine do not start here; nothing where they do, as was tried."""
    try:
        with _started({**described.opened, "ranks": ranks, "systems": 0, "gently": False}) as started:
            started.wait_for("done.json", None)
    except EngineError as error:
        return error.found
    return ""


class _Started:
    """Ranks that are at work in a folder."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], described: str) -> None:
        self.folder, self._process, self._described = folder, process, described
        self._checked = time.monotonic()

    def wait_for(self, name: str, check: Callable[[], None] | None) -> Path:
        """The file of this name when it is there.

        Raises:
            EngineError: The ranks have ended before.
        """
        path = self.folder / name
        while not path.exists():
            ended, told = self._process.poll(), sorted(self.folder.glob("error-*.json"))
            if told:  # the others wait for this one
                raise raised_elsewhere(read_json(told[0]))
            if ended is not None and not path.exists():
                raise self._without_a_word(ended)
            if check is not None and time.monotonic() - self._checked > _CHECK:
                check()
                self._checked = time.monotonic()
            time.sleep(_LOOK)
        return path

    def _without_a_word(self, code: int) -> EngineError:
        begun = (self.folder / "begun.json").exists()
        said = [line.strip("= ") for line in (self.folder / "output").read_text(errors="replace").splitlines()]
        last = "" if begun else next((f": {line}" for line in said if line), "")
        return EngineError(
            f"{self._described} ended with code {code} before they were {'done' if begun else 'connected'}{last}",
            "all of them to finish",
            "give the command again, or try --ranks 1"
            if begun
            else f"set {VARIABLE} to the mpiexec of its MPI, or try --ranks 1",
        )


@contextmanager
def _started(job: dict[str, Any]) -> Iterator[_Started]:
    """Ranks that do a job, and nothing left of them in the end."""
    described = f"{job['ranks']} ranks of {job['engine']}"
    with TemporaryDirectory(prefix="glassmd-ranks-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_json(folder / "job.json", job, durable=False)
        command = [*mpiexec(), "-n", str(job["ranks"]), sys.executable, "-m", "glassmd.engines.rank", name]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=rank_environment(),
                process_group=0,  # Ctrl-C reaches this process, which ends the ranks
            )  # fmt: skip
        try:
            yield _Started(folder, process, described)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have the ranks end, by the end of their standard input or of `mpiexec`, and wait until they have."""
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
