"""What a comparison trains and tests, and on what, decided before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.comparison.entries import Entry, entries_of
from glassmd.comparison.folds import Fold, folds_of
from glassmd.comparison.trainings import Training
from glassmd.errors import InputError, RunError
from glassmd.models.reading import CARD_FILE
from glassmd.settings import TrainSettings, build_settings
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample, at_times
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.time_unit import TAU_ALPHA
from glassmd.training.source import SampleSource

__all__ = ["Plan", "plan_of"]

_SHARED = {"target": "target", "time_unit": "unit of time", "tau_alpha": "unit of time"}
"""Settings that the data are read with, and what they are."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is compared.

    Attributes:
        runs: Always in the same order.
        models: Directories of finished models, which are tested as they are.
        source: The runs' samples for training.
        samples: All of them.
        folds: Divisions into what is trained on and what is left out.
        scored: The samples that some fold leaves out.
        entries: Learners with their inputs.
        left_out: What :func:`glassmd.comparison.entries.entries_of` left out, and why.
        seeds: Trainings per fold of what depends on the seed.
    """

    runs: list[Run]
    models: list[Path]
    source: SampleSource
    samples: list[Sample]
    folds: list[Fold]
    scored: list[Sample]
    entries: list[Entry]
    left_out: dict[str, str]
    seeds: int

    def seeds_of(self, entry: Entry) -> range:
        """One where chance decides nothing."""
        return range(self.seeds if entry.stepped else 1)

    def trainings(self) -> list[Training]:
        """All that the comparison needs, those of an entry one after the other."""
        return [
            Training(entry, fold, seed)
            for entry in self.entries
            for fold in self.folds
            for seed in self.seeds_of(entry)
        ]

    def identity(self) -> dict[str, Any]:
        """What a comparison must have in common with the one that it goes on with (JSON types only)."""
        return {
            "target": self.runs[0].target,
            "samples": {str(sample.key): sample.n_replicas for sample in self.samples},
            "folds": [sorted(list(lineage) for lineage in fold.held_out) for fold in self.folds],
        }


def plan_of(
    data: Sequence[Path | str],
    entries: Sequence[str] | None,
    *,
    seeds: int,
    folds: int | None,
    settings: Mapping[str, Any],
) -> Plan:
    """Look at the data and at what is asked for; the arguments are those of :func:`glassmd.comparison.compare`.

    Raises:
        InputError: Data, learners or settings that cannot be used.
        RunError: No data.
    """
    runs, models, settings = _opened(data, settings)
    if seeds < 1:
        raise InputError(f"found {seeds} seeds", "at least 1", "try --seeds 3")
    source = SampleSource(runs)
    times = np.asarray(source.times)
    samples = [at_times(sample, times) for run in source.runs for sample in run.samples()]
    divided = folds_of(runs, samples, folds)
    scored = [s for s in samples if any((s.key.run, s.key.lineage) in fold.held_out for fold in divided)]
    chosen, left_out = entries_of(entries, settings, source.mixture, len(source.times))
    return Plan(runs, models, source, samples, divided, scored, chosen, left_out, seeds)


def _opened(data: Sequence[Path | str], settings: Mapping[str, Any]) -> tuple[list[Run], list[Path], Mapping[str, Any]]:
    """Runs, always in the same order, finished models, and the settings with what is τ_α of each run."""
    models = [Path(path) for path in data if (Path(path) / CARD_FILE).is_file()]
    data = [path for path in data if Path(path) not in models]
    if not data:
        raise RunError("found no data", "at least one run directory", "try glassmd evaluate --compare RUN")
    names = [model.resolve().name for model in models]
    if len(set(names)) < len(names):
        raise InputError(f"found models named {', '.join(sorted(names))}", "names that differ")
    others = {key.removeprefix("train."): value for key, value in settings.items()}
    if apart := sorted(key for key in others if key.partition(".")[2] in _SHARED):
        shared = apart[0].partition(".")[2]
        raise InputError(f"found a setting {apart[0]}", f"one {_SHARED[shared]} for all learners", f"try {shared}=…")
    chosen: dict[str, Any] = {key: others[key] for key in _SHARED if key in others}
    unit = build_settings(TrainSettings, chosen, "")
    runs = [open_run(path, unit.target) for path in data]
    if unit.time_unit == TAU_ALPHA:
        use_tau_alphas(runs, unit.tau_alpha)
    runs.sort(key=lambda run: (float(run.identity["temperature"]), run.identity["id"]))
    if unit.time_unit == TAU_ALPHA:
        settings = {**others, "tau_alpha": [run.tau_alpha for run in runs]}
    return runs, models, settings
