"""The questions of the assessment that need a training: configurations, replicas, inputs, temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from assessment_data import INPUT_SETS, Liquid, folds_of
from assessment_learners import Growing, network, scores
from numpy.typing import NDArray

__all__ = ["FULL", "grown", "inputs", "networks", "single", "summary", "temperature"]

FloatArray = NDArray[np.float64]

FULL = "all + rattling"
CONFIGURATIONS = (1, 2, 4, 6, 8)
REPLICAS = (1, 2, 4, 8, 16, 32)
ORDERS = 3  # of adding configurations to the training set, each with replicas of its own
CELLS = ((8, 4), (4, 8), (2, 32), (8, 32), (8, 1))  # configurations and replicas of networks, most wanted first


def summary(each: Sequence[float] | FloatArray) -> dict[str, Any]:
    """Mean over configurations, its standard error and every value."""
    values = np.asarray(each, np.float64)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return {"mean": round(float(values.mean()), 4), "error": round(float(error), 4), "each": values.round(4).tolist()}


def grown(liquids: Sequence[Liquid], columns: str) -> dict[str, Any]:
    """Ridge regression, every number of configurations and of replicas at once; mean over the orders.

    Returns:
        `{"8 x 32": summary}` of configurations x replicas, ρ_A against all 32 replicas, and the differences at equal
        numbers of replica trajectories.
    """
    found: dict[tuple[int, int], FloatArray] = {
        (n, r): np.zeros((ORDERS, len(liquids))) for n in CONFIGURATIONS for r in REPLICAS
    }
    for turn in range(ORDERS):
        for number, (test, train) in enumerate(folds_of(liquids)):
            generator = np.random.default_rng([turn, number])
            order = train if turn == 0 else generator.permutation(train).tolist()
            model = Growing(columns, len(REPLICAS))
            for n, k in enumerate(order, 1):
                model.add(liquids[k], _few(liquids[k], generator))
                if n in CONFIGURATIONS:
                    model.solve()
                    predicted = [model.predict(liquids[j]) for j in test]
                    for label, r in enumerate(REPLICAS):
                        rho = scores([one[:, label] for one in predicted], [liquids[j] for j in test])
                        found[n, r][turn, test] = rho
        print(f"ridge, {columns}: order {turn}", flush=True)
    each = {cell: values.mean(axis=0) for cell, values in found.items()}
    told = {f"{n} x {r}": summary(values) for (n, r), values in each.items()}
    return {"columns": columns, "cells": told, "equal_cost": _equal_cost(each)}


def _few(liquid: Liquid, generator: np.random.Generator) -> FloatArray:
    """(n, n_labels): labels of ever more replicas, nested."""
    drawn = generator.permutation(liquid.distances.shape[1])
    return np.stack([liquid.label(drawn[:r]) for r in REPLICAS], axis=1)


def _equal_cost(each: dict[tuple[int, int], FloatArray]) -> dict[str, Any]:
    """More configurations minus more replicas, at the same number of trajectories; paired over configurations."""
    told = {}
    for total in (8, 16, 32, 64):
        cells = sorted((n, r) for n, r in each if n * r == total)
        for one, other in zip(cells[1:], cells[:-1], strict=True):
            told[f"{one[0]} x {one[1]} - {other[0]} x {other[1]}"] = summary(each[one] - each[other])
    return told


def single(liquids: Sequence[Liquid]) -> dict[str, Any]:
    """One training configuration: its penalty by generalised cross-validation, or by leaving particles out.

    Beside them the penalties that are chosen by leaving configurations out of two and of eight.
    """
    rho: dict[str, FloatArray] = {"generalised": np.zeros(len(liquids)), "particles left out": np.zeros(len(liquids))}
    penalties: dict[str, list[float]] = {}
    for number, (test, train) in enumerate(folds_of(liquids)):
        unseen = [liquids[j] for j in test]
        for way, values in rho.items():
            model = Growing(FULL, 1)
            parts = np.random.default_rng(number).integers(5, size=len(liquids[0].species))
            model.add(liquids[train[0]], liquids[train[0]].truth()[:, None], None if way == "generalised" else parts)
            model.solve()
            values[test] = scores([model.predict(one)[:, 0] for one in unseen], unseen)
            penalties.setdefault(way, []).append(model.penalty)
        model = Growing(FULL, 1)
        for n, k in enumerate(train, 1):
            model.add(liquids[k], liquids[k].truth()[:, None])
            if n in (2, 8):
                model.solve()
                penalties.setdefault(f"{n} configurations", []).append(model.penalty)
    return {**{way: summary(values) for way, values in rho.items()}, "penalties": penalties}


def networks(
    liquids: Sequence[Liquid], steps: int, n_folds: int, cells: Sequence[tuple[int, int]] = CELLS
) -> dict[str, Any]:
    """A member of glassnet alone and ridge on the same labels, on the first folds' test configurations."""
    told: dict[str, Any] = {}
    for n, r in cells:
        rho: dict[str, list[float]] = {"network": [], "ridge": [], "mean of both": []}
        for number, (test, train) in enumerate(folds_of(liquids)[:n_folds]):
            generator = np.random.default_rng([0, number, r])
            chosen, unseen = [liquids[k] for k in train[:n]], [liquids[j] for j in test]
            labels = [one.label(generator.permutation(one.distances.shape[1])[:r]) for one in chosen]
            model = Growing(FULL, 1)
            for one, y in zip(chosen, labels, strict=True):
                model.add(one, y[:, None])
            model.solve()
            linear = [model.predict(one)[:, 0] for one in unseen]
            net = network(chosen, labels, unseen, columns=FULL, steps=steps, seed=number)
            both = [_standard(a) + _standard(b) for a, b in zip(linear, net, strict=True)]
            for name, predicted in zip(rho, (net, linear, both), strict=True):
                rho[name] += scores(predicted, unseen)
        told[f"{n} x {r}"] = {
            **{name: summary(values) for name, values in rho.items()},
            "network - ridge": summary(np.subtract(rho["network"], rho["ridge"])),
            "mean of both - ridge": summary(np.subtract(rho["mean of both"], rho["ridge"])),
        }
        print(f"{n} x {r}: {told[f'{n} x {r}']}", flush=True)
    return {"steps": steps, "folds": n_folds, "columns": FULL, "cells": told, "between_cells": between(told)}


