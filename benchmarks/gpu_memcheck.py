"""Reads and writes beyond the arrays of a packed simulation, as NVIDIA's compute-sanitizer sees them.

    python benchmarks/gpu_memcheck.py               where there are a GPU and compute-sanitizer

One of 19 packs of `gpu_packing.py` ended with an illegal memory access. Systems of 1024 particles, 8, 2 and 1 of them,
go a few steps with each neighbour list under the memory checker, which names the kernel that misbehaves. They are
melted on the CPU beforehand: kernels are many times slower under it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from command import folder_of, parser_of, run
from liquid import simulated_liquid
from packs import Pack
from record import record

from glassmd.engines.hoomd import HoomdEngine
from glassmd.errors import EngineError
from glassmd.mixtures import get_mixture
from glassmd.trajectory import Frame, write_frames
from glassmd.trajectory.trajectory import read_configuration

STEPS, PACKS = 60, (("Tree", 8), ("Tree", 2), ("Tree", 1), ("Cell", 1))


def inner(name: Any, count: int, melt: Path) -> None:
    """What is watched."""
    mixture, parent = get_mixture("kob-andersen"), read_configuration(melt)
    pack = Pack("gpu", mixture, parent, range(count), neighbor_list=name, buffer=0.4)
    print(f"{pack.rate(STEPS):.0f} replica-steps/s under the checker")


def said_by(command: list[str], limit: float, log: Path) -> list[str]:
    """What a command has printed when it ends, or is ended with all that it has started."""
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(max(limit, 1.0))
            ending = []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ending = [f"stopped after {limit:.0f} s"]
    return [*log.read_text(encoding="utf-8", errors="replace").splitlines(), *ending]


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument(
        "--inner", nargs=3, metavar=("LIST", "SYSTEMS", "MELT"), help="what this script calls itself with"
    )
    parser.add_argument("--limit", type=float, default=240.0, help="seconds of all")
    options = parser.parse_args()
    if options.inner:
        inner(options.inner[0], int(options.inner[1]), Path(options.inner[2]))
        return
    began = time.monotonic()
    checker = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if checker is None:
        raise EngineError("found no compute-sanitizer", "NVIDIA's memory checker", "it comes with the CUDA toolkit")
    result: dict[str, Any] = {"benchmark": "gpu_memcheck", "device_name": HoomdEngine("gpu").device, "packs": []}
    with tempfile.TemporaryDirectory() as place:
        melt = Path(place) / "melt.gsd"
        write_frames(melt, [Frame(simulated_liquid(HoomdEngine("cpu"), 1024, 0.8, steps=200), 0, {}, None)])
        for number, (name, count) in enumerate(PACKS):
            limit = (options.limit - (time.monotonic() - began)) / (len(PACKS) - number)
            command = [checker, "--print-limit", "5", sys.executable, __file__, "--inner", name, str(count), str(melt)]
            said = said_by(command, limit, Path(place) / "said")
            result["packs"].append({"neighbor_list": name, "systems": count, "said": said[-40:]})
            print(name, count, said[-1] if said else "", flush=True)
            record("gpu_memcheck", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
