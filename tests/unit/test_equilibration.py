import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.analysis.crystallinity import crystalline_fraction, crystalline_particles
from glassmd.configuration import Configuration, minimum_image
from glassmd.engines import Engine, Observation, get_engine
from glassmd.errors import EngineError, Interrupted, SettingsError
from glassmd.mixtures import get_mixture
from glassmd.simulation.equilibration import Protocol, Unfinished, equilibrate_together
from glassmd.simulation.equilibrium_run import agree, compare_halves
from glassmd.simulation.start import draw_velocities, random_start
from tests.conftest import needs_lammps

MIXTURE = get_mixture("kob-andersen")
PLANAR = replace(MIXTURE, name="planar", dimensions=2, composition=(65, 35), masses=(1.0, 2.0))


class Resting(Engine):
    """Particles that never move: with `random_start`'s full lattice, a perfect crystal."""

    name, version, device = "resting", "0", "cpu"

    def evolve(self, systems, mixture, *, steps, time_step, thermostat=None, check=None):
        noise = np.random.default_rng(1)
        for index, system in enumerate(systems):
            for step in steps:
                yield Observation(index, step, system.unwrapped, system.velocities, noise.normal(), 0.5, noise.normal())


@pytest.fixture(scope="module")
def engine():
    try:
        return get_engine("lammps")
    except EngineError as error:
        pytest.skip(str(error))


def equilibrate(
    engine: Engine, *, seed: int, keep: Unfinished | None = None, **options: Any
) -> tuple[Configuration, dict[str, Any]]:
    """One lineage of Kob and Andersen's liquid."""
    kept = None if keep is None else [keep]
    generators = [np.random.default_rng(seed)]
    ((_, liquid, report),) = equilibrate_together(engine, MIXTURE, generators, keep=kept, **options)
    return liquid, report


@pytest.fixture(scope="module")
def hot(engine):
    """A lineage at T = 2, where τ_α is 0.3 and the whole protocol takes a second."""
    protocol = Protocol(melt_temperature=2.5, melt_time=3.0, first_time=10.0, max_time=400.0)
    options = {
        "n_particles": 160,
        "density": 1.2,
        "temperature": 2.0,
        "time_step": 0.004,
        "protocol": protocol,
    }
    told = []
    tell = lambda index, lineage: told.append(lineage.progress)  # noqa: E731
    liquid, report = equilibrate(engine, seed=3, tell=tell, **options)
    again, _ = equilibrate(engine, seed=3, **options)
    return liquid, report, again, told


def nearest(configuration):
    i, j = np.triu_indices(configuration.n_particles, 1)
    x = configuration.positions
    return np.linalg.norm(minimum_image(x[i] - x[j], configuration.box), axis=1).min()


@pytest.mark.parametrize("n", [160, 256, 500, 501, 1000])
@pytest.mark.parametrize("mixture", [MIXTURE, PLANAR])
def test_a_random_start_has_the_exact_composition_and_density_and_no_close_pair(mixture, n):
    start = random_start(mixture, n, 1.2, np.random.default_rng(n))
    assert tuple(np.bincount(start.species)) == mixture.counts(n)
    assert start.density == pytest.approx(1.2)
    assert np.ptp(start.box) == 0
    assert nearest(start) > 0.8, "closer than the zero of the potential between A and B"


