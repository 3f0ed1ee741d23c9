"""Simulate a small Kob–Andersen liquid and read its isoconfigurational propensities."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import glassmd

settings = glassmd.RunSettings(
    particles=200, temperature=1.5, lineages=3, parents=1, replicas=4, times=[0.1, 0.5], workers=1, seed=1
)


def main(out: Path) -> None:
    """Simulate into `out` and print what every sample holds."""
    result = glassmd.simulate(settings, out)
    print(f"{result['segments']} segments from {result['engine']} {result['engine_version']}")
    for sample in glassmd.open_run(out).stream():
        of_a = sample.parent.of_species("A")
        print(sample.key, sample.role, sample.n_replicas, sample.propensity[:, of_a].mean(axis=1).round(3))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "run")
