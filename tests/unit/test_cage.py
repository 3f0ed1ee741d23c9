"""Cages: how long they are watched, and the averages that define them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from glassmd.analysis.dynamics import remove_drift
from glassmd.engines import Engine, Observation, Thermostat, get_engine
from glassmd.errors import EngineError, SettingsError
from glassmd.simulation.start import draw_velocities
from glassmd.simulation.structures import CageProtocol, cages_of, protocol_of
from glassmd.simulation.structures import cage as cage_module
from glassmd.simulation.structures.cage import content_of
from glassmd.stream.dataset import open_run
from tests.conftest import TINY, needs_lammps
from tests.sidecars import rewrite
from tests.unit.conftest import MIXTURE, SHORT, import_into
from tests.unit.test_minimise import liquid_of


def test_the_default_protocol_is_32_replicas_of_length_five():
    protocol = CageProtocol.for_state(None)
    assert protocol == CageProtocol()
    assert (protocol.replicas, protocol.time, protocol.after, protocol.n_snapshots, protocol.n_left_out) == (
        32, 5.0, 1.0, 50, 10,
    )  # fmt: skip
    assert CageProtocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


@pytest.mark.parametrize("time_step", [0.001, 0.003, 0.005])
@pytest.mark.parametrize("tau", [0.3, 1.2, 16.0, 52.0, 4000.0])
def test_cages_of_any_liquid_are_watched_for_a_tenth_of_its_relaxation_time_at_most(tau, time_step):
    protocol = CageProtocol.for_state(tau, time_step)
    assert time_step <= protocol.time_step <= min(2 * time_step, 0.01)
    assert protocol.time <= max(0.1 * tau, 10 * time_step) + time_step
    assert protocol.time <= 5 + time_step
    assert protocol.steps[-1] * protocol.time_step <= protocol.time * (1 + 1e-9)
    assert 10 <= protocol.n_snapshots < 200
    assert protocol.n_left_out == pytest.approx(0.2 * protocol.n_snapshots, abs=1)


@pytest.mark.parametrize(
    "wrong", [{"replicas": 0}, {"after": 10.0}, {"spacing": 0.0}, {"spacing": 0.007}, {"time": 0.1}, {"time": np.inf}]
)
def test_a_protocol_that_leaves_nothing_to_average_is_refused(wrong):
    with pytest.raises(SettingsError):
        CageProtocol(**wrong)
    with pytest.raises(SettingsError):
        CageProtocol.from_dict({"colour": 1})


def test_imported_data_of_unknown_relaxation_time_get_what_their_shortest_time_allows(imported):
    assert protocol_of(imported) == CageProtocol.for_state(shortest=1.0)


@needs_lammps
def test_a_run_writes_its_protocol_down_and_keeps_it(run_copy):
    run = open_run(run_copy)
    sidecar = run.entries("parents")[0].path.with_suffix(".json")
    tau = json.loads(sidecar.read_text())["equilibration"]["tau_alpha"]
    assert protocol_of(run) == CageProtocol.for_state(tau, TINY.time_step, min(TINY.times))
    rewrite(sidecar, equilibration={"tau_alpha": 100 * tau})
    assert protocol_of(open_run(run_copy)) == CageProtocol.for_state(tau, TINY.time_step, min(TINY.times))


class Scripted(Engine):
    """Replicas that move as they are told, in packs: step by step, all systems at once."""

    name, version, device = "scripted", "1", "cpu"

    def __init__(self, displacements):
        self.displacements = displacements  # (replicas, snapshots, n, d)

    def evolve(self, systems, mixture, *, steps, time_step, thermostat=None, check=None):
        for k, step in enumerate(steps):
            for index, system in enumerate(systems):
                positions = system.unwrapped + self.displacements[index, k]
                yield Observation(index, step, positions, system.velocities, 0.0, 1.0, 0.0)


def cage_of(engine, parent, *arguments, **options):
    """Of one parent alone."""
    ((_, cage),) = cages_of(engine, [parent], *arguments, **options)
    return cage


def test_cage_and_debye_waller_factor_are_the_averages_that_define_them(four_liquids):
    generator, parent = np.random.default_rng(8), four_liquids[0]
    parent = replace(parent, images=generator.integers(-2, 3, parent.positions.shape))
    u = generator.normal(scale=0.1, size=(3, 10, parent.n_particles, 3)) + generator.normal(size=(3, 10, 1, 3))
    found = cage_of(Scripted(u), parent, MIXTURE, 0.5, SHORT)
    u = u - u.mean(axis=2, keepdims=True)  # all masses are 1
    late = u[:, 2:].reshape(-1, parent.n_particles, 3)
    np.testing.assert_allclose(found.positions, parent.unwrapped + late.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(
        found.rattling.debye_waller, ((late - late.mean(axis=0)) ** 2).sum(-1).mean(axis=0), atol=1e-12
    )
    assert found.steps == 3 * 20


def test_a_cage_is_a_function_of_the_parents_content_and_the_seed(four_liquids):
    engine, parent = get_engine("lammps"), four_liquids[0]
    travelled = replace(parent, images=np.full(parent.positions.shape, 2)).with_velocities(parent.positions)
    first, second = (cage_of(engine, one, MIXTURE, 0.8, SHORT) for one in (parent, travelled))
    # The unwrapped positions are of order 30: their differences are good to some 1e-14.
    np.testing.assert_allclose(second.positions - travelled.unwrapped, first.positions - parent.unwrapped, atol=1e-12)
    other = cage_of(engine, parent, MIXTURE, 0.8, SHORT, seed=1)
    assert np.abs(other.positions - first.positions).max() > 1e-3
    assert content_of(parent) == content_of(travelled) != content_of(four_liquids[1])
    drawn = {cage_module._seeds(seed, content_of(one), r) for seed in (0, 1) for one in four_liquids for r in range(3)}
    assert len(drawn) == 2 * 4 * 3


def test_replicas_of_a_cage_are_at_the_temperature_asked_for(four_liquids):
    seen = []

    class Watched(Scripted):
        def evolve(self, systems, mixture, **options):
            seen.extend(system.velocities for system in systems)
            return super().evolve(systems, mixture, **options)

    cage_of(Watched(np.zeros((40, 10, 200, 3))), four_liquids[0], MIXTURE, 0.44, replace(SHORT, replicas=40))
    velocities = np.array(seen)
    # 40 replicas with 3·199 degrees of freedom: standard error √(2/23880) = 0.9%; five of them.
    assert (velocities**2).sum() / (40 * 3 * 199) == pytest.approx(0.44, rel=0.046)
    np.testing.assert_allclose(velocities.sum(axis=1), 0.0, atol=1e-10)


def test_particles_rattle_about_their_cage_less_than_they_are_apart(four_liquids):
    found = cage_of(get_engine("lammps"), four_liquids[0], MIXTURE, 0.3, replace(SHORT, replicas=4))
    debye_waller = found.rattling.debye_waller
    assert 0.0 < np.sqrt(debye_waller.max()) < 0.5
    # The variance of velocities times t² bounds what free particles would do in this time.
    assert debye_waller.mean() < 3 * 0.3 * 0.2**2


def summed_over_positions(engine, parent, protocol, seed=0):
    """Positions, means and covariances of a cage, added up one observation after the other."""
    drawn = [cage_module._seeds(seed, content_of(parent), replica) for replica in range(protocol.replicas)]
    systems = [
        parent.with_velocities(draw_velocities(parent, MIXTURE, 0.8, np.random.default_rng(momenta)))
        for momenta, _ in drawn
    ]
    bath = Thermostat(0.8, 2.0, tuple(bath for _, bath in drawn))
    options = {"steps": protocol.steps, "time_step": protocol.time_step, "thermostat": bath}
    moved = [[] for _ in systems]
    for seen in engine.evolve(systems, MIXTURE, **options):
        moved[seen.system].append(remove_drift(seen.positions - parent.unwrapped, np.ones(parent.n_particles)))
    means, covariances = [], []
    for u in moved:
        late = u[protocol.n_left_out :]
        means.append(sum(late) / len(late))
        dyads = sum(one[:, :, None] * one[:, None, :] for one in late) / len(late)
        covariances.append(dyads - means[-1][:, :, None] * means[-1][:, None, :])
    mean = np.array(means).mean(axis=0)
    return parent.unwrapped + mean, np.array(means) - mean, np.array(covariances)


@needs_lammps
@pytest.mark.parametrize("protocol", [SHORT, CageProtocol(replicas=2, time=0.63, after=0.1, spacing=0.03)])
def test_a_cage_is_to_the_last_bit_the_sum_over_what_the_engine_reports(four_liquids, protocol):
    engine, parent = get_engine("lammps"), four_liquids[0]
    found = cage_of(engine, parent, MIXTURE, 0.8, protocol)
    positions, means, covariances = summed_over_positions(engine, parent, protocol)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.rattling.means, means)
    np.testing.assert_array_equal(found.rattling.within, covariances.mean(axis=0))
    np.testing.assert_array_equal(found.rattling.variances, np.trace(covariances, axis1=2, axis2=3))


@needs_lammps
@pytest.mark.parametrize("packed", [1, 2, 4])
def test_cages_of_many_parents_are_those_of_each_alone(four_liquids, packed):
    engine = get_engine("lammps")
    engine.packed = packed  # what parents are brought together for
    parents = [*four_liquids[:2], liquid_of(MIXTURE, 5, 220), four_liquids[2]]  # one of them has a box of its own
    found = dict(cages_of(engine, parents, MIXTURE, 0.8, SHORT, seed=3))
    assert sorted(found) == [0, 1, 2, 3]
    for index, cage in found.items():
        alone = cage_of(engine, parents[index], MIXTURE, 0.8, SHORT, seed=3)
        np.testing.assert_array_equal(cage.positions, alone.positions)
        np.testing.assert_array_equal(cage.rattling.within, alone.rattling.within)
        np.testing.assert_array_equal(cage.rattling.variances, alone.rattling.variances)


def test_parents_fill_the_packs_and_finish_one_after_the_other(four_liquids):
    calls = []

    class Packs(Scripted):
        packed = 6

        def rattling(self, systems, mixture, **options):
            calls.append(len(systems))
            return super().rattling(systems, mixture, **options)

    u = np.random.default_rng(2).normal(size=(6, 10, 200, 3))
    engine = Packs(u)
    found = [index for index, _ in cages_of(engine, four_liquids[:3], MIXTURE, 0.8, SHORT)]
    assert (found, calls) == ([0, 1, 2], [6, 3])
    assert list(cages_of(engine, [], MIXTURE, 0.8, SHORT)) == []


@pytest.mark.parametrize(("steps", "left_out"), [([10], 1), ([10, 20], 2), ([10, 20], -1), ([], 0)])
def test_snapshots_that_leave_nothing_to_average_are_refused(four_liquids, steps, left_out):
    engine, systems = Scripted(np.zeros((1, 2, 200, 3))), [four_liquids[0].with_velocities(np.zeros((200, 3)))]
    with pytest.raises(EngineError, match="snapshots"):
        list(engine.rattling(systems, MIXTURE, steps=steps, left_out=left_out, time_step=0.01))


@needs_lammps
def test_two_engines_draw_the_same_replicas_and_find_the_same_cage(four_liquids):
    pytest.importorskip("hoomd")
    engines = get_engine("lammps"), get_engine("hoomd", "cpu", packed=2)  # packs of two and one
    one, other = (cage_of(engine, four_liquids[0], MIXTURE, 0.8, SHORT) for engine in engines)
    # Within t = 0.2 a difference of 1e-7, of a HOOMD-blue with pair forces in single precision, grows tenfold.
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-5)
    np.testing.assert_allclose(other.rattling.debye_waller, one.rattling.debye_waller, rtol=1e-3)


@pytest.mark.parametrize("tau", [None, 16.0, 4100.0])
@pytest.mark.parametrize("shortest", [0.13, 0.5, 4.0, 4120.0])
def test_a_cage_is_no_longer_than_a_tenth_of_the_shortest_time_or_says_so(tau, shortest):
    protocol = CageProtocol.for_state(tau, 0.005, shortest)
    assert protocol.time <= max(0.1 * shortest, 10 * 0.005) + 1e-9
    assert protocol.is_inside(shortest) == (protocol.time > 0.1 * shortest + 1e-9)
    assert not protocol.is_inside(10 * protocol.time)


def test_given_parents_of_unknown_relaxation_time_get_cages_shorter_than_their_labels(four_liquids, tmp_path):
    run = import_into(tmp_path / "run", four_liquids[:1], MIXTURE)  # its labels are of t = 1
    assert protocol_of(run).time <= 0.1
