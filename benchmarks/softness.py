"""Softness on trajectories simulated here: accuracy, what it says of propensities, and regression beside it.

Equilibrated configurations of the BOTAN data (N = 4096, T = 0.44) evolve at constant energy. Particles of a species
that are about to hop (soft) are told from those that have not for the whole trajectory (hard) by their surroundings.
All rows of a configuration are in one fold: what is tested was never seen, nor was any frame near it.

python benchmarks/softness.py BOTAN_FOLDER --work FOLDER [--configurations 6] [--time 200]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import axes_of, save
from numpy.typing import NDArray
from record import RESULTS, record
from scipy.spatial import cKDTree

from glassmd.analysis.dynamics import remove_drift
from glassmd.analysis.hops import P_HOP_HARD, P_HOP_SOFT, p_hop, select_soft_hard
from glassmd.configuration import Configuration
from glassmd.engines.lammps import LammpsEngine
from glassmd.features import RECIPES
from glassmd.features.neighbours import Neighbours
from glassmd.fields import NODE_FEATURES
from glassmd.learners import make_model
from glassmd.learners.linear.hyperplane import METHODS, CrossValidation, cross_validate
from glassmd.learners.linear.softness import structure_functions
from glassmd.learners.part import FOLDS, Labelled
from glassmd.metrics import pearson
from glassmd.mixtures import get_mixture
from glassmd.neighbour_search import wrapped
from glassmd.structure import Structure

TEMPERATURE, TIME_STEP, STEPS_PER_FRAME, PROPENSITY_TIME = 0.44, 0.005, 200, 4120.0
HALF_WINDOW = 5  # frames, t = 5 as in the literature
INPUT_OF = {0: "inherent", 1: "thermal"}  # by how many frames are averaged; else their mean
MIXTURE = get_mixture("kob-andersen", "force-shifted")
FloatArray = NDArray[np.float64]


@dataclass
class Liquid:
    """One configuration: where it goes, its propensities, its p_hop and its energy minima at some frames."""

    number: int
    parent: Configuration
    frames: NDArray[np.float32]
    propensity: FloatArray
    hops: FloatArray
    minima: dict[int, FloatArray]

    def positions(self, frame: int, averaged: int) -> FloatArray:
        """Mean of the last `averaged` frames up to and with this one; 0: the energy minimum."""
        if averaged == 0:
            return self.minima[frame]
        return np.asarray(self.frames[max(0, frame - averaged + 1) : frame + 1].astype(np.float64).mean(axis=0))


def load(number: int, folder: Path, work: Path, duration: int, minima_every: int) -> Liquid:
    """Simulate, or take what an earlier run left in `work`."""
    with np.load(folder / f"isoconfig_N4096T0.44_{number}_tc07.npz", allow_pickle=False) as file:
        types, start, ends = file["types"], file["initial_positions"].astype(np.float64), file["positions"]
    n = len(types)
    generator = np.random.default_rng([7, number])
    velocities = remove_drift(generator.normal(scale=TEMPERATURE**0.5, size=(n, 3)), np.ones(n))
    box = np.full(3, (n / MIXTURE.density) ** (1 / 3))
    parent = Configuration(box, types, start, velocities=velocities).with_images_zero()
    work.mkdir(parents=True, exist_ok=True)
    engine = LammpsEngine()
    path = work / f"traj_{number}.npz"
    if not path.exists():
        steps = [STEPS_PER_FRAME * k for k in range(duration + 1)]
        began = time.process_time()
        seen = engine.evolve([parent], MIXTURE, steps=steps, time_step=TIME_STEP)
        frames = np.array([one.positions.astype(np.float32) for one in seen])
        np.savez(path, frames=frames)
        print(f"simulated configuration {number} in {time.process_time() - began:.0f} s of CPU time", flush=True)
    with np.load(path, allow_pickle=False) as file:
        frames = file["frames"][: duration + 1]
    minima = {}
    for frame in [0, *range(minima_every, duration, minima_every)] if minima_every else [0]:
        path = work / f"minimum_{number}_{frame}.npy"
        if not path.exists():
            instant = Configuration(box, types, frames[frame].astype(np.float64))
            np.save(path, engine.minimise(instant, MIXTURE).positions)
        minima[frame] = np.load(path, allow_pickle=False)
    moved = remove_drift(ends.astype(np.float64) - start, np.ones(n))
    propensity = np.linalg.norm(moved, axis=-1).mean(axis=0)
    return Liquid(number, parent, frames, propensity, p_hop(frames, HALF_WINDOW), minima)


def features_of(liquid: Liquid, rows: NDArray[np.int64], averaged: int) -> NDArray[np.float32]:
    """Structure functions of some (frame, particle) rows, for the price of these particles alone."""
    recipe, n_species = RECIPES["schoenholz"], len(MIXTURE.species)
    reach = max(grid.cutoff for grid in recipe.radial)
    species = liquid.parent.species.astype(np.int64)
    box = liquid.parent.box
    out: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(rows)
    for frame in np.unique(rows[:, 0]).tolist():
        here = np.flatnonzero(rows[:, 0] == frame)
        points = wrapped(liquid.positions(frame, averaged), box) + box / 2
        found = cKDTree(points, boxsize=box).query_ball_point(points[rows[here, 1]], reach)
        centre = np.repeat(np.arange(len(here)), [len(one) for one in found])
        neighbour = np.concatenate([np.asarray(one, np.int64) for one in found])
        other = neighbour != rows[here, 1][centre]
        centre, neighbour = centre[other], neighbour[other]
        order = np.lexsort((species[neighbour], centre))
        centre, neighbour = centre[order], neighbour[order]
        vectors = points[neighbour] - points[rows[here, 1][centre]]
        vectors -= box * np.rint(vectors / box)
        edges = np.arange(len(here) * n_species + 1)
        starts = np.searchsorted(centre * n_species + species[neighbour], edges)
        far = Neighbours(
            species[rows[here, 1]], n_species, reach, centre.astype(np.int32), neighbour.astype(np.int32), vectors,
            np.linalg.norm(vectors, axis=1), starts.astype(np.int64),
        )  # fmt: skip
        x = np.hstack([family.compute(far) for family in (*recipe.radial, *recipe.angular)])
        for row, values in zip(here.tolist(), x, strict=True):
            out[row] = values
    return np.stack(out)


def chosen_rows(
    liquid: Liquid, species: int, quiet: int, lead: int, grid: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Soft rows and as many hard ones of a species; with a grid, at the last frame on it before the hop."""
    found = select_soft_hard(liquid.hops, quiet_frames=quiet, lead=lead)
    kinds = liquid.parent.species
    soft, hard = (rows[kinds[rows[:, 1]] == species] for rows in found)
    if grid:
        soft, hard = (np.column_stack([rows[:, 0] // grid * grid, rows[:, 1]]) for rows in (soft, hard))
        soft = np.unique(soft[soft[:, 0] >= grid], axis=0)
    generator = np.random.default_rng([liquid.number, species])
    soft = soft[generator.permutation(len(soft))[:most]]
    return soft, hard[generator.permutation(len(hard))[: len(soft)]]


def accuracy(
    liquids: list[Liquid], species: int, averaged: int, quiet: int, lead: int, grid: int, most: int
) -> tuple[dict[str, Any], dict[str, CrossValidation], dict[str, NDArray[Any]]]:
    """Cross-validated over configurations, by both ways from the same rows."""
    x: dict[str, list[NDArray[np.float32]]] = {"soft": [], "hard": []}
    folds: dict[str, list[int]] = {"soft": [], "hard": []}
    for fold, liquid in enumerate(liquids):
        for name, rows in zip(x, chosen_rows(liquid, species, quiet, lead, grid, most), strict=True):
            x[name].append(features_of(liquid, rows, averaged))
            folds[name] += [fold] * len(rows)
    rows = {name: np.concatenate(parts) for name, parts in x.items()}
    found = {m: cross_validate(*rows.values(), folds["soft"], folds["hard"], method=m) for m in METHODS}
    svm, regression = (found[method].accuracy for method in METHODS)
    told = {
        "species": MIXTURE.species[species],
        "positions": INPUT_OF.get(averaged, f"mean of the last {averaged} frames"),
        "lead": f"1 to {grid} frames" if grid else f"{lead} frames",
        "soft": len(rows["soft"]),
        "hard": len(rows["hard"]),
        **{m: {"accuracy": _mean(one.accuracy), "folds": one.accuracy.round(4).tolist(), "penalty": one.penalty}
           for m, one in found.items()},
        "svm_minus_regression": _mean(svm - regression),
    }  # fmt: skip
    print(told, flush=True)
    sides = {
        f"{name} {fold}": found["svm"].left_out[fold].softness(rows[name][np.array(folds[name]) == fold])
        for name in rows
        for fold in found["svm"].left_out
    }
    return told, found, sides


def encode(liquids: list[Liquid], averaged: int) -> list[Any]:
    """Structure functions of the parents; their cage is the mean of the first frames."""
    encoded = []
    for one in liquids:
        cage = one.frames[:averaged].astype(np.float64).mean(axis=0) if averaged > 1 else None
        structure = Structure(one.parent, MIXTURE, TEMPERATURE, inherent=one.minima[0], cage=cage)
        encoded.append(structure_functions(structure, INPUT_OF.get(averaged, "cage")))
    return encoded


def correlation(
    liquids: list[Liquid], encoded: list[Any], species: int, averaged: int, found: dict[str, CrossValidation]
) -> tuple[dict[str, Any], list[tuple[FloatArray, FloatArray]]]:
    """Pearson ρ with the propensity of a configuration that neither the planes nor the learners have seen."""
    name = INPUT_OF.get(averaged, "cage")
    masks = [torch.from_numpy(one.parent.species == species) for one in liquids]
    labels = [torch.from_numpy(one.propensity)[:, None] for one in liquids]
    samples = [
        Labelled(*told, n_replicas=1, fold=number % FOLDS)  # the same for all: none counts more than another
        for number, told in enumerate(zip(encoded, labels, masks, strict=True))
    ]
    result: dict[str, list[float]] = {}
    seen: list[tuple[FloatArray, FloatArray]] = []
    for fold, (data, mask, label) in enumerate(zip(encoded, masks, labels, strict=True)):
        truth = label[mask, 0].numpy()
        for method, cross in found.items():
            softness = cross.left_out[fold].softness(data[NODE_FEATURES].numpy()[mask.numpy()])
            result.setdefault(f"hops, {method}", []).append(pearson(softness, truth))
            if method == "svm":
                seen.append((softness, truth))
        for learner in ("softness", "softness-regression"):
            model: Any = make_model(learner, inputs=[name])
            model.fit([sample for other, sample in enumerate(samples) if other != fold])
            result.setdefault(f"propensities, {learner}", []).append(
                pearson(model(data)[mask, 0].detach().numpy(), truth)
            )
    told: dict[str, Any] = {"species": MIXTURE.species[species], "positions": name}
    told |= {
        key: {"rho": _mean(np.array(values)), "each": np.round(values, 4).tolist()} for key, values in result.items()
    }
    pairs = {"hops": ("hops, svm", "hops, regression"),
             "propensities": ("propensities, softness", "propensities, softness-regression")}  # fmt: skip
    for way, (one, other) in pairs.items():
        told[f"svm_minus_regression, {way}"] = _mean(np.array(result[one]) - np.array(result[other]))
    print(told, flush=True)
    return told, seen


def _label(told: dict[str, Any]) -> str:
    """A line of the figure."""
    when = f", t ≤ {told['lead'].split()[-2]} before" if "to" in told["lead"] else ""
    return f"{told['species']}, {told['positions'].replace('mean of the last', 'mean of')}{when}"


def _mean(values: FloatArray) -> list[float]:
    """Mean and its standard error over configurations."""
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1) / len(values) ** 0.5), 4)]


