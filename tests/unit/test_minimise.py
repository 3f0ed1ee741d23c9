"""Inherent structures: where the forces vanish, and what every engine says of them."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.engines import Engine, Thermostat, get_engine
from glassmd.errors import EngineError, Interrupted
from glassmd.mixtures import get_mixture
from glassmd.simulation.start import draw_velocities, random_start
from tests.unit.test_lammps_engine import brute_force

ENGINES = ["lammps", *(["hoomd"] if find_spec("hoomd") else [])]
LIQUIDS = [
    ("kob-andersen", "shifted"),
    ("kob-andersen", "force-shifted"),
    ("kob-andersen", "truncated"),
    ("kob-andersen", "xplor"),
    ("wahnstrom", "shifted"),  # two masses
    ("kob-andersen-2d-ternary", "shifted"),
]
# LAMMPS and a HOOMD-blue of double precision end at 1e-5, one of mixed precision at 1e-4.
FORCE = {"lammps": 1e-5, "hoomd": 1e-4}


def liquid_of(mixture, seed=1, n=200):
    """A liquid at T = 0.8, of positions only."""
    generator, engine = np.random.default_rng(seed), get_engine("lammps")
    start = random_start(mixture, n, mixture.density, generator)
    start = start.with_velocities(draw_velocities(start, mixture, 2.0, generator))
    for temperature, step in ((2.0, 0.001), (0.8, 0.004)):
        bath = Thermostat(temperature, 0.1, (seed,))
        (end,) = engine.evolve([start], mixture, steps=[800], time_step=step, thermostat=bath)
        start = replace(start, positions=end.positions, velocities=end.velocities, images=None)
    return start.with_velocities(None)


@pytest.fixture(scope="module")
def liquids():
    return {key: liquid_of(get_mixture(*key)) for key in LIQUIDS}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return get_engine(request.param, "cpu")


def moved_to(configuration, positions):
    return Configuration(configuration.box, configuration.species, positions, configuration.species_names)


@pytest.mark.parametrize("key", LIQUIDS, ids="-".join)
def test_forces_vanish_at_the_minimum_and_its_energy_is_that_of_all_pairs(engine, liquids, key):
    liquid, mixture = liquids[key], get_mixture(*key)
    found = engine.minimise(liquid, mixture)
    energy, forces, _ = brute_force(moved_to(liquid, found.positions), mixture)
    # The force of single precision pairs is off by 1e-5 or so: sums of forces up to 100, rounded to 6e-8 each.
    assert np.linalg.norm(forces, axis=1).max() <= FORCE[engine.name] * 1.5
    assert found.residual_force <= FORCE[engine.name]
    assert found.potential_energy == pytest.approx(energy, rel=1e-6)
    assert energy < brute_force(liquid, mixture)[0] - 0.1, "thermal energy of d T/2 a particle is gone"


@pytest.mark.parametrize("key", LIQUIDS, ids="-".join)
def test_the_centre_of_mass_stays(engine, liquids, key):
    liquid, mixture = liquids[key], get_mixture(*key)
    displaced = engine.minimise(liquid, mixture).positions - liquid.unwrapped
    masses = np.asarray(mixture.masses)[liquid.species]
    np.testing.assert_allclose(masses @ displaced, 0.0, atol=1e-9)


def test_positions_continue_the_unwrapped_start_across_the_faces(engine, liquids):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    travelled = replace(liquid, images=np.random.default_rng(2).integers(-3, 4, liquid.positions.shape))
    found = engine.minimise(travelled, mixture)
    assert np.abs(found.positions - travelled.unwrapped).max() < 0.5 * liquid.box.min()
    end = moved_to(liquid, found.positions - travelled.images * liquid.box)
    assert np.abs(end.images).max() > 0, "nothing crossed a face: the test shows nothing"


def test_a_disturbed_minimum_returns_to_itself_wherever_the_box_is_cut(engine, liquids):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    minimum = get_engine("lammps").minimise(liquid, mixture)
    noise = np.random.default_rng(3).normal(scale=0.01, size=liquid.positions.shape)
    noise -= noise.mean(axis=0)  # all masses are 1
    shift = 0.5 * liquid.box
    again = engine.minimise(moved_to(liquid, minimum.positions + noise + shift), mixture)
    assert again.potential_energy == pytest.approx(minimum.potential_energy, abs=1e-6)
    # A force f is left where a mode of stiffness k is displaced by f/k; the softest have k of order 1.
    apart = np.linalg.norm(again.positions - shift - minimum.positions, axis=1)
    assert np.mean(apart < 1e-2) == 1.0


def test_engines_find_minima_of_about_the_same_energy_from_a_thermal_start(liquids):
    # They go down differently and may end in neighbouring basins; those of one liquid of 200 particles differ by some
    # hundredths of ε_AA per particle, while a thermal start lies more than 1 above them.
    pytest.importorskip("hoomd")
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    energies = [get_engine(name, "cpu").minimise(liquid, mixture).potential_energy for name in ("lammps", "hoomd")]
    assert energies[0] == pytest.approx(energies[1], abs=0.06)
    assert max(energies) < brute_force(liquid, mixture)[0] - 0.8


def test_the_same_start_gives_the_same_minimum_to_the_last_bit_however_often_somebody_checks(liquids):
    engine, mixture, liquid = get_engine("lammps"), get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    calls = []
    first, second = engine.minimise(liquid, mixture), engine.minimise(liquid, mixture, check=lambda: calls.append(1))
    np.testing.assert_array_equal(first.positions, second.positions)


def test_minima_of_many_are_those_of_each_alone(engine, liquids):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    other, larger = liquid_of(mixture, 2), liquid_of(mixture, 3, 220)
    many = [liquid, larger, other, liquid]
    for one in many:
        minimum, alone = engine.minimise(one, mixture), get_engine(engine.name, "cpu").minimise(one, mixture)
        np.testing.assert_array_equal(minimum.positions, alone.positions)
        assert minimum.potential_energy == alone.potential_energy
        assert minimum.evaluations == alone.evaluations


def test_disturbed_minima_return_to_themselves_one_after_the_other(engine, liquids):
    """What LAMMPS found is found again, by simulations that are used for one system after the other."""
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    starts = liquid, liquid_of(mixture, 2)
    minima = [get_engine("lammps").minimise(one, mixture) for one in starts]
    generator = np.random.default_rng(6)
    noise = generator.normal(scale=1e-3, size=(2, *liquid.positions.shape))
    noise -= noise.mean(axis=1, keepdims=True)  # all masses are 1
    disturbed = [moved_to(starts[k], minima[k].positions + noise[k]) for k in (0, 1)]
    for start, minimum in zip(disturbed, minima, strict=True):
        again = engine.minimise(start, mixture)
        assert again.potential_energy == pytest.approx(minimum.potential_energy, abs=1e-6)
        assert np.abs(again.positions - minimum.positions).max() < 1e-2  # as above


def test_a_minimisation_that_fails_leaves_the_engine_as_it_was(engine, liquids):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    before = engine.minimise(liquid, mixture)
    overlapping = liquid.positions.copy()
    overlapping[1] = overlapping[0]
    with pytest.raises(EngineError):
        engine.minimise(moved_to(liquid, overlapping), mixture)
    np.testing.assert_array_equal(engine.minimise(liquid, mixture).positions, before.positions)


def test_check_ends_a_minimisation_with_what_it_raises(engine):
    generator = np.random.default_rng(4)
    mixture = get_mixture("kob-andersen")
    crystal = random_start(mixture, 1500, 1.2, generator)  # so many that it takes several looks
    jittered = moved_to(crystal, crystal.positions + generator.normal(scale=0.05, size=crystal.positions.shape))

    def stop():
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        engine.minimise(jittered, mixture, check=stop)


@pytest.mark.parametrize("temperature", [3.0, None])
def test_hot_liquids_and_close_particles_are_minimised_too(engine, liquids, temperature):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    if temperature is None:  # the closest that a snapshot may have
        if engine.name == "hoomd":
            pytest.skip("its FIRE loses particles where two are that close, and says so")
        positions = liquid.positions.copy()
        positions[1] = positions[0] + [0.31, 0.0, 0.0]
        start = moved_to(liquid, positions)
    else:
        moving = liquid.with_velocities(draw_velocities(liquid, mixture, temperature, np.random.default_rng(9)))
        bath = Thermostat(temperature, 0.1, (9,))
        (end,) = get_engine("lammps").evolve([moving], mixture, steps=[2000], time_step=0.001, thermostat=bath)
        start = moved_to(liquid, end.positions)
    found = engine.minimise(start, mixture)
    _, forces, _ = brute_force(moved_to(liquid, found.positions), mixture)
    assert np.linalg.norm(forces, axis=1).max() <= FORCE[engine.name] * 1.5
    assert -8.0 < found.potential_energy < -7.0


def test_what_cannot_be_minimised_is_refused(engine, liquids):
    mixture, liquid = get_mixture("kob-andersen"), liquids["kob-andersen", "shifted"]
    with pytest.raises(EngineError, match="2D"):
        engine.minimise(liquids["kob-andersen-2d-ternary", "shifted"], mixture)
    with pytest.raises(EngineError, match="box"):
        engine.minimise(Configuration([4.0] * 3, [0, 1], [[0, 0, 0], [1, 1, 1]]), mixture)
    overlapping = liquid.positions.copy()
    overlapping[1] = overlapping[0]
    with pytest.raises(EngineError):
        engine.minimise(moved_to(liquid, overlapping), mixture)


def test_an_engine_that_cannot_minimise_says_so(liquids):
    class OnlyEvolves(Engine):
        name = "clockwork"

        def evolve(self, *arguments, **options):
            raise NotImplementedError

    with pytest.raises(EngineError, match="clockwork engine cannot minimise"):
        OnlyEvolves().minimise(liquids["kob-andersen", "shifted"], get_mixture("kob-andersen"))
