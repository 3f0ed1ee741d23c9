"""Two particles that collide: how fast they turn round, and which step follows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glassmd.engines import get_engine
from glassmd.errors import SettingsError
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.pair_potential import pair_potential
from glassmd.settings import RunSettings
from glassmd.simulation import conservation
from glassmd.simulation.collisions import turning_rates
from glassmd.simulation.conservation import require_conserved
from tests.conftest import needs_lammps

KA = get_mixture("kob-andersen")


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("temperature", [0.5, 2.0, 8.0])
def test_the_rate_is_of_the_curvature_where_the_energy_is_the_temperature(name: str, temperature: float) -> None:
    mixture = get_mixture(name)
    found = turning_rates(mixture, temperature)
    for a in range(len(mixture.species)):
        for b in range(len(mixture.species)):
            r = np.linspace(0.6, 1.12, 400_001) * mixture.sigma[a][b]
            pair = pair_potential(r, np.full(r.size, a), np.full(r.size, b), mixture)
            turn = int(np.argmin(abs(pair.energy - temperature)))
            reduced = mixture.masses[a] * mixture.masses[b] / (mixture.masses[a] + mixture.masses[b])
            # r is known to 1.3e-6 σ, and U'' goes as r^-14.
            assert found[a, b] == pytest.approx(np.sqrt(pair.curvature[turn] / reduced), rel=1e-4)


def energy_error(mixture: Mixture, omega_dt: float, temperature: float, phase: float) -> float:
    """By how much a mean head-on collision of two A changes its energy, in k_BT: velocity Verlet in one dimension."""
    reduced, dt = 0.5, omega_dt / turning_rates(mixture, temperature)[0, 0]
    v = -np.sqrt(2 * temperature / reduced)
    r, cut = float(mixture.r_cut[0, 0]) * (1 + 1e-9) - phase * v * dt, float(mixture.r_cut[0, 0])

    def force(at: float) -> float:
        return -float(pair_potential([abs(at)], [0], [0], mixture).slope[0]) * float(np.sign(at))

    while abs(r) <= cut or r * v < 0:
        v += 0.5 * dt * force(r) / reduced
        r += dt * v
        v += 0.5 * dt * force(r) / reduced
    return abs(0.5 * reduced * v**2 / temperature - 1)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 8.0])
def test_a_collision_is_followed_up_to_the_bound_and_lost_beside_it(temperature: float) -> None:
    """docs/mixtures.md: the energy of one changes by less than a hundredth at ω dt = 1, by all of itself at 2."""
    phases = np.linspace(0, 1, 20, endpoint=False)
    errors = {x: max(energy_error(KA, x, temperature, phase) for phase in phases) for x in (1.0, 2.0)}
    assert errors[conservation._TURNING] < 0.01
    assert errors[2.0] > 1


@pytest.mark.parametrize("name", MIXTURES)
def test_known_mixtures_follow_their_collisions_up_to_a_melt_at_eight(name: str) -> None:
    assert 0.005 * turning_rates(get_mixture(name), 8.0).max() < conservation._TURNING


@needs_lammps
@pytest.mark.parametrize("sigma", [0.1, 0.01])
def test_a_pair_too_small_to_be_met_in_a_short_run_is_refused_all_the_same(sigma: float) -> None:
    """At σ_AB = 0.01 a short run conserves its energy, and one of 3000 steps comes apart: docs/mixtures.md."""
    table = ((1.0, sigma), (sigma, 0.88))
    own: dict[str, Any] = {"name": "own", "own": True, "sigma": table, "truncations": KA.truncations}
    settings = RunSettings(mixture=replace(KA, **own))
    with pytest.raises(SettingsError, match="A and B collide faster") as error:
        require_conserved(get_engine("lammps"), settings)
    step = float(error.value.todo.removeprefix("try --set time_step="))
    assert step * turning_rates(settings.liquid(), 2.0).max() <= 1
    require_conserved(get_engine("lammps"), settings.model_copy(update={"time_step": step}))
