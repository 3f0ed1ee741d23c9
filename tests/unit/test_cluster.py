"""Simulating on a Ray cluster: what is refused at once, and entries on their way between machines."""

from __future__ import annotations

import importlib.metadata
import json
import socket
from contextlib import ExitStack, nullcontext
from importlib.util import find_spec
from threading import Thread

import pytest

from glassmd.errors import EngineError, RunError, SegmentError, SettingsError
from glassmd.ledger.mirror import mirror
from glassmd.ledger.parcel import parcel_of
from glassmd.ledger.run import ParentKey, SegmentKey
from glassmd.settings import RunSettings, build_settings
from glassmd.simulation.batches import Batches
from glassmd.simulation.cluster import connection
from glassmd.simulation.creation import make_run
from glassmd.simulation.tasks import Agenda
from tests.conftest import TINY, needs_lammps


@pytest.mark.parametrize("address", ["ray://x:1", "nonsense", "host:port", "host:0", ":6379"])
def test_what_is_no_address_is_refused(glassmd, tmp_path, address):
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'glassmd[cluster]'")
    said = glassmd("simulate", "--temperature", 1, "--cluster", address, "--out", tmp_path / "run")
    assert said.code == 2
    assert f"found --cluster {address}; expected local, auto or HOST:PORT" in said.err
    assert not (tmp_path / "run").exists()


def test_an_address_that_does_not_answer_is_refused_before_a_run_is_made(glassmd, tmp_path):
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'glassmd[cluster]'")
    said = glassmd("simulate", "--temperature", 1, "--cluster", "127.0.0.1:1", "--out", tmp_path / "run")
    assert said.code == 2
    assert "found no Ray cluster at 127.0.0.1:1" in said.err
    assert "try --cluster local" in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"no"])
def test_an_address_where_something_else_answers_is_refused(words):
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'glassmd[cluster]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def talk():
            with server.accept()[0] as caller:
                caller.recv(64)
                caller.sendall(words)

        Thread(target=talk, daemon=True).start()
        with pytest.raises(EngineError, match=f"no Ray cluster at {address} .something else answers"):
            connection.check_address(address)


def test_more_ranks_than_a_worker_has_cores_are_refused():
    with pytest.raises(SettingsError, match=r"found 4 ranks and worker_cpus = 2.*worker_cpus=4"):
        build_settings(RunSettings, {"cluster": "auto", "ranks": 4, "worker_cpus": 2}, "")


