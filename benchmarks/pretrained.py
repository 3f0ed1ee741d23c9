"""The models that come with glassmd, from the data of pretrained_data.py, and how good they are.

    python benchmarks/pretrained.py FOLDER train [all|alone|without] [--members long,…] [--only T,…]
    python benchmarks/pretrained.py FOLDER score OUT.json
    python benchmarks/pretrained.py FOLDER tables SCORES.json
    python benchmarks/pretrained.py FOLDER figure SCORES.json --out docs/pretrained.png
    python benchmarks/pretrained.py FOLDER publish --version 1.0
    python benchmarks/pretrained.py FOLDER unseen OUT.json

`train all` trains the members of the family on every liquid, `alone` the one for long times at one temperature each,
`without` the same on all temperatures but one. `score` predicts every lineage by parts that never saw its fold (of a
temperature that was left out: of any fold) and writes ρ, ceilings and coverage by state point. `publish` puts the
family into the package. `unseen` has the package predict liquids that nobody trained on, as users would do it. All of
it resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretrained_data import STATES, UNSEEN

import glassmd
from glassmd.graphs import batch_graphs
from glassmd.models.cages import cages_at
from glassmd.models.known import ABOUT_FILE, About, Score
from glassmd.models.store import load_model, save_model
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.storage import read_json, write_json
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample, at_times, score_samples, within_std_of
from glassmd.stream.structures import Structures
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.training.session import train
from glassmd.training.source import SampleSource

OWN = [state for state in STATES if state.truncation == "force-shifted"]
TRUNCATIONS = ("shifted",)
"""Besides the training's own: their liquids relax alike at the same temperature (docs/pretrained.md)."""

MEMBERS: dict[str, dict[str, Any]] = {
    "thermal": {"input": ["thermal"], "first_time": 0.025},
    "inherent": {
        "input": ["thermal", "inherent"], "first_time": 0.025, "hyperparameters": {"describe_thermal": True},
    },
    "short": {"first_time": 0.16},
    "long": {"first_time": 0.63},
}  # fmt: skip
LATEST = "long"
Scores = dict[str, list[dict[str, Any]]]
"""Rows by model: a member's name, `alone-T` or `without-T`."""
MAX_STEPS = 3600  # of several temperatures; the learner's own number suits one
LEAST_CEILING = 0.3  # below which labels are so noisy that ρ / ceiling says nothing
SUMMARY = "Kob and Andersen's mixture in three dimensions, from the cage to six relaxation times, at T = 0.44 to 1"


def runs_of(folder: Path, member: str, of: Iterable[float]) -> list[tuple[Path, float]]:
    """Finished run directories of some temperatures that have times for a member, not only its first, with τ_α."""
    first, wanted = MEMBERS[member]["first_time"] * 1.1, set(of)
    found = [(folder / state.name, state) for state in OWN if state.temperature in wanted]
    found += [(folder / "botan", state) for state in OWN if state.start == "botan" and state.temperature in wanted]
    return [
        (path, state.tau_alpha)
        for path, state in found
        if _finished(path)
        and open_run(path).times[-1] / state.tau_alpha > first
        and not (path.name.endswith("-short") and MEMBERS[member].get("input") != ["thermal"])  # hundreds of structures
    ]


def temperatures(folder: Path) -> list[float]:
    """Of the data that are there."""
    return sorted({state.temperature for state in OWN if state.start == "botan" or _finished(folder / state.name)})


def _finished(path: Path) -> bool:
    return (path / "run.json").exists() and open_run(path).complete


def train_member(folder: Path, out: Path, member: str, of: Sequence[float], seed: int = 0) -> None:
    """Train one on every lineage of some temperatures."""
    data = runs_of(folder, member, of)
    settings = TrainSettings(
        time_unit="tau_alpha",
        tau_alpha=[tau for _, tau in data],
        max_steps=MAX_STEPS if len(of) > 1 else None,
        checkpoint_every=600,
        train_threads=1,
        train_device="cpu",
        **MEMBERS[member],
    )
    run = RunSettings(seed=seed, workers=2)
    print(out, [str(path) for path, _ in data], flush=True)
    told = train([path for path, _ in data], out, Settings(run=run, train=settings), held_out=())
    print(json.dumps({key: told[key] for key in ("seconds", "training_seconds", "parameters")}), flush=True)


