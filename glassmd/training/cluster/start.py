"""A training on a Ray cluster, as the process has it that asked for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from glassmd.errors import EngineError, Interrupted
from glassmd.interrupt import StopRequest
from glassmd.learners import model_class
from glassmd.settings import Settings
from glassmd.simulation.apart import start_process, told
from glassmd.simulation.cluster.host import Cluster
from glassmd.storage import write_json
from glassmd.training.progress import TrainingProgress
from glassmd.training.status import STATUS

__all__ = ["ClusterTraining"]

_LOOK = 0.2  # seconds
_PATIENCE = 90.0  # seconds that trainers have to save what they have, and to send it


class ClusterTraining:
    """Trains a model on a cluster while the block runs; use as a context manager.

    Args:
        cluster: Where.
        runs: The data.
        out: Model directory.
        settings: Of the training.
        follow: Whether the runs still grow.
        held_out: As :func:`glassmd.training.session.train` has it.
    """

    def __init__(
        self,
        cluster: Cluster,
        runs: Sequence[Path],
        out: Path,
        settings: Settings,
        *,
        follow: bool,
        held_out: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self._cluster, self._out = cluster, out
        self._folder = Path(tempfile.mkdtemp(prefix="glassmd-training-"))
        run = settings.run.model_copy(update={"cluster": None, "walltime": None})
        self._what = {
            "runs": [str(path.resolve()) for path in runs],
            "out": str(out.resolve()),
            "settings": {"run": run.model_dump(), "train": settings.train.model_dump()},
            "follow": follow,
            "held_out": None if held_out is None else sorted(held_out),
            "processes": settings.train.processes,
            "stepped": model_class(settings.train.model).stepped,
            "cluster": cluster.address,
            "parent": os.getpid(),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._report: BinaryIO | None = None

    def __enter__(self) -> ClusterTraining:
        what, module = self._folder / "training.json", "glassmd.training.cluster.supervisor"
        self._out.mkdir(parents=True, exist_ok=True)
        write_json(what, self._what, durable=False)
        with (self._folder / "log").open("ab") as log:
            self._process, self._report = start_process([module, str(what)], log, self._cluster.environment)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.ask_to_stop()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._report is not None:
            self._report.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask_to_stop(self) -> None:
        """It should save what it has; the end of the block waits for that."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_until_placed(self, stop: StopRequest) -> None:
        """Until every trainer has a machine, so that nobody else takes it, or the training has ended."""
        while self.poll() and not (self._folder / "training.placed").exists():
            stop.check()
            time.sleep(_LOOK)

    def poll(self) -> bool:
        """Whether it is still at work.

        Raises:
            GlassmdError: What ended it.
        """
        assert self._process is not None
        code = self._process.poll()
        if code is None or code == 0:
            return code is None
        reason, self._report = None if self._report is None else told(self._report), None
        if reason is not None:
            raise reason
        if code == Interrupted.exit_code:
            raise Interrupted("the training was stopped", "", "run again to continue")
        words = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        raise EngineError(
            f"whoever looks after the training ended with code {code}: {words[-1] if words else 'no word'}",
            "it to finish",
            "run again to continue",
        )

    def progress(self) -> TrainingProgress:
        """How far it is, as it was told last."""
        known = {of.name for of in fields(TrainingProgress)}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads((self._out / STATUS).read_text(encoding="utf-8"))
            return TrainingProgress(**{name: value for name, value in content.items() if name in known})
        return TrainingProgress(waiting="a machine of the cluster")

    def result(self) -> dict[str, Any]:
        """What the training returned, after its end."""
        found: dict[str, Any] = json.loads((self._folder / "training.result.json").read_text(encoding="utf-8"))
        return found
