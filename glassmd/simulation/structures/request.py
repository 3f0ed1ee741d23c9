"""What structures somebody wants of every parent of a run.

Whoever needs structures leaves a request in the run directory; the workers that simulate look there for work as they
look at the run's settings::

    RUN/requests/inherent.json
    RUN/requests/cage-1f2e3d4c.json      one per protocol and seed
    RUN/requests/cage.json               a cage as long as the liquid allows, which its first parent tells
    RUN/requests/cage-8-replicas.json    the same of so many replicas

Published cages that came with the data answer a request that leaves everything to the run, unless it asks for more than
positions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glassmd.errors import InputError, RunError
from glassmd.ledger.run import ParentKey, RunDirectory, StructureKey
from glassmd.simulation.structures.protocol import CageProtocol, protocol_of
from glassmd.storage import check_seal, read_json, sealed, write_json
from glassmd.structure import INPUTS

__all__ = ["CAGE", "CAGE_SEED", "Request", "ask", "has_published_cages", "requests_for", "requests_of"]

CAGE_SEED = 0
"""Of all cages: trainings with several seeds see the same positions, which are simulated once."""


@dataclass(frozen=True)
class Request:
    """A structure that is wanted of every parent.

    Attributes:
        structure: `inherent` or `cage`.
        protocol: How a cage is measured; None leaves it to the run (:func:`protocol_of`).
        seed: Of a cage.
        replicas: Of a cage whose protocol is left to the run; None leaves them to it as well.
        rattling: Of a cage: how the particles shake in it is wanted, too, which published ones do not tell.
        published: The cage that was published with the parent, whose protocol is unknown.
        shortest: Of a cage whose protocol is left to the run: the shortest time that is to be predicted from it,
            √(mσ²/ε); None: the first time of the run, or what whoever reads it has chosen.

    Example:
        >>> Request("inherent").name, Request("cage", CageProtocol()).name, Request("cage").name
        ('inherent', 'cage-9c84548b', 'cage')
    """

    structure: str
    protocol: CageProtocol | None = None
    seed: int = CAGE_SEED
    replicas: int | None = None
    rattling: bool = False
    published: bool = False
    shortest: float | None = None

    @property
    def takes_published(self) -> bool:
        """Whether a published cage is an answer."""
        left_open = self.protocol is None and self.replicas is None and not self.rattling
        return self.structure == "cage" and (self.published or left_open)

    @property
    def name(self) -> str:
        """Of its file, and at the end of the names of what is made for it where it is settled."""
        if self.structure == "inherent" or self.protocol is None:
            replicas = "" if self.replicas is None else f"-{self.replicas}-replicas"
            return self.structure + replicas + ("" if self.shortest is None else f"-from-{self.shortest:g}")
        parameters = {"protocol": self.protocol.to_dict(), "seed": self.seed}
        text = json.dumps(parameters, sort_keys=True)
        return f"{self.structure}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        protocol = None if self.protocol is None else self.protocol.to_dict()
        told: dict[str, Any] = {
            "structure": self.structure,
            "protocol": protocol,
            "seed": self.seed,
            "replicas": self.replicas,
        }
        if self.shortest is not None:
            told["shortest"] = self.shortest
        return told | {name: True for name in ("rattling", "published") if getattr(self, name)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Request:
        """What :meth:`to_dict` gave."""
        protocol = None if stored["protocol"] is None else CageProtocol.from_dict(stored["protocol"])
        more = {name: bool(stored.get(name, False)) for name in ("rattling", "published")}
        shortest = stored.get("shortest")
        return cls(stored["structure"], protocol, stored["seed"], stored.get("replicas"), shortest=shortest, **more)

    def settled(self, run: RunDirectory) -> Request | None:
        """The same with the protocol that it gets in a run; None while no parent is there to tell."""
        if self.structure == "inherent" or self.protocol is not None or self.published:
            return self
        if self.takes_published and has_published_cages(run):
            return Request("cage", published=True)
        protocol = protocol_of(run, self.shortest if self.shortest is not None else run.shortest)
        if protocol is None:
            return None
        return Request(self.structure, replace(protocol, replicas=self.replicas or protocol.replicas), self.seed)

    def key(self, parent: ParentKey) -> StructureKey:
        """Of the structure of a parent."""
        return StructureKey(*parent, self.name)


CAGE = Request("cage")
"""A cage as each run's liquid allows."""


def has_published_cages(run: RunDirectory) -> bool:
    """Whether cages came with the data of a run, as far as this process has heard."""
    name = Request("cage", published=True).name
    if not run.index.log:
        run.poll()
    return run.settings is None and any(
        isinstance(line.key, StructureKey) and line.key.structure == name for line in run.index.log
    )


def requests_for(inputs: Sequence[str], cage: Request = CAGE) -> tuple[Request, ...]:
    """What a learner with these inputs wants, cheapest first.

    Args:
        inputs: Some of :data:`glassmd.structure.INPUTS`.
        cage: How cages are wanted.

    Raises:
        InputError: A name that no input has.

    Example:
        >>> [request.name for request in requests_for(("cage", "thermal", "inherent"))]
        ['inherent', 'cage']
    """
    for name in inputs:
        if name not in INPUTS:
            raise InputError(f"found input {name!r}", ", ".join(INPUTS), "try --input thermal")
    wanted = [name for name in INPUTS if name in inputs and name != "thermal"]
    return tuple(cage if name == "cage" else Request(name) for name in wanted)


def ask(run: RunDirectory, requests: Sequence[Request]) -> None:
    """Leave requests in a run directory.

    Raises:
        StorageError: It cannot be written to.
    """
    for request in requests:
        path = run.home / "requests" / f"{request.name}.json"
        if not path.exists():
            write_json(path, sealed({**request.to_dict(), "run": run.identity["id"]}), exclusive=True)


def requests_of(run: RunDirectory) -> list[Request]:
    """Everything that is wanted of a run.

    Raises:
        RunError: A request is damaged or of another run.
    """
    folder = run.home / "requests"
    files = folder.glob("*.json") if folder.is_dir() else ()
    paths = [path for path in files if not path.stem.startswith("protocol")]
    return [_request(run, read_json(path), path.stem) for path in sorted(paths, key=lambda path: path.stem[0] != "i")]


def _request(run: RunDirectory, content: Mapping[str, Any], name: str) -> Request:
    path = run.home / "requests" / f"{name}.json"
    check_seal(path, content)
    request = Request.from_dict(content)
    if content["run"] != run.identity["id"] or request.name != name:
        raise RunError(f"{path} is of another run or has another name", "a request made for this run", f"delete {path}")
    return request
