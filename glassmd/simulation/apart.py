"""Work in a process of its own, and why it ended told to the process that started it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from glassmd import errors
from glassmd.errors import EngineError, GlassmdError
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings

__all__ = ["make_run_apart", "start_process", "tell", "told"]

_LOOK = 0.05  # seconds


def start_process(arguments: list[str], output: BinaryIO | None = None) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start `python -m …`, and where it tells why it ended: a file would find no room on a full disk.

    Args:
        arguments: What follows `-m`; `--report` is added, for :func:`tell`.
        output: Takes what it prints; this process's own output where None.
    """
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb"):
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--report", str(writing)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[writing],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches this process, which stops the others in order
        )  # fmt: skip
    return process, os.fdopen(reading, "rb")


def tell(report: int | None, error: GlassmdError) -> int:
    """Tell whoever started this process what went wrong; returns the exit code."""
    if report is not None:
        why = {"kind": type(error).__name__, "found": error.found, "expected": error.expected, "todo": error.todo}
        os.write(report, json.dumps(why).encode())
    return error.exit_code


def told(report: BinaryIO) -> GlassmdError | None:
    """What a process that has ended told; None where it had no time to."""
    with report:
        content = report.read()
    if not content:
        return None
    why = json.loads(content)
    error: GlassmdError = getattr(errors, why.pop("kind"), GlassmdError)(**why)
    return error


def make_run_apart(settings: RunSettings, out: Path, check: Callable[[], None]) -> RunDirectory:
    """:func:`glassmd.simulation.pool.make_run` in a process of its own: this one opens no engine, on no GPU.

    Raises:
        GlassmdError: What the other process raised, and what `check` does.
    """
    asked = settings.model_dump_json(exclude_unset=True)
    process, report = start_process(["glassmd.simulation.apart", str(out), asked])
    try:
        while process.poll() is None:
            check()
            time.sleep(_LOOK)
    finally:
        process.terminate()
        process.wait()
    error = told(report)
    if process.returncode != 0:
        raise error or EngineError(
            f"the process that looks at the engine ended with code {process.returncode}", "0", "try glassmd doctor"
        )
    return RunDirectory.open(out)


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.simulation.apart RUN SETTINGS`, as :func:`make_run_apart` starts it."""
    from glassmd.simulation.pool import make_run

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("settings", help="JSON of what was asked for")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended")
    options = parser.parse_args(arguments)
    try:
        make_run(RunSettings.model_validate_json(options.settings), options.run)
    except GlassmdError as error:
        return tell(options.report, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
