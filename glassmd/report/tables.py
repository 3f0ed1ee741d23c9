"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from glassmd.target import PROPENSITY, Target, quantity
from glassmd.time_unit import REDUCED, shown_time

__all__ = [
    "dynamics_table",
    "key_value_table",
    "predictions_table",
    "published_table",
    "score_table",
    "state_points_table",
    "title_of",
]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _text(value: Any) -> str:
    """A value for people to read: four significant digits, no brackets of programming languages."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value)


def score_table(result: dict[str, Any], species: str = "A") -> Table:
    """ρ of one species per time in both aggregations, with reliability, ceiling and ρ/ceiling.

    ρ/ceiling is that of each configuration by its own ceiling, mean ± sd over configurations.

    Args:
        result: What `glassmd evaluate --json` prints.
        species: Which species.
    """
    found = result["species"][species]
    n = result["n_configurations"]
    title = f"{title_of(result['target'])}species {species}, {n} configuration{'s' if n != 1 else ''}"
    table = Table(title=title, title_justify="left")
    unit = result["time_unit"]
    for heading in (
        "t" if unit == REDUCED else "t / τ_α",
        "ρ per\nconfiguration",
        "ρ pooled",
        "reliability",
        "ceiling",
        "ρ / ceiling",
    ):
        table.add_column(heading, justify="right")
    for index, time in enumerate(result["times"]):
        table.add_row(
            f"{time:g}" + ("*" if result.get("inside_cage", [False] * (index + 1))[index] else ""),
            _with_spread(found["pearson_per_configuration"], index),
            _number(found["pearson_pooled"][index]),
            _number(found["reliability"][index]),
            _number(found["ceiling"][index]),
            _with_spread(found["pearson_over_ceiling"], index),
        )
    unknown, alike = found["pearson_over_ceiling"]["n_left_out"], found["n_alike"]
    captions = (
        _counted("ρ / ceiling without those of unknown or no reliability", unknown, result),
        _counted("no ρ of those whose particles all have the same label", alike, result),
        _shares(found.get("within_std", [])),
    )
    table.caption = "\n".join(caption for caption in captions if caption) or None
    return table


def _shares(within_std: Sequence[Sequence[float | None]]) -> str:
    """In words, of :func:`glassmd.metrics.within_std`."""
    shown = [", ".join("–" if one is None else f"{100 * one:.0f}" for one in of) for of in within_std]
    known = any(one is not None for of in within_std for one in of)
    return f"labels within ±1 and ±2 of std and noise, %: {'; '.join(shown)}" if known else ""


def state_points_table(scores: Sequence[dict[str, Any]], title: str) -> Table:
    """ρ / ceiling of a model by time and liquid; 0.83(2) has a standard error of 0.02.

    Args:
        scores: :class:`glassmd.models.known.Score` each, as a dictionary.
        title: Of the table.
    """
    liquids = sorted({(score["truncation"], score["temperature"]) for score in scores})
    several = len({truncation for truncation, _ in liquids}) > 1
    table = Table(title=title, title_justify="left")
    table.add_column("t / τ_α", justify="right")
    for truncation, temperature in liquids:
        table.add_column(f"T = {temperature:g}" + (f"\n{truncation}" if several else ""), justify="right")
    found = {(of["truncation"], of["temperature"], of["time"]): of for of in scores}
    for time in sorted({score["time"] for score in scores}):
        row = [found.get((*liquid, time)) for liquid in liquids]
        table.add_row(
            f"{time:g}", *("" if of is None else _in_hundredths(of["share"], of["share_error"]) for of in row)
        )
    return table


def _in_hundredths(value: float, error: float) -> str:
    return f"{value:.2f}({max(1, round(100 * error))})"


def title_of(target: Target) -> str:
    """What a title begins with where the scores are of another target than the propensity.

    Example:
        >>> title_of("squared-displacement"), title_of("propensity")
        ('squared-displacement ⟨|Δr|²⟩ (σ_AA²), ', '')
    """
    if target == PROPENSITY:
        return ""
    return f"{target} {quantity(target).symbol} ({quantity(target).unit}), "


def _with_spread(found: dict[str, Any], index: int) -> str:
    mean, sd = found["mean"][index], found["sd"][index]
    return _number(mean) + ("" if sd is None else f" ± {sd:.3f}")


def _counted(what: str, counts: Sequence[int], result: dict[str, Any]) -> str | None:
    """How many configurations are left out, and at which times; None where none is."""
    times, unit = result["times"], result["time_unit"]
    parts = [
        f"{count} at t = {', '.join(shown_time(t, unit) for t, n in zip(times, counts, strict=True) if n == count)}"
        for count in sorted(set(counts) - {0})
    ]
    return f"{what}: {'; '.join(parts)}" if parts else None


def published_table(result: dict[str, Any]) -> Table | None:
    """Published ρ of species A at the times of an evaluation; None where nothing was published.

    Args:
        result: What `glassmd evaluate --json` prints.
    """
    methods = result.get("published", {}).get("per-configuration", {})
    if not methods:
        return None
    table = Table(title="published, species A, per configuration", title_justify="left")
    table.add_column("method")
    for time in result["times"]:
        table.add_column(f"t = {time:g}", justify="right")
    for method, values in methods.items():
        table.add_row(method, *(_number(value) for value in values))
    table.caption = "on other configurations of this state point, whose truncation may differ"
    return table


def predictions_table(result: dict[str, Any], species: str = "A") -> Table | None:
    """ρ of the predictions that came with the data, at the times of an evaluation; None where there are none.

    Args:
        result: What `glassmd evaluate --json` prints.
        species: Which species.
    """
    rows = {
        f"{method}, {found['n_configurations']}": found["species"][species]["pearson_per_configuration"]
        for method, found in result["published_predictions"].items()
        if species in found["species"]
    }
    if not rows:
        return None
    table = Table(title=f"published predictions, species {species}, per configuration", title_justify="left")
    table.add_column("method, configurations")
    for time in result["times"]:
        table.add_column(f"t = {shown_time(time, result['time_unit'])}", justify="right")
    for name, pearson in rows.items():
        table.add_row(name, *(_with_spread(pearson, index) for index in range(len(result["times"]))))
    table.caption = "on configurations of these data, scored as the model is"
    return table


def dynamics_table(dynamics: dict[str, Any]) -> Table:
    """Mean |Δr| and F_s per species and time, with standard errors over parents.

    Args:
        dynamics: `dynamics` of what `glassmd simulate --json` prints.
    """
    n = dynamics["n_parents"]
    energy, pressure = dynamics["energy_per_particle"], dynamics["pressure"]
    table = Table(title=f"dynamics, mean ± standard error over {n} parent{'s' if n != 1 else ''}", title_justify="left")
    table.add_column("t", justify="right")
    for name in dynamics["species"]:
        table.add_column(f"⟨|Δr|⟩ {name}", justify="right")
        table.add_column(f"F_s {name}", justify="right")
    for index, time in enumerate(dynamics["times"]):
        cells = [
            _with_error(found[key], index)
            for found in dynamics["species"].values()
            for key in ("mean_displacement", "scattering")
        ]
        table.add_row(f"{time:g}", *cells)
    table.caption = f"U/N = {_with_error(energy)}, P = {_with_error(pressure)}"
    return table


def _with_error(found: dict[str, Any], index: int | None = None) -> str:
    mean, error = (found[key] if index is None else found[key][index] for key in ("mean", "error"))
    return _number(mean, 4) + ("" if error is None or error != error else f" ± {error:.4f}")


def key_value_table(title: str, rows: dict[str, Any]) -> Table:
    """Two columns, for `info` and `doctor`."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in rows.items():
        lines = [f"{k}: {_text(v)}" for k, v in value.items()] if isinstance(value, dict) else [_text(value)]
        table.add_row(key, "\n".join(lines))
    return table
