"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from record import RESULTS

from glassmd.errors import EngineError, GlassmdError


def parser_of(description: str | None, *, device: bool = True) -> argparse.ArgumentParser:
    """A parser with `--quick`, `--out` and, where it has a choice, `--device`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if device:
        parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small and short, to see that it works; kept elsewhere")
    parser.add_argument("--out", type=Path, help="folder; default: benchmarks/results, with --quick a temporary one")
    return parser


def cuda_or_cpu(asked: str | None) -> str:
    """What torch computes on: as asked for, else CUDA where there is some."""
    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise EngineError("torch finds no CUDA device", "one", "try --device cpu")
    return asked or ("cuda" if found else "cpu")


def folder_of(options: argparse.Namespace) -> Path:
    """Where the results go."""
    quick = Path(tempfile.gettempdir()) / "glassmd-benchmarks"
    return Path(options.out) if options.out else quick if options.quick else RESULTS


def numbers(text: str) -> list[int]:
    """`1,2,4` as a list."""
    return [int(part) for part in text.split(",")]


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what glassmd raises, a missing engine first of all, is one line."""
    torch.set_num_threads(1)  # the engines use one core each; so does what looks at their results
    try:
        main()
    except GlassmdError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
