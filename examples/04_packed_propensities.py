"""Propensities of parents that are there already, with whichever engine is installed; HOOMD-blue packs them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import glassmd

few = glassmd.RunSettings(
    particles=200, temperature=1.5, lineages=3, parents=1, replicas=1, held_out_replicas=1, times=[0.1], workers=1
)


def main(out: Path) -> None:
    """Make three liquids, then 16 replicas of each that keep nothing but their propensities."""
    glassmd.simulate(few, out / "liquids")
    more = glassmd.RunSettings(
        start=[str(out / "liquids")],  # which says the rest: particles, temperature, lineages
        replicas=16,
        held_out_replicas=16,
        keep="propensities",
        times=[0.1, 0.5, 2.0],
        workers=1,
    )
    result = glassmd.simulate(more, out / "propensities")
    of_a = result["dynamics"]["species"]["A"]
    print(f"{result['replicas']} replicas by {result['engine']} {result['engine_version']} on {result['device']}")
    print("t      ", result["dynamics"]["times"])
    print("⟨|Δr|⟩ ", [round(value, 3) for value in of_a["mean_displacement"]["mean"]])
    print("F_s    ", [round(value, 3) for value in of_a["scattering"]["mean"]])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
