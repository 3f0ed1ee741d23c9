"""Names of what a run is made of: parents, structures of parents, and blocks of replicas."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from glassmd.errors import SegmentError

__all__ = ["KINDS", "Key", "Kind", "ParentKey", "SegmentKey", "StructureKey", "key_of"]

Kind = Literal["parents", "structures", "segments"]

KINDS: tuple[Kind, ...] = ("parents", "structures", "segments")
"""Of entries, and the names of their folders."""

_NAME = re.compile(r"L(\d{4,9})-P(\d{4,9})(?:-B(\d{4,9})|-([a-z]+(?:-[0-9a-f]{8})?))?")


class ParentKey(NamedTuple):
    """A parent configuration: number `parent` of lineage number `lineage`."""

    lineage: int
    parent: int

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"L{self.lineage:04d}-P{self.parent:04d}"

    @property
    def of(self) -> ParentKey:
        """The parent: itself."""
        return self

    @property
    def kind(self) -> Kind:
        """Which folder it is in."""
        return "parents"


class StructureKey(NamedTuple):
    """What was derived from a parent: `inherent`, or a cage with the digest of how it was measured."""

    lineage: int
    parent: int
    structure: str

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"{self.of.name}-{self.structure}"

    @property
    def of(self) -> ParentKey:
        """The parent."""
        return ParentKey(self.lineage, self.parent)

    @property
    def kind(self) -> Kind:
        """Which folder it is in."""
        return "structures"


class SegmentKey(NamedTuple):
    """Block number `block` of the replicas of a parent."""

    lineage: int
    parent: int
    block: int

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"{self.of.name}-B{self.block:04d}"

    @property
    def of(self) -> ParentKey:
        """The parent."""
        return ParentKey(self.lineage, self.parent)

    @property
    def kind(self) -> Kind:
        """Which folder it is in."""
        return "segments"


Key = ParentKey | StructureKey | SegmentKey


def key_of(name: str) -> Key:
    """The key that has a name.

    Raises:
        SegmentError: No key has that name.

    Example:
        >>> key_of("L0001-P0000-B0002")
        SegmentKey(lineage=1, parent=0, block=2)
        >>> key_of("L0001-P0000-inherent").of
        ParentKey(lineage=1, parent=0)
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SegmentError(f"found an entry named {name[:60]!r}", "a name such as L0000-P0000-B0000", "move it away")
    lineage, parent = int(found[1]), int(found[2])
    if found[3] is not None:
        return SegmentKey(lineage, parent, int(found[3]))
    return ParentKey(lineage, parent) if found[4] is None else StructureKey(lineage, parent, found[4])
