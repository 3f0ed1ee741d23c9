"""What `analyze` measures, on data of which the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import freud
import numpy as np
import pytest

from glassmd.analysis.ageing import ageing_of, drift_of
from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.analysis.energy import energy_of
from glassmd.analysis.groups import understatement
from glassmd.analysis.lags import plan_lags
from glassmd.analysis.moves import MoveSums
from glassmd.analysis.radial import RadialSums
from glassmd.analysis.scattering import StructureSums
from glassmd.analysis.transport import diffusion_coefficient, tau_alpha
from glassmd.configuration import Configuration
from glassmd.engines import get_engine
from glassmd.mixtures import get_mixture
from glassmd.observables.opening import analyze
from glassmd.stream.dataset import Run
from tests.conftest import Outcome, needs_lammps
from tests.foreign_files import TIME_STEP, Walk, walk, write_dump, write_gsd, write_xyz

Command = Callable[..., Outcome]
LIQUID = get_mixture("kob-andersen")


def of_walk(one: Walk, lags: np.ndarray, parts: int = 10, scale: np.ndarray | float = 1.0) -> MoveSums:
    """Sums over a walk, whose steps are multiplied by one number, or by one for each frame."""
    n_frames, n, _ = one.positions.shape
    sums = MoveSums(parts, len(lags), [n], ["A"], one.box, {"A": 7.25})
    scales = np.broadcast_to(scale, n_frames)
    steps = np.diff(one.positions, axis=0, prepend=one.positions[:1]) * scales[:, None, None]
    at = steps.cumsum(axis=0)
    for k, lag in enumerate(lags.astype(int)):
        for begin in range(n_frames - lag):
            sums.add(parts * begin // n_frames, k, at[begin + lag] - at[begin], np.zeros(n, np.int32))
    return sums


@pytest.mark.parametrize("d", [2, 3])
def test_a_random_walk_diffuses_is_gaussian_and_scatters_as_one(d: int) -> None:
    step = 0.12
    one, lags = walk(n=200, n_frames=300, d=d, step=step), np.array([1.0, 3.0, 10.0, 20.0, 30.0, 60.0, 100.0])
    found = of_walk(one, lags).result(lags)
    # 200 particles and 300 steps: the variance of a component has a relative error of sqrt(2/(300·200·d)) = 0.4%,
    # after 10 steps √10 times as much.
    assert np.allclose(found.mean("A", "squared")[:3], d * step**2 * lags[:3], rtol=0.04)
    assert diffusion_coefficient(found, "A") == pytest.approx(step**2 / 2, rel=0.15)  # 3 independent spans of 100
    assert np.abs(found.non_gaussian("A")[:4]).max() < 0.05
    q = found.wave_numbers["A"]
    assert np.allclose(found.mean("A", "self_scattering")[:2], np.exp(-(q**2) * step**2 * lags[:2] / 2), atol=0.02)
    expected = 2 / (q * step) ** 2
    assert tau_alpha(found, "A") == pytest.approx(expected, rel=0.15)  # F_s is taken to be linear in log t
    value, error = found.jackknife(lambda part: diffusion_coefficient(part, "A"))
    assert value is not None
    assert error is not None
    assert 0 < error < 0.3 * value


def test_errors_of_long_lags_are_what_other_trajectories_differ_by() -> None:
    """Though their displacements overlap; as if they did not, errors would be half of that."""
    lags = np.array([10.0, 16.0, 25.0, 40.0, 50.0])
    shares = np.array([understatement(lag, 99.0, 10) for lag in lags])
    values, errors, squares, of_squares = [], [], [], []
    for seed in range(24):
        found = of_walk(walk(n=20, n_frames=100, step=0.25, seed=seed), lags).result(lags, shares)
        value, error = found.jackknife(lambda part: float(np.polyfit(lags, part.mean("A", "squared"), 1)[0]))
        values.append(value)
        errors.append(error)
        squares.append(found.mean("A", "squared"))
        of_squares.append(found.error("A", "squared"))
    assert shares[-1] > 2
    assert 0.6 < np.std(values) / np.sqrt(np.mean(np.square(errors))) < 1.4
    ratios = np.std(squares, axis=0) / np.sqrt(np.mean(np.square(of_squares), axis=0))
    assert np.all((ratios > 0.6) & (ratios < 1.4))


def test_where_particles_stay_in_their_cages_there_is_no_diffusion_coefficient_and_no_relaxation() -> None:
    one, lags = walk(n=100, n_frames=120, step=0.1), np.arange(1.0, 41.0)
    random = np.random.default_rng(4)
    caged = Walk(one.box, one.species, one.positions[:1] + 0.05 * random.normal(size=(120, 100, 3)), one.velocities)
    found = of_walk(caged, lags).result(lags)
    assert diffusion_coefficient(found, "A") is None
    assert tau_alpha(found, "A") is None


def test_a_liquid_that_slows_down_ages_and_one_that_does_not_does_not() -> None:
    one, lags = walk(n=100, n_frames=400), np.array([1.0, 2.0, 5.0, 10.0, 20.0])
    frame = np.arange(400)
    same, slows, slowed = (
        ageing_of(of_walk(one, lags, scale=scale).result(lags), "A", 399.0, 10)
        for scale in (1.0, 0.5 ** (frame / 400), 1 + 1.5 * (frame < 40))
    )
    assert same is not None
    assert slows is not None
    assert slowed is not None
    assert not same.ageing
    assert slows.ageing
    assert slows.second_over_first < 0.6  # steps 0.5^(3/4) and 0.5^(1/4) of the first in the middle of the halves
    assert slowed.ageing, "what comes to rest in the first part, as a liquid that was quenched nearly does"
    assert not slowed.drift.significant
    assert drift_of(np.arange(20), np.random.default_rng(1).normal(size=20)).significant is False


def test_lags_of_frames_at_equal_intervals_are_even_in_log_t_and_begin_everywhere() -> None:
    plan = plan_lags(0.25 * np.arange(1001))
    assert plan.lags[0] == 0.25
    assert plan.lags[-1] == 125.0
    ratios = plan.lags[1:] / plan.lags[:-1]
    assert ratios[-10:].max() < 1.3
    of_one = plan.pairs[plan.pairs[:, 2] == 0]
    assert 300 <= len(of_one) <= 400
    assert of_one[-1, 0] > 990
    assert np.all(np.diff(plan.pairs[:, 1]) >= 0)
    assert plan_lags(0.25 * np.arange(1001), most_alive=20).most_alive() <= 20


def test_lags_from_one_beginning_are_those_there_are() -> None:
    times = np.concatenate([[0.0], np.geomspace(0.01, 100, 25)])
    plan = plan_lags(times)
    assert plan.lags[-1] == pytest.approx(100.0)
    assert {0} <= set(plan.pairs[plan.pairs[:, 2] == len(plan.lags) - 1][:, 0].tolist())


@pytest.fixture(scope="module")
def liquid() -> Configuration:
    """Something with the structure of a liquid: a lattice that was shaken."""
    random = np.random.default_rng(5)
    one = walk(n=512, n_frames=1, seed=3)
    at = one.positions[0] + 0.12 * random.normal(size=(512, 3))
    return Configuration(one.box, one.species, at)


def test_the_first_peak_of_a_lattice_is_its_shortest_distance() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3) * 1.0
    crystal = Configuration([6.0] * 3, np.zeros(len(grid)), grid, ("A",))
    sums = RadialSums(1, ("A",), crystal.box)
    sums.add(0, crystal)
    r, g = sums.result().first_peak("AA")
    assert r == pytest.approx(1.0, abs=0.02)
    assert g > 10


@needs_lammps
def test_the_structure_factor_is_freuds(tiny_run: Run) -> None:
    liquids = [sample.parent for sample in tiny_run.stream()]
    ours = StructureSums(1, ("A", "B"), liquids[0].box)
    theirs = freud.diffraction.StaticStructureFactorDirect(bins=60, k_max=20, k_min=0.5, num_sampled_k_points=0)
    for liquid in liquids:
        ours.add(0, liquid)
        theirs.compute((freud.box.Box(*liquid.box), liquid.positions.astype(np.float32)), reset=False)
    found = ours.result()
    smooth = np.interp(found.wave_numbers, theirs.bin_centers, theirs.S_k)
    # other bins, and 30 of some hundred wave vectors in each of ours: S scatters by S/√(30·8) there
    inside = (found.wave_numbers > 4) & (found.wave_numbers < 18)
    assert np.corrcoef(found.partial["total"][inside], smooth[inside])[0, 1] > 0.95
    parts = found.partial["AA"] + 2 * found.partial["AB"] + found.partial["BB"]
    assert np.allclose(parts, found.partial["total"])


def test_the_structure_factor_of_a_square_lattice_has_its_peak_where_bragg_says() -> None:
    side = 12
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 2), -1).reshape(-1, 2) * 1.0
    crystal = Configuration([side, side], np.zeros(side**2), grid, ("A",))
    sums = StructureSums(1, ("A",), crystal.box)
    sums.add(0, crystal)
    # the bin also holds other wave vectors of about that modulus, at which S is 0
    assert sums.result().main_peak("AA") == pytest.approx(2 * np.pi, abs=0.2)


def test_pairs_of_a_mixture_add_up_to_all_pairs(liquid: Configuration) -> None:
    sums = RadialSums(1, ("A", "B"), liquid.box)
    sums.add(0, liquid)
    g = sums.result().partial
    a = np.mean(liquid.species == 0)
    of_species = a**2 * g["AA"] + 2 * a * (1 - a) * g["AB"] + (1 - a) ** 2 * g["BB"]
    n, far = liquid.n_particles, sums.result().radii > 1.0
    # each g is 1 for uncorrelated particles, so that pairs weigh N_a (N_a − 1) and not N_a²: 1/N_B of g_BB at most
    assert np.abs(of_species - g["total"])[far].max() < 5 * g["total"].max() / n / (1 - a)


@needs_lammps
@pytest.mark.parametrize("truncation", ["shifted", "force-shifted", "truncated", "xplor"])
def test_energy_and_pressure_are_the_engines(truncation: str, liquid: Configuration) -> None:
    mixture = get_mixture("kob-andersen", truncation)
    resting = liquid.with_velocities(np.zeros_like(liquid.positions))
    (seen,) = get_engine("lammps", "cpu").evolve([resting], mixture, steps=[0], time_step=0.005)
    found = energy_of(liquid, mixture)
    assert found.per_particle == pytest.approx(seen.potential_energy, rel=1e-6)
    assert found.virial_pressure == pytest.approx(seen.pressure, rel=1e-6)


def test_the_same_trajectory_in_another_format_gives_the_same_numbers(tmp_path: Path) -> None:
    one = walk(n=150, n_frames=60, step=0.1)
    files = [
        write_gsd(tmp_path / "a.gsd", one),
        write_dump(tmp_path / "a.dump", one, "id type x y z vx vy vz"),
        write_dump(tmp_path / "b.dump", one, "id type xs ys zs ix iy iz vx vy vz", origin=4.0),
        write_xyz(tmp_path / "a.xyz", one),
    ]
    first, *others = (analyze(file, mixture=LIQUID, temperature=1.0, time_step=TIME_STEP) for file in files)
    assert first.dynamics is not None
    for other in others:
        assert other.dynamics is not None
        assert other.energy.value == pytest.approx(first.energy.value, rel=1e-4)
        assert other.diffusion["A"].value == pytest.approx(first.diffusion["A"].value, rel=1e-5)
        assert other.tau_alpha["B"].value == pytest.approx(first.tau_alpha["B"].value, rel=1e-5)
        for quantity in ("squared", "self_scattering", "overlap"):
            mean = first.dynamics.mean("A", quantity)
            assert np.allclose(other.dynamics.mean("A", quantity), mean, rtol=1e-4, atol=1e-6)
        assert np.allclose(other.radial.partial["AB"], first.radial.partial["AB"], atol=0.02)


def test_several_trajectories_whose_particles_come_in_another_order_are_one_liquid(tmp_path: Path) -> None:
    paths = [write_gsd(tmp_path / f"{k}.gsd", walk(n=100, n_frames=40, seed=k)) for k in range(3)]
    found = analyze(paths, mixture=LIQUID, time_step=TIME_STEP)
    assert found.facts.n_frames == 120
    assert found.dynamics is not None
    assert found.dynamics.beginnings()[0] == 3 * 39


def test_a_crystal_is_called_one(tmp_path: Path, glassmd: Command) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3)
    sites = grid[grid.sum(axis=1) % 2 == 0] * 0.747
    shaken = sites + 0.02 * np.random.default_rng(1).normal(size=(10, *sites.shape))
    one = Walk(np.full(3, 8 * 0.747), (np.arange(len(sites)) % 5 == 0).astype(int), shaken, np.zeros_like(shaken))
    path = write_gsd(tmp_path / "crystal.gsd", one)
    outcome = glassmd("analyze", path, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["crystalline_fraction"] > 0.95
    assert any("this is no liquid" in warning for warning in outcome.json["warnings"])
    assert crystalline_fraction(Configuration(one.box, one.species, sites)) == 1.0


def test_the_command_writes_curves_and_figures_and_says_what_is_not_known(glassmd: Command, tmp_path: Path) -> None:
    path = write_gsd(tmp_path / "a.gsd", walk(n=100, n_frames=60), velocities=False)
    outcome = glassmd("analyze", path, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    agreed = {
        "n_frames", "temperature", "energy_per_particle", "pressure", "tau_alpha", "diffusion", "crystalline_fraction",
        "files",
    }  # fmt: skip
    assert agreed <= set(outcome.json)
    assert outcome.json["energy_per_particle"] is outcome.json["pressure"] is outcome.json["temperature"] is None
    assert outcome.json["time_unit"] == "steps"
    assert outcome.json["hop_rate"] == {}
    written = {Path(name).name for name in outcome.json["files"]}
    assert {"radial.csv", "structure_factor.csv", "dynamics.csv", "radial.png", "self_scattering.png"} <= written
    assert all(Path(name).stat().st_size > 500 for name in outcome.json["files"])
    told = glassmd("analyze", path, "--mixture=kob-andersen", "--time-step=0.005", "--temperature=1")
    assert "U/N" in told.out
    assert "unknown mixture" not in told.out


@needs_lammps
def test_a_run_is_analyzed_by_its_parents_and_replicas(tiny_run: Run, glassmd: Command) -> None:
    outcome = glassmd("analyze", tiny_run.path, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert found["temperature"] == 1.5
    assert found["n_frames"] == 8 + 2 * sum(sample.n_replicas for sample in tiny_run.stream())
    # Rosenfeld and Tarazona's curve holds up to T = 2; 8 configurations of 200 particles scatter by T √(c/(8N)) = 0.06.
    assert found["energy_per_particle"] == pytest.approx(-8.644 + 2.632 * 1.5**0.6, abs=0.2)
    assert found["errors"]["energy_per_particle"] > 0
    assert found["ageing"] is None


@pytest.mark.parametrize("d", [2, 3])
def test_hops_of_caged_particles_that_jump_are_counted(d: int, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    n, n_frames = 64, 200
    one = walk(n=n, n_frames=1, d=d)
    at = np.repeat(one.positions, n_frames, axis=0) + 0.03 * random.normal(size=(n_frames, n, d))
    jumpers = random.choice(n, 16, replace=False)
    at[100:, jumpers, 0] += 1.0
    caged = Walk(one.box, np.zeros(n, int), at, np.zeros_like(at), every=100)
    path = write_gsd(tmp_path / "a.gsd", caged)
    found = analyze(path, time_step=TIME_STEP)
    rate = found.hops["A"].rate.value
    # frames every 0.5; windows of 5 on both sides of what is looked at
    assert rate == pytest.approx(16 / n / (0.5 * (n_frames - 20)), rel=0.02)
