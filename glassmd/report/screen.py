"""The progress screen: a run that is being made and a training, on as many lines as there are."""

from __future__ import annotations

import os
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from rich.text import Text

from glassmd.report.observe import Seen
from glassmd.show import bar, duration, remaining
from glassmd.simulation.activity import WorkerStatus
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.summary import Progress
from glassmd.target import PROPENSITY
from glassmd.time_unit import REDUCED
from glassmd.training.progress import TrainingProgress

__all__ = ["line", "screen"]

_LABEL = 11  # columns
_COLUMN = 6  # of a time
_LONG, _SHORT = 20, 12  # bars
_PROBLEMS = 2  # lines

T = TypeVar("T")


def line(seen: Seen) -> str:
    """What is going on in one line, for a log."""
    parts = [str(part) for part in (*seen.runs[:1], seen.training) if part is not None]
    if seen.state != "working":
        parts.append(seen.state)
    return " | ".join([*parts, *_few(seen.problems)])


def screen(seen: Seen, width: int = 80, height: int = 24) -> Text:
    """What is going on.

    Args:
        seen: That.
        width: Columns; what is longer is cut off.
        height: Lines at most. Lineages and workers are listed as far as there is room, and summed up beyond.
    """
    run = next(iter(seen.runs), None)
    going = [] if run is None or run.lineages is None else sorted(run.lineages.going.items())
    workers = [] if run is None else list(run.workers)
    rest = _render(seen, width, [], [])
    room = max(0, height - len(rest))
    for_lineages = min(len(going), max(room - len(workers), (room + 1) // 2))
    for_workers = min(len(workers), room - for_lineages)
    lines = _render(
        seen,
        width,
        _listed(going, for_lineages, _lineage, _other_lineages),
        _listed(workers, for_workers, _worker, _other_workers),
    )
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, one in enumerate(lines[:height]):
        one.truncate(width, overflow="ellipsis")
        text.append_text(one).append("\n" if number + 1 < min(height, len(lines)) else "")
    return text


def _render(seen: Seen, width: int, lineages: list[Text], workers: list[Text]) -> list[Text]:
    lines = [_title(seen)]
    for run in seen.runs[:1]:
        lines += _run(run, lineages, workers, width)
    if len(seen.runs) > 1:
        lines.append(_row("", f"and {len(seen.runs) - 1} more runs"))
    if seen.training is not None:
        lines += _training(seen.training, seen.state, width)
    return lines + [_row("", problem, "red") for problem in _few(seen.problems)]


def _few(problems: Sequence[str]) -> list[str]:
    more = len(problems) - _PROBLEMS + 1
    return [*problems] if more <= 1 else [*problems[: _PROBLEMS - 1], f"and {more} more problems"]


def _row(label: str, text: str, style: str = "") -> Text:
    return Text.assemble((label.ljust(_LABEL), "bold"), (text, style))


def _with_bar(label: str, drawn: str, text: str) -> Text:
    return Text.assemble((label.ljust(_LABEL), "bold"), (drawn, "green"), f" {text}")


def _title(seen: Seen) -> Text:
    says = {"idle": "nobody is at work"}.get(seen.state, seen.state)
    style = {"working": "green", "done": "bold green"}.get(seen.state, "yellow")
    liquid = next((f"   {_liquid(run)}" for run in seen.runs if run.liquid), "")
    return Text.assemble((f"{seen.kind} {seen.path}".strip(), "bold"), ": ", (says, style), (liquid, "dim"))


def _run(run: Progress, lineages: list[Text], workers: list[Text], width: int) -> list[Text]:
    done, expected = run.segments
    left = "complete" if run.complete else remaining(run.seconds_left) if run.workers else ""
    counts = f"{done}/{expected} segments" + (f", {left}" if left else "")
    lines = [_with_bar("simulation", bar(done, expected, _LONG), counts)]
    facts = [f"{_of(*count)} {kind}" for kind, count in run.entries.items() if kind != "segments"]
    told = ", ".join(fact.replace(" ", "\xa0") for fact in facts)
    lines += [_row("", text.replace("\xa0", " ")) for text in textwrap.wrap(told, width - _LABEL)]
    if run.lineages is not None:
        found = run.lineages
        text = f"{found.equilibrated}/{found.expected} in equilibrium"
        if found.tau_alpha is not None:
            low, high = (f"{value:.3g}" for value in found.tau_alpha)
            text += f", τ_α {low}" + ("" if low == high else f" to {high}")
        text += "".join(
            f", {count} {name}" for count, name in ((found.refused, "refused"), (found.unchecked, "unchecked")) if count
        )
        waiting = found.expected - found.equilibrated - found.refused - found.unchecked - len(found.going)
        text += f", {len(found.going)} under way" if found.going else ""
        text += f", {waiting} to come" if waiting > 0 else ""
        lines += [_row("lineages", text), *lineages]
    if run.workers:
        speed = "" if run.speed is None else f", {run.speed:,.0f} replica-steps/s together"
        engines = ", ".join(sorted({worker.engine for worker in run.workers}))
        lines += [_row("workers", f"{len(run.workers)} with {engines}{speed}"), *workers]
    if run.lost:
        names = ", ".join(run.lost[:3]) + (f" and {len(run.lost) - 3} more" if len(run.lost) > 3 else "")
        lines.append(_row("", f"ended without a word: {names}", "yellow"))
    return lines


def _liquid(run: Progress) -> str:
    found = run.liquid
    return f"{found['mixture']} in {found['dimensions']}D, N = {found['n_particles']}, T = {found['temperature']:g}"


def _of(done: int, expected: int | None) -> str:
    return f"{done}" if expected is None else f"{done}/{expected}"


def _listed(
    items: Sequence[T], rows: int, one: Callable[[T], Text], others: Callable[[Sequence[T]], Text]
) -> list[Text]:
    """As many as there are rows; where they are more, the last row sums up the others."""
    if len(items) <= rows:
        return [one(item) for item in items]
    if rows == 0:
        return []
    return [*(one(item) for item in items[: rows - 1]), others(items[rows - 1 :])]


def _lineage(item: tuple[int, LineageProgress]) -> Text:
    number, progress = item
    done, label = progress.run_tau_alphas, f"  L{number:04d}"
    if done is None:
        text = f"melting, t = {progress.time:.3g}" if progress.melting else f"t = {progress.time:.4g}, τ_α unknown yet"
    else:
        text = f"{done:.1f}/{progress.required:g} τ_α of {progress.tau_alpha:.3g}"
    text += f"; {progress.open[0]}" if progress.open else ""
    return _with_bar(label, bar(done or 0.0, progress.required, _SHORT), text)


def _other_lineages(items: Sequence[tuple[int, LineageProgress]]) -> Text:
    lengths = sorted(one.run_tau_alphas for _, one in items if one.run_tau_alphas is not None)
    melting, required = sum(one.melting for _, one in items), items[0][1].required
    unknown = len(items) - melting - len(lengths)
    parts = [f"{lengths[0]:.1f} to {lengths[-1]:.1f} of {required:g} τ_α"] if lengths else []
    parts += [f"{count} {what}" for count, what in ((melting, "melting"), (unknown, "with τ_α unknown yet")) if count]
    return _with_bar(f"  {len(items)} more", bar(sum(lengths) / len(items), required, _SHORT), "; ".join(parts))


def _worker(worker: WorkerStatus) -> Text:
    rate = "" if worker.rate is None else f"{worker.rate:,.0f}/s"
    doing = f"{worker.activity} {worker.task}".strip()
    doing += "" if worker.host == os.uname().nodename else f" on {worker.host}"
    since = duration(max(0.0, time.time() - worker.since))
    return _row(f"  {worker.name.rpartition('-')[2][: _LABEL - 3]}", f"{rate:>9}  {doing}, for {since}")


def _other_workers(workers: Sequence[WorkerStatus]) -> Text:
    rates = sorted(worker.rate for worker in workers if worker.rate is not None)
    doing = Counter(worker.activity or worker.task.partition(":")[0] for worker in workers)
    speeds = f"{rates[0]:,.0f} to {rates[-1]:,.0f}/s: " if rates else ""
    return _row(f"  {len(workers)} more", speeds + ", ".join(f"{count} {name}" for name, count in doing.most_common()))


def _training(training: TrainingProgress, state: str, width: int) -> list[Text]:
    left = remaining(training.seconds_left) if state == "working" else ""
    samples = f"{_of(training.samples, training.samples_expected)} samples" if training.max_steps else ""
    counts = ", ".join(part for part in (training.count, left, samples) if part)
    lines = [_with_bar("training", training.bar(_LONG), counts)]
    facts = [":".join(part for part in (training.learner, "+".join(training.inputs)) if part)]
    facts += ["" if training.target == PROPENSITY else training.target]
    several = f" in {training.processes} processes" if training.processes > 1 else ""
    facts += [f"{training.device}{several}", "" if training.loss is None else f"loss {training.loss:.3g}"]
    facts += [f"{training.rate:.3g} steps/s of {training.batch}"] if training.max_steps else []
    lines.append(_row("", ", ".join(fact for fact in facts if fact)))
    if training.redrawn:
        lines.append(_row("", f"and {training.redrawn} steps on samples drawn again, while no other was there"))
    lines += _scores(training, width)
    if training.validated is not None:
        of = f"step {training.validated}" if training.max_steps else "the last solution"
        loss = "" if training.validation_loss is None else f", loss {training.validation_loss:.3g}"
        best = "" if training.best is None else f"; best ρ {training.best:.3f} at step {training.best_step}"
        lines.append(_row("validated", f"{of}{loss}{best}"))
    lines += _waiting(training)
    return lines


def _scores(training: TrainingProgress, width: int) -> list[Text]:
    """ρ and its ceiling by species and time; of more times than there are columns some."""
    times = training.times
    fits = max(1, (width - _LABEL) // _COLUMN)
    shown = np.unique(np.linspace(0, len(times) - 1, min(len(times), fits)).round().astype(int)).tolist()
    if not training.pearson or not times or any(len(values) != len(times) for values in training.pearson.values()):
        return []
    label = "  t" if training.time_unit == REDUCED else "  t/τ_α"
    lines = [_row(label, "".join(f"{_time(times[index]):>{_COLUMN}}" for index in shown), "dim")]
    for name, values in training.pearson.items():
        lines.append(_row(f"  ρ {name}", "".join(f"{_rho(values[index]):>{_COLUMN}}" for index in shown)))
        ceiling = training.ceiling.get(name, [])
        if len(ceiling) == len(times) and any(value is not None for value in ceiling):
            cells = "".join(f"{_rho(ceiling[index]):>{_COLUMN}}" for index in shown)
            lines.append(_row("  at most", cells, "dim"))
    return lines


def _time(time: float) -> str:
    return f"{time:.0f}" if 100 <= time < 1e5 else f"{time:.2g}"


def _rho(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _waiting(training: TrainingProgress) -> list[Text]:
    """What it waits for now, and the shares of the time that it has waited for what."""
    parts = [f"for {training.waiting}"] if training.waiting else []
    total = sum(training.waited.values())
    if total > 0 and training.seconds > 0:
        shares = sorted(training.waited.items(), key=lambda pair: -pair[1])[:3]
        parts.append(
            f"so far {total / training.seconds:.0%} of {duration(training.seconds)}: "
            + ", ".join(f"{what} {seconds / training.seconds:.0%}" for what, seconds in shares)
        )
    return [_row("waiting", "; ".join(parts))] if parts else []