def draw(
    accuracies: list[dict[str, Any]],
    sides: dict[str, NDArray[Any]],
    seen: list[tuple[FloatArray, FloatArray]],
    path: Path,
) -> None:
    figure, (left, middle, right) = axes_of(3)
    labels = [_label(one) for one in accuracies]
    for shift, method in ((-0.12, "svm"), (0.12, "regression")):
        means, errors = np.array([one[method]["accuracy"] for one in accuracies]).T * 100
        left.errorbar(means, np.arange(len(means)) + shift, xerr=errors, fmt="o", capsize=2, label=method)
    left.axvline(85, color="grey", linestyle=":")
    left.set(yticks=range(len(labels)), yticklabels=labels, xlabel="accuracy on unseen configurations, %")
    left.invert_yaxis()
    left.legend()
    for name, colour in (("soft", "tab:red"), ("hard", "tab:blue")):
        values = np.concatenate([one for key, one in sides.items() if key.startswith(name)])
        middle.hist(values, np.linspace(-1, 1.2, 56), density=True, alpha=0.6, color=colour, label=name)
    middle.axvline(0, color="black", linewidth=0.8)
    middle.set(xlabel="softness of particles not seen, A", ylabel="density")
    middle.legend()
    for softness, truth in seen:
        order = np.argsort(softness)
        bins = np.array_split(order, 20)
        right.plot([softness[b].mean() for b in bins], [truth[b].mean() for b in bins], ".-", alpha=0.7)
    right.set(xlabel="softness of the parent, A", ylabel=f"propensity at t = {PROPENSITY_TIME:g}, σ",
              title="a line per configuration, 20 bins")  # fmt: skip
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="trajectories are kept here")
    parser.add_argument("--configurations", type=int, default=6)
    parser.add_argument("--time", type=int, default=200)
    parser.add_argument("--minima-every", type=int, default=0, help="frames between energy minima; 0: parents only")
    parser.add_argument("--most", type=int, default=500, help="soft rows per configuration and species")
    given = parser.parse_args()
    start = time.perf_counter()
    every = given.minima_every
    liquids = [load(c + 1, given.data, given.work, given.time, every) for c in range(given.configurations)]
    quiet = int(np.isfinite(liquids[0].hops[:, 0]).sum())  # all frames whose p_hop is known
    cases = [(0, averaged, 0) for averaged in (1, HALF_WINDOW, 2 * HALF_WINDOW)]
    cases += [(0, averaged, every) for averaged in (1, HALF_WINDOW, 0) if every]
    encoded: dict[int, list[Any]] = {}
    accuracies, correlations, drawn = [], [], {}
    for species, averaged, grid in [*cases, (1, 1, 0), (1, HALF_WINDOW, 0)]:
        told, found, sides = accuracy(liquids, species, averaged, quiet, 1, grid, given.most)
        accuracies.append(told)
        if averaged == 0 or (not grid and averaged <= HALF_WINDOW):
            if averaged not in encoded:
                encoded[averaged] = encode(liquids, averaged)
            told, seen = correlation(liquids, encoded[averaged], species, averaged, found)
            correlations.append(told)
            drawn[species, averaged] = (sides, seen)
    draw(accuracies, *drawn[0, HALF_WINDOW], RESULTS / "softness.png")
    figures = {
        "mixture": "kob-andersen, force-shifted", "temperature": TEMPERATURE, "n_particles": 4096,
        "configurations": given.configurations, "time": given.time, "frame_interval": STEPS_PER_FRAME * TIME_STEP,
        "half_window": HALF_WINDOW, "p_c": P_HOP_SOFT, "p_l": P_HOP_HARD, "quiet_frames": quiet,
        "folds": "one per configuration; errors: standard error over them", "propensity_time": PROPENSITY_TIME,
        "accuracy": accuracies, "correlation_with_propensity": correlations,
        "total_s_without_kept_trajectories": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    record("softness", figures)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
