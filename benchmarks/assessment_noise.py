"""The questions of the assessment that need no training: how much of a gap is noise, and what a prediction costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from math import erfc
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from assessment_data import Liquid
from assessment_learners import Growing
from assessment_parts import FULL, summary
from numpy.typing import NDArray

from glassmd.learners.glassnet.bond_network import BondNetwork
from glassmd.ledger.run import RunDirectory
from glassmd.metrics import intraclass_correlation
from glassmd.published import published_scores
from glassmd.simulation.structures import protocol_of

__all__ = ["cost", "noise"]

FloatArray = NDArray[np.float64]

COMPARED = ("BOTAN", "GlassMLP", "CAGE", "SE3", "EIGNN-cage")
SETS = (5, 10, 100)  # test configurations
OURS = ("thermal + inherent", "cage", "all", FULL)  # ridge models about as accurate as the published ones
DRAWS = 20_000


def noise(results: Path) -> dict[str, Any]:
    """How far a mean ρ over a few configurations strays, and which published gaps that could make.

    The spread between configurations is that of our ridge models on the ten: the published per-configuration values
    are not available. Unpaired: two methods on different configurations. Paired: on the same ones, as the published
    ones were; the spread of a difference is that between two of our models.
    """
    found = json.loads((results / "assessment_inputs.json").read_text(encoding="utf-8"))
    each = {name: np.array(found["rho"][name]["each"]) for name in OURS}
    ceiling = np.array(found["ceiling"]["each"])
    generator = np.random.default_rng(0)
    single = {name: _bootstrap(values, generator) for name, values in each.items()}
    pairs = {f"{b} - {a}": _bootstrap(each[b] - each[a], generator) for a, b in combinations(OURS, 2)}
    unpaired = 2**0.5 * float(np.mean([one["sd"] for one in single.values()]))
    paired = [one["sd"] for one in pairs.values()]
    values = published_scores({"name": "kob-andersen", "dimensions": 3}, {0.44}, [4120.0])["per-configuration"]
    rho = {name: float(values[name][0]) for name in COMPARED}
    gaps = {}
    for one, other in combinations(COMPARED, 2):
        gap = rho[other] - rho[one]
        gaps[f"{other} - {one}"] = {
            "gap": round(gap, 3),
            **{
                f"{m}": {
                    "unpaired_sigmas": _sigmas(gap, unpaired, m),
                    "paired_sigmas": [_sigmas(gap, max(paired), m), _sigmas(gap, min(paired), m)],
                    "wrong_order_unpaired": _wrong(gap, unpaired, m),
                    "wrong_order_paired_widest": _wrong(gap, max(paired), m),
                }
                for m in SETS
            },
        }
    mean_ceiling = float(ceiling.mean())
    return {
        "standard_error_of_a_mean": single,
        "standard_error_of_a_paired_difference": pairs,
        "sd_unpaired_difference": round(unpaired, 4),
        "sd_paired_difference": [round(min(paired), 4), round(max(paired), 4)],
        "published": rho,
        "published_over_ceiling": {name: round(value / mean_ceiling, 3) for name, value in rho.items()},
        "ceiling": summary(ceiling),
        "ours_over_ceiling": {name: summary(values / ceiling) for name, values in each.items()},
        "correlation_of_rho_with_ceiling": {
            name: round(float(np.corrcoef(values, ceiling)[0, 1]), 3) for name, values in each.items()
        },
        "gaps": gaps,
    }


def _bootstrap(values: FloatArray, generator: np.random.Generator) -> dict[str, Any]:
    errors = {
        f"{m}": round(float(generator.choice(values, (DRAWS, m)).mean(axis=1).std()), 4) for m in SETS
    }  # of so many configurations drawn from ours, with replacement
    return {"mean": round(float(values.mean()), 4), "sd": round(float(values.std(ddof=1)), 4), "error": errors}


def _sigmas(gap: float, sd: float, m: int) -> float:
    return round(gap / (sd / m**0.5), 1)


def _wrong(gap: float, sd: float, m: int) -> float:
    """Probability that the better one scores lower, normal."""
    return round(0.5 * erfc(gap / (sd / m**0.5) / 2**0.5), 4)


def cost(run: RunDirectory, liquids: Sequence[Liquid]) -> dict[str, Any]:
    """One prediction against the replicas that it replaces.

    A prediction whose correlation with the noiseless propensity is ρ/√r is as good as a label of R replicas with
    √r_R = ρ/√r: so many replicas it is worth.
    """
    protocol = protocol_of(run)
    label = {"replicas": liquids[0].distances.shape[1], "time": float(liquids[0].times[0]), "time_step": 0.005}
    per_replica = round(label["time"] / label["time_step"])
    cages, minima = (_recorded(run.path / "inputs", pattern) for pattern in ("cage-*", "inherent"))
    speed = cages["steps"] / cages["seconds"]
    seconds = {name: round(float(np.mean([one.seconds[name] for one in liquids])), 2) for name in liquids[0].seconds}
    told = {
        "label": label | {"replica_steps": label["replicas"] * per_replica},
        "cage": cages | {"replica_steps": protocol.replica_steps},
        "inherent": minima,
        "replica_steps_per_second": round(speed, 1),
        "label_seconds_at_that_speed": round(label["replicas"] * per_replica / speed),
        "input_share_of_label": (protocol.replica_steps + minima["steps"]) / (label["replicas"] * per_replica),
        "descriptor_seconds": seconds,
        "inference_seconds": _inference(liquids),
    }
    found = json.loads((Path(__file__).parent / "results" / "assessment_inputs.json").read_text(encoding="utf-8"))
    worth = {}
    for name in ("thermal", "inherent", "cage", FULL):
        replicas = [_worth(rho, one) for rho, one in zip(found["rho"][name]["each"], liquids, strict=True)]
        worth[name] = {**summary(replicas), "median": round(float(np.median(replicas)), 1)}
    return {**told, "worth_in_replicas": worth, "replica_steps_per_replica": per_replica}


def _worth(rho: float, liquid: Liquid) -> float:
    r = liquid.reliability()
    kappa = intraclass_correlation(r, liquid.distances.shape[1])
    true = rho**2 / r
    return float(true / (1 - true) * (1 - kappa) / kappa)


def _recorded(inputs: Path, pattern: str) -> dict[str, float]:
    sidecars = [json.loads(path.read_text(encoding="utf-8")) for path in inputs.glob(f"{pattern}/*.json")]
    mean = {key: float(np.mean([one[key] for one in sidecars])) for key in ("steps", "seconds")}
    return {**mean, "least_seconds": float(min(one["seconds"] for one in sidecars)), "of": len(sidecars)}


def _inference(liquids: Sequence[Liquid]) -> dict[str, float]:
    """Seconds for one configuration, the best of three: weights do not matter."""
    model = Growing(FULL, 1)
    model.add(liquids[0], liquids[0].truth()[:, None])
    model.solve()
    one, x = liquids[0], liquids[0].columns(FULL)
    net = BondNetwork(n_nodes=x.shape[1], n_bonds=one.bonds[1].shape[1], n_species=2, n_times=1).eval()
    given = (torch.from_numpy(part) for part in (x, one.species, *one.bonds))
    nodes, species, edges, bonds = given
    taken: dict[str, list[float]] = {"ridge": [], "one network": []}
    for _ in range(3):
        start = perf_counter()
        model.predict(one)
        taken["ridge"].append(perf_counter() - start)
        start = perf_counter()
        with torch.no_grad():
            net(nodes, species, edges, bonds)
        taken["one network"].append(perf_counter() - start)
    return {name: round(min(values), 3) for name, values in taken.items()}
