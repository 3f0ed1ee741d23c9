"""Whatever the order of arrival and wherever it is stopped, what is solved ends where it would have ended offline."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.errors import Interrupted
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.interrupt import StopRequest
from glassmd.learners.fitting.fit import Fit
from glassmd.learners.fitting.solved import Solved
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.learners.part import FOLDS
from glassmd.models.store import load_model
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import Run, SegmentReader, open_run
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.structures import Structures
from glassmd.structure import INPUTS
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.encoding import Encodings
from glassmd.training.loop import Trainer
from glassmd.training.session import train
from glassmd.training.source import SampleSource
from tests.conftest import TINY, needs_lammps

ORDERS = 20
STOPS = 3
LEARNERS = ("ridge", "cage", "softness-regression", "debye-waller", "glassnet")
RUN = TINY.model_copy(
    update={"lineages": 2 + FOLDS, "parents": 2, "replicas": 4, "held_out_replicas": 4, "block": 2, "seed": 11}
)
"""One lineage for every fold, one for validation and one for the test, and every label in two pieces."""

pytestmark = [needs_lammps, pytest.mark.slow]


class Killed(BaseException):
    """kill -9, for this test: nothing is saved any more."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the structures of all parents."""
    path = tmp_path_factory.mktemp("whole") / "run"
    simulate(RUN, path)
    run = open_run(path)
    Structures([run], INPUTS).make([sample.key for sample in run.samples()], RUN)
    return path


@dataclass
class Session:
    """A learner on a copy of the run whose segments appear one after the other.

    Attributes:
        run: The copy.
        hidden: Sidecars that are still to come, in their order.
        out: Model directory.
        learner: Its name.
        encodings: Shared by all trainings of the learner.
        strikes: What was struck, and where.
    """

    run: Path
    hidden: list[Path]
    out: Path
    learner: str
    encodings: Encodings
    strikes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, whole: Path, place: Path, learner: str, encodings: Encodings, dice: random.Random) -> Session:
        run = place / "run"
        shutil.copytree(whole, run, ignore=shutil.ignore_patterns("index", "claims", "workers"))
        store = place / "store"
        store.mkdir()
        hidden = [path.rename(store / path.name) for path in sorted((run / "segments").glob("*.json"))]
        dice.shuffle(hidden)
        return cls(run, hidden, place / "model", learner, encodings)

    def copy(self, place: Path) -> Session:
        """The same in another place."""
        shutil.copytree(self.run.parent, place, ignore=shutil.ignore_patterns("index", "claims", "workers"))
        hidden = [place / path.relative_to(self.run.parent) for path in self.hidden]
        return Session(place / "run", hidden, place / "model", self.learner, self.encodings)

    def more(self, count: int) -> None:
        """Commit the next segments."""
        for sidecar in self.hidden[:count]:
            sidecar.rename(self.run / "segments" / sidecar.name)
        del self.hidden[:count]

    def train(self, *, follow: bool = True, stop: StopRequest | None = None) -> None:
        train([self.run], self.out, settings_of(self.learner), follow=follow, encodings=self.encodings, stop=stop)


def settings_of(learner: str) -> Settings:
    small = {"width": 4, "n_layers": 1} if learner == "glassnet" else {}
    settings = TrainSettings(
        model=learner, hyperparameters=small, max_steps=20, checkpoint_every=4, validate_every=10, train_threads=1,
        train_device="cpu", reservoir=3,
    )  # fmt: skip
    return Settings(run=RunSettings(seed=3), train=settings)


WHERE: set[CodeType] = {
    method.__code__
    for method in (
        Trainer._look, Fit.take, Fit._settle, Solved.taking, Solved.take, Solved._anew, Reservoir.add,
        SampleSource.acknowledge, SampleSource.recall, SegmentReader.waiting, SegmentReader.sample,
        SegmentReader.acknowledge, SegmentReader.settle,
    )
}  # fmt: skip
"""What runs between a poll and its acknowledgement."""


@contextmanager
def strike_at(number: int | None, blow: BaseException | None = None) -> Iterator[list[str]]:
    """Raise at the n-th statement of :data:`WHERE`; yields the statements that were come by."""
    passed: list[str] = []

    def of_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            passed.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            if len(passed) - 1 == number and blow is not None:
                raise blow
        return of_line

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: of_line if frame.f_code in WHERE else None)
    try:
        yield passed
    finally:
        sys.settrace(before)


