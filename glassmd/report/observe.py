"""What is going on in a run or a model directory, seen from outside: nothing is written, and torch is not loaded.

Workers and trainers say what they do in files of their own (`RUN/workers/*.json`, `MODEL/status.json`); what a run
holds is in its ledger.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from glassmd.errors import GlassmdError, RunError
from glassmd.ledger.run import RunDirectory
from glassmd.simulation.summary import Progress, Tally
from glassmd.status import at_work
from glassmd.storage import plain, read_json
from glassmd.training.progress import TrainingProgress
from glassmd.training.status import STATUS

__all__ = ["Observer", "Seen", "is_model", "observe"]

_MODEL = (STATUS, "model.json", "checkpoints", "metrics.jsonl", "run/run.json")
"""One of these is in every model directory."""

_TAIL = 20_000  # bytes of a journal that are read for its last steps


@dataclass(frozen=True)
class Seen:
    """What is going on.

    Attributes:
        path: What was looked at.
        kind: `run` or `model`.
        state: `working`; `done`; `idle`: it is not finished and nobody is at work; or what ended it.
        training: How far the training is; None of a run.
        runs: Those that are being made, of a model those that it learns from.
        problems: What could not be read, in a line each.
    """

    path: str
    kind: str
    state: str
    training: TrainingProgress | None = None
    runs: tuple[Progress, ...] = ()
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON types only; of runs also the speed of all workers together, replica-steps per second."""
        found: dict[str, Any] = plain(asdict(self))
        for run, progress in zip(found["runs"], self.runs, strict=True):
            run["speed"] = progress.speed
        return found


def observe(path: Path | str) -> dict[str, Any]:
    """What is going on in a run, or in a model directory, with the run that it learns from (JSON types only).

    Args:
        path: Run or model directory, finished or being made.

    Returns:
        The attributes of :class:`Seen`, those of :class:`glassmd.training.progress.TrainingProgress` in `training` and
        of :class:`glassmd.simulation.summary.Progress` in `runs`.

    Raises:
        RunError: There is neither a run nor a model.
    """
    return Observer(path).look().to_json()


def is_model(path: Path) -> bool:
    """Whether a directory holds a model, or one that is being made."""
    return any((path / name).exists() for name in _MODEL)


class Observer:
    """Looks at a run or a model directory again and again, at a cost that follows what is new.

    Args:
        path: The directory.

    Raises:
        RunError: There is neither a run nor a model.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.kind = "run" if (self.path / "run.json").exists() else "model"
        if self.kind == "model" and not is_model(self.path):
            inside = sorted(child for child in self.path.glob("*") if (child / "run.json").exists() or is_model(child))
            raise RunError(
                f"found {'no run and no model' if self.path.exists() else 'nothing'} at {path}",
                "a run or model directory",
                f"try {', '.join(map(str, inside[:4]))}" if inside else "check the path",
            )
        self._began = time.monotonic()
        self._tallies: dict[Path, Tally] = {}
        self._runs: dict[Path, RunDirectory] = {}

    def look(self) -> Seen:
        """What is going on now."""
        problems: list[str] = []
        if self.kind == "run":
            runs = [run for run in [self._run(self.path, problems)] if run is not None]
            return self._seen("idle", None, runs, problems)
        state, training = self._training(problems)
        own = self.path / "run"
        paths = list(dict.fromkeys(Path(path) for path in ([] if training is None else training.data)))
        places = [path for path in paths if (path / "run.json").exists()]
        if not places and (own / "run.json").exists():
            places = [own]
        found = {path: run for path in places if (run := self._run(path, problems)) is not None}
        made = [
            run
            for path, run in found.items()
            if run.workers or not run.complete or path.resolve().parent == self.path.resolve()
        ]
        return self._seen(state, training, made, problems)

    def _seen(self, state: str, training: TrainingProgress | None, runs: list[Progress], problems: list[str]) -> Seen:
        if training is None and state == "idle":
            if any(run.workers for run in runs):
                state = "working"
            elif self.kind == "run" and runs and all(run.complete for run in runs):
                state = "done"
        told = [problem for run in runs for problem in run.problems]
        return Seen(str(self.path), self.kind, state, training, tuple(runs), (*problems, *told))

    def _run(self, path: Path, problems: list[str]) -> Progress | None:
        """How far a run is; None where it cannot be read."""
        try:
            if path not in self._tallies:
                self._runs[path] = RunDirectory.open(path)
                self._tallies[path] = Tally(self._runs[path], strict=False)
            self._runs[path].refresh()
            return self._tallies[path].progress(time.monotonic() - self._began)
        except (GlassmdError, OSError) as error:
            problems.append(str(error))
            return None

    def _training(self, problems: list[str]) -> tuple[str, TrainingProgress | None]:
        """Its state and how far it is, as it says itself; else as far as files tell."""
        finished = "done" if (self.path / "model.json").exists() else "idle"
        if not (self.path / STATUS).exists():
            return finished, self._from_files()
        try:
            content = read_json(self.path / STATUS)
            # null stands for a number that is none, and for what is unknown: the default says which
            training = _PROGRESS.validate_python({key: value for key, value in content.items() if value is not None})
            alive = at_work(content)
        except (RunError, ValidationError, KeyError, TypeError, ValueError, OverflowError):
            problems.append(f"{self.path / STATUS} cannot be read: it is damaged, or of another release")
            return finished, self._from_files()
        if training.state == "working" and not alive:
            return "ended without a word", training
        return training.state, training

    def _from_files(self) -> TrainingProgress | None:
        """The last step in the journal or of a checkpoint; None where there is neither."""
        names = [path.stem.partition("-")[2] for path in (self.path / "checkpoints").glob("step-*.safetensors")]
        steps = [int(name) for name in names if name.isdigit()]
        found = TrainingProgress(step=max(steps, default=0))
        for line in _last_lines(self.path / "metrics.jsonl"):
            if line.get("kind") == "train" and isinstance(line.get("step"), int):
                found.step = max(found.step, line["step"])
                found.loss = line["loss"] if isinstance(line.get("loss"), float) else None
        return found if found.step else None


_PROGRESS = TypeAdapter(TrainingProgress)


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects at the end of a file of lines; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            raw = file.read().splitlines()
    except OSError:
        return []
    found = []
    for text in raw:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
