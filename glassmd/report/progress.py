"""The progress display: both sides of an online training at a glance."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from glassmd.simulation.summary import Progress
from glassmd.training.progress import TrainingProgress

__all__ = ["Display"]

_SILENCE = 10.0  # seconds between lines where there is no terminal


class Display:
    """Shows simulation and training while the block runs; on a terminal live, in a log a line now and then.

    Args:
        console: Where to draw, standard error as a rule.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._said = -1e9

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
        self._draw(None, progress)

    def training(self, training: TrainingProgress, progress: Progress | None = None) -> None:
        """Show a training, and the simulation beside it if there is one."""
        self._draw(training, progress)

    def _draw(self, training: TrainingProgress | None, progress: Progress | None) -> None:
        if self._live is not None:
            self._live.update(render(training, progress))
            return
        now = self.console.get_time()
        if now - self._said >= _SILENCE:
            self._said = now
            self.console.print(plain(training, progress), soft_wrap=True, highlight=False)


def _simulation_text(progress: Progress) -> str:
    done, expected = progress.segments
    return (
        f"{done}/{expected} segments, {progress.replicas} replicas, {progress.rate:,.0f} replica-steps/s; "
        f"{', '.join(progress.tasks) or 'working'}"
    )


def _training_text(training: TrainingProgress) -> str:
    rho = " ".join(f"{value:.2f}" for value in training.pearson)
    waiting = f"; waiting for {training.waiting}" if training.waiting else ""
    return (
        f"step {training.step}/{training.max_steps}, {training.rate:.1f} steps/s, {training.samples} samples, "
        f"loss {training.loss:.3f}, validation ρ [{rho or '–'}]{waiting}"
    )


def plain(training: TrainingProgress | None, progress: Progress | None) -> str:
    """One line for a log."""
    parts = []
    if progress is not None:
        parts.append("simulation: " + _simulation_text(progress))
    if training is not None:
        parts.append("training: " + _training_text(training))
    return " | ".join(parts)


def render(training: TrainingProgress | None, progress: Progress | None) -> RenderableType:
    """Bars and figures for a terminal."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(width=24)
    table.add_column()
    if progress is not None:
        done, expected = progress.segments
        table.add_row("simulation", ProgressBar(total=max(1, expected), completed=done), _simulation_text(progress))
    if training is not None:
        bar = ProgressBar(total=max(1, training.max_steps), completed=training.step)
        table.add_row("training", bar, Text(_training_text(training)))
    return Group(table)
