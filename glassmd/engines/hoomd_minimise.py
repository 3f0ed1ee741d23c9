"""Inherent structures with HOOMD-blue: FIRE, one system at a time.

Systems are not packed: FIRE has one time step and one power for all particles of a simulation, so that a system would
go down another way in other company. A simulation is used again instead, for the next system of the same box and
number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.engines.base import PARTICLE_STEPS_PER_SECOND, Minimum, unconverged
from glassmd.engines.hoomd_fire import MOST, STEPS, fire, tolerance
from glassmd.engines.hoomd_packed import PackedSimulation
from glassmd.errors import EngineError
from glassmd.mixtures import Mixture

__all__ = ["Minimiser"]

_KEPT = 2  # simulations: of two boxes, or of one and both time steps


class _Descent(PackedSimulation):
    """One system whose integrator goes downhill."""

    def __init__(
        self, hoomd: Any, device: Any, mixture: Mixture, configuration: Configuration, buffer: float, time_step: float
    ) -> None:
        box, n_particles = configuration.box, configuration.n_particles
        super().__init__(hoomd, device, mixture, box, n_particles, 1, time_step=time_step, buffer=buffer)
        self._longest = time_step  # FIRE goes back to it as long as it lives
        self._integrator = fire(hoomd, self._force, time_step)

    def start(self, configuration: Configuration) -> None:
        """Put a system at rest where it was; nothing is left of the one before."""
        again = self._loaded
        self.load([configuration.with_velocities(np.zeros_like(configuration.positions))], self._longest)
        if again:
            self._integrator.reset()  # to a tenth of the time step: a new one begins with the whole
            self._integrator.dt = self._longest

    @property
    def largest_force(self) -> float:
        """On any particle, ε_AA/σ_AA."""
        return float(self.largest_forces()[0])

    def descend(self, tolerance: float, check: Callable[[], None] | None) -> tuple[int, float]:
        """Go on until no force is above `tolerance`; the steps that it took and the largest force."""
        piece = max(20, int(PARTICLE_STEPS_PER_SECOND / 4 / self.n_particles))
        steps, force = 0, self.largest_force
        while force > tolerance and steps < MOST:
            self.run(piece)
            steps, force = steps + piece, self.largest_force
            if check is not None:
                check()
        return steps, force


class Minimiser:
    """Goes downhill from one system after the other; those of one mixture, box and number share a simulation.

    Args:
        hoomd: The package.
        device: A `hoomd.device.Device`.
    """

    def __init__(self, hoomd: Any, device: Any) -> None:
        self._hoomd, self._device = hoomd, device
        self._tolerance = tolerance(hoomd)
        self._kept: dict[tuple[object, ...], _Descent] = {}

    def minimise(
        self,
        configuration: Configuration,
        mixture: Mixture,
        buffer: float,
        check: Callable[[], None] | None = None,
    ) -> Minimum:
        """See :meth:`glassmd.engines.base.Engine.minimise`; it does not depend on those before, to the last bit.

        FIRE looks at forces alone, so that a jump of the energy at the cutoff does not matter to it.

        Args:
            configuration: The start.
            mixture: Pair potential and masses.
            buffer: Of the neighbour list, σ_AA.
            check: Called about once a second; what it raises ends it.

        Raises:
            EngineError: HOOMD-blue failed, or the forces did not vanish.
        """
        try:
            descent, steps, force = self._descended(configuration, mixture, buffer, STEPS[0], check)
        except EngineError:
            descent, steps, force = self._descended(configuration, mixture, buffer, STEPS[1], check)
        if not force <= self._tolerance:
            raise unconverged("HOOMD-blue", force, self._tolerance, steps)
        (energy,), _ = descent.energies_and_virials()
        start, masses = configuration.unwrapped, np.asarray(mixture.masses)[configuration.species]
        moved = remove_drift(descent.positions_of(0) - start, masses)
        return Minimum(start + moved, float(energy), force, steps)

    def _descended(
        self,
        configuration: Configuration,
        mixture: Mixture,
        buffer: float,
        time_step: float,
        check: Callable[[], None] | None,
    ) -> tuple[_Descent, int, float]:
        """The simulation at the end of the way, which is kept unless it failed, the steps and the largest force."""
        key = (repr(mixture.identity()), configuration.n_particles, tuple(configuration.box), time_step)
        descent = self._kept.pop(key, None)
        if descent is None:
            descent = _Descent(self._hoomd, self._device, mixture, configuration, buffer, time_step)
        descent.buffer = buffer
        descent.start(configuration)
        steps, force = descent.descend(self._tolerance, check)
        self._kept[key] = descent
        while len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)))  # the one that was not used for longest
        return descent, steps, force
