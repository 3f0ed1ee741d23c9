"""All that is measured on a GPU, in the order in which it matters, within a quarter of an hour.

    python benchmarks/gpu_day.py RUN --out FOLDER                  where there is a GPU
    python benchmarks/gpu_day.py RUN --out FOLDER --quick          small, on the CPU, to see that it works
    python benchmarks/gpu_day.py RUN --out FOLDER --stages tests   some of tests, memcheck, processes, packing,
                                                                   kernels, loop, learners, curves, predictions

RUN is a run directory of the ten published configurations with their structures: `glassmd import FILES --format botan
--out RUN`, then `glassmd train RUN --model ridge --input thermal,inherent,cage`, which makes them. What a machine lacks
is said first. Every stage is a process with a time limit, writes its results as they come, and says at the end how it
went; one that fails or takes too long stops no other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
SEEN = "seen: "
"""Before what a test compared."""
NEEDED = ("hoomd", "torch", "torch_geometric", "gsd", "vesin", "pydantic", "e3nn", "pytest", "sklearn", "typer")


@dataclass
class Stage:
    """A command, with what it is given where the GPU is missing.

    Attributes:
        name: Of the stage.
        limit: Seconds.
        command: Arguments of Python.
        on_cpu: More of them with --quick; None: nothing stands in for the GPU.
        on_gpu: More of them without.
        environment: Of the process, with --quick.
    """

    name: str
    limit: float
    command: list[str]
    on_cpu: list[str] | None = field(default_factory=list)
    on_gpu: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def stages(run: Path, out: Path) -> list[Stage]:
    """All of them, the most important first."""
    into = ["--out", str(out)]
    tests = [
        "-m", "pytest", "-m", "gpu", "-q", "-rPfEs", "-n", "6", "-p", "no:cacheprovider", "-o",
        "filterwarnings=default", "-o", "addopts=--strict-markers", str(HERE.parent / "tests" / "gpu"),
    ]  # fmt: skip
    return [
        Stage("tests", 240, tests, environment={"GLASSMD_GPU_STAND_IN": "1"}),
        Stage("memcheck", 100, [str(HERE / "gpu_memcheck.py"), *into, "--limit", "30"], on_cpu=None),
        Stage(
            "processes", 190, [str(HERE / "gpu_packing.py"), str(run), *into, "--parts", "processes"],
            on_cpu=["--device", "cpu", "--quick", "--go-on"], on_gpu=["--device", "gpu", "--limit", "165", "--go-on"],
        ),
        Stage(
            "packing", 235, [str(HERE / "gpu_packing.py"), str(run), *into, "--parts", "packs"],
            on_cpu=["--device", "cpu", "--quick", "--go-on"], on_gpu=["--device", "gpu", "--limit", "200", "--go-on"],
        ),
        Stage("kernels", 60, [str(HERE / "gpu_kernels.py"), str(run), *into], on_cpu=None),
        Stage(
            "loop", 110, [str(HERE / "gpu_loop.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick"], on_gpu=["--device", "gpu", "--limit", "100", *_best(out)],
        ),
        Stage(
            "learners", 150, [str(HERE / "gpu_learners.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick", "--train-steps", "0", "--samples", "1"],
            on_gpu=["--train-steps", "0", "--samples", "2", "--rounds", "2", "--seconds", "1.5"],
        ),
        Stage(
            "curves", 130, [str(HERE / "gpu_curves.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick", "--learners", "se3"], on_gpu=["--seconds", "55"],
        ),
        Stage(
            "predictions", 80, [str(HERE / "gpu_predictions.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick"], on_gpu=["--limit", "60"],
        ),
    ]  # fmt: skip


def _best(out: Path) -> list[str]:
    """What the packing found, so that the loop need not measure it again."""
    found = out / "gpu_packing_gpu.json"
    if not found.exists():
        return []
    best = json.loads(found.read_text(encoding="utf-8"))["conclusions"].get("4096", {}).get("best")
    return [] if best is None else ["--packed", str(best["replicas"]), "--buffer", str(best["buffer"])]


def lacking(*, quick: bool) -> list[str]:
    """What is not here, one line each."""
    found = [f"the package {name}" for name in NEEDED if find_spec(name) is None]
    if not found and not quick:
        from glassmd.engines.hoomd_device import gpu_problem

        if problem := gpu_problem():
            found.append(f"a GPU: {problem}")
    return found


def perform(stage: Stage, out: Path, *, quick: bool) -> dict[str, object]:
    """One stage, its output in a file beside the results."""
    more = stage.on_cpu if quick else stage.on_gpu
    if more is None:
        return {"stage": stage.name, "left_out": "it needs a GPU"}
    command = [sys.executable, "-u", *stage.command, *more]
    environment = {**os.environ, **(stage.environment if quick else {})}
    print(f"== {stage.name}, at most {stage.limit:.0f} s", flush=True)
    began = time.monotonic()
    with (out / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            how = str(process.wait(stage.limit))
        except subprocess.TimeoutExpired:
            how = "stopped at its limit"
        finally:
            _end(process)
    found: dict[str, object] = {"stage": stage.name, "exit_code": how, "seconds": round(time.monotonic() - began, 1)}
    lines = (out / f"{stage.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    if seen := [line.removeprefix(SEEN) for line in lines if line.startswith(SEEN)]:
        found |= {"seen": seen, "summary": lines[-1]}
    print("\n".join(lines[-12:]), flush=True)
    print(f"-- {stage.name}: {how}, {found['seconds']} s", flush=True)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever a stage has left running."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of the ten published configurations")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="small, on the CPU")
    parser.add_argument("--stages", nargs="+", help="some of them; default: all")
    options = parser.parse_args()
    missing = lacking(quick=options.quick)
    if missing or not (options.run / "run.json").exists():
        missing += [] if (options.run / "run.json").exists() else [f"a run directory {options.run}"]
        print("gpu_day.py: this machine lacks " + "; ".join(missing), file=sys.stderr)
        return 2
    from record import record  # what it imports may be missing

    options.out.mkdir(parents=True, exist_ok=True)
    names = [stage.name for stage in stages(options.run, options.out)]
    if unknown := set(options.stages or ()) - set(names):
        print(f"gpu_day.py: found stages {sorted(unknown)}, expected some of {names}", file=sys.stderr)
        return 2
    done = []
    for name in options.stages or names:
        stage = next(one for one in stages(options.run, options.out) if one.name == name)
        done.append(perform(stage, options.out, quick=options.quick))
        record("gpu_day", {"benchmark": "gpu_day", "stages": done}, options.out, show=False)
    return int(any(one.get("exit_code", "0") != "0" for one in done))


if __name__ == "__main__":
    sys.exit(main())
