"""What `glassmd analyze` draws: one figure a quantity, for print."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glassmd.analysis.hops import P_HOP_SOFT
from glassmd.analysis.moves import Dynamics
from glassmd.observables.result import Observables
from glassmd.report.figures import STYLE, save_figure

__all__ = ["plot_analysis"]

FloatArray = NDArray[np.float64]

_COLOURS = {"A": "#0072B2", "B": "#D55E00", "C": "#009E73", "total": "#000000"}
_OTHERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito
_LINES = ("-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3)))


def plot_analysis(found: Observables, folder: Path) -> list[Path]:
    """Draw g(r), S(q), ⟨Δr²⟩, F_s, α₂, χ₄ and p_hop, those that are known.

    Args:
        found: What was measured.
        folder: Where to.

    Returns:
        What was written.
    """
    dynamics = found.dynamics
    drawn: list[tuple[str, Callable[[Axes], None]]] = [
        ("radial", lambda axes: _radial(axes, found)),
        ("structure_factor", lambda axes: _structure(axes, found)),
    ]
    if dynamics is not None:
        t = "t √(ε/mσ²)" if found.facts.time_unit == "reduced" else "t / steps"
        drawn += [
            ("mean_squared_displacement", lambda axes: _msd(axes, found, dynamics, t)),
            ("self_scattering", lambda axes: _scattering(axes, found, dynamics, t)),
            ("non_gaussian", lambda axes: _each(axes, dynamics, dynamics.non_gaussian, "α₂", t)),
            ("susceptibility", lambda axes: _each(axes, dynamics, dynamics.susceptibility, "χ₄", t)),
        ]
    if found.hops:
        drawn.append(("p_hop", lambda axes: _hops(axes, found)))
    written = []
    for name, draw in drawn:
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(4.2, 3.0), layout="constrained")
            axes = figure.subplots()
            draw(axes)
            if len(axes.get_legend_handles_labels()[0]) > 1:
                axes.legend(fontsize=7, frameon=False)
            save_figure(figure, path := folder / f"{name}.png")
        written.append(path)
    return written


def _colour(name: str, index: int) -> str:
    return _COLOURS.get(name, _OTHERS[index % len(_OTHERS)])


def _curves(axes: Axes, x: FloatArray, curves: Iterable[tuple[str, FloatArray, FloatArray]]) -> None:
    for index, (name, y, error) in enumerate(curves):
        colour = "#000000" if name == "total" else _OTHERS[index % len(_OTHERS)]
        axes.plot(x, y, ls=_LINES[index % len(_LINES)], color=colour, lw=1.1, label=name)
        if np.isfinite(error).any():
            axes.fill_between(x, y - error, y + error, color=colour, alpha=0.25, lw=0)


def _radial(axes: Axes, found: Observables) -> None:
    radial = found.radial
    _curves(axes, radial.radii, ((name, g, radial.error[name]) for name, g in radial.partial.items()))
    axes.axhline(1, color="#999999", lw=0.6)
    axes.set(xlabel="r / σ", ylabel="g(r)", xlim=(0.7, radial.radii[-1]), ylim=(0, None))


def _structure(axes: Axes, found: Observables) -> None:
    factor = found.structure
    _curves(axes, factor.wave_numbers, ((name, s, factor.error[name]) for name, s in factor.partial.items()))
    axes.axhline(0, color="#999999", lw=0.6)
    axes.set(xlabel="q σ", ylabel="S(q)", xlim=(0, factor.wave_numbers[-1]))


def _msd(axes: Axes, found: Observables, dynamics: Dynamics, t: str) -> None:
    for index, name in enumerate(dynamics.species):
        square, colour = dynamics.mean(name, "squared"), _colour(name, index)
        axes.errorbar(
            dynamics.lags, square, dynamics.error(name, "squared"), color=colour, marker="o", ms=2.5, lw=0.9, label=name
        )
        diffusion = found.diffusion[name].value
        if diffusion is not None:
            late = dynamics.lags[dynamics.lags >= dynamics.lags[-1] / 30]
            line = 2 * dynamics.dimensions * diffusion * late
            axes.plot(
                late, line, "--", color=colour, lw=0.8, label=f"{2 * dynamics.dimensions} D t, D = {diffusion:.3g}"
            )
    axes.set(xscale="log", yscale="log", xlabel=t, ylabel="⟨Δr²⟩ / σ²")


def _scattering(axes: Axes, found: Observables, dynamics: Dynamics, t: str) -> None:
    for index, name in enumerate(dynamics.species):
        values, error = dynamics.mean(name, "self_scattering"), dynamics.error(name, "self_scattering")
        label = f"{name}, q = {dynamics.wave_numbers[name]:.3g}"
        if found.tau_alpha[name].value is not None:
            label += f", τ_α = {found.tau_alpha[name].value:.3g}"
        axes.errorbar(dynamics.lags, values, error, color=_colour(name, index), marker="o", ms=2.5, lw=0.9, label=label)
    axes.axhline(np.exp(-1), color="#999999", lw=0.6)
    axes.annotate("1/e", (1, np.exp(-1)), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom")
    axes.set(xscale="log", xlabel=t, ylabel="F_s(q, t)", ylim=(min(0.0, axes.get_ylim()[0]), 1))


def _each(axes: Axes, dynamics: Dynamics, quantity: Callable[[str], FloatArray], label: str, t: str) -> None:
    for index, name in enumerate(dynamics.species):
        axes.plot(dynamics.lags, quantity(name), color=_colour(name, index), marker="o", ms=2.5, lw=0.9, label=name)
    axes.axhline(0, color="#999999", lw=0.6)
    axes.set(xscale="log", xlabel=t, ylabel=label)


def _hops(axes: Axes, found: Observables) -> None:
    for index, (name, hops) in enumerate(found.hops.items()):
        density = hops.p_hop / np.diff(np.log(hops.edges))
        axes.stairs(density, hops.edges, color=_colour(name, index), lw=1.1, label=name)
    axes.axvline(P_HOP_SOFT, color="#999999", lw=0.6)
    axes.annotate("p_c", (P_HOP_SOFT, 1), xycoords=("data", "axes fraction"), fontsize=7, ha="left", va="top")
    axes.set(xscale="log", yscale="log", xlabel="p_hop / σ²", ylabel="share per ln p_hop")
