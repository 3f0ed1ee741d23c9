"""`compare`: every learner trained and tested on the same divisions of the same data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.comparison.candidates import Candidate
from glassmd.comparison.entries import Entry, entries_of
from glassmd.comparison.folds import Fold, folds_of
from glassmd.comparison.leaderboard import leaderboard
from glassmd.comparison.trainings import Laboratory, Training
from glassmd.engines import DeviceChoice, EngineChoice
from glassmd.errors import InputError, RunError
from glassmd.evaluation import published_beside
from glassmd.inputs import InputProgress
from glassmd.interrupt import StopRequest
from glassmd.models.store import CARD_FILE
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.storage import claim, read_json, remove_leftovers, write_json
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample
from glassmd.structure import INPUTS
from glassmd.training.encoding import Encodings
from glassmd.training.session import Show
from glassmd.training.source import SampleSource
from glassmd.training.structures import Structures

__all__ = ["compare"]

IDENTITY_FILE = "comparison.json"


def compare(
    data: Sequence[Path | str],
    entries: Sequence[str] | None = None,
    *,
    out: Path | str = "comparison",
    seeds: int = 3,
    folds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    at: float | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    stop: StopRequest | None = None,
    show: Show | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train learners on the same data and compare them on what they have not seen.

    The test lineages of simulated runs are what all are tested on. Where the data name none, or `folds` is given,
    the lineages are dealt out to folds, and each fold is left out of one training per learner and seed. Every training
    is one of :func:`glassmd.train` in `out/trainings`; the same call goes on with what is not there yet.

    Args:
        data: Run directories of one mixture with the same output times, and finished models to be tested as they are.
        entries: `MODEL` or `MODEL:INPUT+INPUT`; None: every learner with its own inputs.
        out: Directory of the comparison.
        seeds: Trainings per fold of what depends on the seed.
        folds: Folds of the lineages; None: as the data say.
        settings: Training settings of all learners by key, and by `MODEL.KEY` of one.
        at: Output time that decides who is best, the nearest one counts; None: nearest to τ_α, or the last.
        engine: What computes the inputs that are not kept beside the runs, as in settings.
        device: Where it does.
        stop: A request to stop to listen to.
        show: Called with the progress of a training.
        announce: Called with a line about what begins.

    Returns:
        What `glassmd evaluate --compare --json` prints.

    Raises:
        InputError: Data, learners, settings or a directory that cannot be used, before anything is trained.
        Interrupted: Stopped early; what is finished is kept.
    """
    began = time.monotonic()
    stop, announce = stop or StopRequest(), announce or (lambda line: None)
    runs, models = _opened(data)
    if seeds < 1:
        raise InputError(f"found {seeds} seeds", "at least 1", "try --seeds 3")
    source = SampleSource(runs)
    samples = [sample for run in source.runs for sample in run.samples()]
    divided = folds_of(runs, samples, folds)
    scored = [s for s in samples if any((s.key.run, s.key.lineage) in fold.held_out for fold in divided)]
    chosen, left_out = entries_of(entries, settings or {}, source.mixture, len(source.times))
    directory = Path(out)
    with claim(directory / ".lock") as granted:
        if not granted:
            raise RunError(
                f"{directory} is in use by another process", "one comparison", "wait, or choose another --out"
            )
        remove_leftovers(directory)
        _adopt(directory, _identity(samples, divided))
        laboratory = Laboratory(directory, runs, samples, engine, device, stop, show, announce)
        trainings = [
            Training(entry, fold, seed)
            for entry in chosen
            for fold in divided
            for seed in range(seeds if entry.stepped else 1)
        ]
        lacking = [training for training in trainings if laboratory.done(training) is None]
        tested = [_finished(laboratory, model, scored) for model in models]
        _prepare(laboratory, source, [training.entry for training in lacking])
        encodings = Encodings()
        for number, training in enumerate(lacking):
            if number and training.entry is not lacking[number - 1].entry:
                encodings = Encodings()
            announce(f"training {number + 1} of {len(lacking)}: {training}")
            laboratory.carry_out(training, encodings)
        candidates = [_candidate(laboratory, entry, divided, seeds) for entry in chosen] + tested
    summary = _summary_time(runs, source.times, at)
    announce("scoring")
    return {
        **_facts(directory, runs, scored, divided),
        "summary_time": source.times[summary],
        "published": published_beside(source.mixture, scored),
        **leaderboard(candidates, scored, source.mixture["species"], summary),
        "left_out": left_out,
        "seconds": time.monotonic() - began,
    }


