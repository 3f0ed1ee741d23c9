"""One liquid on its way from a random start to equilibrium, a stage and a step at a time.

A lineage says how far it has to go next and at which steps it wants to be seen; who evolves it, and together with
which others, is not its business. So its trajectory, its report and its random numbers are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Observation
from glassmd.mixtures import Mixture
from glassmd.simulation.equilibrium_run import EquilibriumRun, moved
from glassmd.simulation.protocol import LineageProgress, Protocol, beside_length, judge, next_length
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.simulation.unfinished import Unfinished

__all__ = ["Conditions", "Lineage", "Stage"]

_MELT_THERMOSTAT_TIME = 0.1  # √(mσ²/ε): short, since the lattice turns much energy into heat when it melts
_PARTING = 0.02  # of the melt's duration, at
_PARTING_STEP = 0.2  # of the time step: neighbours on the lattice may be closer than in any liquid


@dataclass(frozen=True)
class Stage:
    """What a lineage evolves under. Lineages that are at the same step of the same stage can evolve together.

    Attributes:
        number: From 0 on.
        temperature: ε_AA.
        thermostat_time: √(mσ²/ε).
        time_step: √(mσ²/ε).
        steps: After which the next stage begins; None in the last one, which ends with the judgement.
    """

    number: int
    temperature: float
    thermostat_time: float
    time_step: float
    steps: int | None = None


@dataclass(frozen=True)
class Conditions:
    """What lineages that are equilibrated together have in common.

    Attributes:
        mixture: What liquid.
        n_particles: N.
        density: σ_AA^-d.
        temperature: T, ε_AA.
        time_step: √(mσ²/ε).
        protocol: Lengths and thresholds.
    """

    mixture: Mixture
    n_particles: int
    density: float
    temperature: float
    time_step: float
    protocol: Protocol

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Two of the melt, with small steps first, and the run that is judged."""
        melt_time, hot = self.protocol.melt_time, max(self.protocol.melt_temperature, self.temperature)
        small = _PARTING_STEP * self.time_step
        return (
            Stage(0, hot, _MELT_THERMOSTAT_TIME, small, max(1, round(_PARTING * melt_time / small))),
            Stage(1, hot, _MELT_THERMOSTAT_TIME, self.time_step, max(1, round(melt_time / self.time_step))),
            Stage(2, self.temperature, self.protocol.thermostat_time, self.time_step),
        )


class Lineage:
    """A liquid that becomes an equilibrated one.

    Args:
        conditions: Of the liquid and its equilibration.
        generator: All randomness: the start, its velocities and one thermostat seed per stage.
        keep: Where to keep the run meanwhile; what is kept there goes on.

    Attributes:
        stage: What it evolves under now.
        step: Steps done in this stage.
        due: Step of this stage at which it changes the stage or is judged.
        seed: Of the thermostat in this stage.
        report: The last judgement; empty before the first one.
        finished: Whether it is equilibrated or out of time.
    """

    def __init__(self, conditions: Conditions, generator: np.random.Generator, keep: Unfinished | None = None) -> None:
        self._conditions, self._keep = conditions, keep
        self._stages = conditions.stages
        mixture = conditions.mixture
        start = random_start(mixture, conditions.n_particles, conditions.density, generator)
        velocities = draw_velocities(start, mixture, self._stages[0].temperature, generator)
        self._seeds = [int(seed) for seed in generator.integers(1, 2**31, len(self._stages))]
        self._melt = start.with_velocities(velocities)
        self._run: EquilibriumRun | None = None
        self.report: dict[str, Any] = {}
        self.finished = False
        kept = None if keep is None else keep.load(("positions", "steps", "due", "seed"))
        if kept is None:
            self._enter(self._stages[0])
        else:
            self._restore(kept)

    @property
    def configuration(self) -> Configuration:
        """As it is now, with velocities."""
        return self._melt if self._run is None else self._run.last

    def awaited(self, until: int) -> set[int]:
        """Steps after this one at which it wants to be seen on its way to step `until`, that one included."""
        return {until} if self._run is None else {until, *self._run.frame_steps(until)}

    def observe(self, step: int, seen: Observation) -> None:
        """It has reached one of the awaited steps.

        Raises:
            StorageError: It could not be kept.
        """
        self.step = step
        if self._run is None:
            self._melt = moved(self._melt, seen.positions, seen.velocities)
            if step == self.due:
                self._enter(self._stages[self.stage.number + 1])
            return
        self._run.observe(step, seen)
        if step == self.due:
            self._judge(self._run)
        if self._keep is not None and not self.finished:
            self._keep.offer(self._state)

    def keep_now(self, *, whatever: bool) -> None:
        """Keep the run as it was last seen, where there is a place for it and a run.

        Args:
            whatever: Even if it is soon done again.

        Raises:
            StorageError: It could not be kept.
        """
        if self._keep is None or self._run is None or self._run.steps == 0:
            return
        if whatever or self._keep.worth_keeping:
            self._keep.write(self._state())

    @property
    def progress(self) -> LineageProgress:
        """How far it is; what is open of the judgement is that of the last one."""
        run, required = self._run, self._conditions.protocol.tau_alphas
        if run is None:
            return LineageProgress(True, self.step * self.stage.time_step, required)
        tau = self.report.get("tau_alpha")
        length = None if tau is None else run.analysed_time / tau
        return LineageProgress(False, run.time, required, tau, length, tuple(beside_length(self.report)))

    def _enter(self, stage: Stage) -> None:
        self.stage, self.step, self.seed = stage, 0, self._seeds[stage.number]
        if stage.steps is not None:
            self.due = stage.steps
        else:
            protocol = self._conditions.protocol
            self._run = EquilibriumRun(self._melt, self._conditions.mixture, stage.time_step)
            self.due = self._run.plan(min(protocol.first_time, protocol.max_time))

    def _judge(self, run: EquilibriumRun) -> None:
        protocol = self._conditions.protocol
        self.report = judge(run, self.stage.temperature, protocol)
        self.finished = self.report["equilibrated"] or run.time >= protocol.max_time - 0.5 * run.time_step
        if not self.finished:
            self.due = run.plan(min(next_length(run.time, self.report, protocol), protocol.max_time))

    def _state(self) -> dict[str, NDArray[Any]]:
        assert self._run is not None
        return {**self._run.state(), "due": np.array(self.due), "seed": np.array(self.seed)}

    def _restore(self, kept: dict[str, NDArray[Any]]) -> None:
        stage = self._stages[-1]
        self._run = EquilibriumRun.restore(self._melt, self._conditions.mixture, stage.time_step, kept)
        self.stage, self.step = stage, self._run.steps
        self.due, self.seed = int(kept["due"]), int(kept["seed"])
