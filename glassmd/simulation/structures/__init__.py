"""What learners see besides thermal positions: inherent structures and cages, made like everything else of a run."""

from __future__ import annotations

from glassmd.simulation.structures.cage import Cage, cages_of
from glassmd.simulation.structures.making import Made, make_structures, structure_of_configuration
from glassmd.simulation.structures.protocol import CageProtocol, cage_step, inside_cages, is_published, protocol_of
from glassmd.simulation.structures.request import CAGE, Request, ask, requests_for, requests_of

__all__ = [
    "CAGE",
    "Cage",
    "CageProtocol",
    "Made",
    "Request",
    "ask",
    "cage_step",
    "cages_of",
    "inside_cages",
    "is_published",
    "make_structures",
    "protocol_of",
    "requests_for",
    "requests_of",
    "structure_of_configuration",
]
