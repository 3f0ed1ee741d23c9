"""What `glassmd analyze` says: one JSON object, a table, and CSV files of every curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from glassmd.analysis.moves import Dynamics
from glassmd.observables.result import Mean, Observables
from glassmd.storage import write_text

__all__ = ["analysis_facts", "analysis_table", "write_curves"]

FloatArray = NDArray[np.float64]


def analysis_facts(found: Observables, files: Sequence[Path] = ()) -> dict[str, Any]:
    """What `glassmd analyze --json` prints; None where the data do not tell.

    Args:
        found: What was measured.
        files: Written beside.
    """
    facts, dynamics = found.facts, found.dynamics
    species = dynamics.species if dynamics is not None else ()
    return {
        "n_frames": facts.n_frames,
        "n_particles": len(facts.species),
        "dimensions": len(facts.box),
        "density": facts.density,
        "mixture": None if facts.mixture is None else f"{facts.mixture.name} ({facts.mixture.truncation})",
        "species": list(facts.names),
        "temperature": found.temperature,
        "kinetic_temperature": found.kinetic_temperature,
        "time_unit": facts.time_unit,
        "energy_per_particle": found.energy.value,
        "pressure": found.pressure.value,
        "tau_alpha": {name: found.tau_alpha[name].value for name in species},
        "diffusion": {name: found.diffusion[name].value for name in species},
        "hop_rate": {name: hops.rate.value for name, hops in found.hops.items()},
        "crystalline_fraction": found.crystalline.value,
        "most_crystalline": found.most_crystalline,
        "errors": {
            "energy_per_particle": found.energy.error,
            "pressure": found.pressure.error,
            "tau_alpha": {name: found.tau_alpha[name].error for name in species},
            "diffusion": {name: found.diffusion[name].error for name in species},
            "hop_rate": {name: hops.rate.error for name, hops in found.hops.items()},
            "crystalline_fraction": found.crystalline.error,
        },
        "wave_numbers": {} if dynamics is None else dict(dynamics.wave_numbers),
        "first_peaks": {
            pair: dict(zip(("r", "g"), found.radial.first_peak(pair), strict=True)) for pair in found.radial.partial
        },
        "non_gaussian_peak": {name: _peak(dynamics, dynamics.non_gaussian(name)) for name in species if dynamics},
        "susceptibility_peak": {name: _peak(dynamics, dynamics.susceptibility(name)) for name in species if dynamics},
        "mobility_length": {
            name: {"length": one.length.value, "error": one.length.error, "lag": one.lag}
            for name, one in found.mobility.items()
        },
        "energy_drift": None
        if found.energy_drift is None
        else {"of": found.energy_of_drift, "change": found.energy_drift.change, "chance": found.energy_drift.chance},
        "ageing": None
        if found.ageing is None
        else {
            "ageing": found.ageing.ageing,
            "second_over_first": found.ageing.second_over_first,
            "chance": found.ageing.chance,
            "lags": list(found.ageing.lags),
        },
        "files": [str(path) for path in files],
        "warnings": list(found.warnings),
    }


def _peak(dynamics: Dynamics, values: FloatArray) -> dict[str, float] | None:
    """Height and time of a maximum; None where it is at an end of the lags or nothing is known."""
    if not np.isfinite(values).any():
        return None
    k = int(np.nanargmax(values))
    if not 0 < k < len(values) - 1:
        return None
    return {"height": float(values[k]), "time": float(dynamics.lags[k])}


def analysis_table(found: Observables, title: str) -> Table:
    """The numbers, for a terminal.

    Args:
        found: What was measured.
        title: What it was measured on.
    """
    facts, said = found.facts, analysis_facts(found)
    species = list(found.dynamics.species) if found.dynamics is not None else []
    liquid = said["mixture"] or "unknown mixture"
    temperature = "" if found.temperature is None else f", T = {found.temperature:.4g}"
    head = (
        f"{title}: {liquid} in {len(facts.box)}D, N = {len(facts.species)}, ρ = {facts.density:.4g}{temperature}, "
        f"{facts.n_frames:,} frame{'s' if facts.n_frames != 1 else ''}"
    )
    table = Table(title=head, title_justify="left")
    table.add_column("")
    for heading in ["all", *species]:
        table.add_column(heading, justify="right")

    def row(name: str, every: str, *each: str) -> None:
        table.add_row(name, every, *(each or [""] * len(species)))

    def of_species(name: str, values: Mapping[str, Mean]) -> None:
        row(name, "", *(_with_error(values.get(one, Mean(None, None))) for one in species))

    unit = "" if facts.time_unit == "reduced" else " / steps"
    row("U/N", _with_error(found.energy))
    row("pressure", _with_error(found.pressure))
    row("crystalline", _with_error(found.crystalline))
    if species and found.dynamics is not None:
        row("q of F_s", "", *(f"{found.dynamics.wave_numbers[one]:.3f}" for one in species))
        of_species(f"τ_α{unit}", found.tau_alpha)
        of_species(f"D{' · steps' if unit else ''}", found.diffusion)
        row("α₂ highest", "", *(_peak_text(said["non_gaussian_peak"][one]) for one in species))
        row("χ₄ highest", "", *(_peak_text(said["susceptibility_peak"][one]) for one in species))
    if found.hops:
        of_species("hops / (N t)", {name: hops.rate for name, hops in found.hops.items()})
    for name, one in found.mobility.items():
        row(f"ξ(t = {one.lag:g})", "", *(_with_error(one.length) if s == name else "" for s in species))
    peaks = {pair: f"{peak['g']:.3f} at {peak['r']:.3f}" for pair, peak in said["first_peaks"].items()}
    row("g(r) first peak", peaks.pop("total"))
    for pair, text in peaks.items():
        row(f"     of {pair}", text)
    table.caption = "\n".join(_remarks(found))
    table.caption_justify = "left"
    return table


def _remarks(found: Observables) -> list[str]:
    remarks = []
    if found.ageing is not None:
        verdict = "yes" if found.ageing.ageing else "none seen"
        low, high = found.ageing.lags
        remarks.append(
            f"ageing: {verdict}; ⟨Δr²⟩ of the second half {found.ageing.second_over_first:.3f} times that of the first "
            f"at t = {low:g} to {high:g}"
        )
    if found.energy_drift is not None:
        seen = "significant" if found.energy_drift.significant else "no trend"
        remarks.append(f"{found.energy_of_drift} drifts by {found.energy_drift.change:.4f} from end to end: {seen}")
    errors = "lineages" if not found.facts.parts else "parts of the trajectories"
    return [*remarks, f"0.812(12) is 0.812 ± 0.012, the standard error from {errors}; – where the data do not tell"]


def _with_error(found: Mean) -> str:
    """A value and its standard error in units of the last digits, as 0.812(12)."""
    value, error = found
    if value is None:
        return "–"
    if not error:
        return f"{value:.4g}"
    digits = min(8, max(0, 1 - floor(log10(error))))
    return f"{value:.{digits}f}({round(error * 10**digits)})"


def _peak_text(peak: dict[str, float] | None) -> str:
    return "–" if peak is None else f"{peak['height']:.3g} at {peak['time']:g}"


def write_curves(found: Observables, folder: Path) -> list[Path]:
    """Write every curve as CSV: `radial.csv`, `structure_factor.csv`, `dynamics.csv` and `p_hop.csv`.

    Args:
        found: What was measured.
        folder: Made if it is not there.

    Returns:
        What was written.

    Raises:
        StorageError: It cannot be written.
    """
    radial, structure, dynamics = found.radial, found.structure, found.dynamics
    curves: dict[str, dict[str, FloatArray]] = {
        "radial": {"r": radial.radii, **_columns("g", radial.partial, radial.error)},
        "structure_factor": {"q": structure.wave_numbers, **_columns("S", structure.partial, structure.error)},
    }
    if dynamics is not None:
        columns = {"t": dynamics.lags, "beginnings": dynamics.beginnings()}
        for name in dynamics.species:
            for what in ("distance", "squared", "self_scattering", "overlap"):
                columns |= {
                    f"{what}_{name}": dynamics.mean(name, what),
                    f"{what}_{name}_error": dynamics.error(name, what),
                }
            columns |= {f"alpha2_{name}": dynamics.non_gaussian(name), f"chi4_{name}": dynamics.susceptibility(name)}
        curves["dynamics"] = columns
    if found.hops:
        edges = next(iter(found.hops.values())).edges
        of = {f"share_{name}": hops.p_hop for name, hops in found.hops.items()}
        curves["p_hop"] = {"lower": edges[:-1], "upper": edges[1:], **of}
    written = []
    for name, columns in curves.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(["" if np.isnan(value) else f"{value:.10g}" for value in row])
        path = folder / f"{name}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())
        written.append(path)
    return written


def _columns(letter: str, values: Mapping[str, FloatArray], errors: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for name, column in values.items():
        found |= {f"{letter}_{name}": column, f"{letter}_{name}_error": errors[name]}
    return found
