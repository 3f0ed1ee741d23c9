"""The glassmd command: parses, calls and prints; the logic is in the glassmd package."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import typer
from glassmd_cli import (
    analyze,
    demo,
    doctor,
    evaluate,
    export,
    import_,
    info,
    init,
    models,
    predict,
    simulate,
    train,
    watch,
)

from glassmd.errors import GlassmdError, InputError, storage_errors
from glassmd.interrupt import StoppedAtOnce, stop_at_once
from glassmd.processes import origin_of, processes_asked
from glassmd.show import whole_lines

__all__ = ["app", "main"]

STOPPED = 75
INTERRUPTED_BY_CTRL_C = 130  # what Typer makes of it

app = typer.Typer(
    name="glassmd",
    help="Simulate supercooled liquids and train graph networks on their isoconfigurational propensities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (simulate, train, predict, evaluate, analyze):
    app.command()(getattr(_command, _command.__name__.rsplit(".", 1)[-1]))
app.command("import")(import_.import_)
for _command in (export, init, models, info, watch, doctor, demo):
    app.command()(getattr(_command, _command.__name__.rsplit(".", 1)[-1]))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"glassmd {version('glassmd')}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Simulate supercooled liquids and train graph networks on their isoconfigurational propensities."""
    if context.invoked_subcommand != "train" and processes_asked() > 1:
        raise InputError(
            f"found {processes_asked()} processes for glassmd {context.invoked_subcommand}", "one",
            "start it without torchrun (WORLD_SIZE); several processes can train",
        )  # fmt: skip


def _speaks() -> bool:
    """Whether this process says what went wrong: of several that were started together, the first does."""
    return not _among_several() or os.environ.get("RANK") == "0"


def _among_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _keep_traceback() -> Path:
    """Write the traceback where it can be found and is in nobody's way."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glassmd"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "traceback.txt"
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        # A name that nobody could guess, made anew: a folder that everybody writes to may hold a link with a known one.
        handle, name = tempfile.mkstemp(prefix="glassmd-traceback-", suffix=".txt")
        path = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the return value is the exit code.

    SIGTERM and SIGINT end it with exit code 75, at once where the command does not listen to them itself.
    """
    code = _run(arguments)
    if _among_several():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher ends all when one has ended: each has its code
    if code == INTERRUPTED_BY_CTRL_C:
        if _speaks():
            print("glassmd: stopped; nothing is half written: give the same command again", file=sys.stderr)  # noqa: T201
        return STOPPED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        with stop_at_once(), storage_errors(Path.cwd()), whole_lines():
            result = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except GlassmdError as error:
        if _speaks():
            _keep_traceback()
            print(f"glassmd: {error}", file=sys.stderr)  # noqa: T201  (what the user is meant to read)
        return error.exit_code
    except (KeyboardInterrupt, StoppedAtOnce):
        return INTERRUPTED_BY_CTRL_C
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error, from click or Typer's own copy
            if _speaks():
                error.show()
            return int(error.exit_code)
        elsewhere = origin_of(error) not in (None, int(os.environ.get("RANK", "0")))
        path: Path | str = "traceback.txt there" if elsewhere else _keep_traceback()
        if elsewhere and not _speaks():
            return 1
        print(f"glassmd: internal error: {error!r}; the traceback is in {path}", file=sys.stderr)  # noqa: T201
        return 1
    return int(result) if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
