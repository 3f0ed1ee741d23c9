"""glassmd info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.report.observe import Observer
from glassmd.report.screen import screen
from glassmd.report.tables import dynamics_table, key_value_table

__all__ = ["info"]


def info(
    path: Annotated[Path, typer.Argument(metavar="RUN|MODEL|FILE", help="What to describe.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every committed file of a run.")] = False,
    json_mode: JsonFlag = False,
) -> None:
    """Say what a run, a model or a file of configurations holds, and how far one is that is being made."""
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.report.information import information

    facts = information(path, verify=verify)
    if json_mode:
        emit(facts)
    else:
        dynamics, progress = facts.pop("dynamics", None), facts.pop("progress", None)
        for lineage in facts.get("equilibration", []):
            if lineage["equilibrated"] is None:
                lineage["equilibrated"] = "unchecked"
        console().print(key_value_table(str(path), facts))
        if dynamics:
            console().print(dynamics_table(dynamics))
        if progress:
            width, height = console().size
            console().print(screen(Observer(path).look(), width, height))
