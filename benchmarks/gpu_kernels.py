"""Where the time of a packed step goes on a GPU, kernel by kernel.

    python benchmarks/gpu_kernels.py RUN

RUN is a run directory whose first parent is measured with. Kernels run side by side on several streams, so that their
times add up to more than the step took. torch's profiler sees those of HOOMD-blue as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command import folder_of, parser_of, run
from packs import Pack
from record import record
from torch.profiler import ProfilerActivity, profile

from glassmd.engines.hoomd import HoomdEngine
from glassmd.mixtures import mixture_of
from glassmd.stream.dataset import open_run

STEPS, WARM_UP = 400, 2500
PACKS: tuple[tuple[Any, int, float], ...] = (
    ("Tree", 1, 0.4), ("Cell", 1, 0.4), ("Tree", 16, 0.4), ("Tree", 16, 0.8), ("Tree", 32, 0.8),
)  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument("run", type=Path, help="run directory")
    options = parser.parse_args()
    opened = open_run(options.run)
    mixture, temperature = mixture_of(opened.identity["mixture"]), float(opened.identity["temperature"])
    result: dict[str, Any] = {"benchmark": "gpu_kernels", "device_name": HoomdEngine("gpu").device, "packs": []}
    for name, count, buffer in PACKS:
        pack = Pack(
            "gpu", mixture, opened.samples()[0].parent, range(count),
            neighbor_list=name, buffer=buffer, temperature=temperature,
        )  # fmt: skip
        pack.rate(WARM_UP)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            speed = pack.rate(STEPS)
        kernels = sorted(seen.key_averages(), key=lambda one: -one.device_time_total)
        result["packs"].append(
            {
                "neighbor_list": name,
                "replicas": count,
                "buffer": buffer,
                "step_us_while_profiled": round(count / speed * 1e6, 1),
                "kernels": [
                    {
                        "kernel": one.key.split("<")[0].split("(")[0].removeprefix("void "),
                        "us_per_step": round(one.device_time_total / STEPS, 2),
                        "calls_per_step": round(one.count / STEPS, 2),
                    }
                    for one in kernels[:8]
                ],
            }
        )
        record("gpu_kernels", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
