"""Figures: what a prediction looks like, and how good it is at every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, storage_errors
from glassmd.target import PROPENSITY, Target, quantity
from glassmd.time_unit import shown_time, time_axis

__all__ = [
    "COLOURS",
    "STYLE",
    "check_suffix",
    "colour_limits",
    "drawn_radius",
    "plot_propensity",
    "plot_scores",
    "plot_slices",
    "save_figure",
]

FloatArray = NDArray[np.float64]

STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 150}
"""Of every figure, as matplotlib takes it."""

COLOURS = "viridis"
"""matplotlib's name of the colours of propensities: equal steps look equal, and the lightness alone tells them."""

_LAYER = 1.0
"""Thickness of the layer that is drawn of a box in three dimensions, σ_AA."""

_EDGES = ("#000000", "#D55E00", "#56B4E9", "#CC79A7")
"""Of species in their order; of M. Okabe & K. Ito's colours those that viridis lacks."""

_RADIUS = {"A": 0.5, "B": 0.44, "C": 0.47}
"""Half of σ_aa."""


def drawn_radius(species: str) -> float:
    """Radius that particles of a species are drawn with, σ_AA; one that is not known is drawn like A."""
    return _RADIUS.get(species, _RADIUS["A"])


def check_suffix(path: Path) -> None:
    """Refuse a figure in a format that matplotlib does not write.

    Raises:
        InputError: Naming those it does.
    """
    known = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".") not in known:
        raise InputError(f"found a figure named {path.name}", f"an ending of {', '.join(known)}", "try a name in .png")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its name."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", facecolor="white")


def _slice(
    axes: Axes, configuration: Configuration, values: FloatArray, limits: tuple[float, float], title: str
) -> Any:
    """Draw a layer one particle thick (all particles in 2D), coloured by `values`; edges tell the species."""
    x = configuration.positions
    layer = np.arange(len(x)) if x.shape[1] == 2 else np.flatnonzero(np.abs(x[:, 2]) < _LAYER / 2)
    if x.shape[1] == 3:
        layer = layer[np.argsort(x[layer, 2])]  # what is nearer, at larger z, covers what is behind
    width = float(axes.get_window_extent().width) * 72 / axes.figure.dpi
    radius = np.array([drawn_radius(name) for name in configuration.species_names])[configuration.species[layer]]
    size = (1.8 * radius / configuration.box[0] * width) ** 2
    drawn = axes.scatter(
        x[layer, 0], x[layer, 1], c=values[layer], s=size, cmap=COLOURS, vmin=limits[0], vmax=limits[1],
        edgecolors=[_EDGES[k % len(_EDGES)] for k in configuration.species[layer]], linewidths=0.7,
    )  # fmt: skip
    half = configuration.box / 2
    axes.set(xlim=(-half[0], half[0]), ylim=(-half[1], half[1]), aspect="equal", title=title, xlabel="x / σ")
    return drawn


def _legend(figure: Figure, configuration: Configuration) -> None:
    """Below the figure: what the edges mean, and which part of the box is drawn."""
    names = [name for name in configuration.species_names if configuration.of_species(name).any()]
    marks: list[Any] = [
        Line2D([], [], ls="", marker="o", mfc="white", mew=1.2, label=name,
               mec=_EDGES[configuration.species_names.index(name) % len(_EDGES)])
        for name in names
    ]  # fmt: skip
    if configuration.dimensions == 3:
        told = f"a layer of {_LAYER:g} σ around z = 0, seen from larger z"
        marks.append(Line2D([], [], ls="", label=told))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=8, frameon=False)


def colour_limits(values: Sequence[FloatArray]) -> tuple[float, float]:
    """Ends of a colour scale: the 2nd and the 98th percentile of all the values, so that a few spend no colours."""
    low, high = np.percentile(np.concatenate(values), [2, 98])
    return float(low), float(max(high, low + 1e-9))


def plot_slices(
    path: Path,
    configuration: Configuration,
    rows: Sequence[tuple[str, FloatArray]],
    times: Sequence[float],
    target: Target = PROPENSITY,
) -> None:
    """Draw a target in a slice of the box: one row per kind (predicted, measured), one column per time.

    Args:
        path: PNG, PDF or SVG.
        configuration: The snapshot.
        rows: Title and (n_times, n_particles) values of every row.
        times: Of the columns, √(mσ²/ε).
        target: What the values are of.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(times), 2.5 * len(rows) + 0.2), layout="constrained")
        axes = figure.subplots(len(rows), len(times), squeeze=False, sharex=True, sharey=True)
        figure.draw_without_rendering()
        for column, time in enumerate(times):
            limits = colour_limits([values[column] for _, values in rows])
            for row, (title, values) in enumerate(rows):
                place = axes[row, column]
                drawn = _slice(place, configuration, values[column], limits, f"{title}, t = {shown_time(time)}")
                if column == 0:
                    place.set_ylabel("y / σ")
            figure.colorbar(drawn, ax=list(axes[:, column]), label=quantity(target).axis, shrink=0.8)
        _legend(figure, configuration)
        save_figure(figure, path)


def plot_propensity(
    path: Path,
    configuration: Configuration,
    times: Sequence[float],
    propensity: FloatArray,
    target: Target = PROPENSITY,
) -> None:
    """Draw the predicted propensity, or another target, of a snapshot at up to three of the times.

    Args:
        path: PNG, PDF or SVG.
        configuration: The snapshot.
        times: Of the rows of the propensity, √(mσ²/ε).
        propensity: (n_times, n_particles), in the target's unit.
        target: What is predicted.
    """
    chosen = sorted({0, len(times) // 2, len(times) - 1})
    rows = [("predicted", propensity[chosen])]
    plot_slices(path, configuration, rows, [times[index] for index in chosen], target=target)


def plot_scores(path: Path, result: dict[str, Any]) -> None:
    """Draw ρ against time with the ceiling, for every species of an evaluation.

    Args:
        path: PNG, PDF or SVG.
        result: What `glassmd evaluate --json` prints.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.0), layout="constrained")
        axes = figure.subplots()
        times = result["times"]
        for name, found in result["species"].items():
            mean = np.array(found["pearson_per_configuration"]["mean"], np.float64)
            sd = np.nan_to_num(np.array(found["pearson_per_configuration"]["sd"], np.float64))
            line = axes.errorbar(times, mean, sd, marker="o", ms=4, capsize=2, label=f"{name}, mean ± sd")
            ceiling = np.array(found["ceiling"], np.float64)
            axes.plot(
                times, ceiling, "--", color=line[0].get_color(), lw=1, marker="_", ms=12, label=f"{name}, ceiling"
            )
        for method, values in result.get("published", {}).get("per-configuration", {}).items():
            axes.plot(times, np.array(values, np.float64), "x", ms=5, label=f"{method} (published)")
        axes.set(
            xscale="log",
            xlabel=time_axis(result["time_unit"]),
            ylabel="Pearson ρ" + ("" if result["target"] == PROPENSITY else f", {result['target']}"),
            ylim=(min(0.0, axes.get_ylim()[0]), 1.02),
        )
        axes.legend(fontsize=7, frameon=False)
        save_figure(figure, path)
