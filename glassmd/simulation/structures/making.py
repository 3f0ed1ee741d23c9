"""Structures of parents: made by an engine, kept as entries of the run, read back as learners take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.cutting import cut, to_be_cut
from glassmd.errors import RunError
from glassmd.ledger.run import RunDirectory, StructureKey
from glassmd.mixtures import Mixture, mixture_of
from glassmd.simulation.batch import Check, Outcome, SharedTime, frame_of
from glassmd.simulation.structures.cage import cages_of, content_of
from glassmd.simulation.structures.protocol import CageProtocol
from glassmd.simulation.structures.request import Request
from glassmd.structure import Rattling, Structure
from glassmd.trajectory import Frame

__all__ = ["Made", "commit_structure", "make_structures", "read_structure", "structure_of_configuration"]

Arrays = dict[str, NDArray[np.float32]]

_CHUNKS = {
    "displacement": "particles/displacement",
    "replica_means": "glassmd/replica_means",
    "covariance": "particles/covariance",
    "replica_variances": "glassmd/replica_variances",
}
"""Names of the log chunks of what is kept."""


@dataclass(frozen=True, eq=False)
class Made:
    """What an engine made of one parent.

    Attributes:
        arrays: float32: `displacement` from the thermal positions, (n_particles, d), σ_AA; of a cage also
            `replica_means`, (n_replicas, n_particles, d), σ_AA, `covariance`, (n_particles, d, d), σ_AA², and
            `replica_variances`, (n_replicas, n_particles), σ_AA²; see :class:`glassmd.structure.Rattling`.
        facts: Steps, and what else is worth knowing (JSON types only).
    """

    arrays: Arrays
    facts: dict[str, Any]


def make_structures(
    keys: Sequence[StructureKey],
    requests: Mapping[str, Request],
    run: RunDirectory,
    engine: Engine,
    check: Check,
) -> Iterator[Outcome]:
    """Make structures of parents, and commit each.

    Args:
        keys: Which.
        requests: By the name at the end of a key: how it is made.
        run: Where to find the parents and to commit.
        engine: Makes them.
        check: Called about once a second; what it raises ends it, all committed ones kept.

    Yields:
        One outcome per key, after its commit.

    Raises:
        EngineError: The engine failed.
        RunError: A parent is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    mixture, temperature = mixture_of(run.identity["mixture"]), float(run.identity["temperature"])
    for name in dict.fromkeys(key.structure for key in keys):
        alike = [key for key in keys if key.structure == name]
        parents, shared = [_parent(run, key) for key in alike], SharedTime(len(alike))
        for index, made in _made(requests[name], engine, parents, mixture, temperature, check):
            facts = {**made.facts, **engine.facts, "seconds": shared.take(1)}
            commit_structure(run, alike[index], requests[name], parents[index], made.arrays, facts)
            yield Outcome(alike[index], made.facts["steps"])


def commit_structure(
    run: RunDirectory,
    key: StructureKey,
    request: Request,
    parent: Configuration,
    arrays: Arrays,
    facts: Mapping[str, Any],
) -> None:
    """Commit a structure of a parent.

    Args:
        run: Where.
        key: Which.
        request: What it is.
        parent: As it is committed.
        arrays: See :class:`Made`; of published cages the displacement alone.
        facts: Steps, seconds, engine, and what else is worth knowing (JSON types only).

    Raises:
        StorageError: The disk is full or not writable.
    """
    at = Configuration(parent.box, parent.species, parent.unwrapped + arrays["displacement"], parent.species_names)
    frame = frame_of(at, run)
    log = {_CHUNKS[name]: values.reshape(len(values), -1) for name, values in arrays.items()}  # GSD has rows
    facts = {
        "input": request.structure,
        "parent_content": content_of(parent),
        "protocol": None if request.protocol is None else request.protocol.to_dict(),
        "seed": request.seed,
        **facts,
    }
    run.commit(key, [Frame(frame.configuration, 0, {**frame.log, **log})], facts)


def _parent(run: RunDirectory, key: StructureKey) -> Configuration:
    entry = run.entry("parents", key.of.name)
    if entry is None:
        raise RunError(f"found no parent {key.of.name} in {run.path}", "a committed parent", "simulate or import it")
    return entry.read([0])[0].configuration


def _made(
    request: Request,
    engine: Engine,
    parents: Sequence[Configuration],
    mixture: Mixture,
    temperature: float,
    check: Callable[[], None] | None,
) -> Iterator[tuple[int, Made]]:
    """Index into `parents` and what was made of it, as the engine finishes them."""
    whole = [index for index, parent in enumerate(parents) if not to_be_cut(engine, parent)]
    yield from _made_by(request, engine, {"ranks": 1}, parents, whole, mixture, temperature, check)
    for index in sorted(set(range(len(parents))) - set(whole)):
        suited, cost = cut(engine, parents[index], mixture)
        yield from _made_by(request, suited, cost, parents, [index], mixture, temperature, check)


