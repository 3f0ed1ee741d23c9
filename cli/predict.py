"""glassmd predict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import (
    DeviceName,
    DeviceOption,
    EngineName,
    EngineOption,
    JsonFlag,
    MixtureOption,
    RanksOption,
    TruncationOption,
    TypesOption,
    console,
    emit,
    liquid_of,
    messages,
)

from glassmd.engines.cutting import require_ranks
from glassmd.errors import SettingsError
from glassmd.models.choice import model_for
from glassmd.models.family import numbers_that_see, read_cards
from glassmd.models.guard import require_temperature
from glassmd.models.known import model_directory
from glassmd.report.tables import key_value_table
from glassmd.settings import inputs_of, times_of
from glassmd.show import Counted, shown
from glassmd.trajectory.formats import format_of
from glassmd.trajectory.species import parse_types

__all__ = ["predict"]


_MOMENT = 2.0
"""Seconds that a single frame may take without a word, where nobody looks."""


def predict(
    snapshot: Annotated[
        Path, typer.Argument(metavar="SNAPSHOT", help="GSD file, LAMMPS dump or data, or extended XYZ.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model directory, or a name that glassmd models tells. Default: the one that knows the liquid.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write: .gsd, .xyz, .dump, .dump.gz.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw a slice of the box.")] = None,
    view: Annotated[
        Path | None,
        typer.Option("--view", help="Also write a page (.html) that turns the last frame in any browser, offline."),
    ] = None,
    frames: Annotated[
        str, typer.Option("--frames", help="Which frames: all, -1 (the last), 0,5 or a slice such as ::10.")
    ] = "-1",
    mixture: MixtureOption = None,
    truncation: TruncationOption = None,
    types: TypesOption = None,
    times: Annotated[str | None, typer.Option("--times", help="Some of the model's times.")] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Positions that may be looked at: thermal, which is quick and needs no engine, inherent, cage.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of the liquid, where the snapshot does not say.")
    ] = None,
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = DeviceName.auto,
    ranks: RanksOption = None,
    memory: Annotated[
        float, typer.Option("--memory", help="GiB that a prediction may hold: large snapshots go through in parts.")
    ] = 3.0,
    force: Annotated[
        bool, typer.Option("--force", help="Predict liquids, too, that are unlike all that the model has seen.")
    ] = False,
    json_mode: JsonFlag = False,
) -> None:
    """Write frames with what a model predicts of every particle, its propensity, ready to colour by in OVITO.

    Without --model it is the one that comes with glassmd and knows the snapshot's liquid: no training is needed.
    A model that was trained with another --target predicts that one, under its own name.
    """
    # torch takes seconds to load: what is wrong without it is said before
    liquid = liquid_of(mixture, truncation)
    kinds = None if types is None else parse_types(types)
    chosen = None if times is None else times_of(times)
    if temperature is not None:
        require_temperature(temperature)
    require_ranks(ranks)
    if not 0 < memory < inf:
        raise SettingsError(f"found --memory {memory:g}", "GiB above 0", "try --memory 3")
    format_of(snapshot)
    inputs = None if input_ is None else inputs_of(input_)
    directory = model_for(snapshot, liquid, kinds) if model is None else model_directory(model)
    numbers_that_see(read_cards(directory), inputs)
    from glassmd.report.figures import check_suffix, plot_propensity
    from glassmd.report.view import check_view, write_view

    if plot is not None:
        check_suffix(plot)
    if view is not None:
        check_view(view)
    from glassmd.prediction_files import predict_file, refuse_ledger

    for option, path in (("--plot", plot), ("--view", view)):
        if path is not None:
            refuse_ledger(path, option)
    facts, configuration, prediction = predict_file(
        snapshot,
        directory if model is None else model,
        out,
        frames=frames,
        mixture=liquid,
        types=kinds,
        show=_progress(),
        times=chosen,
        inputs=inputs,
        temperature=temperature,
        engine=engine.value,
        device=device.value,
        ranks=ranks,
        memory=memory,
        force=force,
    )
    if plot is not None:
        found = prediction.times, prediction.propensity, prediction.target
        plot_propensity(plot, configuration, *found)
        facts["plot"] = str(plot)
    if view is not None:
        write_view(view, configuration, prediction, snapshot.name)
        facts["view"] = str(view)
    if model is None:
        messages().print(f"model {facts['model']} {facts['model_version']}, which comes with glassmd", markup=False)
    if not facts["mixture_checked"]:
        messages().print(
            "the snapshot does not say which mixture and truncation it is: whether they are the model's is unknown"
        )
    for warning in facts["warnings"]:
        messages().print(f"warning: {warning}", markup=False)
    if json_mode:
        emit(facts)
    else:
        console().print(key_value_table("prediction", facts))


def _progress() -> Callable[[Counted], None]:
    """Says how far the frames are; of a single one in a terminal, or where it takes more than a moment."""
    told, seen = shown(True), sys.stderr.isatty()

    def show(counted: Counted) -> None:
        if told is not None and (seen or counted.total > 1 or counted.seconds > _MOMENT):
            told(counted)

    return show
