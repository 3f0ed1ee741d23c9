"""glassmd train."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from glassmd_cli.options import (
    JsonFlag,
    PatienceOption,
    StrideOption,
    TargetOption,
    TimeStepOption,
    TypesOption,
    console,
    emit,
    messages,
    run_options,
)
from glassmd_cli.simulate import show_plan

from glassmd.errors import InputError
from glassmd.interrupt import StopRequest
from glassmd.models.family import read_cards
from glassmd.models.known import model_directory
from glassmd.processes import started
from glassmd.report.progress import Display
from glassmd.report.tables import key_value_table
from glassmd.settings import Settings, load_settings
from glassmd.simulation.creation import made_with
from glassmd.trajectory.species import parse_types

__all__ = ["train"]


def _sort(paths: list[Path]) -> tuple[Path | None, list[Path]]:
    """Settings file and run directories among the arguments."""
    files = [path for path in paths if path.suffix == ".toml"]
    if len(files) > 1:
        raise InputError(f"found {len(files)} settings files", "at most one")
    return (files[0] if files else None), [path for path in paths if path not in files]


def _show_dry_run(runs: list[Path], settings: Settings, json_mode: bool, simulated: Path | None) -> None:
    """What would be done."""
    from glassmd.stream.dataset import open_run
    from glassmd.trajectory.formats import format_of

    if not runs:
        show_plan(settings, json_mode, simulated)
        return
    for run in runs:
        if run.is_dir():
            open_run(run, settings.train.target)
        else:
            format_of(run)
    facts = {"data": [str(run) for run in runs], "settings": settings.train.model_dump()}
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table("dry run: nothing was trained or written", facts))


@run_options
def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA... | [RUN.toml]", help="Run directories, trajectories, settings."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Model directory, no run; continues where it stopped.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Train while simulations run.")] = False,
    model: Annotated[str | None, typer.Option("--model", help="Which learner.", show_default=False)] = None,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin with a trained model: its directory, or a name that glassmd models tells.",
            show_default=False,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", help="Positions that it sees: thermal, inherent, cage, comma between.", show_default=False
        ),
    ] = None,
    target: TargetOption = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", help="Optimiser steps in all.", show_default=False)
    ] = None,
    acquire: Annotated[
        str | None,
        typer.Option(
            "--acquire",
            help="With --stream, where to simulate next: uniform, or uncertainty (what the learner knows least).",
            show_default=False,
        ),
    ] = None,
    types: TypesOption = None,
    time_step: TimeStepOption = None,
    stride: StrideOption = None,
    patience: PatienceOption = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    json_mode: JsonFlag = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Train a model on what run directories or trajectories hold, or, with --stream, while that is generated.

    With --stream and no DATA the simulations are started too (into OUT/run); with --stream and DATA, runs or GSD
    trajectories that others are writing are followed. Of trajectories, frames are parents of single replicas.

    Started by torchrun, several processes train together (docs/processes.md).
    """
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.importers.trajectories import FrameChoice
    from glassmd.training.preparation import refuse_run, require_positions
    from glassmd.training.session import train as run_training
    from glassmd.training.session import train_stream

    with started() as processes:
        kinds = None if types is None else parse_types(types)
        file, runs = _sort(data or [])
        if not runs and not stream:
            raise InputError(
                "found no DATA",
                "run directories or trajectories, or --stream to simulate",
                "try glassmd train RUN --out MODEL",
            )
        if runs and overrides.get("cluster"):
            raise InputError(
                f"found --cluster {overrides['cluster']} with DATA", "--stream without DATA, to simulate there, too",
                "leave one of them out; several processes train on DATA with torchrun -m glassmd_cli train …",
            )  # fmt: skip
        if out is not None:
            refuse_run(out)
        simulated = None if runs or out is None else out / "run"  # where --stream lets simulations run
        settings = load_settings(
            file,
            {
                **({} if time_step is None else {"time_step": time_step}),
                **overrides,
                "train.model": model,
                "train.from_model": from_model,
                "train.input": input_,
                "train.target": None if target is None else target.value,
                "train.max_steps": max_steps,
                "train.acquire": acquire,
            },
            made_with(simulated),
        )
        if settings.train.from_model is not None:
            read_cards(model_directory(settings.train.from_model))
        if not runs:
            require_positions(settings)
        if dry_run:
            if processes.first:
                _show_dry_run(runs, settings, json_mode, simulated)
            return
        if out is None:
            raise typer.BadParameter("missing; try --out MODEL", param_hint="--out")
        stop = StopRequest(walltime=settings.run.walltime).install()
        with Display(messages()) if processes.first else nullcontext() as display:
            show = False if display is None else display.training
            if runs:
                frames = FrameChoice(kinds, time_step, stride, patience)
                result = run_training(
                    runs, out, settings, follow=stream, frames=frames, stop=stop, show=show, processes=processes
                )
            else:
                result = train_stream(settings, out, stop=stop, show=show, processes=processes)
        if not processes.first:
            return
        if json_mode:
            emit(result)
        else:
            console().print(key_value_table(f"model {out}", result))
