"""Run every benchmark, one after the other; each writes its results into benchmarks/results/.

    python benchmarks/run_all.py            what takes minutes each
    python benchmarks/run_all.py --long     also the physics of the hoomd engine, about an hour on a core

Those of HOOMD-blue run where it is installed, on the GPU where it can use one. `gpu_learners.py` is not among them: it
wants a run directory to train on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from glassmd.engines.hoomd_device import gpu_problem
from glassmd.errors import EngineError

HERE = Path(__file__).parent
BENCHMARKS = ("graph_build.py", "bapst_step.py", "engine_lammps.py", "beside_workers.py")
OF_HOOMD = ("hoomd_packing.py", "hoomd_engine.py", "hoomd_against_lammps.py")
ON_A_GPU = ("gpu_packing.py",)
LONG = ("hoomd_physics.py",)


def commands(*, long: bool) -> list[list[str]]:
    """What to run, with arguments."""
    chosen = [[name] for name in BENCHMARKS]
    try:
        device = "cpu" if gpu_problem() else "gpu"
    except EngineError as error:
        print(f"left out {', '.join(OF_HOOMD)}: {error}", flush=True)
        return chosen
    names = (*OF_HOOMD, *(ON_A_GPU if device == "gpu" else ()), *(LONG if long else ()))
    return [*chosen, *([name, "--device", device] for name in names)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also what takes longer than half an hour")
    codes = []
    for command in commands(long=parser.parse_args().long):
        print(f"== {' '.join(command)}", flush=True)
        codes.append(subprocess.run([sys.executable, str(HERE / command[0]), *command[1:]], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
