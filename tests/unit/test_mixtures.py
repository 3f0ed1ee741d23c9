"""Statements about the mixtures: what their sources say, and what each truncation promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.analysis.dynamics import allowed_wave_vectors
from glassmd.configuration import Configuration
from glassmd.engines import Thermostat, get_engine
from glassmd.errors import SettingsError
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.simulation.start import draw_velocities, random_start
from tests.conftest import Outcome, needs_lammps

FloatArray = NDArray[np.float64]
LIQUIDS = [(name, truncation) for name, mixture in MIXTURES.items() for truncation in mixture.truncations]
H = 1e-6  # σ_ab, to either side of a radius


def pair_law(r: Any, epsilon: Any, sigma: Any, mixture: Mixture) -> tuple[FloatArray, FloatArray]:
    """U(r) and dU/dr of pairs, written from the definitions in physics.md."""
    factor = 2 ** (1 / 6) if mixture.name == "wca" else 2.5
    r_cut = np.full_like(sigma, factor) if mixture.truncation == "truncated" else factor * sigma

    def energy(r: Any) -> Any:
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    def slope(r: Any) -> Any:
        return -24 * epsilon * (2 * (sigma / r) ** 12 - (sigma / r) ** 6) / r

    u, du = energy(r), slope(r)
    if mixture.truncation in ("shifted", "force-shifted"):
        u = u - energy(r_cut)
    if mixture.truncation == "force-shifted":
        u, du = u - (r - r_cut) * slope(r_cut), du - slope(r_cut)
    if mixture.truncation == "xplor":
        s, cut, on = r**2, r_cut**2, (1.2 * sigma) ** 2
        switch = np.where(s < on, 1.0, (cut - s) ** 2 * (cut + 2 * s - 3 * on) / (cut - on) ** 3)
        fall = np.where(s < on, 0.0, -12 * r * (cut - s) * (s - on) / (cut - on) ** 3)
        u, du = u * switch, du * switch + u * fall
    return np.where(r < r_cut, u, 0.0), np.where(r < r_cut, du, 0.0)


def engine_law(mixture: Mixture, a: int, b: int, r: float) -> tuple[float, float]:
    """U(r) and dU/dr of one pair as LAMMPS has them: its energy, and its force from the virial."""
    d, edge = mixture.dimensions, 8.0
    positions = np.zeros((2, d))
    positions[:, 0] = -r / 2, r / 2
    pair = Configuration(box=np.full(d, edge), species=[a, b], positions=positions, species_names=mixture.species)
    pair = pair.with_velocities(np.zeros((2, d)))
    (seen,) = get_engine("lammps").evolve([pair], mixture, steps=[0], time_step=0.005)
    return 2 * seen.potential_energy, -seen.pressure * d * edge**d / r


def test_the_mixtures_are_those_of_their_sources() -> None:
    figures = {name: (m.dimensions, m.counts(1290), m.epsilon, m.sigma) for name, m in MIXTURES.items()}
    ka = ((1.0, 1.5), (1.5, 0.5)), ((1.0, 0.8), (0.8, 0.88))
    ternary = (
        ((1.0, 1.5, 0.75), (1.5, 0.5, 1.5), (0.75, 1.5, 0.75)),
        ((1.0, 0.8, 0.9), (0.8, 0.88, 0.8), (0.9, 0.8, 0.94)),
    )
    equal = ((1.0, 1.0), (1.0, 1.0))
    assert figures == {
        "kob-andersen": (3, (1032, 258), *ka),
        "kob-andersen-2d": (2, (838, 452), *ka),  # 65% of 1290 is 838.5
        "kob-andersen-2d-ternary": (2, (600, 330, 360), *ternary),
        "wca": (3, (1032, 258), *ka),
        "wahnstrom": (3, (645, 645), equal, ((1.0, 11 / 12), (11 / 12, 5 / 6))),
    }
    densities = {name: mixture.density for name, mixture in MIXTURES.items()}
    assert densities.pop("wahnstrom") == pytest.approx(1.296)
    assert 1290 / densities.pop("kob-andersen-2d-ternary") == pytest.approx(32.8962**2)
    assert set(densities.values()) == {1.2}


def test_wahnstroms_numbers_are_those_of_the_paper_in_units_of_the_small_species() -> None:
    mixture = get_mixture("wahnstrom")
    sigma, masses = np.array(mixture.sigma), np.array(mixture.masses)
    np.testing.assert_allclose(sigma / sigma[1, 1], [[1.2, 1.1], [1.1, 1.0]])
    np.testing.assert_allclose(masses / masses[1], [2, 1])
    assert mixture.density * sigma[1, 1] ** 3 == pytest.approx(0.75)


@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_tables_are_symmetric_and_of_one_size(name: str, truncation: str) -> None:
    mixture, n = get_mixture(name, truncation), len(MIXTURES[name].species)
    assert len(mixture.composition) == len(mixture.masses) == len(mixture.wave_numbers) == n
    for table in (mixture.epsilon, mixture.sigma, mixture.r_cut, mixture.r_on):
        values = np.array(table)
        assert values.shape == (n, n)
        assert np.array_equal(values, values.T)
        assert values.min() > 0
    assert mixture.sigma[0][0] == mixture.epsilon[0][0] == mixture.masses[0] == 1, "A is the unit"
    assert sum(mixture.counts(1001)) == 1001


@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_only_xplor_has_a_radius_where_smoothing_begins(name: str, truncation: str) -> None:
    mixture = get_mixture(name, truncation)
    if truncation == "xplor":
        np.testing.assert_allclose(mixture.r_on / mixture.r_cut, 1.2 / 2.5)
        assert mixture.identity()["r_on"] == mixture.r_on.tolist()
    else:
        assert np.array_equal(mixture.r_on, mixture.r_cut)
        assert "r_on" not in mixture.identity()


def test_the_identity_of_kob_andersens_liquid_is_what_older_data_hold() -> None:
    assert get_mixture("kob-andersen").identity() == {
        "name": "kob-andersen",
        "truncation": "shifted",
        "dimensions": 3,
        "species": ["A", "B"],
        "epsilon": [[1.0, 1.5], [1.5, 0.5]],
        "sigma": [[1.0, 0.8], [0.8, 0.88]],
        "r_cut": [[2.5, 2.0], [2.0, 2.2]],
        "masses": [1.0, 1.0],
    }


def test_no_two_liquids_have_one_identity() -> None:
    seen = [str({**get_mixture(*liquid).identity(), "name": ""}) for liquid in LIQUIDS]
    assert len(set(seen)) == len(LIQUIDS) == 17


@pytest.mark.parametrize(
    ("name", "truncation", "message"),
    [
        ("wca", "xplor", "--truncation shifted"),
        ("wca", "force-shifted", r"1\.122 σ_ab"),
        ("kob-andersen", "explor", "did you mean 'xplor'"),
        ("kob-andersen-3d", "shifted", "did you mean 'kob-andersen"),
    ],
)
def test_a_mixture_that_makes_no_sense_is_refused_with_advice(name: str, truncation: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        get_mixture(name, truncation)


@needs_lammps
@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_each_truncation_keeps_its_promise_at_every_radius(name: str, truncation: str) -> None:
    mixture = get_mixture(name, truncation)
    for a, b in zip(*np.triu_indices(len(mixture.species)), strict=True):
        epsilon, sigma = mixture.epsilon[a][b], mixture.sigma[a][b]
        radii = {float(mixture.r_cut[a, b])} | {float(mixture.r_on[a, b])}
        for radius in radii:
            below, above = (engine_law(mixture, a, b, radius + side * H * sigma) for side in (-1, 1))
            # From the minimum 2^(1/6) σ on |U'| < 2.4 ε/σ and |U''| < 57.2 ε/σ²; smoothing leaves both bounds true.
            energy_goes_on = abs(above[0] - below[0]) <= 2 * H * 2.4 * epsilon
            force_goes_on = abs(above[1] - below[1]) <= 2 * H * 57.2 * epsilon / sigma
            assert energy_goes_on == (truncation != "truncated")
            assert force_goes_on == (truncation in ("force-shifted", "xplor") or name == "wca")
        assert above[0] == above[1] == 0 or radius < max(radii), "nothing is left beyond r_cut"


@needs_lammps
@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_energy_and_force_of_a_pair_are_those_of_the_formula(name: str, truncation: str) -> None:
    mixture = get_mixture(name, truncation)
    for a, b in zip(*np.triu_indices(len(mixture.species)), strict=True):
        epsilon, sigma = mixture.epsilon[a][b], mixture.sigma[a][b]
        for r in sigma * np.array([0.9, 1.1, 1.19, 1.21, 1.7, 2.2, 2.49]):
            u, du = pair_law(r, epsilon, sigma, mixture)
            found = engine_law(mixture, a, b, r)
            # r^-12 multiplies an ulp of r by 12 and 13; differences cost an ulp of U, at most 10 ε.
            assert found[0] == pytest.approx(float(u), rel=1e-14 * 12, abs=1e-14 * epsilon)
            assert found[1] == pytest.approx(float(du), rel=1e-14 * 13, abs=1e-14 * epsilon / sigma)


@pytest.fixture(scope="module", params=[name for name in MIXTURES if name != "kob-andersen"])
def frames(request: pytest.FixtureRequest) -> tuple[Mixture, list[Configuration]]:
    """Forty instants of a hot liquid of some 300 particles."""
    mixture, generator = get_mixture(request.param), np.random.default_rng(8)
    start = random_start(mixture, 300, mixture.density, generator)
    hot = start.with_velocities(draw_velocities(start, mixture, 1.5, generator))
    thermostat = Thermostat(1.5, 0.1, (3,))
    seen = get_engine("lammps").evolve(
        [hot], mixture, steps=range(500, 2500, 50), time_step=0.003, thermostat=thermostat
    )
    return mixture, [replace(start, positions=one.positions, images=None) for one in seen]


@needs_lammps
def test_the_wave_number_is_where_the_first_species_scatters_most(frames: tuple[Mixture, list[Configuration]]) -> None:
    mixture, liquid = frames

    def structure_factor(q: float) -> float:
        vectors = allowed_wave_vectors(liquid[0].box, q, width=0.3)
        density = [np.exp(1j * one.positions[one.species == 0] @ vectors.T).sum(axis=0) for one in liquid]
        return float((np.abs(density) ** 2).mean() / (liquid[0].species == 0).sum())

    q = mixture.wave_numbers[0]
    peak, beside = structure_factor(q), [structure_factor(q - 1.5), structure_factor(q + 1.5)]
    print(f"{mixture.name}: S_AA = {peak:.2f} at {q}, {beside[0]:.2f} and {beside[1]:.2f} at 1.5 to either side")
    # |ρ_k|² scatters by its own size: over some 40 wave vectors and 10 independent instants, by 5%.
    assert peak > 1.25 * max(beside)
    assert peak > 1.25


@needs_lammps
def test_the_liquids_are_not_taken_for_crystals(frames: tuple[Mixture, list[Configuration]]) -> None:
    fraction = np.mean([crystalline_fraction(one) for one in frames[1]])
    print(f"{frames[0].name}: {fraction:.2%} crystalline")
    # This is T = 1.5. Colder ones have more (1.7% of the ternary one at 0.3); equilibration refuses 5%.
    assert fraction < 0.01


@needs_lammps
def test_a_triangular_crystal_of_a_is_taken_for_one() -> None:
    pure = replace(get_mixture("kob-andersen-2d"), composition=(1, 0))
    start = random_start(pure, 224, 0.95, np.random.default_rng(1))
    start = start.with_velocities(draw_velocities(start, pure, 0.6, np.random.default_rng(2)))
    (end,) = get_engine("lammps").evolve(
        [start], pure, steps=[2000], time_step=0.005, thermostat=Thermostat(0.3, 0.1, (3,))
    )
    assert crystalline_fraction(replace(start, positions=end.positions, images=None)) > 0.7


@needs_lammps
def test_a_ternary_plane_is_simulated_trained_on_and_predicted(glassmd: Callable[..., Outcome], tmp_path: Path) -> None:
    run, model, out = tmp_path / "run", tmp_path / "model", tmp_path / "predicted.gsd"
    flags = ["--mixture=kob-andersen-2d-ternary", "--truncation=xplor", "--particles=60", "--temperature=3"]
    flags += ["--lineages=2", "--parents=1", "--replicas=1", "--times=0.1", "--seed=5", "--workers=1"]
    held_out = ["--set=held_out_replicas=2", "--set=test_lineages=0", "--engine=lammps"]
    simulated = glassmd("simulate", "--out", run, *flags, *held_out, "--json")
    assert simulated.code == 0, simulated.err
    trained = glassmd("train", run, "--out", model, "--model=bapst", "--max-steps=2", "--set=message_steps=1", "--json")
    assert trained.code == 0, trained.err
    segment = sorted(run.rglob("*.gsd"))[-1]
    predicted = glassmd("predict", segment, "--model", model, "--out", out, "--json")
    assert predicted.code == 0, predicted.err
    assert set(predicted.json["propensity_mean"]) == {"A", "B", "C"}
    assert predicted.json["mixture_checked"]
