"""Who waits for whom: the trainer for the simulations, or they for the trainer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress

from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Blocks, SampleKey
from glassmd.training.source import SampleSource

__all__ = ["Pace"]

_ASK = 10.0  # seconds after which a request to pause is made again


class Pace:
    """Keeps account of a training on a stream, and has simulations pause that it cannot follow.

    Args:
        source: Where samples come from.
        reservoir: What batches are drawn from.

    Attributes:
        waited: Seconds of the trainer by what it waited for.
        paused: Seconds for which the simulations were asked to pause.
        latencies: Of the samples that were committed meanwhile: seconds from there to the first batch.
    """

    def __init__(self, source: SampleSource, reservoir: Reservoir) -> None:
        self._source, self._reservoir = source, reservoir
        self._started, self._since_epoch = time.monotonic(), time.time()
        self._filled: float | None = None
        self._ended: float | None = None
        self._idle = 0.0
        self._asked: float | None = None
        self._committed: dict[SampleKey, float] = {}
        self._drawn: set[SampleKey] = set()
        self.waited: dict[str, float] = {}
        self.paused = 0.0
        self.latencies: list[float] = []

    def arrived(self, key: SampleKey, blocks: Blocks) -> None:
        """A sample is there to be drawn, new or grown."""
        with suppress(OSError):
            committed = self._source.committed(key, blocks)
            if committed > self._since_epoch and key not in self._drawn:
                self._committed.setdefault(key, committed)
        if self._filled is None and self._reservoir.filled:
            self._filled = time.monotonic()

    def drew(self, keys: Sequence[SampleKey]) -> None:
        """These are in a batch for the first time, or for the first time since they came back from disk."""
        now = time.time()
        for key in set(keys) - self._drawn:
            self._drawn.add(key)
            committed = self._committed.pop(key, None)
            if committed is not None:
                self.latencies.append(now - committed)

    def wait(self, what: str, seconds: float) -> None:
        """Sleep."""
        started = time.monotonic()
        time.sleep(seconds)
        self.waiting(what, time.monotonic() - started)

    def waiting(self, what: str, seconds: float) -> None:
        """So many seconds were lost for want of something."""
        self.waited[what] = self.waited.get(what, 0.0) + seconds
        if self._filled is not None and self._ended is None:
            self._idle += seconds

    def complete(self) -> None:
        """Everything has been simulated."""
        if self._ended is None:
            self._ended = time.monotonic()
        self.let_go()

    def hold(self, *, draws: bool) -> None:
        """Have the simulations pause while more samples arrive than are drawn, unless the trainer waits for them."""
        if not (draws and self._reservoir.flooded):
            self.let_go()
            return
        now = time.monotonic()
        if self._asked is None or now - self._asked > _ASK:
            self.paused += 0.0 if self._asked is None else now - self._asked
            self._asked = now
            for run in self._source.runs:
                run.pause(f"the trainer has drawn less than {self._reservoir.min_reuse:g} times from every sample")

    def let_go(self) -> None:
        """Nobody has to pause any more."""
        if self._asked is not None:
            self.paused += time.monotonic() - self._asked
            self._asked = None
            for run in self._source.runs:
                run.unpause()

    @property
    def idle_share(self) -> float | None:
        """Share of the time that the trainer waited, from the watermark to the last commit; None before."""
        if self._filled is None:
            return None
        passed = (self._ended or time.monotonic()) - self._filled
        return self._idle / passed if passed > 0 else 0.0

    @property
    def latency(self) -> float | None:
        """Median seconds from the commit of a sample to the first batch with it; None where none was committed."""
        return statistics.median(self.latencies) if self.latencies else None

    def facts(self) -> dict[str, float]:
        """What the journal notes."""
        drawn, produced = self._reservoir.drawn + self._reservoir.redrawn, self._reservoir.produced
        found = {
            "seconds": time.monotonic() - self._started,
            "samples": produced,
            "draws_per_sample": drawn / produced if produced else 0.0,
            "redrawn": self._reservoir.redrawn,
            "idle_share": self.idle_share,
            "paused": self.paused,
            "commit_to_batch": self.latency,
            **{f"waited for {what}": seconds for what, seconds in self.waited.items()},
        }
        return {name: round(value, 4) for name, value in found.items() if value is not None}
