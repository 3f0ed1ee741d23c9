"""The physics of the hoomd engine: does it simulate the Kob-Andersen liquid, whatever it is packed with?

    python benchmarks/hoomd_physics.py --parts a,b,c,d

a  energies and pressures of packed liquids against published ones (about 15 minutes on a CPU core);
b  each replica's mean kinetic temperature over the quarters of 200,000 steps (about 20 minutes);
c  what the thermostat does to the motion, against the same replicas at constant energy (10 minutes);
d  propensities against those of LAMMPS from other momenta (5 minutes).

Every part is written when it is done; the figure shows all that have been.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from command import folder_of, parser_of, run
from figures import axes_of, save
from hoomd_dynamics import propensities, thermostats
from hoomd_equilibrium import energies, reference_energy, temperatures
from matplotlib.axes import Axes
from record import record, title_of

from glassmd.engines.hoomd import HoomdEngine

PARTS = {"a": "energies", "b": "temperatures", "c": "thermostats", "d": "propensities"}


def measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part."""
    quick, device = options.quick, options.device
    size = {"n_particles": 256 if quick else 1000}
    if part == "a":
        at = [1.0] if quick else [1.0, 0.8, 0.64]
        return energies(device, temperatures=at, n_liquids=2 if quick else 4, tau_alphas=5 if quick else 20, **size)
    if part == "b":
        return temperatures(
            device, temperature=0.5, n_replicas=2 if quick else 4, steps=options.steps or (4000 if quick else 200_000),
            thermostat_time=options.thermostat_time, **size,
        )  # fmt: skip
    common: Any = {
        **size,
        "temperature": 1.0 if quick else 0.64,
        "n_replicas": 8 if quick else 32,
        "packed": 4 if quick else options.packed,
        "tau_alphas": 3 if quick else 20,
    }
    if part == "c":
        return thermostats(device, times=[0.5, 1.0] if quick else [1.0, 10.0], relaxation_times=[0.5, 2, 20], **common)
    return propensities(device, times=[0.1, 1.0] if quick else [0.1, 1.0, 10.0], **common)


def draw_energies(axes: Axes, result: dict[str, Any]) -> None:
    rows = result["rows"]
    curve = np.linspace(0.43, 1.1, 100)
    axes.plot(curve, [reference_energy(t) for t in curve], color="C7", label="−8.644 + 2.632 T$^{3/5}$")
    at, means = [row["temperature"] for row in rows], [row["energy_per_particle"]["mean"] for row in rows]
    axes.plot(at, means, "o", label=f"{result['liquids_packed']} packed liquids, N = {result['n_particles']}")
    for row, x, y in zip(rows, at, means, strict=True):
        off = (row["energy_per_particle"], row["pressure"])
        text = "U {:+.3f} ± {:.3f}\nP {:+.2f} ± {:.2f}".format(*(o[k] for o in off for k in ("difference", "error")))
        axes.annotate(text, (x, y), (-6, 1), textcoords="offset points", ha="right", fontsize=7)
    axes.set(
        xlabel="temperature / ε", ylabel="potential energy U/N / ε", title="a  off the references: U/N and pressure"
    )
    axes.legend(frameon=False, loc="lower right")


def draw_temperatures(axes: Axes, result: dict[str, Any]) -> None:
    off, scatter = 100 * np.array(result["relative_deviation"]), 100 * result["canonical_scatter_of_a_quarter"]
    for replica, values in enumerate(off):
        shift = 0.08 * (replica - (len(off) - 1) / 2)
        axes.plot(np.arange(1, 5) + shift, values, "o", label=f"replica {replica}")
    axes.axhspan(-scatter, scatter, color="C7", alpha=0.25, linewidth=0, label="canonical ±σ")
    top = max(1.5, 1.1 * float(np.abs(off).max()))
    for limit in (-1, 1):
        axes.axhline(limit, color="black", linewidth=0.8, linestyle=":")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(1, 5))
    axes.set(
        xlabel=f"quarter of {result['steps']:,} steps", ylabel="⟨T$_{kin}$⟩ / T − 1 / %", ylim=(-top, 1.6 * top),
        title=f"b  T = {result['temperature']}, thermostat time {result['thermostat_time']:g}",
    )  # fmt: skip
    axes.legend(frameon=False, ncols=2, fontsize=7, loc="upper center")


