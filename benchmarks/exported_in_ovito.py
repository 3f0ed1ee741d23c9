"""What OVITO's readers make of exported runs: species, box and propensity; in an environment with `ovito`.

glassmd export RUN --format lammps --out FOLDER
QT_QPA_PLATFORM=offscreen python benchmarks/exported_in_ovito.py FOLDER/L0000.dump
"""

from __future__ import annotations

import sys

import numpy as np
from ovito.io import import_file


def main() -> None:
    for path in sys.argv[1:]:
        data = import_file(path).compute(0)
        particles = data.particles
        counts = np.bincount(np.array(particles.particle_types))
        species = {kind.name: int(counts[kind.id]) for kind in particles.particle_types.types}
        labels = {
            name: float(np.mean(np.array(particles[name])))
            for name in particles.keys()  # noqa: SIM118  (no dictionary)
            if name.startswith("propensity") and "variance" not in name
        }
        print(path, "box", np.diag(np.array(data.cell)[:, :3]).tolist(), "species", species, "means", labels)


if __name__ == "__main__":
    main()