def _opened(data: Sequence[Path | str]) -> tuple[list[Run], list[Path]]:
    """Runs, always in the same order, and finished models."""
    models = [Path(path) for path in data if (Path(path) / CARD_FILE).is_file()]
    runs = [open_run(path) for path in data if Path(path) not in models]
    if not runs:
        raise RunError("found no data", "at least one run directory", "try glassmd evaluate --compare RUN")
    names = [model.resolve().name for model in models]
    if len(set(names)) < len(names):
        raise InputError(f"found models named {', '.join(sorted(names))}", "names that differ")
    return sorted(runs, key=lambda run: (float(run.identity["temperature"]), run.identity["id"])), models


def _identity(samples: Sequence[Sample], folds: Sequence[Fold]) -> dict[str, Any]:
    """What a comparison must have in common with the one that it goes on with (JSON types only)."""
    return {
        "samples": {str(sample.key): sample.n_replicas for sample in samples},
        "folds": [sorted(list(lineage) for lineage in fold.held_out) for fold in folds],
    }


def _adopt(directory: Path, identity: dict[str, Any]) -> None:
    path = directory / IDENTITY_FILE
    if not path.exists():
        if any(found.name != ".lock" for found in directory.iterdir()):
            raise RunError(
                f"{directory} is not empty and holds no comparison", "a new directory", "choose another --out"
            )
        write_json(path, identity)
    stored = read_json(path)
    for key, what in (("samples", "other data"), ("folds", "another division of the data")):
        if stored.get(key) != identity[key]:
            raise RunError(f"{directory} holds a comparison with {what}", "the same as now", "choose another --out")


def _prepare(laboratory: Laboratory, source: SampleSource, entries: Sequence[Entry]) -> None:
    """Compute the inputs of all entries beside the runs, once."""
    inputs = [name for name in INPUTS if any(name in entry.inputs for entry in entries)]
    if inputs and inputs != ["thermal"]:
        laboratory.announce(f"inputs: {', '.join(inputs)}")
        run = RunSettings(engine=laboratory.engine, device=laboratory.device)
        structures = Structures(source, Settings(run=run, train=TrainSettings(input=inputs)), laboratory.stop.check)
        structures.prepare(_inputs_shown(laboratory.announce))


def _inputs_shown(announce: Callable[[str], None]) -> Callable[[InputProgress], None]:
    """Announces how far the inputs are, whenever that changes."""
    said = -1

    def show(progress: InputProgress) -> None:
        nonlocal said
        if progress.done != said:
            said = progress.done
            announce(f"inputs: {progress.done} of {progress.total} configurations")

    return show


def _candidate(laboratory: Laboratory, entry: Entry, folds: Sequence[Fold], seeds: int) -> Candidate:
    """The predictions of an entry: those of all folds together, for every seed."""
    own = range(seeds if entry.stepped else 1)
    found = [[laboratory.done(Training(entry, fold, seed)) for fold in folds] for seed in own]
    known = [[one for one in of_seed if one is not None] for of_seed in found]
    return Candidate(
        entry.name,
        propensity=[{key: array for one in of for key, array in one.propensity.items()} for of in known],
        std=[{key: array for one in of for key, array in one.std.items()} for of in known],
        seeds=list(own),
        facts=[one.facts for of in known for one in of],
    )


def _finished(laboratory: Laboratory, model: Path, scored: Sequence[Sample]) -> Candidate:
    found = laboratory.finished(model, scored)
    return Candidate(model.resolve().name, [found.propensity], [found.std], [None], [found.facts])


def _summary_time(runs: Sequence[Run], times: Sequence[float], at: float | None) -> int:
    """Index of the time that is nearest to the one asked for, or to τ_α; the last where nobody knows that."""
    if at is None:
        found = [
            entry.sidecar.get("equilibration", {}).get("tau_alpha") for run in runs for entry in run.entries("parents")
        ]
        known = [float(value) for value in found if value is not None]
        if not known:
            return len(times) - 1
        at = float(np.median(known))
    distances = np.abs(np.log(np.asarray(times) / max(at, 1e-300)))
    return int(np.argmin(distances))


def _facts(directory: Path, runs: Sequence[Run], scored: Sequence[Sample], folds: Sequence[Fold]) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "runs": [str(run.path) for run in runs],
        "temperatures": sorted({sample.temperature for sample in scored}),
        "times": runs[0].times,
        "split": "test lineages" if folds[0].told else f"{len(folds)} folds of lineages",
        "folds": [sorted(list(lineage) for lineage in fold.held_out) for fold in folds],
        "n_configurations": len(scored),
        "n_lineages": len({(sample.key.run, sample.key.lineage) for sample in scored}),
        "replicas": sorted({sample.n_replicas for sample in scored}),
    }
