"""glassmd simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from glassmd_cli.options import JsonFlag, console, emit, messages, run_options

from glassmd.engines import choose_engine
from glassmd.errors import RunError
from glassmd.interrupt import StopRequest
from glassmd.mixtures import estimates_wave_numbers
from glassmd.report.progress import Display
from glassmd.report.tables import dynamics_table, key_value_table
from glassmd.settings import Settings, load_settings
from glassmd.simulation.creation import made_with
from glassmd.simulation.pool import plan
from glassmd.simulation.pool import simulate as run_simulation

__all__ = ["simulate"]

_HOW_MANY = {"workers", "cluster", "worker_cpus", "worker_gpus", "walltime"}
"""Settings that say nothing of what is simulated."""


@run_options
def simulate(
    settings_file: Annotated[Path | None, typer.Argument(metavar="[RUN.toml]", help="Settings.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; one that is there goes on.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    json_mode: JsonFlag = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Equilibrate lineages, then generate isoconfigurational data into a run directory.

    A run that is there goes on with the settings it was made with: --out RUN is enough. What is said again has to be
    the same, but for --lineages and --parents, by which a run grows, and for how to run it.
    """
    known = made_with(out)
    if known is None and out is not None and settings_file is None and set(overrides) <= _HOW_MANY:
        raise RunError(
            f"found no run in {out}", "one to go on with, or what to simulate",
            "check the path, which this machine may not see; or try glassmd simulate RUN.toml, or --temperature 0.64",
        )  # fmt: skip
    settings = load_settings(settings_file, overrides, known)
    if dry_run:
        show_plan(settings, json_mode, out)
        return
    if out is None:
        raise typer.BadParameter("missing; try --out RUN", param_hint="--out")
    messages().print(f"engine {choose_engine(settings.run.engine, settings.run.device)[1]}")
    if estimates_wave_numbers(settings.run.mixture):
        q = settings.run.liquid().wave_numbers[0]
        messages().print(f"q of F_s is estimated from the density, {q:.4g}; wave_numbers in the mixture's file set it")
    stop = StopRequest(walltime=settings.run.walltime).install()
    with Display(messages()) as display:
        result = run_simulation(settings.run, out, stop=stop, show=display.simulation)
    if json_mode:
        emit(result)
    else:
        dynamics = result.pop("dynamics")
        console().print(key_value_table(f"run {out}", result))
        if dynamics:
            console().print(dynamics_table(dynamics))


def show_plan(settings: Settings, json_mode: bool, out: Path | None = None) -> None:
    """Print what a simulation into `out` would do, without doing it."""
    facts = plan(settings.run, out)
    if json_mode:
        emit({**facts, "settings": settings.model_dump()})
    else:
        console().print(key_value_table("dry run: nothing was simulated or written", facts))
