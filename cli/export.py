"""glassmd export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.report.tables import key_value_table

__all__ = ["export"]


class Format(StrEnum):
    """Formats that a run can be exported to."""

    glassbench = "glassbench"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder; it appears whole or not at all.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")],
    json_mode: JsonFlag = False,
) -> None:
    """Write a run in another format; what came with its data (roles, structures, predictions) is written, too.

    glassbench: an npz file for each parent, which import --format glassbench turns into the same samples.
    """
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.exporters.glassbench import export_glassbench

    exporters = {Format.glassbench: export_glassbench}
    facts = exporters[format_](run, out)
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table(f"exported to {out}", facts))
