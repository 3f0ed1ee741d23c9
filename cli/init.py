"""glassmd init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.errors import InputError
from glassmd.settings import template
from glassmd.storage import write_text

__all__ = ["init"]


def init(
    path: Annotated[Path, typer.Argument(metavar="[RUN.toml]", help="File to write.")] = Path("run.toml"),
    json_mode: JsonFlag = False,
) -> None:
    """Write a commented settings file with every key at its default."""
    if path.exists():
        raise InputError(f"{path} exists already", "a new file", "choose another name or delete it")
    write_text(path, template())
    if json_mode:
        emit({"settings": str(path)})
    else:
        console().print(f"wrote {path}; then: glassmd simulate {path} --out RUN")
