"""Work that is simulated together is the work that each piece would have been alone."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.engines import Engine, Observation, Thermostat
from glassmd.engines.lammps import LammpsEngine
from glassmd.errors import EquilibrationError, Interrupted
from glassmd.interrupt import StopRequest
from glassmd.ledger.run import RunDirectory, SegmentKey
from glassmd.mixtures import Mixture, get_mixture
from glassmd.simulation.creation import make_run
from glassmd.simulation.equilibration import Protocol, Unfinished, equilibrate_together
from glassmd.simulation.tasks import tasks_of
from glassmd.simulation.worker import Worker
from glassmd.status import StatusFile
from glassmd.stream.dataset import open_run
from tests.conftest import TINY, needs_lammps
from tests.sidecars import rewrite

MIXTURE = get_mixture("kob-andersen")
SETTINGS = TINY.model_copy(
    update={
        "lineages": 4, "parents": 2, "replicas": 1, "held_out_replicas": 3, "block": 2, "parent_spacing": 1.0,
        "melt_time": 2.0, "tau_alphas": 2.0, "max_equilibration_time": 10.0, "accept_unequilibrated": True,
    }
)  # fmt: skip
"""Twelve blocks, of one or two replicas, of lineages that take a quarter of a second each."""

STEP = 0.02
WALK = Protocol(melt_temperature=0.1, melt_time=1.0, first_time=10.0, max_time=200.0)


class Walkers(Engine):
    """Brownian particles: no chaos, and a noise that is a function of seed and step, as in a real engine."""

    name, version, device = "walkers", "0", "cpu"

    def __init__(self, *, in_turn: bool = False) -> None:
        self.calls: list[tuple[int, list[int], int]] = []
        self.observations = 0
        self.stop_after: int | None = None
        self._in_turn = in_turn

    def evolve(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Observation]:
        assert thermostat is not None
        self.calls.append((len(systems), list(steps), thermostat.first_step))
        walks = [self._walk(i, system, steps, time_step, thermostat) for i, system in enumerate(systems)]
        rounds = walks if self._in_turn else map(reversed, zip(*walks, strict=True))
        for seen in (seen for one_round in rounds for seen in one_round):
            if self.observations == self.stop_after:
                raise Interrupted("stopped by the test")
            self.observations += 1
            yield seen

    def _walk(
        self, index: int, system: Configuration, steps: Sequence[int], time_step: float, thermostat: Thermostat
    ) -> Iterator[Observation]:
        assert system.velocities is not None
        x, v, kept = system.unwrapped, system.velocities, np.exp(-time_step / 0.2)
        for step in range(1, steps[-1] + 1):
            noise = np.random.Generator(
                np.random.Philox(key=thermostat.seeds[index], counter=(thermostat.first_step + step) << 64)
            ).standard_normal(x.shape)
            v = kept * v + np.sqrt((1 - kept**2) * thermostat.temperature) * noise
            x = x + time_step * v
            if step in steps:
                yield Observation(index, step, x, v, noise[0, 0], float((v**2).mean()), noise[1, 1])


class Together(LammpsEngine):
    """LAMMPS as if it simulated several systems at once: they advance side by side and report in reverse order."""

    def __init__(self, packed: int) -> None:
        super().__init__()
        self.packed = packed
        self.sizes: list[int] = []
        self.steps: list[list[int]] = []

    def evolve(
        self,
        systems: Sequence[Configuration],
        mixture: Mixture,
        *,
        steps: Sequence[int],
        time_step: float,
        thermostat: Thermostat | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[Observation]:
        self.sizes.append(len(systems))
        self.steps.append(list(steps))
        alone = [
            super(Together, self).evolve(
                [system], mixture, steps=steps, time_step=time_step, check=check,
                thermostat=None if thermostat is None else replace(thermostat, seeds=(thermostat.seeds[index],)),
            )
            for index, system in enumerate(systems)
        ]  # fmt: skip
        for side_by_side in zip(*alone, strict=True):
            for index, seen in reversed(list(enumerate(side_by_side))):
                yield replace(seen, system=index)


class InTurn(LammpsEngine):
    """LAMMPS that is given several systems and may be interrupted after some of its observations."""

    packed = 8
    stop_after: int | None = None

    def evolve(self, *arguments: Any, **options: Any) -> Iterator[Observation]:
        for count, seen in enumerate(super().evolve(*arguments, **options)):
            if count == self.stop_after:
                raise Interrupted("stopped by the test")
            yield seen


# ---- equilibration --------------------------------------------------------------------------------------------


def walk_together(
    engine: Engine, seeds: Sequence[int], keep: Sequence[Unfinished] | None = None
) -> Iterator[tuple[int, Configuration, dict[str, Any]]]:
    return equilibrate_together(
        engine, MIXTURE, [np.random.default_rng(seed) for seed in seeds],
        n_particles=160, density=1.2, temperature=0.1, time_step=STEP, protocol=WALK, keep=keep,
    )  # fmt: skip


def numbers(report: Any) -> list[float]:
    """Every number of a report, in order."""
    if isinstance(report, dict):
        return [number for value in report.values() for number in numbers(value)]
    return [float(report)] if isinstance(report, (int, float)) else []


def check_same_lineage(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Frames are kept in single precision, so that rounding at a cut may show in a relative 1e-7 of τ_α."""
    assert found["reasons"] == expected["reasons"]
    assert found["total_time"] == expected["total_time"]
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-6, abs=1e-9)


