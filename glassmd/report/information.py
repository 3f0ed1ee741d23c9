"""What a run, a model or a file of configurations holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.errors import RunError
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import estimates_wave_numbers
from glassmd.models.family import member_directories
from glassmd.models.known import known_models
from glassmd.report.models import facts_of_models
from glassmd.report.observe import Observer, is_model
from glassmd.simulation.protocol import standing
from glassmd.simulation.summary import dynamics_of, spread
from glassmd.storage import plain
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import score_samples
from glassmd.target import quantity
from glassmd.trajectory.trajectory import open_trajectory

__all__ = ["information"]


def information(path: Path | str, *, verify: bool = False) -> dict[str, Any]:
    """Describe a run directory, a model directory, one of several models, or a file of configurations (JSON types).

    A name is that of a model that comes with glassmd, where there is nothing else of that name.

    What is being made has its `progress`, as :func:`glassmd.report.observe.observe` gives it.

    Args:
        path: What to describe.
        verify: Check every committed file of a run against its checksum.

    Raises:
        InputError: There is nothing at `path`, or it is damaged.
    """
    path = Path(path)
    if (path / "run.json").exists():
        return {**_run(open_run(path), verify), **_progress(path)}
    if (path / "model.json").exists():
        return {**_model(path), **_progress(path)}
    if is_model(path):
        return {"kind": "model", "path": str(path), **_progress(path)}
    if path.is_file():
        return _file(path)
    several = path if path.exists() else known_models().get(str(path), path)
    if member_directories(several) != [several]:
        return facts_of_models(several)
    raise RunError(f"found no run, model or file at {path}", "one of these", "check the path")


def _progress(path: Path) -> dict[str, Any]:
    seen = Observer(path).look()
    return {} if seen.state == "done" else {"progress": seen.to_json()}


MOST = 200
"""Parents whose labels and sidecars are looked at: all of a run that is not larger, evenly spread ones of others."""


def _run(run: Run, verify: bool) -> dict[str, Any]:
    mixture = run.identity["mixture"]
    entries, counts = run.entries("segments"), dict[ParentKey, int]()
    for line in run.index.log:
        if line.key.kind == "segments":
            counts[line.key.of] = counts.get(line.key.of, 0) + line.replicas
    per_parent: list[int | None] = [count or None for count in sorted(set(counts.values()))]
    chosen = set(spread(sorted(counts), MOST))
    looked_at = [entry for entry in entries if entry.key.of in chosen]
    of_settings = None if run.settings is None else run.settings.mixture
    facts = {
        "kind": "run",
        "path": str(run.path),
        "origin": run.identity["origin"],
        "mixture": mixture["name"],
        "truncation": mixture["truncation"],
        "dimensions": mixture["dimensions"],
        **_of_own(mixture),
        **({"wave_numbers_estimated": True} if estimates_wave_numbers(of_settings) else {}),
        "temperature": run.identity["temperature"],
        "density": run.identity["density"],
        "n_particles": run.identity["n_particles"],
        "times": run.times,
        "targets": run.targets,
        "lineages": len({key.lineage for key in counts}),
        "parents": len(counts),
        "replicas": per_parent[0] if len(per_parent) == 1 else per_parent,  # null: nobody knows
        "replicas_total": None if None in per_parent else sum(counts.values()),
        "segments": len(entries),
        "expected_segments": len(run.expected_segments),
        "complete": bool(entries) and run.complete,
        "structures": run.index.count("structures"),
        "bytes": sum(entry.stat().st_size for entry in os.scandir(run.path / "segments")) if entries else 0,
        "parents_looked_at": len(chosen),
        "labels": _label_quality(run, chosen),
        "engines": sorted(
            {
                " ".join(str(entry.sidecar.get(key, "")) for key in ("engine", "engine_version", "device")).strip()
                for entry in looked_at
            }
        ),
        "dynamics": dynamics_of(run, MOST),
    }
    if run.settings is None:
        facts |= _published(run)
    if run.settings is not None:
        facts["equilibration"] = [
            {
                "lineage": entry.key.lineage,
                "role": run.role(entry.key.lineage),
                "equilibrated": standing(report),  # None: unchecked
                **{k: report.get(k) for k in ("tau_alpha", "run_tau_alphas", "reasons")},
            }
            for entry in run.entries("parents")
            if entry.key == ParentKey(entry.key.lineage, 0)
            and (report := entry.sidecar.get("equilibration")) is not None
        ]
    if off := [entry.path.stem for entry in looked_at if "kinetic_temperature_off" in entry.sidecar]:
        facts["kinetic_temperature_off"] = off
    if verify:
        facts["verified_files"] = run.verify()
    return facts


def _published(run: Run) -> dict[str, Any]:
    """What came with the data besides positions and labels, and on which sides of a split they are."""
    parents, segments = run.entries("parents"), run.entries("segments")
    methods = Counter(method for entry in parents for method in entry.sidecar.get("predictions", ()))
    targets = sorted({target for entry in segments for target in entry.sidecar.get("targets", ("propensity",))})
    roles = Counter(role for entry in parents if (role := entry.sidecar.get("role")) is not None)
    structures = Counter(
        str(entry.sidecar["input"]) for entry in run.entries("structures") if "published" in entry.sidecar
    )
    found = {"published_predictions": dict(sorted(methods.items())), "published_structures": dict(structures)}
    return {key: value for key, value in found.items() if value} | {
        **({"roles": dict(roles)} if roles else {}),
        **({"targets": targets} if targets not in ([], ["propensity"]) else {}),
    }


def _of_own(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a mixture of somebody's own is made of, by species and by pair; known ones have a name for it."""
    if "composition" not in identity:
        return {}
    species = identity["species"]
    single = ("composition", "masses", "wave_numbers")
    return {
        **{key: dict(zip(species, identity[key], strict=True)) for key in single},
        **{
            key: {
                f"{one}-{other}": identity[key][a][b]
                for a, one in enumerate(species)
                for b, other in enumerate(species)
                if a <= b
            }
            for key in ("epsilon", "sigma", "r_cut")
        },
    }


