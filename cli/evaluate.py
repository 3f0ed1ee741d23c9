"""glassmd evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from glassmd_cli.options import (
    DeviceName,
    DeviceOption,
    EngineName,
    EngineOption,
    JsonFlag,
    TargetName,
    console,
    emit,
    messages,
    overrides_of,
)

from glassmd.errors import InputError
from glassmd.interrupt import StopRequest
from glassmd.report.progress import Display
from glassmd.report.tables import predictions_table, published_table, score_table
from glassmd.storage import write_json
from glassmd.time_unit import shown_time

__all__ = ["evaluate"]


class Lineages(StrEnum):
    """Which lineages to evaluate on."""

    auto = "auto"
    all = "all"
    train = "train"
    validation = "validation"
    test = "test"


def _comparing(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, rich_help_panel="With --compare", show_default=False)


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL DATA... | --compare DATA...", help="Model directory and run directories."),
    ],
    subset: Annotated[
        Lineages, typer.Option("--subset", help="Which lineages; auto: the test lineages if there are any.")
    ] = Lineages.auto,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw ρ against time.")] = None,
    tau_alpha: Annotated[
        str | None,
        typer.Option(
            "--tau-alpha",
            help="τ_α of each of DATA, or one of all, for a model with times in its units and runs that do not know.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train learners on DATA and test them on what they have not seen.")
    ] = False,
    models: Annotated[
        str | None, _comparing("--models", "Learners: ridge,ridge:thermal,ridge:inherent+cage. Default: all.")
    ] = None,
    inputs: Annotated[
        str | None, _comparing("--inputs", "Positions that learners see: 'ridge:inherent;bapst:cage'.")
    ] = None,
    target: Annotated[
        TargetName | None, _comparing("--target", "What is learned. Default: propensity. A MODEL knows its own.")
    ] = None,
    out: Annotated[
        Path | None, _comparing("--out", "Directory; continues where it stopped. Default: comparison.")
    ] = None,
    seeds: Annotated[
        int | None, _comparing("--seeds", "Trainings per fold of what chance decides. Default: 3.")
    ] = None,
    folds: Annotated[
        int | None, _comparing("--folds", "Leave lineages out in so many folds. Default: as the data say, else 5.")
    ] = None,
    time: Annotated[
        float | None, _comparing("--time", "The output time that decides. Default: nearest to τ_α, or the last.")
    ] = None,
    set_: Annotated[
        list[str] | None, _comparing("--set", "Training settings: key=value of all, bapst.key=value. Repeatable.")
    ] = None,
    walltime: Annotated[
        float | None, _comparing("--walltime", "Stop with exit code 75 after this many seconds.")
    ] = None,
    cluster: Annotated[
        str | None, _comparing("--cluster", "Train on a Ray cluster: local, auto or HOST:PORT (docs/cluster.md).")
    ] = None,
    engine: EngineOption = EngineName.auto,
    device: DeviceOption = DeviceName.auto,
    json_mode: JsonFlag = False,
) -> None:
    """Score a model: Pearson's ρ per species and time in both aggregations, with reliability and ceiling.

    With --compare, a leaderboard: learners are trained on the same lineages and scored on the same others, with
    paired differences between them. DATA may hold finished models, which are tested as they are.
    """
    _require_drawable(plot)
    given = {
        "--models": models, "--inputs": inputs, "--target": target, "--out": out, "--seeds": seeds, "--folds": folds,
        "--time": time, "--set": set_, "--walltime": walltime, "--cluster": cluster,
    }  # fmt: skip
    _require_consistent(compare, [flag for flag, value in given.items() if value is not None], subset)
    if compare and tau_alpha is not None:
        raise InputError(
            "found --tau-alpha with --compare",
            "it as a setting",
            f"try --set time_unit=tau_alpha --set tau_alpha={tau_alpha}",
        )
    if not compare:
        _score(paths, subset, _tau_alphas(tau_alpha), plot, engine, device, json_mode)
        return
    settings = {**_inputs(inputs), **overrides_of({"set": set_})}
    settings |= {} if target is None else {"target": target.value}
    choices: dict[str, Any] = {"seeds": 3 if seeds is None else seeds, "folds": folds, "at": time, "settings": settings}
    choices |= {"engine": engine.value, "device": device.value, "stop": StopRequest(walltime=walltime)}
    choices["cluster"] = cluster
    _compare(paths, None if models is None else models.split(","), out or Path("comparison"), choices, plot, json_mode)


def _require_drawable(plot: Path | None) -> None:
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.report.figures import check_suffix

    if plot is not None:
        check_suffix(plot)


def _require_consistent(compare: bool, comparing: list[str], subset: Lineages) -> None:
    """Refuse flags that belong to the other way of evaluating."""
    if not compare and comparing:
        raise InputError(f"found {comparing[0]} without --compare", "it with --compare", "try --compare DATA")
    if compare and subset is not Lineages.auto:
        raise InputError(f"found --subset {subset.value} with --compare", "lineages that no training has seen")


def _tau_alphas(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"found --tau-alpha {text}", "numbers", "for example --tau-alpha 4120,16") from error


def _score(
    paths: list[Path],
    subset: Lineages,
    tau_alpha: list[float] | None,
    plot: Path | None,
    engine: EngineName,
    device: DeviceName,
    json_mode: bool,
) -> None:
    from glassmd.evaluation import evaluate as run_evaluation
    from glassmd.report.figures import plot_scores

    if len(paths) < 2:
        raise InputError("found one path", "a model and run directories", "try glassmd evaluate MODEL DATA")
    chosen = {"subset": subset.value, "engine": engine.value, "device": device.value}
    result = run_evaluation(paths[0], paths[1:], tau_alpha=tau_alpha, **chosen)  # type: ignore[arg-type]
    if plot is not None:
        plot_scores(plot, result)
    if json_mode:
        emit(result)
        return
    for species in result["species"]:
        console().print(score_table(result, species))
    if result["times_left_out"]:
        left_out = ", ".join(shown_time(t, result["time_unit"]) for t in result["times_left_out"])
        console().print(f"left out t = {left_out}, which the model does not predict")
    if inside := [
        shown_time(t, result["time_unit"])
        for t, marked in zip(result["times"], result["inside_cage"], strict=True)
        if marked
    ]:
        console().print(
            f"* t = {', '.join(inside)}: the cages that the model sees last longer than a tenth of that, and so "
            "measure part of what it predicts.",
            soft_wrap=True,
        )
    for name, cost in result["input_cost"].items():
        if (share := cost.get("share_of_label")) is not None:
            console().print(f"{name} positions cost {share:.2%} of the label's steps")
    for table in (*(predictions_table(result, species) for species in result["species"]), published_table(result)):
        if table is not None:
            console().print(table)
    for warning in result["warnings"]:
        messages().print(f"warning: {warning}", markup=False)
    if result["seen_in_training"]:
        console().print("Some of these lineages were seen in training or chose the checkpoint: no test.")


def _inputs(text: str | None) -> dict[str, Any]:
    """`ridge:inherent;bapst:cage` as settings of the learners."""
    found = {}
    for part in (text or "").split(";"):
        model, colon, inputs = (word.strip() for word in part.partition(":"))
        if part.strip():
            if not (model and colon and inputs):
                raise InputError(
                    f"found --inputs {text}", "MODEL:INPUT,INPUT;MODEL:INPUT", "for example ridge:inherent"
                )
            found[f"{model}.input"] = inputs
    return found


def _compare(
    data: list[Path], names: list[str] | None, out: Path, choices: dict[str, Any], plot: Path | None, json_mode: bool
) -> None:
    from glassmd.comparison import compare
    from glassmd.report.leaderboard import (
        accuracy_table,
        character_table,
        cost_table,
        write_differences,
        write_leaderboard,
    )
    from glassmd.report.leaderboard_figure import plot_leaderboard

    choices["stop"].install()
    with Display(messages()) as display:
        result = compare(
            data,
            names,
            out=out,
            show=display.training,
            announce=lambda line: display.console.print(line, soft_wrap=True, highlight=False),
            **choices,
        )
    write_json(out / "leaderboard.json", result)
    write_leaderboard(out / "leaderboard.csv", result)
    write_differences(out / "differences.csv", result)
    if plot is not None:
        plot_leaderboard(plot, result)
    if json_mode:
        emit(result)
        return
    for table in (accuracy_table, character_table, cost_table):
        console().print(table(result))
    console().print(f"everything is in {out}: leaderboard.csv, differences.csv, leaderboard.json", soft_wrap=True)
