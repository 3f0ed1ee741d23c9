"""Inputs of several processes: each computed once, and nothing left behind by those that are stopped."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from glassmd.errors import Interrupted, RunError
from glassmd.inputs import StructureProvider, missing, prepare
from glassmd.inputs import provider as provider_module
from glassmd.inputs.cache import InputCache
from glassmd.inputs.cage import content_of
from glassmd.ledger.run import ParentKey
from tests.conftest import needs_lammps
from tests.unit.conftest import MIXTURE, SHORT, import_into, no_engine

BOTH = ("thermal", "inherent", "cage")


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
def test_several_processes_compute_each_input_once_and_the_same(imported, four_liquids, tmp_path):
    alone = import_into(tmp_path / "alone", four_liquids, MIXTURE)
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
