"""Run every benchmark, one after the other; each writes a JSON into benchmarks/results/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("graph_build.py", "bapst_step.py", "engine_lammps.py")

if __name__ == "__main__":
    codes = [subprocess.run([sys.executable, str(HERE / name)], check=False).returncode for name in BENCHMARKS]
    sys.exit(max(codes))
