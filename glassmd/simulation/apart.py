"""Work in a process of its own, and why it ended told to the process that started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import BinaryIO

from glassmd.errors import GlassmdError, raised_elsewhere

__all__ = ["start_process", "tell", "told"]


def start_process(
    arguments: list[str], output: BinaryIO | None = None, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start `python -m …`, and where it tells why it ended: a file would find no room on a full disk.

    Args:
        arguments: What follows `-m`; `--report` is added, for :func:`tell`.
        output: Takes what it prints; this process's own output where None.
        environment: Variables beside this process's own.
    """
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb"):
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--report", str(writing)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[writing],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            process_group=0,  # Ctrl-C reaches this process, which stops the others in order; between sessions
            # niceness would count for nothing where Linux groups processes by them
        )  # fmt: skip
    return process, os.fdopen(reading, "rb")


def tell(report: int | None, error: GlassmdError) -> int:
    """Tell whoever started this process what went wrong; returns the exit code."""
    if report is not None:
        os.write(report, json.dumps(error.to_dict()).encode())
    return error.exit_code


def told(report: BinaryIO) -> GlassmdError | None:
    """What a process that has ended told; None where it had no time to."""
    with report:
        content = report.read()
    return raised_elsewhere(json.loads(content)) if content else None
