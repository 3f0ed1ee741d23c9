"""The process that :func:`glassmd.inputs.preparation.prepare` starts several of."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from glassmd.errors import GlassmdError, Interrupted
from glassmd.inputs.protocol import CageProtocol
from glassmd.inputs.provider import StructureProvider
from glassmd.inputs.work import work_on
from glassmd.interrupt import StopRequest
from glassmd.ledger.run import ParentKey, RunDirectory

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.inputs.worker --parent PID`, with the task as JSON on standard input.

    What it cost, or what went wrong, is one line of JSON on standard output.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--parent", type=int, default=None, help="stop when this process ends")
    options = parser.parse_args(arguments)
    task: dict[str, Any] = json.load(sys.stdin)
    try:
        stop = StopRequest(parent_process=options.parent)
        provider = StructureProvider(
            task["inputs"],
            engine=task["engine"],
            device=task["device"],
            protocol=None if task["protocol"] is None else CageProtocol.from_dict(task["protocol"]),
            seed=task["seed"],
            gpu=task["gpu"],
            check=stop.check,
        )
        provider.open()
        stop.install()  # after the engine, which sets handlers of its own
        runs = {path: RunDirectory.open(Path(path)) for path in dict.fromkeys(path for path, *_ in task["work"])}
        work_on(provider, [(runs[path], ParentKey(lineage, parent)) for path, lineage, parent in task["work"]])
    except Interrupted as error:
        return error.exit_code
    except GlassmdError as error:
        sys.stdout.write(json.dumps({"error": [type(error).__name__, error.found, error.expected, error.todo]}))
        return error.exit_code
    sys.stdout.write(json.dumps({"cost": provider.cost}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