def trainings(
    folder: Path, kind: str, members: Sequence[str], only: Sequence[float]
) -> list[tuple[Path, str, list[float]]]:
    """Where, which member, and of which temperatures."""
    every = temperatures(folder)
    models = folder / "models"
    if kind == "all":
        return [(models / "all" / member, member, every) for member in members]
    chosen = [t for t in every if not only or t in only]
    if kind == "alone":
        return [(models / f"alone-{t:g}", LATEST, [t]) for t in chosen]
    return [(models / f"without-{t:g}", LATEST, [other for other in every if other != t]) for t in chosen]


# ---- scores -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predictions(directory: Path, run: Run, samples: Sequence[Sample], folds: Sequence[int]) -> list[tuple[Any, Any]]:
    """(n_times, n_particles) prediction and spread of each sample by the parts that never saw a fold."""
    loaded = load_model(directory)
    structures = Structures([run], loaded.model.inputs, cages_at(loaded.card, float(run.identity["temperature"])))
    structures.make([sample.key for sample in samples], RunSettings(workers=2))
    found = []
    for sample, fold in zip(samples, folds, strict=True):
        data = batch_graphs([loaded.model.encode(structures.of(sample))])
        values, spread = loaded.model.out_of_fold(data, fold), loaded.model.spread(data)
        assert values is not None
        assert spread is not None
        found.append((values.numpy().T.astype(float), spread.numpy().T.astype(float)))
    return found


def score(
    folder: Path, directory: Path, member: str, path: Path, tau: float, sources: Sequence[Path]
) -> list[dict[str, Any]]:
    """Of one model on one run: a row per time."""
    run = open_run(path)
    use_tau_alphas([run], [tau])
    card = load_model(directory).card
    run.use_times_from(MEMBERS[member]["first_time"])
    times = [time for time in run.sample_times if card.knows(time)]
    samples = [at_times(sample, np.array(times)) for sample in run.samples()]
    if len(samples) > 80:
        samples = samples[:: len(samples) // 60]
    source = SampleSource([open_run(one) for one in sources], 0.0, ())
    known = str(run.identity["id"]) in {str(one.identity["id"]) for one in source.runs}
    folds = [source.fold(sample.key) if known else sample.key.lineage % 5 for sample in samples]
    columns = card.check_times(times)
    found = predictions(directory, run, samples, folds)
    values, spreads = [one[columns] for one, _ in found], [one[columns] for _, one in found]
    rows = []
    for species in ("A", "B"):
        scores = score_samples(values, samples, species)
        within = within_std_of(values, spreads, samples, species)
        lineages = np.array([sample.key.lineage for sample in samples])
        for t, time in enumerate(times):
            share = scores.per_configuration[:, t] / scores.ceiling[t]
            of_lineage = [np.nanmean(share[lineages == one]) for one in sorted(set(lineages))]
            rows.append(
                {
                    "temperature": float(run.identity["temperature"]),
                    "truncation": run.identity["mixture"]["truncation"],
                    "run": path.name,
                    "species": species,
                    "time": time,
                    "pearson": float(scores.mean[t]),
                    "ceiling": float(scores.ceiling[t]),
                    "share": float(np.mean(of_lineage)),
                    "share_error": float(np.std(of_lineage, ddof=1) / np.sqrt(len(of_lineage))),
                    "within_std": [round(float(of), 3) for of in within[:, t]],
                    "parents": len(samples),
                }
            )
    return rows


def every_score(folder: Path) -> Scores:
    """Of every model that is there on every liquid that it should know."""
    models = folder / "models"
    directories = [*sorted(models.glob("*-*")), *(models / "all" / member for member in MEMBERS)]
    return {path.name: scores_of(folder, path) for path in directories if _trained(path)}


def _trained(directory: Path) -> bool:
    """Whether its training has come to its end: a model is there before that, of the last checkpoint."""
    told = directory / "status.json"
    return told.exists() and read_json(told)["state"] == "done"


def scores_of(folder: Path, directory: Path) -> list[dict[str, Any]]:
    """Of one model, kept beside it."""
    kept = directory / "scores.json"
    if not kept.exists():
        every = temperatures(folder)
        kind, _, at = directory.name.partition("-")
        member = LATEST if at else directory.name
        on = [float(at)] if at else every
        trained = on if kind == "alone" else [t for t in every if not at or t != float(at)]
        sources = [path for path, _ in runs_of(folder, member, trained)]
        runs = runs_of(folder, member, on)
        found = [row for path, tau in runs for row in score(folder, directory, member, path, tau, sources)]
        write_json(kept, {"rows": found})
    print(directory.name, flush=True)
    rows: list[dict[str, Any]] = json.loads(kept.read_text())["rows"]
    return rows


def unseen(folder: Path) -> dict[str, Any]:
    """Of the family in the package on the liquids that are there for nobody to train on."""
    found: dict[str, Any] = {}
    for path in [folder / state.name for state in UNSEEN if _finished(folder / state.name)]:
        told = glassmd.evaluate("kob-andersen", [path], subset="all")
        assert not told["seen_in_training"]
        rows = {name: _rows(of, told) for name, of in told["species"].items()}
        found[path.name] = {**{key: told[key] for key in ("n_configurations", "replicas", "warnings")}, **rows}
        lines = [[f"{row['time']:g}", _cell(row, error=True), *map(str, row["within_std"])] for row in rows["A"]]
        print(_table([path.name, "ρ_A / ceiling", "±1", "±2"], lines), flush=True)
    return found


def _rows(of: dict[str, Any], told: dict[str, Any]) -> list[dict[str, Any]]:
    """What `glassmd evaluate` says of a species, by time."""
    error = 1.0 / np.sqrt(told["n_configurations"])
    return [
        {
            "time": time,
            "pearson": round(of["pearson_per_configuration"]["mean"][t], 4),
            "ceiling": round(of["ceiling"][t], 4),
            "share": round(of["pearson_over_ceiling"]["mean"][t], 4),
            "share_error": round(of["pearson_over_ceiling"]["sd"][t] * error, 4),
            "within_std": [round(share[t], 3) for share in of["within_std"]],
        }
        for t, time in enumerate(told["times"])
    ]


# ---- tables -------------------------------------------------------------------------------------------------------


def _by_time(rows: Iterable[dict[str, Any]], temperature: float) -> dict[float, dict[str, Any]]:
    """Of A at a temperature, where labels say something, and of several runs of those that say most."""
    own = [row for row in rows if row["species"] == "A" and row["temperature"] == temperature]
    loud = [row for row in own if row["ceiling"] > LEAST_CEILING]
    return {row["time"]: row for row in sorted(loud, key=lambda row: row["ceiling"])}


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)) + "\n"


