"""What descriptors cost on one core: seconds and memory for each family, each size in a process of its own.

python benchmarks/features.py
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from liquid import liquid_like
from record import record

from glassmd.features import RECIPES, Recipe, describe
from glassmd.features.angular import SCHOENHOLZ_ANGULAR
from glassmd.features.radial import SCHOENHOLZ_RADIAL
from glassmd.mixtures import get_mixture

SIZES = {1000: 5, 4096: 3, 16_384: 2}  # particles, and how often each is described
LARGEST = 65_536  # once, and the recipes only

FAMILIES = {
    "radial, Schoenholz": Recipe(radial=SCHOENHOLZ_RADIAL),
    "angular, Schoenholz": Recipe(angular=(SCHOENHOLZ_ANGULAR,)),
    "physical": Recipe(physical=True),
    "everything, 3 generations": Recipe(
        radial=SCHOENHOLZ_RADIAL,
        angular=(SCHOENHOLZ_ANGULAR,),
        physical=True,
        generations=3,
    ),
    **{f"recipe {name}": recipe for name, recipe in RECIPES.items()},
}


def measure(family: str, n_particles: int, repeats: int) -> dict[str, Any]:
    """Time one family in this process; CPU time too, which other programs on the machine lengthen less."""
    liquid, mixture = liquid_like(n_particles), get_mixture("kob-andersen")
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, cpu, columns = [], [], 0
    for _ in range(repeats):
        wall, process = time.perf_counter(), time.process_time()
        columns = describe(liquid.positions, liquid.box, liquid.species, mixture, FAMILIES[family]).shape[1]
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - process)
    return {
        "n_particles": n_particles,
        "columns": columns,
        "median_s": round(statistics.median(seconds), 3),
        "median_cpu_s": round(statistics.median(cpu), 3),
        "cpu_us_per_particle": round(statistics.median(cpu) / n_particles * 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "of_which_libraries_mb": round(start / 1024),
    }


def in_fresh_process(family: str, n_particles: int, repeats: int) -> dict[str, Any]:
    """The same in a new interpreter, whose peak of memory is this family's."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, family, str(n_particles), str(repeats)]
    done = subprocess.run(command, env={**os.environ, **one_thread}, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    torch.set_num_threads(1)
    families = {name: [in_fresh_process(name, n, k) for n, k in SIZES.items()] for name in FAMILIES}
    for name in RECIPES:
        families[f"recipe {name}"].append(in_fresh_process(f"recipe {name}", LARGEST, 1))
    record("features", {"cores_used": 1, "mixture": "kob-andersen", "families": families})


if __name__ == "__main__":
    main()