def between(cells: dict[str, Any]) -> dict[str, Any]:
    """Paired differences between cells, of the network and of ridge."""
    return {
        f"{one} - {other}": {
            name: summary(np.subtract(cells[one][name]["each"], cells[other][name]["each"]))
            for name in ("network", "ridge")
        }
        for one, other in combinations(cells, 2)
    }


def _standard(values: FloatArray) -> FloatArray:
    return np.asarray((values - values.mean()) / values.std())


def inputs(liquids: Sequence[Liquid]) -> dict[str, Any]:
    """Ridge on every set of inputs, leave two out, and what each step adds."""
    each: dict[str, FloatArray] = {}
    for columns in INPUT_SETS:
        each[columns] = np.zeros(len(liquids))
        for test, train in folds_of(liquids):
            model = Growing(columns, 1)
            for k in train:
                model.add(liquids[k], liquids[k].truth()[:, None])
            model.solve()
            unseen = [liquids[j] for j in test]
            each[columns][test] = scores([model.predict(one)[:, 0] for one in unseen], unseen)
        print(f"{columns}: {each[columns].mean():.4f}", flush=True)
    steps = (
        ("inherent", "thermal"), ("cage", "inherent"), ("thermal + inherent", "inherent"), ("thermal + cage", "cage"),
        ("inherent + cage", "cage"), ("all", "inherent + cage"), (FULL, "all"), (FULL, "inherent"),
        (FULL, "cage + rattling"), ("cage + rattling", "cage"), ("all + rattling + thermal descriptors", FULL),
    )  # fmt: skip
    return {
        "rho": {
            name: {"columns": liquids[0].columns(name).shape[1], **summary(values)} for name, values in each.items()
        },
        "adds": {f"{one} - {other}": summary(each[one] - each[other]) for one, other in steps},
        "reliability": summary([one.reliability() for one in liquids]),
        "ceiling": summary([one.reliability() ** 0.5 for one in liquids]),
    }


def temperature(cold: Sequence[Liquid], hot: Sequence[Liquid]) -> dict[str, Any]:
    """Ridge trained at one temperature and tested at the other, beside the same trained at home.

    At home a parent is predicted from all others (a fifth of the lineages is left out at a time). Descriptors
    are taken as they are, or less their mean and over their standard deviation in each liquid.
    """
    told: dict[str, Any] = {}
    for columns in ("inherent", FULL):
        for standardised in (False, True):
            here, there = _seen(cold, standardised), _seen(hot, standardised)
            row = {"cold from cold": summary(_at_home(here, columns)[0])}
            from_cold, from_hot = _trained(here, columns), _trained(there, columns)
            at_home = _at_home(there, columns)
            hot_guesses = [from_cold.predict(one)[:, 0] for one in there]
            cold_guesses = [from_hot.predict(one) for one in here]
            for k, t in enumerate(hot[0].times.tolist()):
                row[f"cold from hot, t = {t:g}"] = summary(scores([one[:, k] for one in cold_guesses], here))
                row[f"hot, t = {t:g}, from hot"] = summary(at_home[k])
                row[f"hot, t = {t:g}, from cold"] = summary(scores(hot_guesses, there, k))
            told[columns + (", standardised" if standardised else "")] = row
            print(columns, standardised, {key: value["mean"] for key, value in row.items()}, flush=True)
    return told


def _seen(liquids: Sequence[Liquid], standardised: bool) -> list[Liquid]:
    if not standardised:
        return list(liquids)
    made = []
    for one in liquids:
        a = one.species == 0
        groups = {name: (x - x[a].mean(axis=0)) / np.maximum(x[a].std(axis=0), 1e-6) for name, x in one.groups.items()}
        made.append(replace(one, groups=groups))
    return made


def _trained(liquids: Sequence[Liquid], columns: str) -> Growing:
    """On all of them, every time at once."""
    n_times = len(liquids[0].times)
    model = Growing(columns, n_times)
    for one in liquids:
        model.add(one, np.stack([one.truth(k) for k in range(n_times)], axis=1))
    model.solve()
    return model


def _at_home(liquids: Sequence[Liquid], columns: str) -> FloatArray:
    """(n_times, n) of each liquid, from the others."""
    found = np.zeros((len(liquids[0].times), len(liquids)))
    for test, train in folds_of(liquids):
        model = _trained([liquids[k] for k in train], columns)
        unseen = [liquids[j] for j in test]
        guesses = [model.predict(one) for one in unseen]
        for k in range(len(found)):
            found[k, test] = scores([one[:, k] for one in guesses], unseen, k)
    return found
