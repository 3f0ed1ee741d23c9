"""HOOMD-blue as an engine: many systems packed into one simulation, on a GPU or a CPU core.

Needs HOOMD-blue 4.8 or later. Of its interface only what is documented, and not deprecated in 4.8, is used, for it to
be there in 5, 6 and 7; it has been run with 4.8.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import (
    PARTICLE_STEPS_PER_SECOND,
    Engine,
    InRanks,
    Minimum,
    Observation,
    Rattled,
    require_possible,
    require_possible_minimum,
)
from glassmd.engines.hoomd_device import device_name, failed, gpu_count, hoomd_version, load_hoomd, open_device
from glassmd.engines.hoomd_reports import displacements, observations, rattled
from glassmd.engines.mpi import available_cores
from glassmd.engines.rattling import RattlingSums, require_snapshots
from glassmd.engines.reduced import Displacements
from glassmd.engines.schedule import reach_each
from glassmd.engines.thermostat import Thermostat, degrees_of_freedom
from glassmd.errors import DeviceLostError, EngineError
from glassmd.mixtures import Mixture

if TYPE_CHECKING:
    from glassmd.engines.hoomd_minimise import Minimiser
    from glassmd.engines.hoomd_packed import PackedSimulation

__all__ = ["HoomdEngine"]

_BUFFER = {"cpu": 0.4, "gpu": 0.8}  # of the neighbour list before it is tuned, σ_AA; see docs/gpu.md
_BUFFERS = {"cpu": (0.2, 0.3, 0.4, 0.5, 0.65), "gpu": (0.4, 0.55, 0.8, 1.0)}  # that are tried
_ROUNDS = 3  # in which they are tried; the fastest round is the least disturbed one
_WARM_UP = {"cpu": 50, "gpu": 3000}  # steps before a measurement; on a GPU HOOMD tunes its kernels in them
_MEASURED = 100  # steps that a measurement takes at least
_SHORTEST = 0.2  # seconds that a measurement takes at least
_WORTH_IT = 1.05  # gain in speed for which twice as many systems are packed
_TRIES = {"cpu": 1, "gpu": 2}  # doublings that may gain less; on a GPU one system has a neighbour list that suits it
_MEMORY = 0.4  # share of the device's memory above which the next doubling is not tried
_KEPT = 2  # simulations that are kept for another use: full packs and the last, smaller one


_Report = TypeVar("_Report")


@dataclass(frozen=True)
class Rate:
    """One measurement of :meth:`HoomdEngine.prepare`."""

    packed: int
    buffer: float
    replica_steps_per_second: float


class HoomdEngine(Engine):
    """Velocity Verlet (`ConstantVolume`); see :mod:`glassmd.engines.thermostat` for the thermostat.

    Simulations are used again for the next systems of the same size: hundreds of parents take no more memory
    than one. Iterators of several calls may be advanced in any order.

    Args:
        device: `cpu`, `gpu`, or `auto`, which takes a GPU where there is one.
        packed: Systems in one simulation; None is 1 until :meth:`prepare` or :meth:`adopt` say otherwise.
        buffer: Of the neighbour list, σ_AA; None is 0.4 on a core and 0.8 on a GPU until :meth:`prepare` or
            :meth:`adopt` say otherwise.
        neighbor_list: `Tree` or `Cell`; None: the faster one for so many systems.
        gpu: Number of the GPU where there are several.

    Raises:
        EngineError: HOOMD-blue or the device is missing.
    """

    name = "hoomd"

    def __init__(
        self,
        device: Literal["auto", "cpu", "gpu"] = "auto",
        *,
        packed: int | None = None,
        buffer: float | None = None,
        neighbor_list: Literal["Tree", "Cell"] | None = None,
        gpu: int | None = None,
    ) -> None:
        self._hoomd = load_hoomd()
        self.version = hoomd_version()
        self._device = open_device(self._hoomd, device, gpu)
        self._on_gpu = isinstance(self._device, self._hoomd.device.GPU)
        self.device = f"gpu ({device_name(self._device)})" if self._on_gpu else "cpu"
        self._gpu = gpu or 0
        self._asked = packed, buffer
        self._kind = "gpu" if self._on_gpu else "cpu"
        self.packed, self.buffer = packed or 1, buffer or _BUFFER[self._kind]
        self._used_buffer: float | None = None  # a small box leaves room for no thicker one
        self._neighbor_list = neighbor_list
        self._simulations: dict[tuple[object, ...], PackedSimulation] = {}
        self._minimiser: Minimiser | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Engine, version and device, the number of systems packed and the neighbour list's buffer, σ_AA."""
        return {**super().facts, "packed": self.packed, "neighbor_list_buffer": self._used_buffer or self.buffer}

    def evolve(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Observation]:
        """Evolve the systems, `packed` at a time; see :meth:`glassmd.engines.base.Engine.evolve`.

        A system's trajectory depends on its own configuration and seed only, but for rounding: sums over
        neighbours are taken in an order that the packing decides. Positions continue from the configuration's
        `unwrapped` ones.
        """
        require_possible(systems, mixture, steps, time_step, thermostat)
        return self._in_packs(systems, mixture, steps, time_step, thermostat, check, observations)

    def minimise(
        self, configuration: Configuration, mixture: Mixture, *, check: Callable[[], None] | None = None
    ) -> Minimum:
        """FIRE, one system at a time; see :meth:`glassmd.engines.base.Engine.minimise`.

        Configurations of one box and number that follow each other share a simulation.
        """
        from glassmd.engines.hoomd_minimise import Minimiser  # imports torch, which not every command needs

        require_possible_minimum(configuration, mixture)
        if self._minimiser is None:
            self._minimiser = Minimiser(self._hoomd, self._device)
        return self._minimiser.minimise(
            configuration, mixture, min(self.buffer, _thickest(mixture, configuration)), check
        )

    def displacements(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        groups: Sequence[int],
        keep_ends_of: Collection[int] = (),
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Displacements]:
        """Reduce displacements on the device; see :meth:`glassmd.engines.base.Engine.displacements`."""
        require_possible(systems, mixture, steps, time_step, thermostat)

        def report(simulation: PackedSimulation, pack: range, step: int) -> Iterator[Displacements]:
            kept = keep_ends_of if step == steps[-1] else ()
            return displacements(simulation, pack, step, [groups[system] for system in pack], kept)

        return self._in_packs(systems, mixture, steps, time_step, thermostat, check, report)

    def rattling(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        left_out: int,
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Rattled]:
        """Add up displacements on the device; see :meth:`glassmd.engines.base.Engine.rattling`.

        Nothing leaves the device until the last step, and neither energies nor virials are asked for.
        """
        require_possible(systems, mixture, steps, time_step, thermostat)
        require_snapshots(len(steps), left_out)
        sums: dict[range, RattlingSums] = {}

        def report(simulation: PackedSimulation, pack: range, step: int) -> Iterator[Rattled]:
            of_pack = sums.setdefault(pack, RattlingSums(len(steps), left_out))
            of_pack.add(simulation.displaced())
            if of_pack.complete:
                yield from rattled(simulation, pack, step, sums.pop(pack))

        return self._in_packs(systems, mixture, steps, time_step, thermostat, check, report)

    def _in_packs(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None,
        check: Callable[[], None] | None,
        report: Callable[[PackedSimulation, range, int], Iterator[_Report]],
    ) -> Iterator[_Report]:
        for first in range(0, len(systems), self.packed):
            pack = range(first, min(first + self.packed, len(systems)))
            yield from self._evolve_pack(
                [systems[i] for i in pack], pack, mixture, steps, time_step, thermostat, check, report
            )

    def _evolve_pack(
        self,
        systems: list[Configuration],
        pack: range,
        mixture: Mixture,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None,
        check: Callable[[], None] | None,
        report: Callable[[PackedSimulation, range, int], Iterator[_Report]],
    ) -> Iterator[_Report]:
        degrees = degrees_of_freedom(systems[0].n_particles, systems[0].dimensions)
        with self._borrowed(mixture, systems[0], len(systems), time_step) as simulation:
            simulation.load(systems, time_step)

            def rescale(step: int) -> None:
                assert thermostat is not None
                kinetic = simulation.kinetic_energies()
                simulation.rescale(thermostat.factors(step, time_step, kinetic, degrees, pack))

            for step in reach_each(
                steps,
                time_step,
                run=self.counted(simulation.run, len(systems)),
                rescale=rescale,
                thermostat=thermostat,
                check=check,
                chunk=max(1, int(PARTICLE_STEPS_PER_SECOND / (len(systems) * systems[0].n_particles))),
            ):
                yield from report(simulation, pack, step)

    @contextmanager
    def _borrowed(
        self, mixture: Mixture, like: Configuration, n_systems: int, time_step: float
    ) -> Iterator[PackedSimulation]:
        """A simulation for so many systems of this size: one that nobody uses now, or a new one.

        It is kept for the next ones unless it came apart.
        """
        from glassmd.engines.hoomd_packed import PackedSimulation  # imports torch, which not every command needs

        key = (repr(mixture.identity()), like.n_particles, n_systems, tuple(like.box), self._neighbor_list)
        simulation = self._simulations.pop(key, None)
        if simulation is None:
            simulation = PackedSimulation(
                self._hoomd,
                self._device,
                mixture,
                like.box,
                like.n_particles,
                n_systems,
                time_step=time_step,
                buffer=self.buffer,
                neighbor_list=self._neighbor_list,
            )
        simulation.buffer = min(self.buffer, _thickest(mixture, like))
        self._used_buffer = simulation.buffer
        sound = False
        try:
            yield simulation
            sound = True
        except GeneratorExit:  # whoever asked has seen enough
            sound = True
            raise
        except RuntimeError as error:  # of HOOMD or torch: no memory on the device, for one
            raise failed(self.device, error, n_systems) from error
        finally:
            if sound:
                self._simulations[key] = simulation
                while len(self._simulations) > _KEPT:
                    self._simulations.pop(next(iter(self._simulations)))  # the one that was not used for longest

    def in_ranks(self, mixture: Mixture) -> InRanks:
        """On as many cores, or one on each GPU; see :meth:`glassmd.engines.base.Engine.in_ranks`.

        HOOMD-blue wants a domain to be twice as thick as what a rank sees of its neighbours.
        """
        if not self._hoomd.version.mpi_enabled:
            raise EngineError(
                f"this HOOMD-blue {self.version} was built without MPI",
                "one that was built with it",
                "build it with -DENABLE_MPI=ON, or try --engine lammps or --ranks 1",
            )
        opened = {"engine": self.name, "device": self._kind, "buffer": self.buffer}
        most = gpu_count(self.name, self._kind) if self._on_gpu else available_cores()
        return InRanks(opened, 2.001 * (float(mixture.r_cut.max()) + self.buffer), most, gentler=True)

    def prepare(
        self,
        liquid: Callable[[], Configuration],
        mixture: Mixture,
        time_step: float,
        most: int,
        *,
        check: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Measure how many systems to pack and how thick the neighbour list's buffer should be.

        The number doubles as long as that gains 5%, on a GPU at the second try at least, and memory is left; then the
        buffer is chosen at the fastest number. What was given to the constructor is not measured.

        Args:
            liquid: Makes a liquid like those that will be simulated, with velocities.
            mixture: Its mixture.
            time_step: √(mσ²/ε).
            most: Systems that there will ever be at once.
            check: Called between measurements; what it raises ends them.

        Returns:
            `packed`, `buffer` and `measured`, a list of rates (JSON types only).
        """
        asked_packed, asked_buffer = self._asked
        measured: list[Rate] = []
        system = None if asked_packed and asked_buffer else liquid()

        def rate(packed: int, buffer: float) -> float:
            assert system is not None
            if check is not None:
                check()
            found = Rate(packed, buffer, self._measure(system, mixture, time_step, packed, buffer))
            measured.append(found)
            return found.replica_steps_per_second

        packed, buffer = asked_packed or 1, asked_buffer or _BUFFER[self._kind]
        if asked_packed is None and most > 1:
            best, tried, failures = rate(1, buffer), 1, 0
            while 2 * tried <= most and failures < _TRIES[self._kind] and self._memory_share() < _MEMORY:
                tried *= 2
                try:
                    now = rate(tried, buffer)
                except DeviceLostError:
                    raise
                except EngineError:
                    break  # no room for so many
                if now < _WORTH_IT * best:
                    failures += 1
                else:
                    packed, best, failures = tried, now, 0
        if asked_buffer is None and system is not None:
            thickest = _thickest(mixture, system)
            fitting = [value for value in _BUFFERS[self._kind] if value < thickest] or [thickest]
            rounds = [[rate(packed, value) for value in fitting] for _ in range(_ROUNDS)]
            buffer = fitting[int(np.argmax(np.max(rounds, axis=0)))]
        prepared = {"packed": packed, "buffer": buffer, "measured": [asdict(one) for one in measured]}
        self._simulations.clear()
        self.adopt(prepared)
        return prepared

    def _measure(self, system: Configuration, mixture: Mixture, time_step: float, packed: int, buffer: float) -> float:
        self.buffer = buffer
        # Replicas that move alike would rebuild their neighbour lists at the same steps.
        generator = np.random.default_rng(packed)
        copies = [system.with_velocities(_shuffled(system, generator)) for _ in range(packed)]
        with self._borrowed(mixture, system, packed, time_step) as simulation:
            simulation.load(copies, time_step)
            simulation.run(_WARM_UP[self._kind])
            steps, started = 0, time.perf_counter()
            while steps < _MEASURED or time.perf_counter() - started < _SHORTEST:
                simulation.run(_MEASURED // 4)
                steps += _MEASURED // 4
            return packed * steps / (time.perf_counter() - started)

    def _memory_share(self) -> float:
        """Of the device's memory that is in use by anybody; 0 where the system does not say."""
        if self._on_gpu:
            import torch

            free, total = torch.cuda.mem_get_info(self._gpu)
            return 1.0 - free / total
        try:
            lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
            kib = {key: float(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
            return 1.0 - kib["MemAvailable"] / kib["MemTotal"]
        except (OSError, KeyError):
            return 0.0

    def adopt(self, prepared: dict[str, Any]) -> None:
        """Take over the number and the buffer that :meth:`prepare` chose; what the constructor was given stays."""
        packed, buffer = self._asked
        self.packed = packed or int(prepared.get("packed", self.packed))
        self.buffer = buffer or float(prepared.get("buffer", self.buffer))


def _shuffled(system: Configuration, generator: np.random.Generator) -> NDArray[np.float64]:
    """The velocities, dealt anew among the particles of each species: other ones of the same temperature."""
    assert system.velocities is not None
    velocities = system.velocities.copy()
    for kind in np.unique(system.species):
        rows = np.flatnonzero(system.species == kind)
        velocities[rows] = velocities[generator.permutation(rows)]
    return velocities


def _thickest(mixture: Mixture, system: Configuration) -> float:
    """The thickest buffer with which no particle finds another one twice, σ_AA."""
    return 0.999 * (float(system.box.min()) / 2 - float(mixture.r_cut.max()))
