"""What a training leaves to be read: metrics.jsonl and TensorBoard's event files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from glassmd.errors import storage_errors
from glassmd.metrics import SpeciesScores
from glassmd.storage import plain, write_text
from glassmd.time_unit import REDUCED, TimeUnit, named_time

__all__ = ["Journal"]

FLUSH_EVERY = 20


class Journal:
    """Loss and ρ per step, in `metrics.jsonl` (one JSON object a line) and for TensorBoard.

    Args:
        directory: Model directory; None: nothing is left, as where another process does.
        times: Output times, which TensorBoard's tags name (`pearson_A/t=0.1`).
        resumed_at: Step of the checkpoint that was taken up: later lines were written by a session that
            did not get to its next checkpoint, and are dropped, because their steps are taken again.
        unit: Of the times.
    """

    def __init__(
        self, directory: Path | None, times: Sequence[float], resumed_at: int = 0, *, unit: TimeUnit = REDUCED
    ) -> None:
        self._times = [named_time(time, unit) for time in times]
        self._board: SummaryWriter | None = None
        self._unflushed = 0
        if directory is None:
            self.path = Path(os.devnull)
        else:
            self.path = directory / "metrics.jsonl"
            with storage_errors(self.path):
                directory.mkdir(parents=True, exist_ok=True)
            self._drop_after(resumed_at)
            self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=resumed_at + 1)
        self._file = self.path.open("a", encoding="utf-8")

    def _drop_after(self, step: int) -> None:
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def _write(self, line: dict[str, Any]) -> None:
        with storage_errors(self.path):
            self._file.write(json.dumps(line) + "\n")
            self._unflushed += 1
            if self._unflushed >= FLUSH_EVERY:
                self.flush()

    def _point(self, tag: str, value: float, step: int) -> None:
        if self._board is not None:
            self._board.add_scalar(tag, value, step)

    def train(self, step: int, loss: float, samples: int, learning_rate: float | None = None) -> None:
        """Note one optimiser step."""
        self._write({"step": step, "kind": "train", "loss": loss, "samples": samples})
        self._point("loss", loss, step)
        if learning_rate is not None:
            self._point("learning_rate", learning_rate, step)

    def validation(
        self, step: int, scores: Mapping[str, SpeciesScores], loss: float | None, *, last: bool = False
    ) -> None:
        """Note one validation: ρ and its ceiling per species and time, and the loss; the last is of what is saved."""
        pearson = {name: plain(found.mean) for name, found in scores.items()}
        ceiling = {name: plain(found.ceiling) for name, found in scores.items()}
        kind = "result" if last else "validation"
        self._write({"step": step, "kind": kind, "pearson": pearson, "ceiling": ceiling, "validation_loss": loss})
        if last:  # on a board it would be a second point at the last step
            return
        for tag, found in (("pearson", pearson), ("ceiling", ceiling)):
            for name, values in found.items():
                for time, value in zip(self._times, values, strict=True):
                    self._point(f"{tag}_{name}/t={time}", math.nan if value is None else value, step)
        if loss is not None:
            self._point("validation_loss", loss, step)

    def stream(self, step: int, facts: dict[str, float]) -> None:
        """Note how a training and the simulations that it learns from keep up with each other: names and numbers."""
        self._write({"step": step, "kind": "stream", **facts})
        for name, value in facts.items():
            self._point(f"stream/{name}", value, step)

    def went_back(self, step: int, to: int, loss: float) -> None:
        """Note that a loss was no number, and that the training went back from it to a checkpoint."""
        self._write({"step": to, "kind": "went_back", "from": step, "loss": repr(loss)})

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()
        if self._board is not None:
            self._board.flush()
        self._unflushed = 0

    def close(self) -> None:
        """Write out and let go of the files."""
        self.flush()
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