def encoded(model: Path, run: Run) -> list[Data]:
    """All samples as a learner takes them, in double precision."""
    learner, structures = load_model(model).model, Structures([run], INPUTS)
    found = [learner.encode(structures.of(sample)) for sample in run.samples()]
    for data in found:
        data[NODE_FEATURES] = data[NODE_FEATURES].double()
    return found


@torch.no_grad()
def predictions(model: Path, samples: list[Data]) -> list[Tensor]:
    """Of the part that is solved, and their spreads, in double precision."""
    learner = load_model(model).model.double()
    if isinstance(learner, GlassNet):
        given = [(data[NODE_FEATURES], data[NODE_SPECIES]) for data in samples]
        return [of(*one) for one in given for of in (learner.linear, learner.linear.spread)]
    return [of(data) for data in samples for of in (learner, learner.spread)]


def require_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=0.0)


def consumed(out: Path) -> tuple[set[tuple[int, int, int]], set[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """What was learned from, what was heard of, and what was acknowledged, by lineage, parent and block."""
    path = latest_checkpoint(out)
    assert path is not None
    state = load_checkpoint(path)[1]
    fit = state["fit"]
    taken, heard = (
        [(lineage, parent, block) for _, lineage, parent, *blocks in fit[name] for block in blocks]
        for name in ("taken", "heard")
    )
    (position,) = state["source"]["position"].values()
    every = [taken, heard, [tuple(key) for key in position]]
    assert all(len(set(of)) == len(of) for of in every), "something was taken twice"
    return set(taken), set(heard), set(every[2])


def require_everything_consumed(session: Session) -> None:
    run = open_run(session.run)
    committed = {tuple(entry.key) for entry in run.entries("segments")}
    assert len(committed) == (2 + FOLDS) * 2 * 2
    taken, heard, acknowledged = consumed(session.out)
    assert acknowledged == committed
    assert taken == {key for key in committed if RUN.role(key[0]) == "train"}
    assert heard == {key for key in committed if RUN.role(key[0]) == "validation"}


@pytest.fixture
def steps_by_fold(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Steps of `glassnet` by member and fold of the sample."""
    counted: Counter[tuple[int, int]] = Counter()
    objective = GlassNet.objective

    def counting(self: GlassNet, data: Any, *others: Any) -> Tensor:
        before = self.steps.clone()
        loss = objective(self, data, *others)
        (member,) = torch.nonzero(self.steps - before)[:, 0].tolist()
        counted[member, int(data.fold)] += 1
        return loss

    monkeypatch.setattr(GlassNet, "objective", counting)
    return counted


@pytest.mark.parametrize("learner", LEARNERS)
def test_any_order_with_stops_anywhere_ends_where_offline_does(
    whole: Path,
    tmp_path: Path,
    learner: str,
    repeats: int,
    monkeypatch: pytest.MonkeyPatch,
    steps_by_fold: Counter[tuple[int, int]],
) -> None:
    """`--repeats 20` tries all twenty orders of every learner."""
    monkeypatch.setattr("glassmd.training.loop.LOOK", 0.0)
    monkeypatch.setattr("glassmd.training.loop.IDLE", 0.0)
    encodings, run = Encodings(), open_run(whole)
    train([whole], tmp_path / "offline", settings_of(learner), encodings=encodings)
    samples = encoded(tmp_path / "offline", run)
    expected = predictions(tmp_path / "offline", samples)
    waiting = SampleSource.waiting
    kinds: Counter[str] = Counter()
    for order in range(max(2, repeats)):
        dice = random.Random(f"{learner} {order}")
        session = Session.begin(whole, tmp_path / f"order-{order}", learner, encodings, dice)

        def arriving(self: SampleSource, session: Session = session, dice: random.Random = dice) -> Iterator[Any]:
            session.more(dice.choice((0, 1, 1, 2, 5)))
            return waiting(self)

        monkeypatch.setattr(SampleSource, "waiting", arriving)
        for _ in range(STOPS):
            kind, stop = dice.choice(("SIGTERM", "SIGINT", "kill -9", "raised")), StopRequest()
            blow: BaseException = Killed() if kind == "kill -9" else Interrupted("stopped", "", "")
            with strike_at(dice.randrange(1, 400), None if kind.startswith("SIG") else blow) as passed:
                if kind.startswith("SIG"):
                    asked = dice.randrange(1, 40)
                    polite(monkeypatch, stop, kind, asked)
                try:
                    session.train(stop=stop)
                except (Killed, Interrupted):
                    kinds[kind] += 1
                finally:
                    monkeypatch.setattr(StopRequest, "check", CHECK)
            session.strikes.append(f"{kind} at {passed[-1] if passed else 'the start'}")
        session.train()
        require_everything_consumed(session)
        require_same(predictions(session.out, samples), expected)
    assert kinds.total() > order, f"stops that struck: {kinds}"
    if learner == "glassnet":
        assert steps_by_fold.total() >= 20 * (order + 2)
        assert not [member for member, fold in steps_by_fold if member == fold], steps_by_fold
    print(f"\n{learner}: {order + 1} orders, stops that struck: {dict(kinds)}")


CHECK = StopRequest.check


def polite(monkeypatch: pytest.MonkeyPatch, stop: StopRequest, kind: str, number: int) -> None:
    """A signal that comes just before somebody asks for it for the n-th time."""
    asked = 0

    def check(self: StopRequest) -> None:
        nonlocal asked
        asked += self is stop
        if asked == number:
            stop._signal = kind
        CHECK(self)

    monkeypatch.setattr(StopRequest, "check", check)


def test_a_stop_at_every_statement_between_poll_and_acknowledgement(
    whole: Path, tmp_path: Path, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that leave a checkpoint behind at the worst moment at each statement, and with `--repeats 2` kills."""
    monkeypatch.setattr("glassmd.training.loop.LOOK", 0.0)
    learner, encodings, run = "debye-waller", Encodings(), open_run(whole)
    train([whole], tmp_path / "offline", settings_of(learner), encodings=encodings)
    samples = encoded(tmp_path / "offline", run)
    expected = predictions(tmp_path / "offline", samples)
    names = ("L0004-P0000-B0001", "L0002-P0001-B0000", "L0004-P0000-B0000", "L0002-P0000-B0000")

    # Two samples are there, and then one grows and one with a lower key arrives.
    begun = Session.begin(whole, tmp_path / "begun", learner, encodings, random.Random(0))
    begun.hidden.sort(key=lambda path: names.index(path.stem) if path.stem in names else 99)
    begun.more(2)
    with pytest.raises(Interrupted):
        begun.train(stop=after_looks(monkeypatch, 2))
    begun.more(2)
    first = begun.copy(tmp_path / "first")
    with strike_at(None) as passed, pytest.raises(Interrupted):
        first.train(stop=after_looks(monkeypatch, 2))
    distinct = list(dict.fromkeys(passed))
    places = [passed.index(one) for one in distinct]
    assert len({name.partition(":")[0] for name in distinct}) >= 9, "the whole way from poll to acknowledgement"
    struck = 0
    for number in places:
        blows: tuple[BaseException, ...] = Interrupted("stopped", "", ""), Killed()
        for blow in blows[: 2 if repeats > 1 else 1]:
            session = begun.copy(tmp_path / f"at-{number}-{type(blow).__name__}")
            with strike_at(number, blow), pytest.raises(type(blow)):
                session.train()
            struck += 1
            session.more(99)
            session.train()
            require_everything_consumed(session)
            require_same(predictions(session.out, samples), expected)
            shutil.rmtree(session.run.parent)
    print(f"\n{struck} stops at {len(places)} statements")


def after_looks(monkeypatch: pytest.MonkeyPatch, number: int) -> StopRequest:
    """A stop that is asked for at the end of the n-th look."""
    stop, look, looks = StopRequest(), Trainer._look, 0

    def counted(self: Trainer) -> bool:
        nonlocal looks
        everything = look(self)
        looks += 1
        if looks >= number:
            stop._signal = "SIGTERM"
            monkeypatch.setattr(Trainer, "_look", look)
        return everything

    monkeypatch.setattr(Trainer, "_look", counted)
    return stop
