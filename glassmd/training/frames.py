"""Trajectories among the data of a training: they become a run beside the model, at once or while they are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from glassmd.errors import Interrupted
from glassmd.importers.trajectories import FrameChoice, import_trajectories
from glassmd.interrupt import StopRequest
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
    needs_potential: bool = False,
    check: Callable[[], None] = lambda: None,
    begun: Callable[[], None] = lambda: None,
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
        needs_potential=needs_potential,
        check=check,
        begun=begun,
    ).path


class Following(StopRequest):
    """Takes trajectories in as they grow, beside the training, which hears by :meth:`check` what goes wrong.

    Args:
        files: That others are writing.
        out: Of the run.
        settings: What the liquid is.
        choice: How frames become parents and labels.
        needs_potential: Whether the learner sees more than thermal positions.
        stop: A request to stop that the training listens to.
        waiting: Called while the first frames are waited for.
    """

    def __init__(
        self,
        files: Sequence[Path],
        out: Path,
        settings: RunSettings,
        choice: FrameChoice | None,
        needs_potential: bool,
        stop: StopRequest,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._waiting = waiting
        self._asked, self._ended, self._begun = stop, threading.Event(), threading.Event()
        self._error: BaseException | None = None

        def follow() -> None:
            try:
                take_in(
                    files,
                    out,
                    settings,
                    choice,
                    follow=True,
                    needs_potential=needs_potential,
                    check=self._check_end,
                    begun=self._begun.set,
                )
            except BaseException as error:  # told by whoever asks
                self._error = error

        self._thread = threading.Thread(target=follow, name="trajectories", daemon=True)

    def __enter__(self) -> Following:
        """Begin, and wait until the first frames are there."""
        self._thread.start()
        try:
            while self._thread.is_alive() and not self._begun.is_set():
                self.check()
                self._waiting()
                self._thread.join(0.1)
            self.check()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _check_end(self) -> None:
        if self._ended.is_set():
            raise Interrupted("the training has ended")

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        return self._asked.reason

    def check(self) -> None:
        """Raise what went wrong with a trajectory, or :class:`Interrupted` if a stop was requested."""
        if self._error is not None and not isinstance(self._error, Interrupted):
            raise self._error
        super().check()