def _label_quality(run: Run, parents: Collection[ParentKey]) -> dict[str, Any]:
    """Reliability and ceiling of labels per species and time, averaged over some parents."""
    samples = run.samples(parents)
    if not samples:
        return {}
    zeros = [np.zeros_like(sample.propensity) for sample in samples]
    return {
        name: {
            "reliability": plain(found.reliability),
            "ceiling": plain(found.ceiling),
            "propensity_mean": plain(
                np.mean([s.propensity[:, s.parent.of_species(name)].mean(axis=1) for s in samples], axis=0)
            ),
        }
        for name in run.identity["mixture"]["species"]
        if all(sample.parent.of_species(name).any() for sample in samples)
        for found in [score_samples(zeros, samples, name)]
    }


def _model(path: Path) -> dict[str, Any]:
    from glassmd.models.store import load_model  # imports torch, which takes most of a run's memory

    loaded = load_model(path)
    card = loaded.card
    return {
        "kind": "model",
        "path": str(path),
        "model": card.model,
        "parameters": loaded.model.n_parameters,
        "hyperparameters": card.hyperparameters,
        "mixture": card.mixture["name"],
        "truncation": card.mixture["truncation"],
        "dimensions": card.mixture["dimensions"],
        **_of_own(card.mixture),
        "temperatures": list(card.temperatures),
        "density": card.density,
        "times": list(card.times),
        "time_unit": card.time_unit,
        "target": card.target,
        "unit": quantity(card.target).unit,
        **({"tau_alphas": card.tau_alphas} if card.tau_alphas else {}),
        "trained_species": list(card.trained_species),
        "residual_std": card.residual_std,
        **({} if card.domain is None else {"has_seen": card.domain.told()}),
        "provenance": card.provenance,
    }


def _file(path: Path) -> dict[str, Any]:
    with open_trajectory(path, snapshots=True) as trajectory:
        first = trajectory[0]
        configuration = first.configuration
        facts = {
            "kind": trajectory.format.lower().replace(" ", "-"),
            "path": str(path),
            "frames": len(trajectory),
            "n_particles": configuration.n_particles,
            "dimensions": configuration.dimensions,
            "species": {name: int(configuration.of_species(name).sum()) for name in configuration.species_names},
            "box": configuration.box.tolist(),
            "density": configuration.density,
            "identity": first.identity,
            "velocities": configuration.velocities is not None,
            "moves": "to nearest images" if trajectory.wrapped else "by images or unwrapped positions",
            "logged": sorted({*first.log, *trajectory[-1].log}),
        }
        return {**facts, **({"notes": trajectory.notes} if trajectory.notes else {})}
