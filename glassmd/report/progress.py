"""The progress display of a command: both sides of an online training at a glance."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live

from glassmd.report.observe import Seen
from glassmd.report.screen import line, screen
from glassmd.simulation.summary import Progress
from glassmd.training.progress import TrainingProgress

__all__ = ["Display"]

_SILENCE = 10.0  # seconds between lines where there is no terminal


class Display:
    """Shows what is going on while the block runs; on a terminal live, in a log a line now and then.

    Args:
        console: Where to draw.
        silence: Seconds between two lines where that is no terminal.
    """

    def __init__(self, console: Console, silence: float = _SILENCE) -> None:
        self.console, self._silence = console, silence
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._said = float("-inf")

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def simulation(self, progress: Progress) -> None:
        """Show a simulation alone."""
        self.show(Seen(progress.path, "run", "done" if progress.complete else "working", runs=(progress,)))

    def training(self, training: TrainingProgress, progress: Progress | None = None) -> None:
        """Show a training, and the simulation beside it if there is one."""
        runs = () if progress is None else (progress,)
        self.show(Seen("", "training", training.state, training, runs))

    def show(self, seen: Seen, *, last: bool = False) -> None:
        """Show what is going on.

        Args:
            seen: That.
            last: Nothing follows: it is shown however lately something was.
        """
        if self._live is not None:
            width, height = self.console.size
            self._live.update(screen(seen, width, height - 1))
            return
        now = self.console.get_time()
        if last or now - self._said >= self._silence:
            self._said = now
            self.console.print(line(seen), soft_wrap=True, highlight=False, markup=False)
