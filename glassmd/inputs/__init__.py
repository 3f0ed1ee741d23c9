"""What learners are given besides thermal positions: inherent structures and cage positions, cached beside the run."""

from __future__ import annotations

from glassmd.inputs.cage import Cage, cage_of, cages_of
from glassmd.inputs.preparation import InputProgress, missing, prepare
from glassmd.inputs.protocol import CageProtocol, cage_step, protocol_of, shared_protocol
from glassmd.inputs.provider import StructureProvider

__all__ = [
    "Cage",
    "CageProtocol",
    "InputProgress",
    "StructureProvider",
    "cage_of",
    "cage_step",
    "cages_of",
    "missing",
    "prepare",
    "protocol_of",
    "shared_protocol",
]
