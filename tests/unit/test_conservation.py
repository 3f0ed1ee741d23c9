"""A time step suits a potential or does not: what velocity Verlet does to the energy, with every engine at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.engines import get_engine
from glassmd.engines.base import Engine
from glassmd.errors import EngineError, SettingsError
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation import conservation
from glassmd.simulation.conservation import hottest, measure_conservation, require_conserved
from tests.conftest import needs_lammps

KA = get_mixture("kob-andersen")


@pytest.fixture(params=["lammps", "hoomd"])
def engine(request: pytest.FixtureRequest) -> Engine:
    try:
        return get_engine(request.param, "cpu", packed=1)
    except EngineError as error:
        pytest.skip(str(error))


def own(mixture: Mixture = KA, time_step: float = 0.005, **changes: Any) -> RunSettings:
    """Settings of a run of a mixture of one's own at that step."""
    liquid = replace(mixture, name="own", own=True, **changes)
    return RunSettings(mixture=liquid, times=[20 * time_step], time_step=time_step)


def test_energy_wavers_with_the_square_of_the_step(engine: Engine) -> None:
    wavers = []
    for step in (0.0025, 0.005):
        found = measure_conservation(engine, own(), step)
        assert found is not None
        wavers.append(found.waver)
    # 1000 steps are 2.5 and 5 time units: each standard deviation is known to some 10%, of ten independent stretches.
    assert wavers[1] / wavers[0] == pytest.approx(4, rel=0.4)
    # (ω dt)²/4 with ω between 15 and 60: the Einstein frequency of the liquid and that of its hardest collisions.
    assert (15 * 0.005) ** 2 / 4 < wavers[1] < (60 * 0.005) ** 2 / 4


@needs_lammps
def test_a_harmonic_well_wavers_as_the_formula_says() -> None:
    """Two particles around the minimum of their potential: ω² = 2 · 57.146 ε/mσ², and R = (ω dt)²/4."""
    engine, step, amplitude = get_engine("lammps"), 0.01, 1e-4
    omega = np.sqrt(2 * 57.146)
    r = 2 ** (1 / 6) + amplitude
    positions = np.array([[-r / 2, 0, 0], [r / 2, 0, 0]])
    pair = Configuration([8.0] * 3, [0, 0], positions, velocities=np.zeros((2, 3)))
    seen = list(engine.evolve([pair], get_mixture("kob-andersen"), steps=range(2000), time_step=step))
    found = conservation._conservation(seen, pair, step)
    assert found is not None
    # The well is anharmonic by amplitude · U'''/U'', some 1e-4 · 20.
    assert found.waver == pytest.approx((omega * step) ** 2 / 4, rel=0.01)


@pytest.mark.parametrize("truncation", KA.truncations)
def test_kob_andersen_is_accepted_at_its_usual_step(engine: Engine, truncation: str) -> None:
    require_conserved(engine, own(get_mixture("kob-andersen", truncation)))


@needs_lammps
@pytest.mark.parametrize("name", MIXTURES)
def test_every_known_mixture_would_be_accepted_at_the_usual_step(name: str) -> None:
    require_conserved(get_engine("lammps"), own(get_mixture(name)))


def test_light_particles_need_a_shorter_step_and_the_error_names_it(engine: Engine) -> None:
    """Times go with the root of the mass: 1/400 of the mass shortens them by 20, and those of pairs with A by 14."""
    settings = own(masses=(1.0, 0.0025))
    with pytest.raises(SettingsError) as error:
        require_conserved(engine, settings)
    assert "found time_step = 0.005" in error.value.found
    assert "at T = 2, the highest of the run" in error.value.found
    step = float(error.value.todo.removeprefix("try --set time_step="))
    assert step in [0.005 / 2**k for k in (2, 3, 4, 5)]
    require_conserved(engine, own(masses=(1.0, 0.0025), time_step=step))
    with pytest.raises(SettingsError, match=f"time_step={step:g}"):
        require_conserved(engine, own(masses=(1.0, 0.0025), time_step=2 * step))


def test_what_no_step_conserves_is_said(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conservation, "_HALVINGS", 1)
    with pytest.raises(SettingsError, match=r"not even time_step = 0\.0025 does: check sigma, masses and cutoff"):
        require_conserved(engine, own(masses=(1.0, 1e-5)))


def test_a_drift_counts_as_far_as_it_is_certain() -> None:
    settings = own()
    hot = hottest(settings)
    # In a coupling time of 2, 0.03 more than three standard errors are a hundredth of 3/2 T at T = 2.
    drift = conservation.Conservation(0.0, -0.018, 0.001)
    assert drift.heating(settings, hot) == pytest.approx(0.01)
    assert conservation.Conservation(0.0, 0.002, 0.001).heating(settings, hot) == 0


@needs_lammps
def test_known_mixtures_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conservation, "measure_conservation", lambda *a: pytest.fail("it was looked at"))
    require_conserved(get_engine("lammps"), RunSettings(time_step=0.02, times=[0.2]))


def test_the_highest_temperature_is_the_melts_unless_parents_are_given() -> None:
    assert hottest(RunSettings(temperature=0.5)) == 2
    assert hottest(RunSettings(temperature=3.0)) == 6
    assert hottest(RunSettings(temperature=0.5, melt_temperature=1.2)) == 1.2
    assert hottest(RunSettings(temperature=0.5, start=["x.gsd"])) == 0.5
