"""How often particles leave their cages."""

from __future__ import annotations

import numpy as np

from glassmd.analysis.hops import p_hop, select_soft_hard
from glassmd.observables.result import Hops, Mean
from glassmd.observables.source import Facts, Stretch

__all__ = ["hops_of"]

_HALF_WINDOW = 5.0
"""Of p_hop, √(mσ²/ε) (Schoenholz et al., Nat. Phys. 12, 469 (2016))."""

_BINS = np.geomspace(1e-3, 10.0, 61)


def hops_of(facts: Facts, stretches: list[Stretch]) -> dict[str, Hops]:
    """Rates of hops and the distribution of p_hop, by species; nothing of stretches that are too short."""
    events: dict[str, list[tuple[int, float]]] = {name: [] for name in facts.names}
    shares = {name: np.zeros(len(_BINS) - 1) for name in facts.names}
    for stretch in stretches:
        half = max(1, round(_HALF_WINDOW / stretch.interval))
        if len(stretch.positions) < 4 * half:
            continue
        found = p_hop(stretch.positions, half)
        for index, name in enumerate(facts.names):
            own = found[:, stretch.species == index]
            if not own.shape[1]:
                continue
            soft = select_soft_hard(own, quiet_frames=len(own)).soft
            known = np.isfinite(own[:, 0]).sum()
            events[name].append((len(soft), known * stretch.interval * own.shape[1]))
            shares[name] += np.histogram(own[np.isfinite(own)], _BINS)[0]
    hops = {}
    for name, counted in events.items():
        if not counted:
            continue
        count, time = sum(n for n, _ in counted), sum(t for _, t in counted)
        rates = [n / t for n, t in counted]
        error = np.std(rates, ddof=1) / np.sqrt(len(rates)) if len(rates) >= 3 else np.sqrt(count) / time
        share = shares[name] / max(1.0, shares[name].sum())
        hops[name] = Hops(Mean(float(count / time), float(error)), share, _BINS)
    return hops
