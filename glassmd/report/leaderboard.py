"""The leaderboard for people and for spreadsheets: tables for the terminal, CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from glassmd.report.tables import title_of
from glassmd.storage import write_text
from glassmd.target import quantity
from glassmd.time_unit import shown_time

__all__ = ["accuracy_table", "character_table", "cost_table", "write_differences", "write_leaderboard"]


def accuracy_table(result: dict[str, Any]) -> Table:
    """ρ of the deciding species at the time that decides, and how far each entry is from the best.

    Args:
        result: What `glassmd evaluate --compare --json` prints.
    """
    species, index = result["differences"]["species"], _summary(result)
    several = len(result["times"]) > 1
    headings = [f"ρ({_deciding(result)})", "sd", "pooled", "ρ/ceiling", "below best"]
    table = _table(_title(result, species), [*headings, *(["mean ρ(t)"] if several else [])])
    for row in _of(result, species):
        found = row["species"][species]
        pearson = found["pearson"]
        cells = [
            _with_error(pearson["mean"][index], pearson["error"][index]),
            _number(pearson["sd"][index]),
            _number(pearson["pooled"][index]),
            _with_error(pearson["over_ceiling"][index], pearson["over_ceiling_error"][index]),
            _below(result["differences"], row["name"], index),
        ]
        if several:
            cells.append(_with_error(found["mean_over_times"]["mean"], found["mean_over_times"]["error"]))
        table.add_row(row["name"], *cells)
    table.caption = _caption(result, species, index)
    return table


def character_table(result: dict[str, Any]) -> Table:
    """What seeds change, what the predicted fields look like, and whether their errors are known.

    Args:
        result: What `glassmd evaluate --compare --json` prints.
    """
    species, index = result["differences"]["species"], _summary(result)
    title = f"seeds, fields and errors of {species} at t = {_deciding(result)}"
    chi = f"χ{quantity(result['target']).square}"
    table = _table(title, ["sd of seeds", "ensemble ρ", chi, "ξ / σ", "within 1 std", "⟨z²⟩"])
    table.add_row("the labels", "", "", *_fields(result["labels"][species], index), "0.683", "1", end_section=True)
    for row in _of(result, species):
        found = row["species"][species]
        seeds, ensemble, calibration = found["over_seeds"], found["ensemble"], found["calibration"] or {}
        table.add_row(
            row["name"],
            _number(seeds["sd"][index]) if seeds else "–",
            _with_error(ensemble["mean"][index], ensemble["error"][index]) if ensemble else "–",
            *_fields((found["heterogeneity"] or {}).get("predicted", {}), index),
            _number(_at(calibration, "within_one_std", index)),
            _number(_at(calibration, "mean_square", index), 2),
        )
    return table


def cost_table(result: dict[str, Any]) -> Table:
    """What every entry sees, how large it is, and what it costs.

    Args:
        result: What `glassmd evaluate --compare --json` prints.
    """
    table = _table("costs", ["numbers", "train, s", "predict, s", "input steps", "input, s"])
    table.add_column("inputs")
    for row in result["entries"]:
        cost = row["input_cost"].values()
        table.add_row(
            row["name"],
            "–" if row["parameters"] is None else f"{row['parameters']:,}",
            _short(row["training_seconds"]),
            _short(row["inference_seconds"]),
            f"{sum(one['replica_steps'] for one in cost):,.0f}" if cost else "–",
            _short(sum(one["seconds"] for one in cost)) if cost else "–",
            ", ".join(row["inputs"]),
        )
    table.caption = "predict and input: one configuration; neither training nor prediction includes the input"
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("learner", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _of(result: dict[str, Any], species: str) -> list[dict[str, Any]]:
    """The entries that predict a species."""
    return [row for row in result["entries"] if species in row["species"]]


def _fields(found: dict[str, Any], index: int) -> tuple[str, str]:
    """χ and ξ."""
    chi, xi = ((_at(found, name, index), _at(found, f"{name}_error", index)) for name in ("susceptibility", "length"))
    return _with_error(*chi, _digits(chi[1])), _with_error(*xi, _digits(xi[1]))


def write_leaderboard(path: Path, result: dict[str, Any]) -> None:
    """Write one CSV row per entry, species and time with all that is known of it.

    Args:
        path: CSV file.
        result: What `glassmd evaluate --compare --json` prints.
    """
    _write(path, list(_rows(result)))


def write_differences(path: Path, result: dict[str, Any]) -> None:
    """Write one CSV row per pair of entries and time: ρ of the first minus ρ of the second, with its error.

    Args:
        path: CSV file.
        result: What `glassmd evaluate --compare --json` prints.
    """
    found = result["differences"]
    rows = [
        {
            "first": first,
            "second": second,
            "species": found["species"],
            "time": time,
            "difference": found["mean"][a][b][t],
            "error": found["error"][a][b][t],
            "n_configurations": found["n_configurations"][a][b],
        }
        for a, first in enumerate(found["entries"])
        for b, second in enumerate(found["entries"])
        if a != b
        for t, time in enumerate(result["times"])
    ]
    _write(path, rows)


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in result["entries"]:
        cost = row["input_cost"].values()
        for species, found in row["species"].items():
            for t, time in enumerate(result["times"]):
                seeds, calibration = found["over_seeds"], found["calibration"]
                ensemble, spatial = found["ensemble"], found["heterogeneity"] or {}
                yield {
                    "entry": row["name"],
                    "model": row["model"],
                    "target": result["target"],
                    "inputs": "+".join(row["inputs"]),
                    "species": species,
                    "time": time,
                    "n_configurations": row["n_configurations"],
                    "n_seeds": len(row["seeds"]),
                    **{f"pearson_{name}": values[t] for name, values in found["pearson"].items()},
                    "ceiling": found["ceiling"][t],
                    "pearson_sd_over_seeds": seeds["sd"][t] if seeds else None,
                    **{
                        f"ensemble_{name}": ensemble[name][t] if ensemble else None
                        for name in ("mean", "sd", "error", "pooled")
                    },
                    **{
                        f"{side}_{name}": _at(spatial.get(side, {}), name, t)
                        for side in ("predicted", "label")
                        for name in ("susceptibility", "susceptibility_error", "length", "length_error")
                    },
                    "within_one_std": _at(calibration or {}, "within_one_std", t),
                    "mean_square_z": _at(calibration or {}, "mean_square", t),
                    "parameters": row["parameters"],
                    "training_seconds": row["training_seconds"],
                    "inference_seconds": row["inference_seconds"],
                    "input_replica_steps": sum(one["replica_steps"] for one in cost),
                    "input_seconds": sum(one["seconds"] for one in cost),
                }


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


def _deciding(result: dict[str, Any]) -> str:
    """The time that decides."""
    return shown_time(result["summary_time"], result["time_unit"])


def _summary(result: dict[str, Any]) -> int:
    return int(result["times"].index(result["summary_time"]))


def _title(result: dict[str, Any], species: str) -> str:
    n, lineages = result["n_configurations"], result["n_lineages"]
    liquids = f"{lineages} lineage{'s' if lineages != 1 else ''}"
    target = title_of(result["target"])
    return f"{target}species {species}, {n} configuration{'s' if n != 1 else ''} of {liquids}, {result['split']}"


def _caption(result: dict[str, Any], species: str, index: int) -> str:
    ceiling = _number(_at(result["labels"][species], "ceiling", index))
    lines = [f"ceiling {ceiling}; 0.812(12) is 0.812 ± 0.012, the standard error over configurations"]
    published = result["published"].get("per-configuration", {})
    known = [f"{name} {values[index]:.3f}" for name, values in published.items() if values[index] is not None]
    if known and species == "A":
        lines.append(f"published, on other configurations of this state point: {', '.join(known)}")
    lines += [f"left out {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _below(differences: dict[str, Any], name: str, index: int) -> str:
    """ρ of the best minus ρ of an entry."""
    place = differences["entries"].index(name)
    if place == 0:
        return "best"
    return _with_error(differences["mean"][0][place][index], differences["error"][0][place][index])


def _at(values: dict[str, Any], name: str, index: int) -> float | None:
    return values[name][index] if name in values else None


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_error(value: float | None, error: float | None, digits: int = 3) -> str:
    """A value and its standard error in units of the last digit, as 0.812(12)."""
    return _number(value, digits) + ("" if value is None or error is None else f"({round(error * 10**digits)})")


def _digits(error: float | None) -> int:
    """Decimals that show two digits of an error."""
    return 2 if not error else min(4, max(0, 1 - floor(log10(error))))


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 10 else f"{value:,.0f}"
