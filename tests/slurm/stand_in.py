"""Slurm's `sbatch`, `srun` and `scontrol`, as far as the scripts of `examples/slurm` use them, on this machine.

Installed under these three names by :func:`install`; what they are called decides what they do. Jobs run at once. The
state of all jobs is a folder, `SLURM_STAND_IN`: a requeued job leaves a file there and is run again when it has ended.
Where `SLURM_STAND_IN_PREEMPTS` names files (a pattern), tasks of an array are told to end, once, when there are as many
of them as tasks: then all are at work, however busy the machine is.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

NODES = "localhost,127.0.0.1"


def install(folder: Path) -> dict[str, str]:
    """The environment in which the three commands are found."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        command.chmod(0o755)
    place = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{folder}:{place}:{os.environ['PATH']}", "SLURM_STAND_IN": str(folder)}


def directives(script: Path) -> dict[str, str]:
    """What the script asks for in its `#SBATCH` lines."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?", script.read_text(), re.MULTILINE)
    return dict(found)


def seconds(text: str) -> float:
    """Of a time limit: minutes, or hours:minutes:seconds."""
    parts = [float(part) for part in text.split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts))) * (60 if len(parts) == 1 else 1)


def batch(arguments: list[str]) -> int:
    """Run every task of a job, at the same time, as often as they are queued again; waits for them."""
    given, (script, *rest) = split(arguments)
    asked = directives(Path(script)) | dict(re.findall(r"^--([a-z-]+)(?:=(\S+))?", "\n".join(given), re.MULTILINE))
    number = os.getpid()
    first, _, last = asked.get("array", "").partition("-")
    tasks = [str(k) for k in range(int(first), int(last or first) + 1)] if first else [None]
    print(f"Submitted batch job {number}", flush=True)
    children = []
    for index in tasks:
        child = os.fork()
        if child == 0:
            os._exit(task(Path(script), rest, asked, number, index, len(tasks)))
        children.append(child)
    return max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options of the command itself, and what follows them."""
    first = next(n for n, one in enumerate(arguments) if not one.startswith("--"))
    return arguments[:first], arguments[first:]


def task(script: Path, rest: list[str], asked: dict[str, str], number: int, index: str | None, n_tasks: int) -> int:
    """Run one task until it is not queued again; like Slurm, with a signal to its shell before somebody else's turn."""
    name = f"{number}_{index}" if index else str(number)
    nodes = int(asked.get("nodes", "1"))
    environment = {
        **os.environ, "SLURM_JOB_ID": str(number), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_JOB_NODELIST": NODES,
        "SLURM_CPUS_PER_TASK": asked.get("cpus-per-task", "1"), "SLURM_SUBMIT_DIR": os.getcwd(),
        **({"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": index} if index else {}),
    }  # fmt: skip
    preempts = os.environ.get("SLURM_STAND_IN_PREEMPTS") if index else None
    again, all_at_work = (Path(os.environ["SLURM_STAND_IN"], of) for of in (f"requeue-{name}", f"preempt-{number}"))
    for restart in range(20):
        again.unlink(missing_ok=True)
        environment["SLURM_RESTART_COUNT"] = str(restart)
        with Path(os.environ["SLURM_STAND_IN"], f"{script.stem}-{name}.log").open("ab") as log:
            process = subprocess.Popen(["bash", str(script), *rest], env=environment, stdout=log, stderr=log)
            while preempts and restart == 0 and process.poll() is None:
                if len(glob(preempts)) >= n_tasks:
                    all_at_work.touch()  # those that look later are told, too
                if all_at_work.exists():
                    process.send_signal(signal.SIGTERM)
                    break
                time.sleep(0.02)
            code = process.wait(seconds(asked["time"]))
        if not again.exists():
            return code
        time.sleep(0.1)
    return 1


def run(arguments: list[str]) -> int:
    """The command once per node of the job; the first that fails ends the others."""
    _, command = split(arguments)
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    steps = [subprocess.Popen(command, env={**os.environ, "SLURM_NODEID": str(node)}) for node in range(nodes)]

    def stop(number: int, frame: object) -> None:
        for step in steps:
            step.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    return max(abs(step.wait()) for step in steps)


def control(arguments: list[str]) -> int:
    """`requeue JOB` and `show hostnames LIST`."""
    if arguments[0] == "requeue":
        Path(os.environ["SLURM_STAND_IN"], f"requeue-{arguments[1]}").touch()
        return 0
    if arguments[:2] == ["show", "hostnames"]:
        print("\n".join(arguments[2].split(",")))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit({"sbatch": batch, "srun": run, "scontrol": control}[sys.argv[1]](sys.argv[2:]))
