"""The look of the benchmarks' figures: as wide as a README shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.markersize": 5,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
}


def axes_of(count: int, *, width: float = 3.6, height: float = 3.0, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in so many rows; width and height of each in inches."""
    mpl.rcParams.update(STYLE)
    columns = -(-count // rows)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def log_rates(axes: Axes) -> None:
    """A logarithmic y axis in plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high / low > 5 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [step * 10**power for power in range(7) for step in steps]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def log_axis(axes: Axes, ticks: Sequence[int]) -> None:
    """A logarithmic x axis that names these numbers."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def save(figure: Figure, path: Path) -> None:
    """Write it as a PNG."""
    figure.savefig(path, dpi=150, facecolor="white")
    print(f"wrote {path}")
