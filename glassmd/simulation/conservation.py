"""Does a potential of somebody's own conserve energy at the time step asked for? A short run at constant energy tells.

Velocity Verlet conserves a nearby energy, so that the true one fluctuates by an amount that goes as the square of the
step. It is compared with how much the kinetic energy fluctuates: where both are alike, what moves the particles is the
error of the step (Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), sec. 3.2 and 5.3: a few per cent
are usual). A trend counts as well, but for that of a potential that jumps at its cutoff by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EngineError, SettingsError
from glassmd.settings import RunSettings
from glassmd.simulation.equilibrium_run import moved
from glassmd.simulation.start import draw_velocities, random_start

__all__ = ["energy_error", "require_conserved"]

MOST = 0.05
"""Largest fluctuation of the total energy in units of that of the kinetic energy. Melts of the mixtures of glassmd have
0.010 to 0.018 at a step of 0.005, those of Kob-Andersen's 0.04 to 0.05 at 0.01 and 0.17 or more at 0.0125."""

_PARTICLES = 300
_LENGTH = 1.0  # of the run at constant energy, √(mσ²/ε)
_SAMPLES = 50
_MELT = 400  # steps
_HALVINGS = 12


def require_conserved(engine: Engine, settings: RunSettings, check: Callable[[], None] | None = None) -> None:
    """Refuse a time step at which a mixture of somebody's own conserves no energy.

    Args:
        engine: Of the run.
        settings: Mixture, density, time step and temperatures.
        check: Called about once a second; what it raises ends it.

    Raises:
        SettingsError: It does not, with the step that would.
    """
    time_step, found = settings.time_step, float("inf")
    for _ in range(_HALVINGS):
        error = energy_error(engine, settings, time_step, check)
        if time_step == settings.time_step:
            found = error
        if error <= MOST:
            break
        time_step /= 2
    if time_step == settings.time_step:
        return
    name, told = settings.liquid().name, "no number" if not np.isfinite(found) else f"{found:.2g}"
    raise SettingsError(
        f"found time_step = {settings.time_step:g}: the energy of {name} fluctuates by {told} of its kinetic part",
        f"at most {MOST:g}",
        f"try --set time_step={time_step:g}" if error <= MOST else "look at epsilon, sigma and density",
    )


def energy_error(
    engine: Engine, settings: RunSettings, time_step: float, check: Callable[[], None] | None = None
) -> float:
    """Fluctuation of the total energy over that of the kinetic energy in a hot liquid; infinite where it flies apart.

    Args:
        engine: Which simulates.
        settings: Mixture, density and temperatures; as hot as the melt of its lineages.
        time_step: √(mσ²/ε).
        check: Called about once a second; what it raises ends it.
    """
    mixture, generator = settings.liquid(), np.random.default_rng(0)
    hot = settings.melt_temperature or max(2.0, 2 * settings.temperature)
    # as many particles as the cutoffs need to fit into half of the box
    n = max(
        _PARTICLES, int(np.ceil(settings.number_density() * (2.6 * float(mixture.r_cut.max())) ** mixture.dimensions))
    )
    liquid = random_start(mixture, n, settings.number_density(), generator)
    liquid = liquid.with_velocities(draw_velocities(liquid, mixture, hot, generator))
    try:
        for share in (0.02, 0.2, 1.0):
            bath = Thermostat(hot, 0.1, (1,))
            step = share * time_step
            (end,) = engine.evolve([liquid], mixture, steps=[_MELT], time_step=step, thermostat=bath, check=check)
            liquid = moved(liquid, end.positions, end.velocities).with_images_zero()
        total = max(_SAMPLES, round(_LENGTH / time_step))
        at = sorted({max(1, round(k * total / _SAMPLES)) for k in range(1, _SAMPLES + 1)})
        seen = list(engine.evolve([liquid], mixture, steps=at, time_step=time_step, check=check))
    except EngineError:
        return float("inf")
    kinetic = np.array([0.5 * mixture.dimensions * one.temperature * (n - 1) / n for one in seen])
    energy = kinetic + [one.potential_energy for one in seen]
    if not np.isfinite(energy).all() or kinetic.std() == 0:
        return float("inf")
    return float(energy.std() / kinetic.std())
