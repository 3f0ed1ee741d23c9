"""glassmd watch."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.interrupt import StoppedAtOnce
from glassmd.report.observe import Observer
from glassmd.report.progress import Display

__all__ = ["watch"]


def watch(
    path: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="Run or model directory, being made by anybody.")],
    interval: Annotated[
        float | None,
        typer.Option("--interval", min=0.1, help="Seconds between two looks. Default: 1, in a log 10."),
    ] = None,
    json_mode: JsonFlag = False,
) -> None:
    """Show what is going on in a run or a training, live, until it is done; Ctrl-C leaves it alone.

    With --json, as it is now.
    """
    observer = Observer(path)
    if json_mode:
        emit(observer.look().to_json())
        return
    screen = console()
    pause = interval or (1.0 if screen.is_terminal else 10.0)
    try:
        with Display(screen, 0.0) as display:
            while (seen := observer.look()).state != "done":
                display.show(seen)
                time.sleep(pause)
            display.show(seen)
    except StoppedAtOnce as stop:
        if stop.args != (signal.SIGINT.name,):
            raise
