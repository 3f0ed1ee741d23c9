"""Structures are entries of a run: made by workers, committed once, and what is kept is what would be made."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from glassmd.engines import get_engine
from glassmd.errors import InputError, Interrupted, RunError, SegmentError
from glassmd.interrupt import StopRequest
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation import pool
from glassmd.simulation.creation import make_run
from glassmd.simulation.structures import CageProtocol, Request, ask, cages_of, protocol_of, requests_for, requests_of
from glassmd.simulation.structures.making import structure_of_configuration
from glassmd.simulation.tasks import Agenda, Wanted
from glassmd.simulation.worker import Worker
from glassmd.stream.dataset import SegmentReader, open_run
from glassmd.stream.structures import Structures
from tests.conftest import TINY, needs_lammps
from tests.unit.conftest import MIXTURE, SHORT, import_into
from tests.unit.test_minimise import liquid_of

PLANE = get_mixture("kob-andersen-2d-ternary")
BOTH = ("thermal", "inherent", "cage")
LAMMPS = RunSettings(engine="lammps", workers=1)


def same(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("inherent", "cage", "debye_waller"))


def made(run, inputs=BOTH, protocol=SHORT, workers=1):
    """Structures of all samples of a run, after workers have made what was missing."""
    structures = Structures([run], inputs, Request("cage", protocol))
    structures.make([sample.key for sample in run.samples()], LAMMPS.model_copy(update={"workers": workers}))
    return structures


def test_thermal_positions_cost_nothing_and_leave_nothing(imported):
    (sample, *_) = imported.samples()
    structures = made(imported, ("thermal",))
    found = structures.of(sample)
    assert found.available() == ("thermal",)
    assert found.thermal is sample.parent
    assert (found.mixture, found.temperature, structures.cost) == (MIXTURE, 0.8, {})
    assert not (imported.path / "structures").exists()


@needs_lammps
def test_what_is_kept_is_what_a_snapshot_of_no_run_gets_to_the_last_bit(imported):
    (sample, *_) = imported.samples()
    structures = made(imported)
    kept = structures.of(sample)
    alone, _ = structure_of_configuration(get_engine("lammps"), structures.requests, sample.parent, MIXTURE, 0.8)
    assert same(kept, alone)
    assert np.array_equal(kept.rattling.variances, alone.rattling.variances)
    assert np.abs(kept.inherent - sample.parent.unwrapped).max() < 1.0
    assert structures.cost["cage"]["replica_steps"] == SHORT.replica_steps
    assert structures.cost["inherent"]["configurations"] == 1
    assert imported.verify() == 4 + 4 + 8


@needs_lammps
def test_several_workers_make_each_structure_once_and_the_same(imported, four_liquids, tmp_path):
    alone = import_into(tmp_path / "alone", four_liquids, MIXTURE)
    made(imported, workers=2)
    made(alone)
    sums = [{e.key: e.sidecar["sha256"] for e in run.entries("structures")} for run in (imported, alone)]
    assert len(sums[0]) == 8
    assert sums[0] == sums[1]


@needs_lammps
def test_nothing_is_made_twice(imported, monkeypatch):
    made(imported)
    monkeypatch.setattr(pool, "Pool", None)
    assert same(*(made(open_run(imported.path)).of(imported.samples()[0]) for _ in range(2)))


@needs_lammps
def test_a_damaged_structure_is_named_and_not_used(imported):
    structures = made(imported, ("inherent",))
    entry = imported.entries("structures")[0]
    raw = entry.path.read_bytes()
    entry.path.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    with pytest.raises(SegmentError, match=r"L0000-P0000-inherent.*delete"):
        structures.of(imported.samples()[0])


@needs_lammps
def test_the_structure_of_another_parent_is_refused(imported):
    structures = made(imported, ("inherent",))
    first, second, *_ = imported.samples()
    with pytest.raises(RunError, match="another parent"):
        structures.of(replace(first, parent=second.parent))


@needs_lammps
def test_another_protocol_has_entries_of_its_own(imported):
    (sample, *_) = imported.samples()
    longer = replace(SHORT, time=0.3)
    found = [made(imported, ("cage",), protocol).of(sample).cage for protocol in (SHORT, longer, SHORT)]
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    assert len(imported.entries("structures")) == 8


@needs_lammps
def test_in_the_plane(tmp_path):
    run = import_into(tmp_path / "plane", [liquid_of(PLANE, 5)], PLANE)
    found = made(run).of(run.samples()[0])
    assert found.inherent.shape == found.cage.shape == (200, 2)
    assert found.rattling.within.shape == (200, 2, 2)
    assert np.abs(found.inherent - found.thermal.unwrapped).max() < 1.0


@needs_lammps
def test_a_run_that_may_only_be_read_leaves_its_structures_in_the_users_cache(imported, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != imported.path and access(path, mode))
    assert tmp_path / "home" in open_run(imported.path).home.parents


@needs_lammps
def test_an_interrupted_preparation_leaves_no_process_and_keeps_what_is_finished(imported):
    structures = Structures([imported], ("inherent", "cage"), Request("cage", replace(SHORT, time=2000.0)))
    seen = []

    def stop():
        if imported.index.count("structures") >= 1:
            raise Interrupted("stopped")
        imported.poll()
        seen.append(1)

    with pytest.raises(Interrupted):
        structures.make([sample.key for sample in imported.samples()], LAMMPS, check=stop)
    assert 1 <= len(imported.entries("structures")) <= 4
    assert not list(imported.path.rglob("*.tmp"))
    with imported.claim(structures.requests[1].key(ParentKey(0, 0)).name) as free:
        assert free, "a worker still holds its claim"


@needs_lammps
def test_what_a_worker_stumbles_over_is_raised_here(imported):
    samples = imported.samples()
    entry = imported.entries("parents")[2]
    entry.path.write_bytes(entry.path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(RunError, match="L0002-P0000"):
        Structures([imported], ("inherent",)).make([sample.key for sample in samples], LAMMPS)


def test_what_cannot_be_provided_is_refused(imported, tmp_path, four_liquids):
    (sample, *_) = imported.samples()
    other = import_into(tmp_path / "other", four_liquids[:1], MIXTURE)
    with pytest.raises(InputError, match="'colour'"):
        Structures([imported], ("colour",))
    with pytest.raises(InputError, match="sample of run"):
        Structures([other], ("thermal",)).of(sample)
    with pytest.raises(InputError, match="sample of run"):
        Structures([other], ("inherent",)).make([sample.key], LAMMPS)


# ---- requests and the agenda ------------------------------------------------------------------------------------


def test_a_request_stays_with_its_run(imported, tmp_path, four_liquids):
    ask(imported, requests_for(BOTH, Request("cage", SHORT)))
    assert requests_of(imported) == [Request("inherent"), Request("cage", SHORT)]
    other = import_into(tmp_path / "other", four_liquids[:1], MIXTURE)
    (other.path / "requests").mkdir()
    (found,) = (imported.path / "requests").glob("cage*")
    (other.path / "requests" / found.name).write_text(found.read_text())
    with pytest.raises(RunError, match="another run"):
        requests_of(other)
    found.write_text(found.read_text().replace('"replicas": 3', '"replicas": 4'))
    with pytest.raises(RunError, match="damaged"):
        requests_of(imported)


def test_structures_are_asked_for_before_and_while_a_run_is_simulated(tiny_run, run_copy):
    run = RunDirectory.open(run_copy)
    agenda = Agenda(run)
    assert len(agenda) == 0
    ask(run, [Request("cage", SHORT)])  # which no other test has left in the run
    agenda.look()
    assert len(agenda) == TINY.lineages * TINY.parents
    assert [task.key.parent for task in agenda.ready()] == sorted(task.key.parent for task in agenda.ready())


def test_what_follows_may_be_heard_of_before_what_it_follows(tmp_path):
    """Of two writers, the one that made the parent may be read before it did, and the other one after it went on."""
    agenda = Agenda(make_run(TINY, tmp_path / "run"))
    parent, block = ParentKey(0, 0), SegmentKey(0, 0, 0)
    before = len(agenda)
    agenda.finished(block)
    agenda.finished(parent)
    assert len(agenda) == before - 2
    assert not {parent, block} & {task.key for task in agenda.ready()}


@needs_lammps
def test_a_sample_arrives_with_its_structures(imported):
    requests = requests_for(("inherent",))
    reader = SegmentReader(imported, requests)
    assert list(reader.poll()) == []
    assert reader.lacking() == [ParentKey(lineage, 0) for lineage in range(4)]
    structures = made(imported, ("inherent",))
    found = list(reader.poll())
    assert len(found) == 4
    assert reader.lacking() == []
    assert structures.of(found[0]).inherent is not None


def test_a_cage_is_settled_by_the_first_parent(tiny_run):
    assert Request("cage").settled(tiny_run).protocol.time <= CageProtocol().time
    assert Request("cage").settled(tiny_run).name.startswith("cage-")


@needs_lammps
def test_a_number_of_replicas_may_be_asked_for_before_the_first_parent_is_there(tiny_run, tmp_path):
    of_two = Request("cage", replicas=2)
    empty = make_run(TINY, tmp_path / "run")
    ask(empty, [of_two])
    assert requests_of(empty) == [of_two]
    assert of_two.settled(empty) is None
    assert of_two.settled(tiny_run).protocol == replace(protocol_of(tiny_run), replicas=2)


@needs_lammps
def test_cages_of_several_parents_are_made_together_where_the_engine_packs(imported, monkeypatch):
    engine, calls = get_engine("lammps"), []
    engine.packed = 2 * SHORT.replicas  # it does one after the other anyhow
    rattling = type(engine).rattling

    def counted(self, systems, *arguments, **options):
        calls.append(len(systems))
        return rattling(self, systems, *arguments, **options)

    monkeypatch.setattr(type(engine), "rattling", counted)
    request = Request("cage", SHORT)
    wanted = Wanted((request,), frozenset(ParentKey(lineage, 0) for lineage in range(4)))
    Worker(imported, engine, StopRequest(), only=wanted).work()
    assert calls == [2 * SHORT.replicas] * 2
    assert wanted.missing(imported) == 0
    alone = dict(cages_of(get_engine("lammps"), [s.parent for s in imported.samples()], MIXTURE, 0.8, SHORT))
    for index, sample in enumerate(imported.samples()):
        kept = Structures([imported], ("cage",), request).of(sample)
        np.testing.assert_allclose(kept.cage, alone[index].positions, atol=1e-6)
