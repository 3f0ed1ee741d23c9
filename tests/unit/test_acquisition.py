"""Where to simulate next, and when to stop: what a replica is worth, and what a run may cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassmd.engines import get_engine
from glassmd.errors import RunError, SettingsError
from glassmd.interrupt import StopRequest
from glassmd.learners import make_model
from glassmd.learners.labels import LabelSums
from glassmd.learners.part import FOLDS, Taken
from glassmd.ledger.keys import ParentKey, SegmentKey, StructureKey
from glassmd.settings import Settings
from glassmd.simulation.creation import make_run
from glassmd.simulation.pool import simulate
from glassmd.simulation.tasks import Agenda, Task, Worth, execute
from glassmd.simulation.worker import Worker
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample, SampleKey
from glassmd.training.acquisition import worth_of
from glassmd.training.session import train, train_stream
from tests.conftest import TINY, TINY_TRAIN, needs_lammps

SMALL = TINY.model_copy(
    update={"lineages": 4, "parents": 3, "replicas": 4, "held_out_replicas": 2, "block": 1, "engine": "lammps"}
)
"""Lineage 0 is for validation, 1 for testing, 2 and 3 for training."""


def agenda_with_parents(run: Run, *parents: ParentKey) -> Agenda:
    agenda = Agenda(run)
    for parent in parents:
        agenda.finished(parent)
    return agenda


# ---- what a replica is worth ----------------------------------------------------------------------------------


@needs_lammps
def test_a_replica_is_worth_what_it_adds_to_those_before(tmp_path: Path) -> None:
    run = make_run(SMALL, tmp_path / "run")
    worth = Worth(run, ({"L0002-P0000": 0.5, "L0003-P0000": 4.0}, {"2": 0.5, "3": 4.0}))
    of = [worth.of(SegmentKey(2, 0, block)) for block in range(4)]
    assert of[0] == pytest.approx(0.5 * math.log(1.5))
    assert sum(of) == pytest.approx(0.5 * math.log(1 + 4 * 0.5)), "the gains add up to that of all replicas"
    assert of == sorted(of, reverse=True)
    assert worth.of(SegmentKey(3, 0, 0)) > of[0], "where the learner knows less"
    assert worth.of(SegmentKey(2, 1, 0)) == of[0], "a parent that nobody has looked at is like its lineage"
    assert worth.of(ParentKey(2, 1)) == worth.of(StructureKey(2, 1, "cage")) == of[0] / 2, "a label must follow"
    assert worth.of(SegmentKey(0, 2, 1)) == worth.of(ParentKey(3, 0)) == math.inf


@needs_lammps
def test_an_agenda_begins_with_what_teaches_most_once_somebody_has_said_so(tmp_path: Path) -> None:
    run = make_run(SMALL, tmp_path / "run")
    agenda = agenda_with_parents(run, ParentKey(2, 0), ParentKey(3, 0))

    def order() -> list[Any]:
        return [task.key for task in agenda.ready() if isinstance(task.key, SegmentKey)]

    even = order()
    assert even == [SegmentKey(2, 0, k) for k in range(4)] + [SegmentKey(3, 0, k) for k in range(4)]
    run.tell_worth({"L0002-P0000": 0.1, "L0003-P0000": 3.0}, {"2": 0.1, "3": 3.0})
    agenda.look()
    assert order() == [SegmentKey(3, 0, k) for k in range(4)] + [SegmentKey(2, 0, k) for k in range(4)]
    agenda.finished(SegmentKey(3, 0, 1))
    assert order()[:2] == [SegmentKey(3, 0, 0), SegmentKey(3, 0, 2)]
    run.tell_worth({"L0002-P0000": 3.0, "L0003-P0000": 0.1}, {"2": 3.0, "3": 0.1})
    agenda.look()
    assert order()[0] == SegmentKey(2, 0, 0)
    (run.home / "worth.json").write_text('{"parents": [1], "lineages": {}}')
    agenda.look()
    assert order()[0] == SegmentKey(2, 0, 0), "what is damaged changes nothing"
    assert len(agenda) == sum(1 for _ in agenda.ready()) + len({k for of in agenda._waiting.values() for k in of})


class Divided(torch.nn.Module):
    """Parts that differ by a known amount on every particle."""

    def __init__(self, apart: float | None) -> None:
        super().__init__()
        self.apart = apart
        self.register_buffer("scale", torch.ones(2, 1))

    def disagreement(self, data: Any) -> torch.Tensor | None:
        return None if self.apart is None else torch.full((4, 1), self.apart)


def taken_of(*samples: Sample) -> Taken:
    taken = Taken(
        n_species=2,
        n_times=1,
        encode=lambda sample: torch.zeros(4),  # type: ignore[arg-type, return-value]
        mask=lambda sample: sample.parent.species == 0,
        fold=lambda key: 0,
        recall=lambda key, blocks: next(one for one in samples if one.key == key),
    )
    for sample in samples:
        taken.blocks[sample.key] = (0,)
        taken.labels = taken.labels.added(sample)
    return taken


def sample_with(variance: float, replicas: int) -> Sample:
    from glassmd.configuration import Configuration

    parent = Configuration(box=[9, 9, 9], species=[0, 0, 1, 1], positions=np.arange(12.0).reshape(4, 3) / 2)
    spread = np.full((1, 4), variance if replicas > 1 else np.nan)
    return Sample(SampleKey("r", 2, 0), parent, np.array([1.0]), np.ones((1, 4)), spread, replicas, "train")


def test_worth_is_what_the_parts_disagree_by_over_how_replicas_differ() -> None:
    sample = sample_with(0.5, 4)
    assert worth_of(Divided(0.25), taken_of(sample)) == {sample.key: pytest.approx(0.5)}  # type: ignore[arg-type]
    assert worth_of(Divided(None), taken_of(sample)) == {}, "nothing learned yet"  # type: ignore[arg-type]
    assert worth_of(Divided(0.25), taken_of(sample_with(0.5, 1))) == {}, "one replica says no variance"  # type: ignore[arg-type]
    assert worth_of(Divided(0.25), taken_of(sample_with(0.0, 4))) == {}, "replicas that agree say all"  # type: ignore[arg-type]


def test_the_members_of_glassnet_disagree_once_two_have_learned(tiny_run: Run) -> None:
    from glassmd.graphs import batch_graphs
    from glassmd.stream.structures import Structures

    model = make_model("glassnet", n_times=2, inputs=["thermal"])
    sample = tiny_run.samples()[0]
    data = batch_graphs([model.encode(Structures([tiny_run], model.inputs).of(sample))])
    model.eval()
    assert model.disagreement(data) is None
    model.steps[:2] = 1  # type: ignore[union-attr, operator]
    same = model.disagreement(data)
    assert same is not None
    assert same.shape == (TINY.particles, 2)
    for member in model.members:  # type: ignore[union-attr]
        torch.nn.init.normal_(member.beside.weight, std=0.1)  # type: ignore[union-attr]
    apart = model.disagreement(data)
    assert apart is not None
    members = torch.stack([model._member(k, data) for k in range(2)])  # type: ignore[operator]
    torch.testing.assert_close(apart, (members[0] - members[1]) ** 2 / 2)
    assert FOLDS > 2
    assert bool((apart > 0).all())


@needs_lammps
def test_a_stream_is_steered_by_what_the_learner_does_not_know(tmp_path: Path) -> None:
    told = {"model": "glassnet", "input": ["thermal"], "hyperparameters": {"width": 8, "n_layers": 1}}
    settings = TINY_TRAIN.model_copy(update={**told, "max_steps": 30, "validate_every": 5, "acquire": "uncertainty"})
    result = train_stream(Settings(run=SMALL, train=settings), tmp_path / "m")
    run = open_run(result["run"])
    assert run.complete
    told_last = run.worth()
    assert told_last is not None
    parents, lineages = told_last
    assert set(lineages) == {"2", "3"}
    assert all(0 < ratio < math.inf for ratio in parents.values())


@pytest.mark.parametrize(
    ("changes", "follow", "match"),
    [({"model": "bapst"}, True, "parts can disagree: glassnet"), ({"model": "glassnet"}, False, "add --stream")],
)
def test_steering_without_a_wheel_is_refused(
    tiny_run: Run, tmp_path: Path, changes: dict[str, Any], follow: bool, match: str
) -> None:
    settings = Settings(run=TINY, train=TINY_TRAIN.model_copy(update={**changes, "acquire": "uncertainty"}))
    with pytest.raises(SettingsError, match=match):
        train([tiny_run.path], tmp_path / "m", settings, follow=follow)
    assert not (tmp_path / "m").exists()


# ---- what a run may cost --------------------------------------------------------------------------------------


@needs_lammps
def test_a_budget_ends_a_run_that_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    cheap = SMALL.model_copy(update={"budget": 1})
    first = make_run(cheap, tmp_path / "run")
    assert first.budget_share == 0
    Worker(first, get_engine("lammps", "cpu"), StopRequest()).work()
    assert first.spent
    assert first.complete
    assert first.index.count("segments") < first.n_expected_segments
    result = simulate(cheap.model_copy(update={"budget": 10**9}), tmp_path / "run")
    assert result["segments"] == first.n_expected_segments
    run = open_run(tmp_path / "run")
    assert run.complete
    assert not run.spent
    assert 0 < (run.budget_share or 0) < 1
    with pytest.raises(RunError, match="budget = 1000000000"):
        simulate(cheap, tmp_path / "run")


@needs_lammps
def test_a_stream_with_a_budget_takes_its_steps_until_it_is_spent(tmp_path: Path) -> None:
    settings = TINY_TRAIN.model_copy(update={"max_steps": 12, "redraw": 0})
    whole = simulate(SMALL, tmp_path / "whole")
    equilibration = open_run(tmp_path / "whole").index.steps["parents"]
    budget = equilibration + (whole["steps"] - equilibration) // 2
    result = train_stream(Settings(run=SMALL.model_copy(update={"budget": budget}), train=settings), tmp_path / "m")
    run = open_run(result["run"])
    assert run.complete
    assert result["steps"] == 12
    assert budget <= sum(run.index.steps.values()) < whole["steps"]


@needs_lammps
def test_structures_that_a_spent_budget_leaves_undone_are_made(tmp_path: Path) -> None:
    told = {"model": "ridge", "input": ["inherent"], "validation_share": 0.0}
    run = SMALL.model_copy(update={"budget": 1, "workers": 1, "accept_unequilibrated": True})
    first, engine = make_run(run, tmp_path / "m" / "run"), get_engine("lammps", "cpu")
    list(execute([Task(ParentKey(2, 0))], first, engine, lambda: None))
    list(execute([Task(SegmentKey(2, 0, k)) for k in range(2)], first, engine, lambda: None))
    assert first.complete
    result = train_stream(Settings(run=run, train=TINY_TRAIN.model_copy(update=told)), tmp_path / "m")
    assert result["input_cost"]["inherent"]["configurations"] == 1


def test_labels_of_one_replica_know_no_variance() -> None:
    assert np.isnan(LabelSums.none(2, 1).added(sample_with(0.5, 1)).variance).all()
