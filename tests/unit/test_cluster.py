"""Simulating on a Ray cluster: what is refused at once, and entries on their way between machines."""

from __future__ import annotations

import importlib.metadata
from importlib.util import find_spec

import pytest

from glassmd.errors import RunError, SegmentError
from glassmd.ledger.mirror import mirror
from glassmd.ledger.parcel import parcel_of
from glassmd.ledger.run import ParentKey, SegmentKey
from glassmd.simulation.cluster import connection
from tests.conftest import needs_lammps


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
