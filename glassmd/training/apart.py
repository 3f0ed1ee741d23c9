"""The training itself, in a process of a machine of a cluster; it knows nothing of that but its mirrors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from glassmd.errors import GlassmdError, Interrupted
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.settings import RunSettings, Settings, TrainSettings, build_settings
from glassmd.simulation.apart import tell
from glassmd.storage import plain, write_json
from glassmd.training.session import train

__all__ = ["main"]


def _settings(told: dict[str, Any]) -> Settings:
    run, trained = told["settings"]["run"], told["settings"]["train"]
    return Settings(run=build_settings(RunSettings, run, ""), train=build_settings(TrainSettings, trained, "train."))


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.training.apart WHAT`, as a training site starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", type=Path, help="JSON of what to train on what")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended")
    options = parser.parse_args(arguments)
    told = json.loads(options.what.read_text(encoding="utf-8"))
    held_out = told["held_out"]
    try:
        result = train(
            told["runs"],
            told["out"],
            _settings(told),
            follow=told["follow"],
            held_out=None if held_out is None else {(run, lineage) for run, lineage in held_out},
            stop=StopRequest(parent_process=told["parent"]).install(),
            show=False,
        )
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except GlassmdError as error:
        return tell(options.report, error)
    write_json(Path(told["result"]), plain(result), durable=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