def tables(scores: Scores) -> str:
    """ρ_A / ceiling of the members, of all temperatures and each alone, and of one that was left out."""
    every = sorted({row["temperature"] for row in scores[LATEST]})
    told = []
    for member in [name for name in MEMBERS if name in scores]:
        found = {t: _by_time(scores[member], t) for t in every}
        times = sorted({time for of in found.values() for time in of})
        lines = [[f"{time:.2g}", *(_cell(found[t].get(time), error=True) for t in every)] for time in times]
        told += [f"{member}\n", _table(["t / τ_α", *(f"T = {t:g}" for t in every)], lines)]
    for kind in ("alone", "without"):
        lines = []
        for t in every:
            every_t, other = _by_time(scores[LATEST], t), _by_time(scores.get(f"{kind}-{t:g}", ()), t)
            lines += [
                [f"T = {t:g}", f"{time:.2g}", _cell(other[time]), _cell(every_t.get(time)), _ratio(other[time], of)]
                for time in sorted(other)
                if (of := every_t.get(time))
            ]
        told += [f"{kind}\n", _table(["", "t / τ_α", kind, "all", f"{kind} / all"], lines)]
    within = np.array([row["within_std"] for name in MEMBERS for row in scores.get(name, ())])
    told.append(f"within ±1 and ±2 of {len(within)}: {within.min(axis=0)} to {within.max(axis=0)}")
    return "\n".join(told)


def _cell(row: dict[str, Any] | None, *, error: bool = False) -> str:
    if row is None:
        return ""
    told = [f"{row[key]:.3f}".removeprefix("0") for key in ("share", "share_error")]
    return " ± ".join(told if error else told[:1])


def _ratio(one: dict[str, Any], other: dict[str, Any]) -> str:
    return f"{one['share'] / other['share']:.3f}"


# ---- figures ------------------------------------------------------------------------------------------------------


def figure(scores: Scores, out: Path) -> None:
    """ρ / ceiling of A against t / τ_α, a panel per temperature."""
    import matplotlib.pyplot as plt

    every = sorted({row["temperature"] for row in scores[LATEST]})
    size = (2.6 * len(every), 3.2)
    shown, axes = plt.subplots(1, len(every), figsize=size, sharex=True, sharey=True, constrained_layout=True)
    legend: dict[str, Any] = {}
    for axis, temperature in zip(np.atleast_1d(axes), every, strict=True):
        names = [*MEMBERS, f"alone-{temperature:g}", f"without-{temperature:g}"]
        labels = [*MEMBERS, "long, this T alone", "long, without this T"]
        for number, (name, label) in enumerate(zip(names, labels, strict=True)):
            best = _by_time(scores.get(name, ()), temperature)
            if best:
                times, of = zip(*sorted(best.items()), strict=True)
                style = {"marker": "os^vD<"[number], "ms": 4, "lw": 1.2, "ls": "-" if name in MEMBERS else "none"}
                share, error = ([row[key] for row in of] for key in ("share", "share_error"))
                legend[label] = axis.errorbar(times, share, error, color=f"C{number}", capsize=2, **style)
        axis.set(xscale="log", xlabel="$t\\,/\\,\\tau_\\alpha$", title=f"T = {temperature:g}", ylim=(0.3, 1.1))
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("$\\rho_A$ / ceiling")
    shown.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6, frameon=False)
    shown.savefig(out, dpi=150)


