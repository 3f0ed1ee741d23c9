"""Trajectories among the data of a training: they become a run beside the model, at once or while they are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from glassmd.errors import Interrupted
from glassmd.importers.trajectories import FrameChoice, import_trajectories
from glassmd.settings import RunSettings

__all__ = ["Following", "split_data", "take_in"]


def split_data(data: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Run directories and trajectories: what is no directory is a file, there already or not."""
    return [path for path in data if path.is_dir()], [path for path in data if not path.is_dir()]


def take_in(
    files: Sequence[Path],
    out: Path,
    settings: RunSettings,
    choice: FrameChoice | None,
    *,
    follow: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Take trajectories into a run; see :func:`glassmd.importers.trajectories.import_trajectories`.

    Mixture, temperature and times are those of the settings where these were said, else what the files say.
    """
    said = settings.model_fields_set
    return import_trajectories(
        files,
        out,
        mixture=settings.liquid() if {"mixture", "truncation"} & said else None,
        temperature=settings.temperature if "temperature" in said else None,
        times=settings.times if "times" in said else None,
        choice=choice,
        follow=follow,
        check=check,
    ).path


class Following:
    """Takes trajectories in as they grow, beside the training.

    Args:
        files: That others are writing.
        out: Of the run.
        settings: What the liquid is.
        choice: How frames become parents and labels.
    """

    def __init__(self, files: Sequence[Path], out: Path, settings: RunSettings, choice: FrameChoice | None) -> None:
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._run = out / "run.json"
        self._thread = threading.Thread(
            target=self._follow, args=(files, out, settings, choice), name="trajectories", daemon=True
        )
        self._thread.start()

    def _follow(self, files: Sequence[Path], out: Path, settings: RunSettings, choice: FrameChoice | None) -> None:
        try:
            take_in(files, out, settings, choice, follow=True, check=self._check_stop)
        except BaseException as error:
            self._error = error

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted("the training has ended")

    def wait_for_run(self, check: Callable[[], None]) -> None:
        """Until the first frames are there."""
        while self._thread.is_alive() and not self._run.exists():
            check()
            self._thread.join(0.1)
        self.check()

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None and not isinstance(self._error, Interrupted):
            raise self._error

    def close(self) -> None:
        """Follow no more."""
        self._stop.set()
        self._thread.join()
