"""How a model wants the cages of a liquid to be measured."""

from __future__ import annotations

import math
from dataclasses import replace

from glassmd.models.card import ModelCard
from glassmd.models.clock import tau_alpha_at
from glassmd.simulation.structures import CAGE, CageProtocol, Request, is_published

__all__ = ["cages_at"]

_SAME_TEMPERATURE = 1e-3  # relative


def cages_at(card: ModelCard, temperature: float) -> Request:
    """As in the training at the nearest temperature; between two, cages last in proportion to τ_α.

    Args:
        card: Of the model.
        temperature: Of the liquid, ε_AA.
    """
    known = card.cage_protocols
    if not known:
        return CAGE
    nearest = min(known, key=lambda name: abs(float(name) - temperature))
    if is_published(known[nearest]):
        return Request("cage", published=True)
    protocol, tau = CageProtocol.from_dict(known[nearest]), tau_alpha_at(card, temperature)
    if tau is None or len(known) == 1 or math.isclose(float(nearest), temperature, rel_tol=_SAME_TEMPERATURE):
        return Request("cage", protocol)
    between = CageProtocol.for_state(tau, shortest=card.times[0] * tau)
    return Request("cage", replace(between, replicas=protocol.replicas))
