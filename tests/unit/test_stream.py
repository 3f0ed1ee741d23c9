"""From segments to samples: labels, their noise, growth, and the reservoir."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration
from glassmd.errors import RunError, SegmentError
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.moments import Moments
from glassmd.storage import sealed
from glassmd.stream.dataset import Run, SegmentReader, open_run
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import Sample, SampleKey
from tests.conftest import TINY


def sample(parent: int, value: float = 1.0, lineage: int = 0) -> Sample:
    configuration = Configuration(box=[3, 3, 3], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
    label = np.full((1, 2), value)
    return Sample(SampleKey("run", lineage, parent), configuration, np.array([1.0]), label, label * 0, 4, "train")


def moments(values: np.ndarray, first: int = 0) -> Moments:
    mean = values.mean(axis=0)
    replicas = frozenset(range(first, first + len(values)))
    return Moments(len(values), mean, ((values - mean) ** 2).sum(axis=0), replicas)


@given(hnp.arrays(np.float64, (7, 2, 3), elements=st.floats(0, 10)), st.integers(1, 6))
def test_blocks_merge_to_the_moments_of_all_replicas(values: np.ndarray, cut: int) -> None:
    merged = moments(values[:cut]).merge(moments(values[cut:], cut))
    np.testing.assert_allclose(merged.mean, values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(merged.variance, values.var(axis=0, ddof=1), atol=1e-10)


def test_a_replica_is_never_counted_twice() -> None:
    one = moments(np.ones((2, 1, 1)))
    with pytest.raises(SegmentError, match=r"replicas \[0, 1\] twice"):
        one.merge(one)


def test_the_variance_of_one_replica_is_unknown() -> None:
    assert np.isnan(moments(np.ones((1, 1, 2))).variance).all()


def test_a_finished_run_is_one_sample_per_parent_with_all_its_replicas(tiny_run: Run) -> None:
    samples = tiny_run.samples()
    assert len(samples) == TINY.lineages * TINY.parents
    assert {s.n_replicas for s in samples if s.role == "train"} == {3}
    assert {s.n_replicas for s in samples if s.role != "train"} == {6}
    for found in samples:
        assert found.propensity.shape == found.variance.shape == (2, 200)
        np.testing.assert_allclose(found.times, [0.1, 0.5])


def test_the_label_is_the_mean_distance_moved_without_the_drift(tiny_run: Run) -> None:
    entries = [e for e in tiny_run.entries("segments") if e.key.of == (0, 0)]
    moved = []
    for entry in entries:
        frames = entry.read()
        for frame in frames[1:]:
            if frame.log["glassmd/time"][0] == 0.5:
                step = frame.configuration.unwrapped - frames[0].configuration.unwrapped
                moved.append(np.linalg.norm(step - step.mean(axis=0), axis=1))
    (found,) = [s for s in tiny_run.samples() if (s.key.lineage, s.key.parent) == (0, 0)]
    assert len(moved) == 6
    np.testing.assert_allclose(found.propensity[1], np.mean(moved, axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.variance[1], np.var(moved, axis=0, ddof=1), rtol=1e-7)


def test_the_next_parent_is_the_end_of_a_replica(tiny_run: Run) -> None:
    segment, parent = (
        tiny_run.entry("segments", "L0000-P0000-B0000"),
        tiny_run.entry("parents", "L0000-P0001"),
    )
    assert segment is not None
    assert parent is not None
    end = segment.read([len(TINY.times)])[0].configuration
    assert np.array_equal(parent.read([0])[0].configuration.positions, end.positions)


def test_replicas_share_the_parents_positions_and_nothing_else(tiny_run: Run) -> None:
    entry = tiny_run.entry("segments", "L0000-P0000-B0000")
    assert entry is not None
    assert len(set(entry.sidecar["seeds"]["momenta"])) == len(entry.sidecar["replicas"]) == 3
    ends = [frame.configuration.unwrapped for frame in entry.read()[1:]]
    assert not np.allclose(ends[1], ends[3])


def empty_copy(run: Run, path: Path) -> Path:
    """The run's directory as it was before anything was committed."""
    shutil.copytree(run.path / "parents", path / "parents")
    (path / "segments").mkdir()
    shutil.copy(run.path / "run.json", path)
    return path


