"""How many ranks a system is cut among: as asked for, else by its size and what the machine has."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine, InRanks
from glassmd.engines.mpi import mpiexec
from glassmd.engines.ranks import Ranks, start_problem
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["RANKS_FROM", "cut", "domain_grid", "require_cut", "require_ranks", "to_be_cut"]

RANKS_FROM = 100_000
"""Particles from which on a system is cut among several ranks where nobody says how many; see docs/ranks.md."""


def to_be_cut(engine: Engine, system: Configuration) -> bool:
    """Whether an engine is to cut a system among several ranks, where it can."""
    return system.n_particles >= RANKS_FROM if engine.ranks is None else engine.ranks > 1


def cut(engine: Engine, system: Configuration, mixture: Mixture) -> tuple[Engine, dict[str, Any]]:
    """An engine for one system: the same one, or the same in several ranks.

    Args:
        engine: Whose `ranks` say how many, or leave it to the size of the system.
        system: Any of its box and number of particles.
        mixture: Pair potential and masses.

    Returns:
        The engine, and what it costs that its steps do not tell (JSON types only): `ranks`, and, where a big system has
        one only, `one_rank_because`.

    Raises:
        EngineError: So many ranks as are asked for cannot be had.
    """
    if not to_be_cut(engine, system):
        return engine, {"ranks": 1}
    if engine.ranks is not None:
        require_cut(engine.ranks, system.box, engine.in_ranks(mixture).thinnest)
        return Ranks(engine, engine.ranks), {"ranks": engine.ranks}
    try:
        ranks, why = _affordable(engine, system, engine.in_ranks(mixture))
    except EngineError as error:
        ranks, why = 1, error.found
    if ranks == 1:
        return engine, {"ranks": 1, "one_rank_because": why}
    return Ranks(engine, ranks), {"ranks": ranks}


def _affordable(engine: Engine, system: Configuration, described: InRanks) -> tuple[int, str]:
    """How many ranks there are a core or a GPU and room for, and why no more than one."""
    mpiexec()
    share = described.most // engine.workers
    ranks = most_ranks(share, system.box, described.thinnest)
    if ranks == 1:
        what = "GPU" if engine.device.startswith("gpu") else "core"
        return 1, f"there is one {what} for it" if share <= 1 else "the box is too thin to be cut"
    problem = start_problem(described, ranks)
    return (1, problem) if problem else (ranks, "")


def require_ranks(ranks: int | None) -> None:
    """Refuse what cannot be had whatever the engine.

    Raises:
        EngineError: No number of ranks, or several and no `mpiexec`.
    """
    if ranks is not None and ranks < 1:
        raise EngineError(f"found ranks = {ranks}", "1 or more", "leave --ranks out")
    if ranks is not None and ranks > 1:
        mpiexec()


def require_cut(ranks: int, box: NDArray[np.float64], thinnest: float) -> None:
    """Refuse more ranks than a box can be cut into.

    Args:
        ranks: How many.
        box: (d,) edge lengths, σ_AA.
        thinnest: A domain that there may be, σ_AA.

    Raises:
        EngineError: A domain would be thinner; the message says how many there may be.
    """
    if not _fits(ranks, box, thinnest):
        raise EngineError(
            f"found {ranks} ranks for a box of {' × '.join(f'{edge:.4g}' for edge in box)} σ_AA",
            f"domains that are {thinnest:.3g} thick at least",
            f"try --ranks {most_ranks(ranks, box, thinnest)}",
        )


def most_ranks(limit: int, box: NDArray[np.float64], thinnest: float) -> int:
    """The most that are no more than `limit` and into which a box can be cut; 1 at least."""
    return next((ranks for ranks in range(limit, 1, -1) if _fits(ranks, box, thinnest)), 1)


def domain_grid(ranks: int, box: NDArray[np.float64]) -> tuple[int, ...]:
    """Domains along every edge: those with the least surface, as LAMMPS and HOOMD-blue choose them.

    Example:
        >>> domain_grid(8, np.array([10.0, 10.0, 10.0])), domain_grid(2, np.array([5.0, 9.0]))
        ((2, 2, 2), (1, 2))
    """
    divisors = [number for number in range(1, ranks + 1) if ranks % number == 0]
    grids = [grid for grid in itertools.product(divisors, repeat=len(box)) if math.prod(grid) == ranks]
    return min(grids, key=lambda grid: float(np.sum(np.array(grid) / box)))


def _fits(ranks: int, box: NDArray[np.float64], thinnest: float) -> bool:
    return all(
        number == 1 or edge / number >= thinnest for number, edge in zip(domain_grid(ranks, box), box, strict=True)
    )
