"""How many short replicas a cage takes: ridge regression on all inputs, with cages of ever more replicas.

The cage of every parent is measured once, over many replicas; fewer are disjoint parts of them. Lineages are left out
as in the assessment (a fifth at a time), A particles, all replicas of the labels. What one draw of replicas happens to
give differs from the next, so every number is a mean over draws, with their spread beside it.

python benchmarks/cage_replicas.py RUN [--protocol 64,5,0.01 --protocol 32,2.5,0.01]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from assessment_data import RECIPE, Liquid, distances, folds_of
from assessment_learners import Growing, scores
from numpy.typing import NDArray
from record import record

from glassmd.engines import Engine, get_engine
from glassmd.features import describe, displacement_features
from glassmd.features.rattling import rattling_features
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.structures import Cage, CageProtocol, cages_of
from glassmd.stream.dataset import open_run
from glassmd.stream.structures import Structures
from glassmd.structure import INPUTS, Rattling, Structure

DRAWS = 4
COLUMNS = "all + rattling"


class Overheard:
    """An engine of one parent's replicas that remembers the covariance of the position within each."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.packed = engine, engine.packed
        self._seen: dict[int, NDArray[np.float64]] = {}

    def rattling(self, *systems: Any, **how: Any) -> Iterator[Any]:
        for one in self._engine.rattling(*systems, **how):
            self._seen[one.system] = one.covariance
            yield one

    def covariances(self) -> NDArray[np.float64]:
        """(n_replicas, n_particles, d, d), σ_AA²."""
        return np.array([self._seen[system] for system in sorted(self._seen)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="imported or simulated, with labels; inherent structures are kept in it")
    parser.add_argument("--protocol", action="append", help="replicas, length and time step, repeatable")
    parser.add_argument("--fewest", type=int, default=4, help="replicas of a draw")
    given = parser.parse_args()
    structures, liquids = load(given.run)
    engine = get_engine("lammps")
    told: dict[str, Any] = {"engine": engine.facts, "configurations": len(liquids), "draws_at_most": DRAWS}
    for asked in given.protocol or ["64,5,0.01", "32,2.5,0.01"]:
        replicas, length, step = (float(number) for number in asked.split(","))
        protocol = CageProtocol(replicas=int(replicas), time=length, time_step=step)
        told[asked] = measured(engine, protocol, structures, liquids, given.fewest)
        record("cage_replicas", told)


def load(path: Path) -> tuple[list[Structure], list[Liquid]]:
    """Every labelled parent with its inherent structure, described but for its cage."""
    run, directory = open_run(path), RunDirectory.open(path)
    kept, samples = Structures([run], ("thermal", "inherent")), run.samples()
    kept.make([sample.key for sample in samples], RunSettings())
    structures, liquids = [], []
    for sample in samples:
        structure = kept.of(sample)
        moved, times = distances(directory, (sample.key.lineage, sample.key.parent))
        species = structure.thermal.species.astype(np.int64)
        nothing = np.zeros((2, 0), np.int64), np.zeros((0, 0), np.float32)
        groups = {"inherent": _described(structure, "inherent")}
        liquids.append(Liquid(species, groups, nothing, moved, times, {}, structure, sample.key.lineage, sample.role))
        structures.append(structure)
    return structures, liquids


def measured(
    engine: Engine, protocol: CageProtocol, structures: Sequence[Structure], liquids: Sequence[Liquid], fewest: int
) -> dict[str, Any]:
    """ρ_A by number of replicas, and what each doubling gains."""
    started, cages, covariances = time.perf_counter(), [], []
    for k, one in enumerate(structures):
        overheard: Any = Overheard(engine)
        cages += dict(cages_of(overheard, [one.thermal], one.mixture, one.temperature, protocol)).values()
        covariances.append(overheard.covariances())
        print(f"{protocol.replicas} x {protocol.time:g}: cage {k + 1} of {len(structures)}", flush=True)
    seconds = (time.perf_counter() - started) / len(structures)
    found: dict[int, NDArray[np.float64]] = {}
    number = protocol.replicas
    while number >= fewest:
        draws = [range(k * number, (k + 1) * number) for k in range(min(DRAWS, protocol.replicas // number))]
        parts = list(zip(structures, cages, covariances, liquids, strict=True))
        found[number] = np.array([_scores([_with(*of, draw) for of in parts]) for draw in draws])
        print(f"{number} replicas: {found[number].mean(axis=1).round(4).tolist()}", flush=True)
        number //= 2
    return {
        "protocol": protocol.to_dict(),
        "seconds_per_configuration": round(seconds, 1),
        "debye_waller": float(np.mean([cage.rattling.debye_waller.mean() for cage in cages])),
        "replicas": {
            str(number): {
                "rho": _mean_error(of.mean(axis=0)),
                "by_draw": of.mean(axis=1).round(4).tolist(),
                "gain_of_twice": _mean_error(found[2 * number].mean(axis=0) - of.mean(axis=0))
                if 2 * number in found
                else None,
            }
            for number, of in sorted(found.items())
        },
    }


def _with(structure: Structure, cage: Cage, covariances: NDArray[np.float64], liquid: Liquid, draw: range) -> Liquid:
    """The liquid with the columns of a cage that is averaged over some of the replicas only."""
    means = cage.rattling.means[draw]
    moved = means.mean(axis=0)
    rattling = Rattling.of_replicas(means - moved, covariances[draw])
    seen = replace(structure, cage=cage.positions + moved, rattling=rattling, debye_waller=rattling.debye_waller)
    count = RECIPE.generations
    groups = {
        "inherent": liquid.groups["inherent"],
        "cage": _described(seen, "cage"),
        "moved all": displacement_features(seen, inputs=INPUTS, count=count),
        "rattling": rattling_features(seen, count=count),
    }
    return replace(liquid, groups=groups)


def _described(structure: Structure, name: str) -> NDArray[np.float32]:
    thermal = structure.thermal
    return describe(structure.positions(name), thermal.box, thermal.species, structure.mixture, RECIPE)


def _scores(liquids: Sequence[Liquid]) -> list[float]:
    """ρ_A of each configuration from those of the other folds."""
    found = dict.fromkeys(range(len(liquids)), np.nan)
    for test, train in folds_of(liquids):
        learner = Growing(COLUMNS, 1)
        for k in train:
            learner.add(liquids[k], liquids[k].truth()[:, None])
        learner.solve()
        predicted = [learner.predict(liquids[k])[:, 0] for k in test]
        found.update(zip(test, scores(predicted, [liquids[k] for k in test]), strict=True))
    return list(found.values())


def _mean_error(values: NDArray[np.float64]) -> list[float]:
    """Mean over configurations and its standard error."""
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1) / len(values) ** 0.5), 4)]


if __name__ == "__main__":
    main()