def test_without_ray_it_says_what_to_install(glassmd, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    said = glassmd("simulate", "--temperature", 1, "--cluster", "local", "--out", tmp_path / "run")
    assert said.code == 2
    assert 'try pip install "glassmd[cluster]"' in said.err
    assert not (tmp_path / "run").exists()


def test_another_release_on_a_machine_is_refused():
    pytest.importorskip("ray")
    from glassmd.simulation.cluster.workers import same_release

    same_release({"version": importlib.metadata.version("glassmd"), "host": "node"})
    with pytest.raises(RunError, match=r"found glassmd 0\.0\.1 on node"):
        same_release({"version": "0.0.1", "host": "node"})


@needs_lammps
def test_an_entry_that_was_sent_is_the_same_entry(tiny_run):
    key = SegmentKey(0, 0, 0)
    with mirror(tiny_run.identity) as here:
        here.receive([parcel_of(tiny_run.entry("segments", key.name))])
        found = here.run.entry("segments", key.name)
        assert found.sidecar["sha256"] == tiny_run.entry("segments", key.name).sidecar["sha256"]
        assert found.read([0])[0].configuration.n_particles == 200
        assert here.made() == []
        folder = here.run.path
    assert not folder.exists()


@needs_lammps
def test_what_was_made_in_a_mirror_can_be_committed_where_the_run_is(tiny_run, run_copy):
    from glassmd.ledger.run import RunDirectory

    key = SegmentKey(0, 0, 0)
    there = RunDirectory.open(run_copy)
    with mirror(tiny_run.identity) as here:
        here.run.adopt(parcel_of(tiny_run.entry("segments", key.name)))
        (made,) = here.made()
    assert not there.adopt(made)  # it is committed already
    (run_copy / "segments" / f"{key.name}.json").unlink()
    there = RunDirectory.open(run_copy)
    assert there.adopt(made)
    assert there.entry("segments", key.name).sidecar["sha256"] == tiny_run.entry("segments", key.name).sidecar["sha256"]
    assert there.verify() == tiny_run.verify()


@needs_lammps
def test_a_parcel_that_was_damaged_or_is_of_another_run_is_refused(tiny_run):
    parcel = parcel_of(tiny_run.entry("parents", ParentKey(0, 0).name))
    flipped = bytes([parcel.data[100] ^ 1])
    hotter = parcel.sidecar.replace(b'"temperature": 1.5', b'"temperature": 1.6')
    with mirror(tiny_run.identity) as here:
        with pytest.raises(SegmentError, match="damaged on their way"):
            here.receive([parcel._replace(data=parcel.data[:100] + flipped + parcel.data[101:])])
        with pytest.raises(SegmentError, match="checksum"):
            here.receive([parcel._replace(sidecar=hotter)])
        with pytest.raises(SegmentError, match="parent"):
            here.receive([parcel._replace(name="L0000-P0001")])
        assert here.run.index.count("parents") == 0
    with mirror({**tiny_run.identity, "id": "0123456789abcdef"}) as other, pytest.raises(SegmentError, match="run"):
        other.receive([parcel])


def test_machines_that_go_are_no_fault_of_the_work_but_ends_again_and_again_are(monkeypatch):
    pytest.importorskip("ray")
    from glassmd.simulation.cluster import calls

    there = {"a": True, "b": False}
    monkeypatch.setattr(calls, "_MISSED", -1.0)
    monkeypatch.setattr(calls, "lives", there.__getitem__)
    losses = calls.Losses("workers")
    for _ in range(9):
        losses.add(["L0000-P0000"], ["b"], "the machine is gone")
    losses.look()
    for _ in range(3):
        losses.add(["L0000-P0000", "L0001-P0000"], ["a"], "out of memory")
    losses.look()
    losses.done(["L0000-P0000"])
    losses.add(["L0000-P0000"], ["a"], "out of memory")
    losses.look()
    losses.add(["L0001-P0000"], ["a"], "out of memory")
    with pytest.raises(EngineError, match="workers ended 4 times without a word over L0001-P0000: out of memory"):
        losses.look()


@needs_lammps
def test_workers_of_one_dispatcher_get_different_work_without_locks(tmp_path, monkeypatch):
    run = make_run(TINY, tmp_path / "run")
    monkeypatch.setattr(run, "claim", lambda name: nullcontext(True))
    batches = Batches(run, Agenda(run))
    with ExitStack() as first, ExitStack() as second:
        (one,), (other,) = (batches.claim(1, 2, claims) for claims in (first, second))
        assert one.name != other.name
        second.close()
        assert [task.name for task in batches.claim(1, 2, second)] == [other.name]  # it was given back


def test_as_few_workers_as_possible_leave_for_trainers():
    pytest.importorskip("ray")
    from glassmd.simulation.cluster.workers import leave_for

    free = {"a": {"CPU": 1.0, "GPU": 1.0}, "b": {"CPU": 0.0}, "c": {"CPU": 0.0}}
    one, two = {"CPU": 1.0}, {"CPU": 2.0}
    held = [("b", one), ("c", one), ("a", one), ("b", one)]
    assert leave_for([one], free, held) == set()  # there is room
    assert leave_for([two], free, held) == {2}
    assert leave_for([two, two], free, held) == {0, 2, 3}
    assert leave_for([one, {"CPU": 1.0, "GPU": 1.0}], free, held) in ({2}, {0}, {1}, {3})
    assert leave_for([{"GPU": 2.0}], free, held) is None  # somebody else has it
    assert leave_for([{"CPU": 3.0}], free, held) is None  # no machine has so many


@needs_lammps
def test_what_was_measured_elsewhere_is_kept_where_nothing_was_measured_for_the_same_choice(tmp_path):
    run = make_run(TINY, tmp_path / "run")
    run.record_prepared("hoomd", "H200", {"packed": 4, "asked": {"packed": "auto"}})
    (name,) = run.all_prepared()
    same, other = (
        {name: json.dumps({"device": "H200", "packed": 8, "asked": {"packed": asked}}).encode()}
        for asked in ("auto", 8)
    )
    run.write_prepared(same)
    assert run.prepared("hoomd", "H200")["packed"] == 4
    run.write_prepared(other)
    assert run.prepared("hoomd", "H200")["packed"] == 8
