"""glassmd import."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from glassmd_cli.options import (
    JsonFlag,
    MixtureOption,
    PatienceOption,
    StrideOption,
    TimeStepOption,
    TypesOption,
    console,
    emit,
)

from glassmd.errors import InputError
from glassmd.interrupt import StopRequest
from glassmd.mixtures import get_mixture
from glassmd.report.tables import key_value_table
from glassmd.settings import times_of
from glassmd.trajectory.species import parse_types

__all__ = ["import_"]


class Format(StrEnum):
    """Formats that can be imported."""

    botan = "botan"
    deepmind = "deepmind"
    deepmind_weights = "deepmind-weights"
    glassbench = "glassbench"
    trajectory = "trajectory"


def import_(
    source: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files or folders.")],
    out: Annotated[Path, typer.Option("--out", help="Run directory, or model directory for weights.")],
    format_: Annotated[Format, typer.Option("--format", help="What the files are.")],
    truncation: Annotated[
        str | None,
        typer.Option("--truncation", help="Of the potential; default: as published.", show_default=False),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            "--times",
            help="Output times where files do not tell; of glassbench as many as the labels have rows, or the codes; "
            "lags of trajectories.",
            show_default=False,
        ),
    ] = None,
    mixture: MixtureOption = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of trajectories.", show_default=False)
    ] = None,
    types: TypesOption = None,
    time_step: TimeStepOption = None,
    stride: StrideOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Trajectories are still written: take what comes, until nothing does.")
    ] = False,
    patience: PatienceOption = 60.0,
    json_mode: JsonFlag = False,
) -> None:
    """Turn trajectories or published data into a run directory, or published weights into a model directory.

    Configurations of glassbench (Zenodo 10118191) keep the published split, structures and predictions. Its reader was
    written after two files in two dimensions and descriptions of the others: it has never seen an original file of
    Kob-Andersen in three dimensions.
    """
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.importers.botan import import_botan
    from glassmd.importers.deepmind import import_deepmind
    from glassmd.importers.deepmind_weights import import_deepmind_weights
    from glassmd.importers.glassbench import import_glassbench
    from glassmd.importers.trajectories import FrameChoice, import_trajectories
    from glassmd.report.information import information

    chosen: dict[str, Any] = {} if truncation is None else {"truncation": truncation}
    if format_ is Format.botan:
        time = None if times is None else times_of(times)[0]
        import_botan(source, out, time=time, **chosen)
    elif format_ is Format.glassbench:
        import_glassbench(source, out, times=None if times is None else times_of(times), **chosen)
    elif format_ is Format.trajectory:
        liquid = get_mixture(mixture, truncation) if mixture is not None else None
        import_trajectories(
            source,
            out,
            mixture=liquid,
            temperature=temperature,
            times=None if times is None else times_of(times),
            choice=FrameChoice(None if types is None else parse_types(types), time_step, stride, patience),
            follow=follow,
            check=StopRequest().install().check,
        )
    elif format_ is Format.deepmind:
        import_deepmind(source, out, **chosen)
    else:
        if len(source) > 1:
            raise InputError(f"found {len(source)} sources", "one npz file of weights", "import them one by one")
        if (out / "checkpoints").exists():
            raise InputError(f"{out} holds a training", "a new directory", "choose another --out")
        import_deepmind_weights(source[0], out, **chosen)
    facts = information(out)
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table(f"imported into {out}", facts))
