"""glassmd evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.report.tables import published_table, score_table

__all__ = ["evaluate"]


class Lineages(StrEnum):
    """Which lineages to evaluate on."""

    auto = "auto"
    all = "all"
    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model directory.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Run directories.")],
    subset: Annotated[
        Lineages, typer.Option("--subset", help="Which lineages; auto: the test lineages if there are any.")
    ] = Lineages.auto,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw ρ against time.")] = None,
    json_mode: JsonFlag = False,
) -> None:
    """Score a model: Pearson's ρ per species and time in both aggregations, with reliability and ceiling."""
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.evaluation import evaluate as run_evaluation
    from glassmd.report.figures import check_suffix, plot_scores

    if plot is not None:
        check_suffix(plot)
    result = run_evaluation(model, data, subset=subset.value)
    if plot is not None:
        plot_scores(plot, result)
    if json_mode:
        emit(result)
        return
    for species in result["species"]:
        console().print(score_table(result, species))
    if (published := published_table(result)) is not None:
        console().print(published)
    if result["seen_in_training"]:
        console().print("Some of these lineages were seen in training or chose the checkpoint: no test.")
