"""The figures of docs/assessment.md, from the results that are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import axes_of, log_axis, save
from matplotlib.axes import Axes

__all__ = ["draw"]

# Okabe & Ito: told apart by colour-blind readers; markers differ as well
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
RHO = "ρ of A particles"


def draw(results: Path) -> None:
    """Every figure whose numbers are there."""
    drawn: dict[str, Callable[[dict[str, Any], Path], None]] = {
        "ridge": _ridge,
        "networks": _networks,
        "inputs": _inputs,
        "noise": _noise,
        "temperature": _temperature,
        "equivariant": _equivariant,
    }
    for part, of in drawn.items():
        source = results / f"assessment_{part}.json"
        if source.exists():
            of(json.loads(source.read_text(encoding="utf-8")), source.with_suffix(".png"))


def _numbers(cell: str) -> tuple[int, int]:
    n, r = cell.split(" x ")
    return int(n), int(r)


def _ridge(found: dict[str, Any], path: Path) -> None:
    figure, (left, right) = axes_of(2, width=4.2)
    chosen = (("full", 32), ("full", 4), ("full", 1), ("inherent", 32), ("inherent", 4))
    for index, (which, replicas) in enumerate(chosen):
        cells = {
            n: found[which]["cells"][f"{n} x {r}"] for n, r in map(_numbers, found[which]["cells"]) if r == replicas
        }
        label = f"{'all inputs' if which == 'full' else 'inherent'}, {replicas} replica{'s' * (replicas > 1)}"
        line = "-" if which == "full" else "--"
        _curve(left, cells, index, label, line)
    counts = sorted({n for n, _ in map(_numbers, found["full"]["cells"])})
    left.set(xlabel="training configurations", ylabel=RHO, xticks=counts, title="more configurations")
    left.legend(loc="lower right")
    for index, n in enumerate(counts):
        cells = {
            n * r: found["full"]["cells"][f"{n} x {r}"] for m, r in map(_numbers, found["full"]["cells"]) if m == n
        }
        _curve(right, cells, index, f"{n}", "-")
    log_axis(right, [1, 2, 4, 8, 16, 32, 64, 128, 256])
    right.set(xlabel="trajectories: configurations × replicas", title="all inputs, at equal cost")
    right.legend(title="configurations", loc="lower right")
    save(figure, path)


def _curve(axes: Axes, cells: dict[int, Any], index: int, label: str, line: str) -> None:
    axes.errorbar(
        list(cells), [one["mean"] for one in cells.values()], yerr=[one["error"] for one in cells.values()],
        fmt=MARKERS[index] + line, color=COLOURS[index], capsize=2, linewidth=1.2, label=label,
    )  # fmt: skip


def _networks(found: dict[str, Any], path: Path) -> None:
    cells = sorted(found["cells"], key=lambda cell: (_numbers(cell)[1], _numbers(cell)[0]))
    figure, (left, right) = axes_of(2, width=4.2)
    for index, name in enumerate(("ridge", "network", "mean of both")):
        means = [found["cells"][cell][name]["mean"] for cell in cells]
        place = np.arange(len(cells)) + 0.16 * (index - 1)
        left.plot(place, means, MARKERS[index], color=COLOURS[index], label=name)
    for index, name in enumerate(("network - ridge", "mean of both - ridge"), 1):
        told = [found["cells"][cell][name] for cell in cells]
        place = np.arange(len(cells)) + 0.16 * (index - 1.5)
        right.errorbar(
            place, [one["mean"] for one in told], yerr=[one["error"] for one in told], fmt=MARKERS[index],
            color=COLOURS[index], capsize=2, label=name.replace("-", "−"),
        )  # fmt: skip
    right.axhline(0, color="black", linewidth=0.8)
    for axes in (left, right):
        axes.set_xticks(range(len(cells)), [cell.replace("x", "×") for cell in cells], rotation=30)
        axes.set_xlabel("configurations × replicas")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3)
    left.set(ylabel=RHO)
    right.set(ylabel="paired difference in ρ")
    save(figure, path)


def _inputs(found: dict[str, Any], path: Path) -> None:
    names = list(found["rho"])
    figure, (axes,) = axes_of(1, width=7.0, height=3.4)
    for row, name in enumerate(names):
        one = found["rho"][name]
        axes.plot(one["each"], np.full(len(one["each"]), row), "|", color="grey", markersize=9)
        axes.errorbar(one["mean"], row, xerr=one["error"], fmt="o", color=COLOURS[0], capsize=3)
    axes.axvline(found["ceiling"]["mean"], color="black", linestyle=":", linewidth=1)
    axes.annotate("ceiling", (found["ceiling"]["mean"], -0.35), ha="right", xytext=(-3, 0), textcoords="offset points")
    axes.set_yticks(range(len(names)), [f"{name} ({found['rho'][name]['columns']})" for name in names])
    axes.invert_yaxis()
    axes.set(xlabel=f"{RHO} (lines: each configuration)")
    save(figure, path)


def _noise(found: dict[str, Any], path: Path) -> None:
    figure, (axes,) = axes_of(1, width=6.4, height=3.0)
    sd = found["sd_unpaired_difference"] / 2**0.5
    wide = found["sd_paired_difference"][1] / 2**0.5
    published = found["published"]
    for row, value in enumerate(published.values()):
        for index, m in enumerate((5, 10, 100)):
            y = row + 0.2 * (index - 1)
            axes.errorbar(
                value, y, xerr=sd / m**0.5, fmt=MARKERS[index], color=COLOURS[index], capsize=2,
                label=f"{m} configurations" if row == 0 else None,
            )  # fmt: skip
            axes.errorbar(value, y, xerr=wide / m**0.5, fmt="none", ecolor=COLOURS[index], elinewidth=4, alpha=0.5)
    axes.axvline(found["ceiling"]["mean"], color="black", linestyle=":", linewidth=1)
    axes.annotate("ceiling", (found["ceiling"]["mean"], -0.3), ha="right", xytext=(-3, 0), textcoords="offset points")
    axes.set_yticks(range(len(published)), list(published))
    axes.invert_yaxis()
    axes.legend(title="standard error if tested on", loc="lower right")
    axes.set(xlabel=f"published {RHO}; thin: unpaired, thick: on the same configurations")
    save(figure, path)


def _temperature(found: dict[str, Any], path: Path) -> None:
    figure, (left, right) = axes_of(2, width=4.6, height=3.6)
    rows = list(found["rho"])
    times = [key.split("t = ")[1] for key in found["rho"][rows[0]] if key.startswith("cold from hot")]
    shifts = np.linspace(-0.27, 0.27, len(times) + 1)
    _points(left, found["rho"], "cold from cold", shifts[0], 3, f"from T = {found['temperature']:g}", filled=True)
    for index, t in enumerate(times):
        away = f"from T = {found['hot']['temperature']:g}, t = {t}"
        _points(left, found["rho"], f"cold from hot, t = {t}", shifts[index + 1], index, away, filled=False)
        shift = 0.22 * (index - 1)
        _points(right, found["rho"], f"hot, t = {t}, from hot", shift, index, f"t = {t}, at home", filled=True)
        _points(right, found["rho"], f"hot, t = {t}, from cold", shift, index, "from the other", filled=False)
    for axes, title in ((left, found["temperature"]), (right, found["hot"]["temperature"])):
        axes.set_yticks(range(len(rows)), [row.replace(", ", ",\n") for row in rows] if axes is left else [])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(xlabel=RHO, title=f"tested at T = {title:g}")
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2 if axes is left else 3)
    save(figure, path)


def _equivariant(found: dict[str, Any], path: Path) -> None:
    cells = sorted(found["cells"], key=_numbers)
    names = list(found["cells"][cells[0]])
    steps = [name for name in found["between_cells"] if name.startswith("12 x 2") and not name.endswith("12 x 8")]
    figure, (left, right) = axes_of(2, width=4.2)
    for axes, places in ((left, cells), (right, steps)):
        source = found["cells" if axes is left else "between_cells"]
        for index, name in enumerate(names):
            told = [source[place][name] for place in places]
            axes.errorbar(
                np.arange(len(places)) + 0.14 * (index - 1.5), [one["mean"] for one in told],
                yerr=[one["error"] for one in told], fmt=MARKERS[index], color=COLOURS[index], capsize=2, label=name,
            )  # fmt: skip
        axes.set_xticks(range(len(places)), [place.replace("x", "×").replace("-", "−") for place in places])
        axes.set_xlabel("parents × replicas")
    right.axhline(0, color="black", linewidth=0.8)
    left.set(ylabel=RHO, title=f"T = {found['temperature']:g}, t = {found['learned_time']:g}, {found['steps']} steps")
    right.set(ylabel="paired difference in ρ", title="at the same number of trajectories", xlim=(-0.5, 1.5))
    left.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.21), ncols=2)
    save(figure, path)


def _points(
    axes: Axes, found: dict[str, Any], name: str, shift: float, colour: int, label: str, *, filled: bool
) -> None:
    told = [row[name] for row in found.values()]
    axes.errorbar(
        [one["mean"] for one in told], np.arange(len(told)) + shift, xerr=[one["error"] for one in told],
        fmt=MARKERS[colour], color=COLOURS[colour], capsize=2, markerfacecolor=None if filled else "white", label=label,
    )  # fmt: skip
