"""glassmd demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit, messages

from glassmd.interrupt import StopRequest
from glassmd.report.progress import Display
from glassmd.report.tables import score_table

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo"),
    json_mode: JsonFlag = False,
) -> None:
    """Simulate a supercooled liquid, train on it meanwhile, predict a liquid never seen: a few minutes."""
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.demo import run_demo

    stop = StopRequest().install()
    with Display(messages()) as display:
        result = run_demo(out, stop=stop, show=display.training)
    if json_mode:
        emit(result)
        return
    screen = console()
    for line in result["story"]:
        screen.print(line)
    screen.print(score_table(result["evaluation"]))
    for name in ("predicted", "figure", "scores"):
        screen.print(f"wrote {result[name]}")
