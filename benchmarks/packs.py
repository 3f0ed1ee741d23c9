"""Replicas of a liquid in one HOOMD simulation, or shared out to several processes; how fast they go."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from types import TracebackType
from typing import Literal

from liquid import replicas

from glassmd.configuration import Configuration
from glassmd.engines.hoomd import HoomdEngine
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

TIME_STEP, TEMPERATURE = 0.005, 0.8
WARM_UP = {"cpu": 20, "gpu": 3000}
"""Steps; on a GPU HOOMD tunes its kernels in them."""

Device = Literal["cpu", "gpu"]
NeighborList = Literal["Tree", "Cell"]
PATIENCE = 600.0
"""Seconds after which a process that says nothing is given up."""


class Pack:
    """Replicas of one parent in one simulation, at constant energy; they go on from call to call."""

    def __init__(
        self,
        device: Device,
        mixture: Mixture,
        parent: Configuration,
        numbers: Sequence[int],
        *,
        neighbor_list: NeighborList | None = "Tree",
        buffer: float = 0.4,
        temperature: float = TEMPERATURE,
    ) -> None:
        self._mixture, self._systems = mixture, replicas(parent, mixture, temperature, numbers)
        self._engine = HoomdEngine(device, packed=len(numbers), buffer=buffer, neighbor_list=neighbor_list)
        self.name = self._engine.device

    @property
    def buffer(self) -> float:
        """Of the neighbour list, σ_AA."""
        return self._engine.buffer

    @buffer.setter
    def buffer(self, value: float) -> None:
        """From the next measurement on."""
        self._engine.buffer = value

    def rate(self, steps: int) -> float:
        """Run so many steps; replica-steps/s, one report of all replicas included, the loading not."""
        seen = self._engine.evolve(self._systems, self._mixture, steps=[0, steps], time_step=TIME_STEP)
        for _ in self._systems:
            next(seen)
        started = time.perf_counter()
        ends = list(seen)
        seconds = time.perf_counter() - started
        self._systems = [
            Configuration(one.box, one.species, end.positions, one.species_names, end.velocities)
            for one, end in zip(self._systems, ends, strict=True)
        ]
        return len(ends) * steps / seconds


class Crew:
    """Processes with a pack each, which run at the same time; a context manager.

    Args:
        device: Of all of them.
        mixture: Of the liquid.
        parent: Of the replicas.
        n_replicas: All together.
        n_processes: Divides them.
        steps: Of one measurement.
        buffer: Of the neighbour list.
        temperature: Of the momenta.
        neighbor_list: Of every process; None: the faster one.
        patience: Seconds after which a process that says nothing is given up.
    """

    def __init__(
        self,
        device: Device,
        mixture: Mixture,
        parent: Configuration,
        n_replicas: int,
        n_processes: int,
        *,
        steps: int,
        buffer: float,
        temperature: float = TEMPERATURE,
        neighbor_list: NeighborList | None = "Tree",
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        context = multiprocessing.get_context("spawn")
        self._barrier: Barrier = context.Barrier(n_processes + 1)
        self._work = n_replicas * steps
        self._processes = [
            context.Process(
                target=_work,
                args=(
                    self._barrier,
                    device,
                    mixture,
                    parent,
                    range(i, n_replicas, n_processes),
                    steps,
                    buffer,
                    temperature,
                    neighbor_list,
                ),
                daemon=True,
            )
            for i in range(n_processes)
        ]

    def __enter__(self) -> Crew:
        for process in self._processes:
            process.start()
        self._meet()  # all have warmed up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._barrier.abort()
        for process in self._processes:
            process.join(30)

    def rate(self) -> float:
        """Replica-steps/s of all together, from the start of the first to the end of the last."""
        started = time.perf_counter()
        self._meet()
        self._meet()
        return self._work / (time.perf_counter() - started)

    def _meet(self) -> None:
        try:
            self._barrier.wait(self._patience)
        except BrokenBarrierError as error:
            raise EngineError(f"one of {len(self._processes)} processes ended early", "it to go on") from error


def _work(
    barrier: Barrier,
    device: Device,
    mixture: Mixture,
    parent: Configuration,
    numbers: Sequence[int],
    steps: int,
    buffer: float,
    temperature: float,
    neighbor_list: NeighborList | None,
) -> None:
    try:
        pack = Pack(
            device, mixture, parent, numbers, buffer=buffer, temperature=temperature, neighbor_list=neighbor_list
        )
        pack.rate(WARM_UP[device])
        barrier.wait(PATIENCE)
        while True:
            barrier.wait()
            pack.rate(steps)
            barrier.wait(PATIENCE)
    except BrokenBarrierError:
        pass  # the benchmark is over
    finally:
        barrier.abort()
