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
    extxyz = "extxyz"
    lammps = "lammps"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder; it appears whole or not at all.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")],
    json_mode: JsonFlag = False,
) -> None:
    """Write a run in another format; what came with its data (roles, structures, predictions) is written, too.

    glassbench: an npz file for each parent, which import --format glassbench turns into the same samples. extxyz and
    lammps: a file for each lineage with a frame for each parent, ready for ASE or OVITO; import --format trajectory.
    """
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.exporters.frames import export_frames
    from glassmd.exporters.glassbench import export_glassbench

    facts = export_glassbench(run, out) if format_ is Format.glassbench else export_frames(run, out, format_.value)
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table(f"exported to {out}", facts))
