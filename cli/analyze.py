"""glassmd analyze."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from glassmd_cli.options import (
    JsonFlag,
    MixtureOption,
    TimeStepOption,
    TruncationOption,
    TypesOption,
    console,
    emit,
    liquid_of,
    messages,
)

from glassmd.errors import InputError
from glassmd.trajectory.species import parse_types

__all__ = ["analyze"]


def analyze(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Runs, or trajectories: GSD, LAMMPS dump or data, extended XYZ."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for a CSV file and a figure of every curve.")
    ] = None,
    mixture: MixtureOption = None,
    truncation: TruncationOption = None,
    types: TypesOption = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Where files do not say it.")] = None,
    time_step: TimeStepOption = None,
    json_mode: JsonFlag = False,
) -> None:
    """Say what a liquid does: U/N, pressure, g(r), S(q), MSD, F_s, τ_α, D, α₂, χ₄, hops, order, ageing."""
    liquid = liquid_of(mixture, truncation)
    kinds = None if types is None else parse_types(types)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", "a folder or a new name", "choose another --out")
    # torch takes seconds to load, and what does not need it should not wait for it
    from glassmd.observables.opening import analyze as measured
    from glassmd.report.analysis import analysis_facts, analysis_table, write_curves

    found = measured(data, mixture=liquid, types=kinds, temperature=temperature, time_step=time_step, show=True)
    files: list[Path] = []
    if out is not None:
        from glassmd.report.analysis_figures import plot_analysis

        files = write_curves(found, out) + plot_analysis(found, out)
    if json_mode:
        emit(analysis_facts(found, files))
        return
    title = str(data[0]) if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"
    console().print(analysis_table(found, title))
    for warning in found.warnings:
        messages().print(f"note: {warning}", soft_wrap=True, markup=False)
    for path in files:
        console().print(f"wrote {path}", markup=False)