def test_random_starts_differ_with_the_generator_only():
    a, b, c = (random_start(MIXTURE, 300, 1.2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a.species, b.species)
    assert np.array_equal(a.positions, b.positions)
    assert not np.array_equal(a.species, c.species)


@pytest.mark.parametrize("mixture", [MIXTURE, PLANAR])
def test_velocities_are_canonical_with_the_centre_of_mass_at_rest(mixture):
    generator, n, draws = np.random.default_rng(8), 200, 400
    start = random_start(mixture, n, 1.2, generator)
    masses = np.array(mixture.masses)[start.species][:, None]
    freedom = mixture.dimensions * (n - 1)
    kinetic = []
    for _ in range(draws):
        velocities = draw_velocities(start, mixture, 0.7, generator)
        assert np.abs((masses * velocities).sum(axis=0)).max() < 1e-11
        kinetic.append((masses * velocities**2).sum() / freedom)
    spread = 0.7 * np.sqrt(2 / freedom)
    assert np.mean(kinetic) == pytest.approx(0.7, abs=4 * spread / np.sqrt(draws))
    # The standard error of a standard deviation is 1/√(2·draws): 3.5%.
    assert np.std(kinetic) == pytest.approx(spread, rel=0.14)


def test_an_equilibrated_lineage_comes_with_its_evidence(hot):
    liquid, report, _, told = hot
    assert report["equilibrated"], report["reasons"]
    assert report["run_tau_alphas"] >= 20
    assert 0.15 < report["tau_alpha"] < 0.6
    assert report["total_time"] > report["run_time"] > 0
    energy, pressure = report["energy_per_particle"], report["pressure"]
    # The curve that Kob-Andersen's reference values lie on; at N = 160 it is only as good as the run's own
    # error.
    reference = -8.644 + 2.632 * 2.0**0.6
    print(f"U/N = {energy['mean']:.3f} ± {energy['error']:.3f}, reference {reference:.3f}")
    assert energy["mean"] == pytest.approx(reference, abs=0.02 + 4 * energy["error"])
    assert pressure["mean"] == pytest.approx(19.3, abs=0.1 + 4 * pressure["error"])
    assert report["crystalline_fraction"] < 0.02
    assert json.loads(json.dumps(report)) == report
    assert np.all(liquid.images == 0)
    assert liquid.species_names == MIXTURE.species
    assert np.abs(liquid.velocities.sum(axis=0)).max() < 1e-10
    assert told[0].melting
    assert told[0].tau_alpha is None
    assert told[-1].tau_alpha == report["tau_alpha"]
    assert told[-1].run_tau_alphas == pytest.approx(report["run_tau_alphas"])
    assert told[-1].open == ()
    assert [one.time for one in told if not one.melting] == sorted(one.time for one in told if not one.melting)


def test_equal_generators_make_equal_lineages(hot):
    liquid, _, again, _ = hot
    assert np.array_equal(liquid.positions, again.positions)
    assert np.array_equal(liquid.velocities, again.velocities)


def test_a_run_shorter_than_its_relaxation_is_not_called_equilibrated(engine):
    protocol = Protocol(melt_time=1.0, first_time=4.0, max_time=4.0)
    _, report = equilibrate(
        engine,
        n_particles=160,
        density=1.2,
        temperature=0.45,
        time_step=0.005,
        seed=1,
        protocol=protocol,
    )
    assert not report["equilibrated"]
    assert report["total_time"] == pytest.approx(4.0, abs=0.1)
    assert "F_s did not fall to 1/e" in report["reasons"][0]


def test_a_crystal_is_not_called_a_liquid():
    _, report = equilibrate(
        Resting(),
        n_particles=500,
        density=1.2,
        temperature=0.5,
        time_step=0.005,
        seed=1,
        protocol=Protocol(first_time=10.0, max_time=15.0),
    )
    assert not report["equilibrated"]
    assert report["crystalline_fraction"] == 1.0
    assert any("crystalline" in reason for reason in report["reasons"])
    assert report["tau_alpha"] is None


def test_what_check_raises_ends_the_equilibration(engine):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        equilibrate(
            engine,
            n_particles=160,
            density=1.2,
            temperature=0.45,
            time_step=0.005,
            seed=1,
            protocol=Protocol(melt_time=100.0),
            check=check,
        )


@pytest.mark.parametrize("lengths", [{"first_time": 0.1}, {"max_time": 1.0}])
def test_a_protocol_with_nothing_to_judge_is_refused(lengths):
    with pytest.raises(SettingsError, match="first_time"):
        Protocol(**lengths)


def correlated(generator, runs, length, tau):
    """Stationary series with correlation exp(-t/τ)."""
    series = np.empty((runs, length))
    series[:, 0] = generator.normal(size=runs)
    decay = np.exp(-1 / tau)
    for k in range(1, length):
        series[:, k] = decay * series[:, k - 1] + np.sqrt(1 - decay**2) * generator.normal(size=runs)
    return series


def test_the_halves_of_stationary_runs_seldom_disagree_and_their_errors_are_honest():
    tau = 10.0
    halves = [compare_halves(one, tau) for one in correlated(np.random.default_rng(1), 2000, 200, tau)]
    false_alarms = 1 - np.mean([agree(one, 3.0) for one in halves])
    # Student's t with the ten degrees of freedom of 2 × 6 blocks is beyond 3 with 1.3%.
    assert false_alarms < 0.02
    scatter = np.std([one["mean"] for one in halves])
    assert np.sqrt(np.mean([one["error"] ** 2 for one in halves])) == pytest.approx(scatter, rel=0.1)


def test_a_liquid_that_still_ages_is_seen():
    # The halves differ by 2, 10 times the standard error √(2 · 2τ/1000) of a difference.
    series = correlated(np.random.default_rng(2), 300, 2000, 10.0) + np.linspace(4, 0, 2000)
    assert np.mean([agree(compare_halves(one, 10.0), 3.0) for one in series]) < 0.1


def crystal(kind, noise):
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3)
    sites = {"fcc": grid[grid.sum(axis=1) % 2 == 0] / 8, "CsCl": np.concatenate([grid, grid + 0.5]) / 8}[kind]
    edge = (len(sites) / {"fcc": 1.2, "CsCl": 1.45}[kind]) ** (1 / 3)
    shaken = sites * edge + np.random.default_rng(3).normal(scale=noise, size=sites.shape)
    return Configuration(box=[edge] * 3, species=np.zeros(len(sites)), positions=shaken)