def commit(run: Run, path: Path, name: str) -> None:
    for suffix in (".gsd", ".json"):
        shutil.copy(run.path / "segments" / f"{name}{suffix}", path / "segments")


def test_a_sample_grows_when_more_replicas_commit(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    reader = SegmentReader(open_run(path))
    assert list(reader.poll()) == []
    commit(tiny_run, path, "L0000-P0000-B0000")
    (first,) = reader.poll()
    reader.acknowledge(first)
    assert list(reader.poll()) == []
    commit(tiny_run, path, "L0000-P0000-B0001")
    commit(tiny_run, path, "L0002-P0000-B0000")
    grown, other = reader.poll()
    assert (first.n_replicas, grown.n_replicas, other.n_replicas) == (3, 6, 3)
    assert (first.blocks, grown.blocks, other.blocks) == ((0,), (0, 1), (0,))
    assert first.key == grown.key != other.key
    reader.acknowledge(grown)
    reader.acknowledge(other)
    assert list(reader.poll()) == []
    assert reader.n_segments == 3


def test_what_nobody_acknowledged_is_handed_out_again(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    commit(tiny_run, path, "L0000-P0000-B0000")
    reader = SegmentReader(open_run(path))
    (first,), (again,) = reader.poll(), reader.poll()
    assert first.key == again.key
    assert reader.state() == []
    commit(tiny_run, path, "L0000-P0000-B0001")
    (both,) = reader.poll()
    assert both.blocks == (0, 1)
    reader.acknowledge(first)
    (left,) = reader.poll()
    assert left.blocks == (0, 1)
    assert reader.state() == [[0, 0, 0]]


def test_a_sample_is_the_same_however_it_grew(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    reader, parent = SegmentReader(open_run(path)), ParentKey(0, 0)
    for name in ("L0000-P0000-B0001", "L0000-P0000-B0000"):
        commit(tiny_run, path, name)
        (grown,) = reader.poll()
        reader.acknowledge(grown)
    at_once = SegmentReader(open_run(path)).sample(parent, (0, 1))
    for of in ("propensity", "variance"):
        np.testing.assert_array_equal(getattr(grown, of), getattr(at_once, of))
    assert SegmentReader(open_run(path)).sample(parent, (1,)).n_replicas == 3


def test_a_segment_counts_only_once_its_sidecar_is_there(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    shutil.copy(tiny_run.path / "segments" / "L0000-P0000-B0000.gsd", path / "segments")
    assert open_run(path).samples() == []
    assert not open_run(path).complete


def test_positions_of_a_parents_replicas_make_its_labels(tiny_run: Run) -> None:
    (sample, *_) = tiny_run.samples()
    seen: dict[float, list[np.ndarray]] = {}
    numbers = set()
    for number, time, positions in tiny_run.replicas(ParentKey(sample.key.lineage, sample.key.parent)):
        moved = remove_drift(positions - sample.parent.unwrapped, np.ones(len(positions)))  # all masses are 1
        seen.setdefault(time, []).append(np.linalg.norm(moved, axis=1))
        numbers.add(number)
    assert numbers == set(range(sample.n_replicas))
    assert sorted(seen) == TINY.times
    found = [np.mean(seen[time], axis=0) for time in TINY.times]
    np.testing.assert_allclose(found, sample.propensity, rtol=1e-6)
    assert list(tiny_run.replicas(ParentKey(99, 0))) == []


def test_following_ends_when_the_run_is_complete(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    names = [entry.key.name for entry in tiny_run.entries("segments")]

    def more() -> None:
        if names:
            commit(tiny_run, path, names.pop(0))

    stream = open_run(path).stream(follow=True, interval=0.0, check=more)
    seen = [(found.key, found.n_replicas) for found in stream]
    assert len({key for key, _ in seen}) == TINY.lineages * TINY.parents
    assert max(count for _, count in seen) == 6


def test_a_reader_returns_to_where_it_was(tiny_run: Run, tmp_path: Path) -> None:
    path = empty_copy(tiny_run, tmp_path / "run")
    commit(tiny_run, path, "L0000-P0000-B0000")
    reader = SegmentReader(open_run(path))
    (before,) = reader.poll()
    reader.acknowledge(before)
    state = reader.state()
    commit(tiny_run, path, "L0000-P0000-B0001")
    again = SegmentReader(open_run(path))
    again.restore(state)
    assert again.state() == state
    restored = again.sample(ParentKey(0, 0), (0,))
    assert restored.n_replicas == before.n_replicas == 3
    np.testing.assert_array_equal(restored.propensity, before.propensity)
    (grown,) = again.poll()
    assert grown.n_replicas == 6


def test_blocks_of_one_parent_must_start_from_the_same_configuration(tiny_run: Run, run_copy: Path) -> None:
    wrong, right = run_copy / "segments" / "L0001-P0000-B0000", run_copy / "segments" / "L0000-P0000-B0001"
    shutil.copy(wrong.with_suffix(".gsd"), right.with_suffix(".gsd"))
    sidecar = json.loads(wrong.with_suffix(".json").read_text())
    sidecar.update(lineage=0, block=1)
    right.with_suffix(".json").write_text(json.dumps(sealed({**sidecar, "file": right.name + ".gsd"})))
    with pytest.raises(RunError, match="starts from another configuration"):
        open_run(run_copy).samples()


def test_a_run_can_grow_by_parents(run_copy: Path) -> None:
    from glassmd.simulation.pool import simulate

    before = {path: path.read_bytes() for path in (run_copy / "segments").iterdir()}
    result = simulate(TINY.model_copy(update={"parents": 3}), run_copy)
    assert result["parents"] == 12
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_claim_is_granted_once(run_copy: Path) -> None:
    run = RunDirectory.open(run_copy)
    with run.claim("work") as mine:
        assert mine
        with run.claim("work") as theirs:
            assert not theirs
    with run.claim("work") as later:
        assert later


def test_every_kinetic_temperature_is_within_the_fluctuations(tiny_run: Run) -> None:
    measured = [np.ravel(e.sidecar["kinetic_temperature"]) for e in tiny_run.entries("segments")]
    found = np.concatenate(measured)
    one = np.sqrt(2 / (3 * 199))  # relative, of one replica
    assert abs(found.mean() / TINY.temperature - 1) < 4 * one / np.sqrt(len(found) / 2)


# ---- reservoir -----------------------------------------------------------------------------------------------


def reservoir_of(capacity: int, count: int, **others: Any) -> Reservoir:
    found = Reservoir(capacity, lambda key: sample(key.parent), generator=np.random.default_rng(1), **others)
    for k in range(count):
        found.add(sample(k))
    return found


def draw(reservoir: Reservoir, count: int) -> list[int]:
    return [key.parent for key in reservoir.draw(count)]


def test_only_what_was_drawn_makes_room_and_all_come_in_turn() -> None:
    reservoir = reservoir_of(3, 12)
    assert len(reservoir) == 3
    assert reservoir.produced == 12
    assert set(draw(reservoir, 3)) <= {0, 1, 2}
    drawn = [draw(reservoir, 1)[0] for _ in range(600)]
    assert len(reservoir) == 3
    assert set(drawn) == set(range(12))
    last = [max(index for index, k in enumerate(drawn) if k == one) for one in range(12)]
    assert min(last) > 400, "they come back"


def test_a_sample_that_grows_replaces_itself() -> None:
    reservoir = Reservoir(2, lambda key: sample(0))
    reservoir.add(sample(0, 1.0))
    reservoir.add(sample(0, 2.0))
    assert len(reservoir) == reservoir.produced == 1
    assert reservoir.sample(reservoir.draw(1)[0]).propensity[0, 0] == 2.0


def test_drawing_waits_for_the_watermark_and_for_the_limit() -> None:
    reservoir = reservoir_of(10, 1, watermark=2, max_reuse=3)
    assert not reservoir.ready
    reservoir.add(sample(1))
    assert reservoir.ready
    draw(reservoir, 6)
    assert not reservoir.ready
    reservoir.add(sample(2))
    assert reservoir.ready
    draw(reservoir, 3)
    assert not reservoir.ready
    reservoir.no_more()
    assert reservoir.ready


def test_draws_are_uniform_and_with_replacement() -> None:
    counts = np.bincount(draw(reservoir_of(10, 4), 4000))
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(750))


def test_what_has_just_come_is_drawn_first() -> None:
    reservoir = reservoir_of(10, 4)
    assert sorted(draw(reservoir, 4)) == [0, 1, 2, 3]
    draw(reservoir, 50)
    reservoir.add(sample(7))
    reservoir.add(sample(2, 5.0))  # grown, not new
    assert draw(reservoir, 1) == [7]
    assert [key.parent for key in reservoir.first_drawn][4:] == [7]


def test_draws_beyond_the_limit_are_counted_apart_and_do_not_delay_the_others() -> None:
    reservoir = reservoir_of(10, 2, max_reuse=3)
    draw(reservoir, 6)
    assert not reservoir.ready
    assert reservoir.filled
    draw(reservoir, 5)
    assert (reservoir.drawn, reservoir.redrawn) == (6, 5)
    reservoir.add(sample(2))
    draw(reservoir, 3)
    assert (reservoir.drawn, reservoir.redrawn) == (9, 5)


def test_more_is_drawn_than_was_allowed_up_to_another_limit() -> None:
    reservoir = reservoir_of(10, 2, max_reuse=1, redraw=2, watermark=2)
    assert len(draw(reservoir, 2)) == 2
    assert not reservoir.ready
    while reservoir.drawable:
        draw(reservoir, 1)
    assert (reservoir.drawn, reservoir.redrawn) == (2, 4)
    reservoir.add(sample(2))
    assert reservoir.ready


def test_more_samples_than_are_drawn_are_a_flood() -> None:
    reservoir = reservoir_of(10, 2, watermark=2, min_reuse=3)
    assert reservoir.flooded
    draw(reservoir, 5)
    assert reservoir.flooded
    draw(reservoir, 1)
    assert not reservoir.flooded
    reservoir.add(sample(2))
    assert reservoir.flooded
    reservoir.no_more()
    assert not reservoir.flooded


def test_a_sample_that_grew_while_it_was_read_is_the_grown_one() -> None:
    def read(key: Any) -> Sample:
        reservoir.add(sample(0, 2.0))
        return sample(0, 1.0)

    reservoir = Reservoir(2, read)
    reservoir.add(sample(0, 1.0))
    reservoir.restore(json.loads(json.dumps(reservoir.state())))
    reservoir._places[0].sample = None
    key = reservoir.draw(1)[0]
    reservoir.sample(key)
    assert reservoir.sample(key).propensity[0, 0] == 2.0


def test_a_restored_reservoir_draws_what_the_first_would_have() -> None:
    first = reservoir_of(3, 7)
    draw(first, 6)
    state = json.loads(json.dumps(first.state()))
    expected = [draw(first, 2) for _ in range(20)]
    second = reservoir_of(3, 0)
    second.restore(state)
    assert [draw(second, 2) for _ in range(20)] == expected
    assert (second.drawn, second.produced) == (46, 7)
