"""The leaderboard as a figure: ρ against time, and a row per learner at the time that decides."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from glassmd.report.figures import STYLE, save_figure
from glassmd.target import PROPENSITY
from glassmd.time_unit import shown_time, time_axis

__all__ = ["plot_leaderboard"]

FloatArray = NDArray[np.float64]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Those of M. Okabe & K. Ito that show on white: told apart by all kinds of eyes."""
_MARKERS = "osD^vPXp"
_GREY = "#777777"
_HOLLOW: Any = {"color": _GREY, "mfc": "white", "mew": 0.8}  # what was published
_DODGE = 0.012  # decades between the error bars of neighbouring entries


@dataclass(frozen=True, eq=False)
class _Line:
    """What one learner shows: (n_times,) means and errors, and (n_configurations, n_times) what they are of."""

    name: str
    mean: FloatArray
    error: FloatArray
    each: FloatArray
    colour: str
    marker: str


def plot_leaderboard(path: Path, result: dict[str, Any]) -> None:
    """Draw ρ of every entry with its standard error, the ceiling of the labels and what was published.

    Where there are several times, ρ(t) is on the left; the rows on the right, best first, are its legend and show
    the time that decides with the single configurations.

    Args:
        path: PNG, PDF or SVG.
        result: What `glassmd evaluate --compare --json` prints.
    """
    species, times = result["differences"]["species"], np.array(result["times"], np.float64)
    index = result["times"].index(result["summary_time"])
    ours, published = _entries(result, species), _published(result) if species == "A" else []
    ceiling = _array(result["labels"][species]["ceiling"])
    height = 0.9 + 0.24 * (len(ours) + len(published))
    several = len(times) > 1
    quantity_of = "" if result["target"] == PROPENSITY else f"{result['target']}, "
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0 if several else 5.6, max(3.2 if several else 2.0, height)), layout="constrained")
        places = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
        if several:
            _against_time(places[0], times, ours, published, ceiling, index)
            places[0].set_xlabel(time_axis(result["time_unit"]))
            places[0].set_ylabel(f"Pearson ρ, {quantity_of}species {species}")
        _rows(places[-1], ours, published, index, float(ceiling[index]))
        places[-1].set(
            title=f"t = {shown_time(times[index], result['time_unit'])}",
            xlabel=f"Pearson ρ, {quantity_of}species {species}: mean ± standard error",
        )
        save_figure(figure, path)


def _array(values: Any) -> FloatArray:
    """Numbers, NaN where there are none."""
    return np.array(values, np.float64)


def _entries(result: dict[str, Any], species: str) -> list[_Line]:
    shown = [row for row in result["entries"] if species in row["species"]]
    lines = []
    for number, row in enumerate(shown):
        found = row["species"][species]
        lines.append(
            _Line(
                row["name"],
                _array(found["pearson"]["mean"]),
                np.nan_to_num(_array(found["pearson"]["error"])),
                _array(list(found["per_configuration"].values())),
                _COLOURS[number % len(_COLOURS)],
                _MARKERS[(number + 3 * (number // len(_COLOURS))) % len(_MARKERS)],
            )
        )
    return lines


def _published(result: dict[str, Any]) -> list[_Line]:
    """Published figures, the best at the time that decides first."""
    index = result["times"].index(result["summary_time"])
    known = {name: _array(values) for name, values in result["published"].get("per-configuration", {}).items()}
    order = sorted(known, key=lambda name: -np.nan_to_num(known[name][index], nan=-1.0))
    nothing = np.empty((0, len(result["times"])))
    return [
        _Line(name, known[name], np.zeros(len(known[name])), nothing, _GREY, marker)
        for name, marker in zip(order, cycle(_MARKERS), strict=False)
    ]


def _against_time(
    axes: Axes, times: FloatArray, ours: list[_Line], published: list[_Line], ceiling: FloatArray, index: int
) -> None:
    axes.plot(times, ceiling, "--", color="black", lw=1, marker="_", label="ceiling")
    for number, line in enumerate(published):
        known = np.isfinite(line.mean)
        label = "published" if number == 0 else None
        axes.plot(times[known], line.mean[known], ":", lw=0.8, marker=line.marker, ms=4, label=label, **_HOLLOW)
    for number, line in enumerate(ours):
        shift = 10 ** (_DODGE * (number - (len(ours) - 1) / 2))
        axes.errorbar(
            times * shift, line.mean, line.error, color=line.colour, marker=line.marker, ms=4, lw=1, capsize=2
        )
    axes.axvspan(times[index] / 1.12, times[index] * 1.12, color="#000000", alpha=0.05, lw=0)
    axes.set(xscale="log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if times.max() < 10 * times.min():  # too short for powers of ten
        axes.set_xticks(times, [f"{time:g}" for time in times])
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
    axes.grid(axis="y", lw=0.3, alpha=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)


def _rows(axes: Axes, ours: list[_Line], published: list[_Line], index: int, ceiling: float) -> None:
    lines = [*ours, *published]
    for place, line in enumerate(lines):
        mean, error, each = float(line.mean[index]), float(line.error[index]), line.each[:, index]
        if line in published:
            axes.plot([mean], [place], line.marker, ms=5, **_HOLLOW)
        else:
            axes.plot(each, np.full(len(each), place), "o", ms=2.5, color=line.colour, alpha=0.3, mew=0)
            axes.errorbar(
                [mean], [place], xerr=[error], color=line.colour, marker=line.marker, ms=5, capsize=2.5, lw=1.2
            )
        if np.isfinite(mean):
            axes.annotate(
                f"{mean:.3f}",
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color="#333333",
            )
    if np.isfinite(ceiling):
        axes.axvline(ceiling, ls="--", color="black", lw=1)
        axes.annotate(
            "ceiling", (ceiling, -0.75), xytext=(-3, 0), textcoords="offset points", fontsize=8, va="center", ha="right"
        )
    if published:
        axes.axhline(len(ours) - 0.5, color="black", lw=0.5)
    axes.set_yticks(
        range(len(lines)), [f"{line.name} (published)" if line in published else line.name for line in lines]
    )
    axes.set_ylim(len(lines) - 0.5, -1.2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.3, alpha=0.6)