def _made_by(
    request: Request,
    engine: Engine,
    cost: dict[str, Any],
    parents: Sequence[Configuration],
    indices: Sequence[int],
    mixture: Mixture,
    temperature: float,
    check: Callable[[], None] | None,
) -> Iterator[tuple[int, Made]]:
    """:func:`_made` of some of the parents, at a cost that is a fact of each."""
    if request.structure == "inherent":
        for index in indices:
            minimum = engine.minimise(parents[index], mixture, check=check)
            arrays = {"displacement": _kept(minimum.positions - parents[index].unwrapped)}
            found = {"potential_energy": minimum.potential_energy, "residual_force": minimum.residual_force}
            yield index, Made(arrays, {"steps": minimum.evaluations, **found, **cost})
        return
    some = [parents[index] for index in indices]
    for number, cage in cages_of(engine, some, mixture, temperature, request.protocol, seed=request.seed, check=check):
        arrays = {
            "displacement": _kept(cage.positions - some[number].unwrapped),
            "replica_means": _kept(cage.rattling.means),
            "covariance": _kept(cage.rattling.within),
            "replica_variances": _kept(cage.rattling.variances),
        }
        yield indices[number], Made(arrays, {"steps": cage.steps, **cost})


def _kept(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """As positions are kept in GSD files: single precision, of numbers that are small here."""
    return np.ascontiguousarray(values, np.float32)


def read_structure(
    run: RunDirectory, parent: Configuration, keys: Sequence[StructureKey], temperature: float
) -> Structure:
    """The structures of a parent that are committed.

    Args:
        run: Which has them.
        parent: Their parent.
        keys: Which.
        temperature: ε_AA.

    Raises:
        SegmentError: One is damaged.
        RunError: One is missing, or of another parent.
    """
    found = {}
    for key in keys:
        entry = run.entry("structures", key.name)
        if entry is None:
            raise RunError(f"found no structure {key.name} in {run.path}", "a committed one", "give the command again")
        if entry.sidecar.get("parent_content") != content_of(parent):
            raise RunError(
                f"{entry.path} is of another parent than {key.of.name}", "its parent's own", f"delete {entry.path}"
            )
        log = entry.read([0])[0].log
        shapes = _shapes(parent.n_particles, parent.dimensions)
        found[str(entry.sidecar["input"])] = {
            name: log[at].reshape(shapes[name]) for name, at in _CHUNKS.items() if at in log
        }
    return _assembled(parent, mixture_of(run.identity["mixture"]), temperature, found)


def _shapes(n: int, d: int) -> dict[str, tuple[int, ...]]:
    """Of what is kept of n particles in d dimensions."""
    return {
        "displacement": (n, d),
        "replica_means": (-1, n, d),
        "covariance": (n, d, d),
        "replica_variances": (-1, n),
    }


def structure_of_configuration(
    engine: Engine | None,
    requests: Sequence[Request],
    configuration: Configuration,
    mixture: Mixture,
    temperature: float,
    check: Callable[[], None] | None = None,
    known: dict[str, Made] | None = None,
) -> tuple[Structure, dict[str, Made]]:
    """A configuration that is of no run, with the structures of some requests, and what was made; nothing is kept.

    Args:
        engine: Makes them; None where there is nothing to make.
        requests: Which.
        configuration: Of which.
        mixture: What it is made of.
        temperature: ε_AA.
        check: Called about once a second; what it raises ends it.
        known: What was made of the same configuration before, by the name of its request; what is new is added.

    Raises:
        EngineError: The engine failed.
    """
    made: dict[str, Made] = {}
    known = {} if known is None else known
    for request in requests:
        if request.name in known:
            made[request.structure] = known[request.name]
            continue
        assert engine is not None
        settled, clock = Request(request.structure, request.protocol or CageProtocol(), request.seed), SharedTime(1)
        ((_, one),) = _made(settled, engine, [configuration], mixture, temperature, check)
        made[request.structure] = Made(one.arrays, {**one.facts, **engine.facts, "seconds": clock.take(1)})
        known[request.name] = made[request.structure]
    arrays = {name: of.arrays for name, of in made.items()}
    return _assembled(configuration, mixture, temperature, arrays), made


def _assembled(
    thermal: Configuration, mixture: Mixture, temperature: float, found: Mapping[str, Mapping[str, NDArray[Any]]]
) -> Structure:
    """The same numbers whether they were just made or read: both are as they are kept."""
    arrays = {name: {key: value.astype(np.float64) for key, value in of.items()} for name, of in found.items()}
    at = {name: thermal.unwrapped + of["displacement"] for name, of in arrays.items()}
    rattling = None
    if "replica_means" in (cage := arrays.get("cage", {})):  # published ones say where a cage is, and no more
        rattling = Rattling(cage["replica_means"], cage["covariance"], cage["replica_variances"])
    return Structure(
        thermal=thermal,
        mixture=mixture,
        temperature=temperature,
        inherent=at.get("inherent"),
        cage=at.get("cage"),
        debye_waller=None if rattling is None else rattling.debye_waller,
        rattling=rattling,
    )