# ---- publishing ---------------------------------------------------------------------------------------------------


def publish(folder: Path, version: str) -> None:
    """Put the family into the package."""
    place = Path(glassmd.__file__).parent / "models" / "known" / "kob-andersen"
    scores: dict[tuple[float, float], dict[str, Any]] = {}
    members = [name for name in MEMBERS if _trained(folder / "models" / "all" / name)]
    for name in members:  # later ones count where they know a time
        loaded = load_model(folder / "models" / "all" / name)
        told = loaded.card.provenance
        kept = {key: told[key] for key in ("steps", "seed", "liquids", "cross_validated", "noise_known")}
        kept["settings"] = {key: of for key, of in told["settings"].items() if of is not None}
        card = loaded.card.model_copy(update={"truncations": list(TRUNCATIONS), "provenance": kept})
        save_model(place / name, loaded.model, card, loaded.model.weights_to_predict())
        rows = folder / "models" / "all" / name / "scores.json"
        for row in json.loads(rows.read_text())["rows"] if rows.exists() else []:
            if row["species"] == "A" and row["ceiling"] > LEAST_CEILING:
                key = row["temperature"], row["time"]
                own = scores.get(key)
                if own is None or own["member"] != name or row["ceiling"] > own["ceiling"]:
                    scores[key] = {**row, "member": name}
    rounded = [
        {key: round(row[key], 4) if isinstance(row[key], float) else row[key] for key in Score.model_fields}
        for _, row in sorted(scores.items())
    ]
    about = About(
        version=version,
        licence="BSD-3-Clause",
        summary=SUMMARY,
        states=[_told(path, tau) for path, tau in _data(folder, members)],
        scores=rounded,
    )
    (place / ABOUT_FILE).write_text(about.model_dump_json(indent=1) + "\n")
    print(sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6, "MB")


def _data(folder: Path, members: Sequence[str]) -> list[tuple[Path, float]]:
    found = {path: tau for member in members for path, tau in runs_of(folder, member, temperatures(folder))}
    return sorted(found.items())


def _told(path: Path, tau: float) -> dict[str, Any]:
    run = open_run(path)
    keys = [entry.key for entry in run.entries("segments")]
    replicas = sum(line.replicas or 0 for line in run.index.log if line.key.kind == "segments")
    return {
        "temperature": float(run.identity["temperature"]),
        "truncation": run.identity["mixture"]["truncation"],
        "tau_alpha": tau,
        "particles": int(run.identity["n_particles"]),
        "lineages": len({key.lineage for key in keys}),
        "parents": len({key.of for key in keys}),
        "replicas": replicas,
        "source": "h3-Open-BDEC/pyg_botan (Apache-2.0)" if path.name == "botan" else "glassmd simulate",
    }


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("train", "score", "tables", "figure", "publish", "unseen"))
    parser.add_argument("kind", nargs="?", default="all")
    parser.add_argument("--members", default=",".join(MEMBERS))
    parser.add_argument("--only", default="")
    parser.add_argument("--version", default="0")
    parser.add_argument("--out", type=Path, default=Path("pretrained.png"))
    asked = parser.parse_args()
    if asked.what == "train":
        only = [float(one) for one in asked.only.split(",") if one]
        for out, member, of in trainings(asked.folder, asked.kind, asked.members.split(","), only):
            train_member(asked.folder, out, member, of)
    elif asked.what == "score":
        write_json(Path(asked.kind), every_score(asked.folder))
    elif asked.what == "unseen":
        write_json(Path(asked.kind), unseen(asked.folder))
    elif asked.what == "tables":
        print(tables(json.loads(Path(asked.kind).read_text())))
    elif asked.what == "figure":
        figure(json.loads(Path(asked.kind).read_text()), asked.out)
    else:
        publish(asked.folder, asked.version)


if __name__ == "__main__":
    main()
