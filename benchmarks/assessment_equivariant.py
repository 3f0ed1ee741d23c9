"""Parents or replicas for an equivariant network, beside a network on descriptors and ridge on the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from time import process_time
from typing import Any

import numpy as np
from assessment_data import Liquid
from assessment_learners import Growing, equivariant, network, scores
from assessment_parts import summary
from numpy.typing import NDArray

__all__ = ["LEARNERS", "PARENTS_REPLICAS", "spent"]

FloatArray = NDArray[np.float64]

PARENTS_REPLICAS = ((12, 2), (3, 8), (6, 4), (12, 8))  # three of 24 trajectories, and everything
LEARNERS = ("se3, inherent", "ridge, inherent", "network, all + rattling", "ridge, all + rattling")


def spent(
    liquids: Sequence[Liquid], time: int, steps: int, seeds: int, cells: Sequence[tuple[int, int]] = PARENTS_REPLICAS
) -> dict[str, Any]:
    """Each learner on each cell: parents of training lineages, tested on those of the test lineages.

    Args:
        liquids: Of a simulated run.
        time: Index of the output time.
        steps: Of both networks, a configuration each.
        seeds: Each with weights, parents and replicas of its own; nested, so that cells share what they can.
        cells: Parents and replicas.
    """
    unseen = [one for one in liquids if one.role == "test"]
    each: dict[str, dict[str, FloatArray]] = {}
    seconds: dict[str, list[float]] = {}
    for n, r in cells:
        found = each[f"{n} x {r}"] = {name: np.zeros((seeds, len(unseen))) for name in LEARNERS}
        for seed in range(seeds):
            chosen, labels = _drawn(liquids, n, r, time, seed)
            for name in LEARNERS:
                began = process_time()
                found[name][seed] = scores(_predicted(name, chosen, labels, unseen, steps, seed), unseen, time)
                seconds.setdefault(name, []).append(process_time() - began)
            print(f"{n} x {r}, seed {seed}:", {k: round(v[seed].mean(), 3) for k, v in found.items()}, flush=True)
    means = {cell: {name: rho.mean(axis=0) for name, rho in found.items()} for cell, found in each.items()}
    return {
        "steps": steps,
        "seeds": seeds,
        "tested_on": len(unseen),
        "ceiling": summary([max(one.reliability(time), 0.0) ** 0.5 for one in unseen]),
        "cells": {cell: {name: summary(rho) for name, rho in found.items()} for cell, found in means.items()},
        "by_seed": {
            cell: {name: rho.mean(axis=1).round(4).tolist() for name, rho in found.items()}
            for cell, found in each.items()
        },
        "between_cells": {
            f"{one} - {other}": {name: summary(means[one][name] - means[other][name]) for name in LEARNERS}
            for one, other in combinations(means, 2)
        },
        "between_learners": {
            cell: {f"{a} - {b}": summary(found[a] - found[b]) for a, b in combinations(LEARNERS, 2)}
            for cell, found in means.items()
        },
        "processor_seconds": {name: round(float(np.mean(taken)), 1) for name, taken in seconds.items()},
    }


def _drawn(liquids: Sequence[Liquid], n: int, r: int, time: int, seed: int) -> tuple[list[Liquid], list[FloatArray]]:
    """Parents of as many lineages as there are, then further ones of the same; the first replicas of an order."""
    generator = np.random.default_rng([seed, 1])
    rank = {lineage: generator.random() for lineage in sorted({one.lineage for one in liquids})}
    train = [one for one in liquids if one.role == "train"]
    turn = {id(one): sum(other.lineage == one.lineage for other in train[:k]) for k, one in enumerate(train)}
    orders = {id(one): generator.permutation(one.distances.shape[1]) for one in train}
    chosen = sorted(train, key=lambda one: (turn[id(one)], rank[one.lineage]))[:n]
    return chosen, [one.label(orders[id(one)][:r], time) for one in chosen]


def _predicted(
    name: str, train: list[Liquid], labels: list[FloatArray], test: list[Liquid], steps: int, seed: int
) -> list[FloatArray]:
    learner, columns = name.split(", ")
    if learner == "se3":
        return equivariant(train, labels, test, steps=steps, seed=seed)
    if learner == "network":
        return network(train, labels, test, columns=columns, steps=steps, seed=seed)
    model = Growing(columns, 1)
    for one, y in zip(train, labels, strict=True):
        model.add(one, y[:, None])
    model.solve()
    return [model.predict(one)[:, 0] for one in test]
