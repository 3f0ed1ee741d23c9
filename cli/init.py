"""glassmd init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.errors import InputError
from glassmd.mixtures import get_mixture, mixture_template
from glassmd.settings import template
from glassmd.storage import write_text

__all__ = ["init"]


def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE.toml]", help="File to write.")] = Path("run.toml"),
    mixture: Annotated[
        str | None,
        typer.Option(
            "--mixture",
            help="Write the file of a mixture instead, with the numbers of this one (docs/mixtures.md).",
            show_default=False,
        ),
    ] = None,
    json_mode: JsonFlag = False,
) -> None:
    """Write a commented settings file with every key at its default, or one that describes a mixture."""
    text, then = template(), f"glassmd simulate {path} --out RUN"
    if mixture is not None:
        text, then = mixture_template(get_mixture(mixture)), f"glassmd simulate --mixture {path} --out RUN"
    if path.exists():
        raise InputError(f"{path} exists already", "a new file", "choose another name or delete it")
    write_text(path, text)
    if json_mode:
        emit({"settings" if mixture is None else "mixture": str(path)})
    else:
        console().print(f"wrote {path}; then: {then}")