def draw_thermostats(axes: Axes, result: dict[str, Any]) -> None:
    rows = result["rows"]
    labels = [f"{row['thermostat_time']:g}" for row in rows[1:]]
    for column, at in enumerate(result["times"]):
        for name, symbol, fmt in (("mean_displacement", "⟨|Δr|⟩", "o"), ("F_s", "F$_s$", "s")):
            base = rows[0][name]["mean"][column]
            off = [row[f"{name}_minus_constant_energy"] for row in rows[1:]]
            axes.errorbar(
                np.arange(len(off)) + 0.12 * (2 * column + (fmt == "s")) - 0.18,
                [100 * one["mean"][column] / base for one in off],
                [100 * one["error"][column] / base for one in off],
                fmt=fmt, markersize=4, color=f"C{column}", fillstyle="full" if fmt == "o" else "none",
                label=f"{symbol} at t = {at:g}",
            )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(
        xlabel="thermostat time / √(mσ²/ε)",
        ylabel="off constant energy / %",
        title=f"c  T = {result['temperature']}, A",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.35 * (high - low))
    axes.legend(frameon=False, ncols=2, fontsize=7, loc="upper center")


def draw_propensities(axes: Axes, result: dict[str, Any]) -> None:
    rows = result["rows"]
    at = [row["time"] for row in rows]
    axes.plot(at, [row["expected"] for row in rows], "_", color="black", markersize=16, label="expected: reliability")
    axes.errorbar(
        at,
        [row["rho"] for row in rows],
        [row["rho_error_bootstrap"] for row in rows],
        fmt="o",
        label="HOOMD and LAMMPS",
    )
    axes.set(
        xlabel="time / √(mσ²/ε)", ylabel="Pearson ρ of propensities (A)", xscale="log", ylim=(0, 1),
        title=f"d  T = {result['temperature']}, R = {result['replicas_per_engine']} each",
    )  # fmt: skip
    axes.legend(frameon=False, loc="lower left")


DRAW: dict[str, Callable[[Axes, dict[str, Any]], None]] = {
    "a": draw_energies,
    "b": draw_temperatures,
    "c": draw_thermostats,
    "d": draw_propensities,
}


def draw(folder: Path, device: str) -> None:
    """All parts of which there is a result."""
    paths = {part: folder / f"hoomd_physics_{part}_{name}_{device}.json" for part, name in PARTS.items()}
    results = {part: json.loads(path.read_text("utf-8")) for part, path in paths.items() if path.exists()}
    figure, columns = axes_of(len(results), height=2.9, rows=2 if len(results) > 2 else 1)
    for axes, (part, result) in zip(columns, results.items(), strict=True):
        DRAW[part](axes, result)
    figure.suptitle(title_of(next(iter(results.values()))), fontsize=9)
    save(figure, folder / f"hoomd_physics_{device}.png")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--parts", default="a,b,c,d")
    parser.add_argument("--thermostat-time", type=float, default=2.0, help="of part b; 2 is a run's default")
    parser.add_argument("--steps", type=int, help="of part b; default: 200000")
    parser.add_argument("--packed", type=int, default=16, help="replicas in one simulation in parts c and d")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"found parts {', '.join(sorted(unknown))}, expected some of {', '.join(PARTS)}")
    name, folder = HoomdEngine(options.device).device, folder_of(options)  # a missing engine or device ends it here
    for part in parts:
        started = time.perf_counter()
        print(f"part {part}: {PARTS[part]}", flush=True)
        result = {
            "benchmark": f"hoomd_physics, part {part}: {PARTS[part]}",
            "device": options.device,
            "device_name": name,
            "time_step": 0.005,
            **measure(part, options),
            "seconds": round(time.perf_counter() - started),
        }
        record(f"hoomd_physics_{part}_{PARTS[part]}_{options.device}", result, folder, show=False)
        draw(folder, options.device)


if __name__ == "__main__":
    run(main)
