"""All that is measured on a GPU, in the order in which it matters.

    python benchmarks/gpu_day.py RUN --out FOLDER                  where there is a GPU
    python benchmarks/gpu_day.py RUN --out FOLDER --quick          small, on the CPU, to see that it works
    python benchmarks/gpu_day.py RUN --out FOLDER --stages tests   some of tests, memcheck, processes, packing, kernels,
                                                                   loop, learners, predictions, compiled, curves

RUN is a run directory of the ten published configurations with their structures: `glassmd import FILES --format botan
--out RUN`, then `glassmd train RUN --model ridge --input thermal,inherent,cage`, which makes them. What a machine lacks
is said first, and what has another version than glassmd asks for. Every stage is a process with a time limit, writes
its results as they come, and says at the end how it went; one that fails or takes too long stops no other. `--limit` is
the time that there is for all: a stage that has less than half of its own is left out, and the long trainings, which
are the last, take what there is.
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
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
SEEN = "seen: "
"""Before what a test compared."""
ENDING = 20.0
"""Seconds for what a training does at its end, of two."""
NEEDED = (
    "hoomd", "torch", "torch_geometric", "lightning_fabric", "gsd", "vesin", "pydantic", "pytest", "xdist", "packaging",
)  # fmt: skip


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
        margin: Seconds before its limit at which it comes to an end by itself, where it takes `--limit`.
    """

    name: str
    limit: float
    command: list[str]
    on_cpu: list[str] | None = field(default_factory=list)
    on_gpu: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    margin: float | None = None


def stages(run: Path, out: Path, left: float | None = None) -> list[Stage]:
    """All of them, the most important first.

    Args:
        run: The data.
        out: Folder of the results.
        left: Seconds that the long trainings may take together, if somebody counts.
    """
    into = ["--out", str(out)]
    tests = [
        "-m", "pytest", "-m", "gpu", "-q", "-rPfEs", "-n", "6", "-p", "no:cacheprovider", "-o",
        "filterwarnings=default", "-o", "addopts=--strict-markers", str(HERE.parent / "tests" / "gpu"),
    ]  # fmt: skip
    return [
        Stage("tests", 240, tests, environment={"GLASSMD_GPU_STAND_IN": "1"}),
        Stage("memcheck", 130, [str(HERE / "gpu_memcheck.py"), *into], on_cpu=None, margin=10),
        Stage(
            "processes", 190, [str(HERE / "gpu_packing.py"), str(run), *into, "--parts", "processes"],
            on_cpu=["--device", "cpu", "--quick", "--go-on"], on_gpu=["--device", "gpu", "--go-on"],
            margin=25,
        ),
        Stage(
            "packing", 235, [str(HERE / "gpu_packing.py"), str(run), *into, "--parts", "packs"],
            on_cpu=["--device", "cpu", "--quick", "--go-on"], on_gpu=["--device", "gpu", "--go-on"],
            margin=35,
        ),
        Stage("kernels", 60, [str(HERE / "gpu_kernels.py"), str(run), *into], on_cpu=None),
        Stage(
            "loop", 110, [str(HERE / "gpu_loop.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick"], on_gpu=["--device", "gpu", *_best(out)], margin=10,
        ),
        Stage(
            "learners", 150, [str(HERE / "gpu_learners.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick", "--train-steps", "0", "--samples", "1"],
            on_gpu=["--train-steps", "0", "--samples", "2", "--rounds", "2", "--seconds", "1.5"],
        ),
        Stage(
            "predictions", 150, [str(HERE / "gpu_predictions.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick"], margin=60,
        ),
        Stage(
            "compiled", 240, [str(HERE / "gpu_learners.py"), str(run), "--train-steps", "0", "--samples", "1"],
            on_cpu=["--out", str(out / "compiled"), "--device", "cpu", "--quick", "--learners", "glassmlp",
                    "--variants", "cpu,cpu compiled"],
            on_gpu=["--out", str(out / "compiled"), "--rounds", "2", "--seconds", "1.5", "--compile-limit", "80",
                    "--variants", "cuda,cuda compiled,cuda compiled bfloat16"],
        ),
        Stage(
            "curves", 130, [str(HERE / "gpu_curves.py"), str(run), *into],
            on_cpu=["--device", "cpu", "--quick", "--learners", "se3"],
            on_gpu=["--seconds", f"{(left - ENDING) / 2:.0f}" if left else "55"],
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
    """What is not here and nothing works without, one line each."""
    found = [f"the package {name}" for name in NEEDED if find_spec(name) is None]
    try:
        version("glassmd")
    except PackageNotFoundError:
        found.append("an installed glassmd (try python -m pip install --no-deps --no-build-isolation -e .)")
    if not found and not quick:
        from glassmd.engines.hoomd_device import gpu_problem

        if problem := gpu_problem():
            found.append(f"a GPU: {problem}")
    return found


def unusual() -> list[str]:
    """What glassmd asks for and is not here, or has another version, one line each: some stage may do without."""
    from packaging.requirements import Requirement

    found = []
    for one in map(Requirement, requires("glassmd") or ()):
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(one.name)
        except PackageNotFoundError:
            found.append(f"{one} is not installed")
            continue
        if not one.specifier.contains(there, prereleases=True):
            found.append(f"{one} is {there}")
    return found


def perform(stage: Stage, out: Path, *, quick: bool) -> dict[str, object]:
    """One stage, its output in a file beside the results."""
    more = stage.on_cpu if quick else stage.on_gpu
    if more is None:
        return {"stage": stage.name, "left_out": "it needs a GPU"}
    if stage.margin is not None and not quick:
        more = [*more, "--limit", f"{stage.limit - stage.margin:.0f}"]
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
    parser.add_argument("--limit", type=float, help="seconds for all of them; default: no limit but that of each")
    options = parser.parse_args()
    missing = lacking(quick=options.quick)
    if missing or not (options.run / "run.json").exists():
        missing += [] if (options.run / "run.json").exists() else [f"a run directory {options.run}"]
        print("gpu_day.py: this machine lacks " + "; ".join(missing), file=sys.stderr)
        return 2
    from record import record  # what it imports may be missing

    for line in unusual():
        print(f"gpu_day.py: {line}", file=sys.stderr)

    options.out.mkdir(parents=True, exist_ok=True)
    names = [stage.name for stage in stages(options.run, options.out)]
    if unknown := set(options.stages or ()) - set(names):
        print(f"gpu_day.py: found stages {sorted(unknown)}, expected some of {names}", file=sys.stderr)
        return 2
    done, began = [], time.monotonic()
    for name in options.stages or names:
        left = None if options.limit is None else options.limit - (time.monotonic() - began)
        stage = next(one for one in stages(options.run, options.out, left) if one.name == name)
        if left is not None and left < stage.limit / 2:
            done.append({"stage": name, "left_out": f"{left:.0f} s were left"})
            print(f"-- {name}: left out, {left:.0f} s are left", flush=True)
        else:
            if left is not None:
                stage.limit = left if name == "curves" else min(stage.limit, left)
            done.append(perform(stage, options.out, quick=options.quick))
        record("gpu_day", {"benchmark": "gpu_day", "stages": done}, options.out, show=False)
    return int(any(one.get("exit_code", "0") != "0" for one in done))


if __name__ == "__main__":
    sys.exit(main())