SEEDS = (3, 4, 5, 6)


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    """Reports of four lineages, each equilibrated alone."""
    return [report for seed in SEEDS for _, _, report in walk_together(Walkers(), [seed])]


def test_a_lineage_is_the_same_in_any_company(alone: list[dict[str, Any]]) -> None:
    engine = Walkers()
    reports = {index: report for index, _, report in walk_together(engine, SEEDS)}
    lengths = {report["total_time"] for report in alone}
    assert len(lengths) > 1, "some need more time than others"
    assert any(report["equilibrated"] for report in alone)
    for index, report in enumerate(alone):
        check_same_lineage(reports[index], report)
    sizes = [size for size, _, _ in engine.calls]
    assert sizes[0] == len(SEEDS)
    assert sizes == sorted(sizes, reverse=True), "who is finished leaves"
    longest = max(lengths)
    evolved = sum(size * steps[-1] for size, steps, _ in engine.calls[2:]) * STEP
    assert evolved == pytest.approx(sum(report["total_time"] for report in alone)), "and nobody goes on in vain"
    assert evolved < len(SEEDS) * longest


def test_the_engine_reports_frames_and_ends_of_stretches_only() -> None:
    engine = Walkers()
    list(walk_together(engine, SEEDS))
    interval = round(0.1 / STEP)
    for _, steps, first in engine.calls[2:]:
        assert all((first + step) % interval == 0 for step in steps[:-1])
    assert [len(steps) for _, steps, _ in engine.calls[:2]] == [1, 1], "of the melt only the end is seen"


def test_who_is_finished_is_handed_over_while_the_others_go_on(alone: list[dict[str, Any]]) -> None:
    engine = Walkers()
    handed = [(index, report["total_time"], engine.observations) for index, _, report in walk_together(engine, SEEDS)]
    assert [time for _, time, _ in handed] == sorted(report["total_time"] for report in alone)
    assert handed[0][2] < handed[-1][2]