@pytest.mark.parametrize("kind", ["fcc", "CsCl"])
def test_crystals_shaken_by_heat_are_crystalline(kind):
    # 0.08 σ of noise per direction is 0.14 of the nearest distance, at which crystals melt (Lindemann).
    assert crystalline_fraction(crystal(kind, 0.08)) > 0.8


def test_the_crystalline_half_of_a_box_is_told_from_the_other():
    shaken = crystal("fcc", 0.05)
    left = shaken.positions[:, 0] < 0
    disorder = np.random.default_rng(4).normal(scale=0.3, size=shaken.positions.shape)
    mixed = replace(shaken, positions=np.where(left[:, None], shaken.positions, shaken.positions + disorder))
    found = crystalline_particles(mixed)
    inside = np.abs(shaken.positions[:, 0] + shaken.box[0] / 4) < 1.0
    assert found[inside].mean() > 0.8
    assert found[shaken.positions[:, 0] > 1.5].mean() < 0.1


def test_a_triangular_lattice_is_crystalline_and_random_points_are_not():
    lattice = random_start(PLANAR, 224, 1.2, np.random.default_rng(1))
    assert crystalline_fraction(lattice) > 0.9
    points = np.random.default_rng(2).uniform(size=(400, 2)) * 18
    assert crystalline_fraction(Configuration(box=[18, 18], species=np.zeros(400), positions=points)) < 0.1


class Stop(Exception):  # noqa: N818
    """What interrupts an equilibration in the tests."""


class Noting(Unfinished):
    """Keeps every frame's positions as well, by step, and may stop the run after a step."""

    def __init__(self, path: Path, stop_at: int | None = None) -> None:
        super().__init__(path, every=0.0)
        self.stop_at = stop_at
        self.seen: dict[int, np.ndarray] = {}

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        super().offer(state)
        now = state()
        self.seen[int(now["steps"])] = now["positions"]
        if int(now["steps"]) == self.stop_at:
            raise Stop


def short_equilibration(keep: Unfinished | None) -> dict[str, Any]:
    _, report = equilibrate(
        get_engine("lammps", "cpu"), n_particles=200, density=1.2, temperature=1.0, time_step=0.005,
        seed=3, protocol=Protocol(melt_time=2.0, first_time=10.0, max_time=10.0), keep=keep,
    )  # fmt: skip
    return report


@needs_lammps
def test_an_equilibration_that_was_interrupted_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, kept = Noting(tmp_path / "whole.npz"), Noting(tmp_path / "kept.npz")
    short_equilibration(whole)
    kept.stop_at = 800
    with pytest.raises(Stop):
        short_equilibration(kept)
    state = kept.load()
    assert state is not None
    assert len(state["frames"]) == 40
    kept.stop_at = None
    assert short_equilibration(kept)["total_time"] == pytest.approx(10.0)
    assert sorted(kept.seen) == sorted(whole.seen), "no frame is missing or doubled"
    # Rounding grows e-fold in some 0.3 time units: 1e-15 has become 1e-13 after five rescalings and 200 steps.
    for step in range(820, 1001, 20):
        assert np.abs(kept.seen[step] - whole.seen[step]).max() < 1e-9
    kept.forget()
    assert kept.load() is None


@pytest.mark.parametrize("content", [b"", b"PK broken", b"\x93NUMPY"])
def test_what_cannot_be_read_or_is_of_another_release_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept.npz").write_bytes(content)
    assert Unfinished(tmp_path / "kept.npz").load() is None
    np.savez(tmp_path / "kept.npz", due=1.0)
    assert Unfinished(tmp_path / "kept.npz").load(("due",)) is not None
    assert Unfinished(tmp_path / "kept.npz").load(("due", "seed")) is None


class Interrupting(Unfinished):
    """Has the run interrupted when a step is reached."""

    def __init__(self, path: Path, every: float, at: int) -> None:
        super().__init__(path, every)
        self.at = at

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        if int(state()["steps"]) == self.at:
            raise Interrupted("stopped", "", "")


@needs_lammps
@pytest.mark.parametrize(("every", "kept"), [(0.01, True), (600.0, False)])
def test_what_is_interrupted_is_kept_where_there_is_something_to_lose(tmp_path: Path, every: float, kept: bool) -> None:
    place = Interrupting(tmp_path / "kept.npz", every, 600)
    with pytest.raises(Interrupted):
        short_equilibration(place)
    state = place.load()
    assert (state is not None) == kept
    if state is not None:
        assert len(state["frames"]) == 30
