"""One big snapshot in several ranks: its inherent structure and its cage, with one rank and with more.

    OMP_NUM_THREADS=1 python benchmarks/ranks.py RUN [--engines lammps,hoomd] [--ranks 1,2] [--copies 3] [--replicas 1]

The snapshot is copies of the first parent of RUN (`glassmd import FILE --format botan --truncation force-shifted`)
along every edge, each particle moved a little, so that no two copies go down alike. Ranks need a core each: on a
machine that others use, cpu seconds tell more than seconds, and neither tells how much faster they are.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from glassmd.configuration import Configuration
from glassmd.engines import Engine, get_engine
from glassmd.engines.cutting import cut
from glassmd.mixtures import mixture_of
from glassmd.simulation.structures import CageProtocol, cages_of
from glassmd.stream.dataset import open_run

MOVED = 0.03
"""Standard deviation of a coordinate, σ_AA: a third of what particles rattle at T = 0.44."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--engines", default="lammps,hoomd")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--copies", type=int, default=3, help="along every edge")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--time", type=float, default=5.0, help="of a replica")
    given = parser.parse_args()
    run = open_run(given.run)
    mixture, temperature = mixture_of(run.identity["mixture"]), float(run.identity["temperature"])
    snapshot = copied(run.samples()[0].parent, given.copies)
    protocol = CageProtocol(replicas=given.replicas, time=given.time)
    told: dict[str, Any] = {
        "n_particles": snapshot.n_particles,
        "mixture": f"{mixture.name} ({mixture.truncation})",
        "temperature": temperature,
        "protocol": protocol.to_dict(),
    }
    for name in given.engines.split(","):
        told[name] = of_engine = {"engine": get_engine(name, "cpu").facts}
        first: dict[str, Any] = {}
        for ranks in map(int, given.ranks.split(",")):
            engine, _ = cut(get_engine(name, "cpu", ranks=ranks), snapshot, mixture)
            minimum, cost = measured(lambda engine=engine: engine.minimise(snapshot, mixture))
            of_engine[f"{ranks} ranks, inherent"] = {
                **cost,
                "evaluations": minimum.evaluations,
                "potential_energy": minimum.potential_energy,
                "residual_force": minimum.residual_force,
                **compared(first, "inherent", minimum.positions),
            }
            record("ranks", told)
            cage, cost = measured(lambda engine=engine: the_cage(engine, snapshot, mixture, temperature, protocol))
            of_engine[f"{ranks} ranks, cage"] = {
                **cost,
                "particle_steps_per_second": snapshot.n_particles * cage.steps / cost["seconds"],
                **compared(first, "cage", cage.positions),
            }
            record("ranks", told)


def copied(parent: Configuration, copies: int) -> Configuration:
    """So many copies along every edge, each particle moved."""
    shifts = np.array(list(itertools.product(range(copies), repeat=parent.dimensions))) * parent.box
    positions = (parent.positions + parent.box / 2 + shifts[:, None, :]).reshape(-1, parent.dimensions)
    moved = positions + np.random.default_rng(1).normal(scale=MOVED, size=positions.shape)
    box, species = copies * parent.box, np.tile(parent.species, len(shifts))
    return Configuration(box, species, moved - box / 2, parent.species_names).with_images_zero()


def the_cage(engine: Engine, snapshot: Configuration, *how: Any) -> Any:
    ((_, cage),) = cages_of(engine, [snapshot], *how)
    return cage


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What comes out, and the seconds of the clock and of all processes' cores."""
    started, cpu = time.perf_counter(), cpu_seconds()
    found = work()
    return found, {"seconds": time.perf_counter() - started, "cpu_seconds": cpu_seconds() - cpu}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def compared(first: dict[str, Any], name: str, positions: Any) -> dict[str, float]:
    """How far the particles are from where they were with the first number of ranks."""
    if name not in first:
        first[name] = positions
        return {}
    apart = np.linalg.norm(positions - first[name], axis=1)
    return {
        "median_distance": float(np.median(apart)),
        "largest_distance": float(apart.max()),
        "share_farther_than_0.01": float((apart > 0.01).mean()),
    }


if __name__ == "__main__":
    main()
