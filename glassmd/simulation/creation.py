"""Making a run in a process of its own: the one that asks opens no engine, on no GPU."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glassmd.errors import EngineError, GlassmdError
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.apart import start_process, tell, told
from glassmd.simulation.pool import make_run

__all__ = ["make_run_apart"]

_LOOK = 0.05  # seconds


def make_run_apart(settings: RunSettings, out: Path, check: Callable[[], None]) -> RunDirectory:
    """:func:`glassmd.simulation.pool.make_run` in a process of its own.

    Raises:
        GlassmdError: What the other process raised, and what `check` does.
    """
    asked = settings.model_dump_json(exclude_unset=True)
    process, report = start_process([__name__, str(out), asked])
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
    """`python -m glassmd.simulation.creation RUN SETTINGS`, as :func:`make_run_apart` starts it."""
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
