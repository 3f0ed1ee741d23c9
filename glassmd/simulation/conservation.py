"""Does the engine conserve the energy of a liquid at the time step that was asked for?

Velocity Verlet conserves a neighbour of the energy exactly; the energy itself wavers around it. In a harmonic well of
frequency ω, E = const + ((ω dt)²/4) U (Toxvaerd, Phys. Rev. E 50, 2271 (1994)): it wavers by

    R = sd(E) / sd(U) = (ω dt)² / 4

of what the potential energy does, and the wells are deeper by R than their temperature has them. A liquid has many
frequencies: its R grows with dt² while the step resolves the fastest of its collisions, faster where it does not any
more, and then it gains energy until it comes apart (measured: docs/mixtures.md). Asked for are sixteen steps in a
period, R = (π/16)², and a drift that heats the liquid by less than one part in a hundred while a thermostat of the run
takes it out: kinks of the force at a cutoff that is too short make energies drift at any R. What happens too
rarely to be seen in a short run is looked at apart (:mod:`glassmd.simulation.collisions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from glassmd.configuration import Configuration
from glassmd.engines import get_engine
from glassmd.engines.base import Engine, Observation
from glassmd.errors import DeviceLostError, EngineError, SettingsError
from glassmd.mixtures import Mixture
from glassmd.settings import RunSettings
from glassmd.simulation.batch import Check
from glassmd.simulation.collisions import turning_rates
from glassmd.simulation.preparation import melted

__all__ = ["Conservation", "hottest", "measure_conservation", "require_conserved"]

_STEPS_PER_PERIOD = 16
_WAVER = (math.pi / _STEPS_PER_PERIOD) ** 2
_HEATING = 0.01
_TURNING = 1.0  # largest ω dt of a mean collision: half of what velocity Verlet is stable to
_HALVINGS = 10
_MELT, _BATH, _STEPS, _EVERY = 1000, 300, 1000, 5
_PARTICLES = 200
_OF_A_SPECIES = 10
_ROOM = 1.1  # of half the box over the longest cutoff: neighbour lists need some


@dataclass(frozen=True)
class Conservation:
    """What the total energy of a liquid does at constant energy.

    Attributes:
        waver: Standard deviation of the total energy around its drift over that of the potential energy.
        drift: d(E/N)/dt, ε_AA √(ε/mσ²).
        drift_error: Standard error of the drift.
    """

    waver: float
    drift: float
    drift_error: float

    def heating(self, settings: RunSettings, temperature: float) -> float:
        """Share of the kinetic energy that the drift adds in a coupling time of the replicas' thermostat.

        Of the drift that is certain: beyond three standard errors.
        """
        drift = max(0.0, abs(self.drift) - 3 * self.drift_error)
        return drift * settings.thermostat_time / (0.5 * settings.liquid().dimensions * temperature)


def hottest(settings: RunSettings) -> float:
    """The highest temperature of a run, ε_AA: that of the melt, unless its parents are given.

    Example:
        >>> hottest(RunSettings(temperature=0.6)), hottest(RunSettings(temperature=1.5))
        (2.0, 3.0)
    """
    return settings.temperature if settings.start is not None else max(settings.temperature, settings.melt())


def measure_conservation(
    engine: Engine, settings: RunSettings, time_step: float, check: Check | None = None
) -> Conservation | None:
    """Melt a small system of a run's liquid and leave it to itself at the highest temperature of the run.

    What goes wrong at a jump of the energy (`truncated`) is not the integration's fault: then it is the one with the
    same forces that has none (`shifted`) whose energy is looked at.

    Args:
        engine: Evolves it.
        settings: Of the run.
        time_step: √(mσ²/ε).
        check: Called about once a second; what it raises ends it.

    Returns:
        What was seen; None where the system came apart.

    Raises:
        DeviceLostError: The engine can do nothing more in this process.
    """
    mixture, density = _without_jump(settings.liquid()), settings.number_density()
    hot, melting = hottest(settings), max(settings.temperature, settings.melt())
    stages = (melting, 0.2 * time_step, _MELT), (hot, time_step, _BATH)
    try:
        liquid = melted(engine, mixture, _particles(settings), density, stages, check)
        seen = list(
            engine.evolve([liquid], mixture, steps=range(0, _STEPS + 1, _EVERY), time_step=time_step, check=check)
        )
    except DeviceLostError:
        raise
    except EngineError:
        return None
    return _conservation(seen, liquid, time_step)


def _without_jump(mixture: Mixture) -> Mixture:
    if mixture.truncation != "truncated":
        return mixture
    return replace(mixture, truncation="shifted", cutoffs=tuple(map(tuple, mixture.r_cut.tolist())))


def _particles(settings: RunSettings) -> int:
    """Enough to fill a box that the cutoffs fit into, with some of each species, and no more than the run has."""
    mixture = settings.liquid()
    edge = 2 * _ROOM * float(mixture.r_cut.max())
    rarest = sum(mixture.composition) / min(mixture.composition)
    enough = settings.number_density() * edge**mixture.dimensions, _OF_A_SPECIES * rarest, _PARTICLES
    return min(settings.particles, math.ceil(max(enough)))


def _conservation(seen: Sequence[Observation], liquid: Configuration, time_step: float) -> Conservation | None:
    n, d = liquid.n_particles, liquid.dimensions
    potential = np.array([one.potential_energy for one in seen])
    total = potential + np.array([0.5 * d * (n - 1) / n * one.temperature for one in seen])
    if not np.isfinite(total).all():
        return None
    times = np.array([one.step for one in seen]) * time_step
    slope, intercept = np.polyfit(times, total, 1)
    around = total - (slope * times + intercept)
    error = around.std() / (times.std() * math.sqrt(len(times)))
    return Conservation(float(around.std() / potential.std()), float(slope), float(error))


def require_conserved(engine: Engine, settings: RunSettings, check: Check | None = None) -> None:
    """Refuse a time step at which the energy of a mixture of one's own is not conserved; known ones are trusted.

    Looks at it on a core, whatever the engine's device: what comes apart there does no harm.

    Args:
        engine: Of the run.
        settings: Of the run.
        check: Called about once a second; what it raises ends it.

    Raises:
        SettingsError: It is not; the message says at which step it would be.
    """
    if not settings.liquid().own:
        return
    engine = get_engine("hoomd" if engine.name == "hoomd" else "lammps", "cpu", packed=1)
    steps = [settings.time_step / 2**halving for halving in range(_HALVINGS + 1)]
    longest = _TURNING / float(turning_rates(settings.liquid(), hottest(settings)).max())
    resolved = steps[0] <= longest
    found = measure_conservation(engine, settings, steps[0], check) if resolved else None
    if _is_conserved(found, settings):
        return
    told, wanted = _told(found, settings) if resolved else _told_collision(settings)
    for step in steps[1:]:
        if step <= longest and _is_conserved(measure_conservation(engine, settings, step, check), settings):
            todo = f"try --set time_step={step:.10g}"
            break
    else:
        todo = f"not even time_step = {steps[-1]:.2g} does: check sigma, masses and cutoff"
    at = f"at T = {hottest(settings):g}, the highest of the run"
    raise SettingsError(f"found time_step = {steps[0]:g}, at which {told} {at}", wanted, todo)


def _is_conserved(found: Conservation | None, settings: RunSettings) -> bool:
    return found is not None and found.waver <= _WAVER and found.heating(settings, hottest(settings)) <= _HEATING


def _told(found: Conservation | None, settings: RunSettings) -> tuple[str, str]:
    """What was seen of the energy, and what was expected."""
    wanted = (
        f"a step that conserves the energy of {settings.liquid().name}: wavering {_WAVER:.1%} at most, "
        f"heating {_HEATING:.0%}"
    )
    if found is None:
        return "its particles fly apart", wanted
    return (
        f"the total energy wavers by {found.waver:.1%} of what the potential energy does, and heats the liquid by "
        f"{found.heating(settings, hottest(settings)):.2%} in {settings.thermostat_time:g}"
    ), wanted


def _told_collision(settings: RunSettings) -> tuple[str, str]:
    """Which pair turns round too fast, and what was expected."""
    mixture = settings.liquid()
    rates = turning_rates(mixture, hottest(settings))
    a, b = sorted(int(i) for i in np.unravel_index(int(rates.argmax()), rates.shape))
    pair = f"{mixture.species[a]} and {mixture.species[b]}"
    return (
        f"{pair} collide faster than it resolves (ω dt = {rates[a, b] * settings.time_step:.3g} where they turn round)",
        f"a step that follows collisions of {mixture.name}: ω dt = {_TURNING:g} at most, half of what is stable",
    )
