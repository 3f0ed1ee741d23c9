"""When to run, rescale, look and report: the loop that every engine's `evolve` is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from glassmd.engines.thermostat import Thermostat

__all__ = ["reach_each"]

CHECK_INTERVAL = 1.0
"""Seconds of wall time between two calls of `check`."""


def reach_each(
    steps: Sequence[int],
    time_step: float,
    *,
    run: Callable[[int], None],
    rescale: Callable[[int], None],
    thermostat: Thermostat | None,
    check: Callable[[], None] | None,
    chunk: int,
) -> Iterator[int]:
    """Run to every step in turn and yield it when it is reached.

    Neither the steps that are asked for nor the chunks change what happens in between.

    Args:
        steps: Non-decreasing, from 0 on.
        time_step: √(mσ²/ε).
        run: Runs so many steps.
        rescale: Rescales the velocities; is told the step.
        thermostat: Says when to rescale; None never does.
        check: Called about once a second; what it raises ends the loop. None leaves the clock out of it.
        chunk: First guess of the steps in a second.
    """
    done, checked = 0, time.perf_counter()
    for step in steps:
        while done < step:
            due = step if thermostat is None else min(step, thermostat.next_rescaling(done, time_step))
            count = min(chunk, due - done)
            started = time.perf_counter()
            run(count)
            if count == chunk and check is not None:
                # A pause of the machine must not shrink or grow the chunks without bound.
                pace = CHECK_INTERVAL / max(time.perf_counter() - started, 1e-9)
                chunk = max(1, int(chunk * min(2.0, max(0.5, pace))))
            if thermostat is not None and done + count == thermostat.next_rescaling(done, time_step):
                rescale(done + count)
            done += count
            if check is not None and time.perf_counter() - checked > 0.5 * CHECK_INTERVAL:
                check()
                checked = time.perf_counter()
        yield step