def test_lineages_that_were_interrupted_at_different_steps_meet_again(
    alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    keep = [Unfinished(tmp_path / f"{seed}.npz", every=0.0) for seed in SEEDS]
    engine = Walkers(in_turn=True)
    engine.stop_after = 2 * len(SEEDS) + 130  # in the second lineage's first run of 100 frames
    with pytest.raises(Interrupted):
        list(walk_together(engine, SEEDS, keep))
    kept = [unfinished.load() for unfinished in keep]
    assert [None if state is None else int(state["steps"]) for state in kept] == [500, 150, None, None]
    for unfinished in keep:
        unfinished.every = 60.0
    again = Walkers()
    reports = {index: report for index, _, report in walk_together(again, SEEDS, keep)}
    for index, report in enumerate(alone):
        check_same_lineage(reports[index], report)
    assert [(size, first) for size, _, first in again.calls[2:5]] == [(2, 0), (3, 150), (4, 500)]


@needs_lammps
def test_liquids_packed_together_are_those_equilibrated_alone_to_the_last_bit() -> None:
    options: dict[str, Any] = {
        "n_particles": 160, "density": 1.2, "temperature": 0.45, "time_step": 0.005,
        "protocol": Protocol(melt_time=1.0, first_time=3.0, max_time=5.0),
    }  # fmt: skip
    engine = Together(4)
    generators = [np.random.default_rng(seed) for seed in (1, 2, 3)]
    packed = {index: end for index, *end in equilibrate_together(engine, MIXTURE, generators, **options)}
    assert engine.sizes == [3] * 4, "two stages of the melt, two stretches of the run"
    for index, seed in enumerate((1, 2, 3)):
        alone = equilibrate_together(LammpsEngine(), MIXTURE, [np.random.default_rng(seed)], **options)
        ((_, liquid, report),) = alone
        assert packed[index][1] == report
        assert np.array_equal(packed[index][0].positions, liquid.positions)
        assert np.array_equal(packed[index][0].velocities, liquid.velocities)


# ---- the worker -----------------------------------------------------------------------------------------------


def work(path: Path, engine: Engine, **options: Any) -> RunDirectory:
    run = make_run(SETTINGS, path)
    Worker(run, engine, StopRequest(), accept_unequilibrated=True, **options).work()
    return run


def checksums(path: Path) -> dict[str, str]:
    run = open_run(path)
    return {e.path.stem: e.sidecar["sha256"] for kind in ("parents", "segments") for e in run.entries(kind)}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an engine that simulates one system at a time."""
    path = tmp_path_factory.mktemp("one") / "run"
    engine = Together(1)
    work(path, engine)
    assert Counter(evolved(engine, SETTINGS.steps())) == {1: 8, 2: 4}, "one block of replicas at a time"
    assert sum(engine.sizes) - 16 == len(engine.sizes) - 12, "and one of everything else"
    return path


def evolved(engine: Together, steps: list[int]) -> list[int]:
    """How many systems were evolved together over those steps, call by call."""
    return [size for size, asked in zip(engine.sizes, engine.steps, strict=True) if asked == steps]


@pytest.fixture(scope="module")
def four_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Together]:
    """The same run, four systems at a time."""
    path, engine = tmp_path_factory.mktemp("four") / "run", Together(4)
    work(path, engine)
    return path, engine


@needs_lammps
def test_a_run_has_the_same_files_however_many_systems_are_simulated_at_once(
    one_by_one: Path, four_at_once: tuple[Path, Together]
) -> None:
    path, engine = four_at_once
    assert checksums(path) == checksums(one_by_one)
    assert len(checksums(path)) == 20
    assert engine.sizes[:3] == [4, 4, 4], "the lineages are equilibrated together"
    replicas = evolved(engine, SETTINGS.steps())
    assert sum(replicas) == 16
    assert set(replicas) == {4}, "two parents have eight replicas in blocks of one and two, which fill two simulations"
    spacing = round((SETTINGS.parent_spacing - SETTINGS.times[-1]) / SETTINGS.time_step)
    assert evolved(engine, [spacing]) == [4], "and so are their next parents made"


@needs_lammps
def test_the_sidecars_differ_in_the_clock_only(one_by_one: Path, four_at_once: tuple[Path, Together]) -> None:
    for path in sorted(one_by_one.glob("*/L*.json")):
        theirs, ours = (
            json.loads((base / path.relative_to(one_by_one)).read_text()) for base in (one_by_one, four_at_once[0])
        )
        assert ours["seconds"] > 0
        for sidecar in (ours, theirs):
            del sidecar["created"], sidecar["seconds"], sidecar["run"], sidecar["checksum"]
        assert ours == theirs


def without(original: Path, copy: Path, *patterns: str) -> RunDirectory:
    """A copy of a run that lacks some of its files."""
    shutil.copytree(original, copy)
    for pattern in patterns:
        for path in copy.glob(pattern):
            path.unlink()
    return RunDirectory.open(copy)


@needs_lammps
def test_a_refused_lineage_loses_nothing_of_those_it_was_simulated_with(one_by_one: Path, tmp_path: Path) -> None:
    run = without(one_by_one, tmp_path / "run", "segments/L*-P0001-*")
    parent = tmp_path / "run" / "parents" / "L0003-P0000.json"
    sidecar = json.loads(parent.read_text())
    sidecar["equilibration"] |= {"equilibrated": False, "crystalline_fraction": 0.5}
    rewrite(parent, equilibration=sidecar["equilibration"])
    engine = Together(32)
    with pytest.raises(EquilibrationError, match="lineage 3 has crystallised"):
        Worker(run, engine, StopRequest()).work()
    assert engine.sizes == [7], "all replicas of the second parents but the refused one's"
    expected = {name: digest for name, digest in checksums(one_by_one).items() if name != "L0003-P0001-B0000"}
    assert checksums(tmp_path / "run") == expected


@needs_lammps
def test_a_liquid_that_crystallised_on_its_way_to_the_next_parent_stops_no_other(
    one_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = without(one_by_one, tmp_path / "run", "parents/L*-P0001.*", "segments/L*-P0001-*")
    fractions = iter([0.0, 0.9, 0.0, 0.0])
    monkeypatch.setattr("glassmd.simulation.parents.crystalline_fraction", lambda liquid: next(fractions))
    engine = Together(4)
    with pytest.raises(EquilibrationError, match=r"crystallised before parent 1 \(90%"):
        Worker(run, engine, StopRequest()).work()
    assert engine.sizes[0] == 4
    missing = set(checksums(one_by_one)) - set(checksums(tmp_path / "run"))
    assert {name[:11] for name in missing} == {min(missing)}, "one lineage's second parent and its replicas"


@needs_lammps
def test_an_interrupted_batch_keeps_what_was_committed_and_the_next_one_completes_it(
    one_by_one: Path, tmp_path: Path
) -> None:
    run = without(one_by_one, tmp_path / "run", "segments/L*-P0001-*")
    before = len(run.entries("segments"))
    engine = InTurn()
    engine.stop_after = 3 * len(SETTINGS.times) + 1  # in the fourth replica; the first three are two blocks
    with pytest.raises(Interrupted):
        Worker(run, engine, StopRequest()).work()
    committed = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "segments").glob("*.gsd")}
    assert len(committed) == before + 2
    engine.stop_after = None
    Worker(RunDirectory.open(tmp_path / "run"), engine, StopRequest()).work()
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "segments").glob("*.gsd")}
    assert {name: after[name] for name in committed} == committed, "nothing was made twice"
    assert checksums(tmp_path / "run") == checksums(one_by_one)
    assert not list((tmp_path / "run").rglob("*.tmp"))


@needs_lammps
def test_a_task_that_another_worker_has_is_left_to_it(one_by_one: Path, tmp_path: Path) -> None:
    run = without(one_by_one, tmp_path / "run", "segments/L*-P0001-*")
    engine = Together(32)
    other = RunDirectory.open(tmp_path / "run")

    def let_go() -> None:
        if run.entry("segments", "L0003-P0001-B0000") is not None:
            held.__exit__(None, None, None)

    held = other.claim("L0002-P0001-B0000")
    assert held.__enter__()
    Worker(run, engine, StopRequest(), show=let_go).work()
    assert engine.sizes == [7, 1]
    assert checksums(tmp_path / "run") == checksums(one_by_one)


@needs_lammps
def test_the_display_names_one_task_and_counts_the_others(
    one_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = without(one_by_one, tmp_path / "run", "segments/L*-P0001-*")
    shown: list[str] = []
    monkeypatch.setattr(StatusFile, "offer", lambda self, content: shown.append(content()["task"]))
    Worker(run, Together(32), StopRequest()).work()
    names = [task.name for task in tasks_of(run) if isinstance(task.key, SegmentKey) and task.key.parent == 1]
    # Systems report in reverse order, so the first block is the last to be complete.
    tasks = [name for name, _ in groupby(name for name in shown if name)]
    assert tasks == [f"{names[0]} and {left} more" for left in (5, 4, 3, 2, 1)] + [names[0]]
    assert not list((tmp_path / "run" / "workers").glob("*.json")), "a worker that has ended says nothing any more"
