"""Several models of one liquid as one: each time by the one that suits it best."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import glassmd.prediction as prediction
from glassmd.errors import EngineError, ModelError
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.family import plan_of, read_cards
from glassmd.models.store import load_models
from glassmd.prediction import predict, predict_samples
from glassmd.settings import Settings
from glassmd.storage import sealed
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.training.session import train
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps
from tests.fault.refusals import assert_refused

THERMAL, ALL = ("thermal",), ("thermal", "inherent", "cage")


def card(*times: float) -> ModelCard:
    return ModelCard(
        model="ridge",
        mixture=get_mixture("kob-andersen").identity(),
        temperatures=[0.5],
        density=1.2,
        times=list(times),
        trained_species=["A"],
    )


SHORT, LONG = card(1.0, 1.5, 2.0, 3.0, 4.0), card(2.0, 3.0, 4.0, 6.0)


def shares(inputs: list[tuple[str, ...]], times: list[float], *cards: ModelCard) -> list[list[float]]:
    plan = plan_of(cards or (SHORT, LONG), inputs, 0.5, times)
    return [plan.parts[k][1].tolist() if k in plan.parts else [0.0] * len(times) for k in range(2)]


def test_each_time_is_predicted_by_the_model_that_begins_latest() -> None:
    assert shares([ALL, ALL], [1.0, 1.7, 3.5, 6.0]) == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]


def test_one_takes_over_from_the_other_without_a_jump() -> None:
    times = np.geomspace(1.0, 6.0, 400).tolist()
    first, second = (np.array(of) for of in shares([ALL, ALL], times))
    assert np.allclose(first + second, 1.0)
    assert np.abs(np.diff(second)).max() < 0.03
    assert (second[np.array(times) > 3.2] == 1.0).all()
    plan = plan_of((SHORT, LONG), [ALL, ALL], 0.5, times)
    values = {0: np.log(SHORT.times)[:, None], 1: np.log(LONG.times)[:, None]}
    assert plan.together(values)[:, 0] == pytest.approx(np.log(times), abs=1e-12)


def test_of_two_that_begin_together_the_one_counts_that_sees_more() -> None:
    assert shares([THERMAL, ALL], [1.0, 2.5], SHORT, SHORT) == [[0.0, 0.0], [1.0, 1.0]]
    assert shares([ALL, THERMAL], [1.0, 2.5], SHORT, SHORT) == [[1.0, 1.0], [0.0, 0.0]]


def test_all_times_are_those_of_the_models_that_predict_them() -> None:
    assert plan_of((SHORT, LONG), [ALL, ALL], 0.5).times == [1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def test_a_time_that_none_knows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"found time 9; expected one from 1 to 4 and 2 to 6 at T = 0.5"):
        plan_of((SHORT, LONG), [ALL, ALL], 0.5, [9.0])
    for cards in ((SHORT,), (SHORT, LONG)):
        with pytest.raises(ModelError, match="found no times"):
            plan_of(cards, [ALL, ALL], 0.5, [])


@pytest.fixture(scope="module")
def family(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of thermal positions, and one of all inputs that begins later."""
    folder = tmp_path_factory.mktemp("family")
    quick = TINY_TRAIN.model_copy(update={"model": "ridge", "input": ["thermal"], "max_steps": None})
    careful = quick.model_copy(update={"input": list(ALL), "first_time": TINY.times[-1]})
    for name, settings in (("thermal", quick), ("all", careful)):
        train([tiny_run.path], folder / name, Settings(run=TINY, train=settings))
    return folder


@needs_lammps
def test_a_directory_of_models_predicts_as_its_members_do(tiny_run: Run, family: Path) -> None:
    one = tiny_run.samples()[0].parent
    found = predict(one, family, temperature=1.5)
    careful, quick = load_models(family)
    first, second = (predict(one, of, temperature=1.5) for of in (quick, careful))
    assert found.times == TINY.times
    assert np.array_equal(found.propensity[0], first.propensity[0])
    assert np.array_equal(found.propensity[1], first.propensity[1])  # the other takes over from its first time on
    assert (first.inputs, second.inputs) == (THERMAL, ALL)


@needs_lammps
def test_without_an_engine_the_model_counts_that_needs_none(
    tiny_run: Run, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise EngineError("found no engine", "one", "install it")

    monkeypatch.setattr(prediction, "get_engine", refused)
    one = tiny_run.samples()[0].parent
    found = predict(one, family, temperature=1.5)
    assert found.inputs == THERMAL
    assert "found no engine" in found.warnings[-1]
    with pytest.raises(EngineError, match="found no engine"):
        predict(one, family, temperature=1.5, engine="lammps")
    with pytest.raises(EngineError, match="found no engine"):
        predict(one, family / "all", temperature=1.5)


@needs_lammps
def test_times_of_other_temperatures_are_told_of_a_snapshot_and_of_a_run(tiny_run: Run, family: Path) -> None:
    first, last = TINY.times
    measured = {"temperatures": [1.5, 2.0], "measured": {"1.5": [first], "2": [first, last]}}
    models = [of._replace(card=of.card.model_copy(update=measured)) for of in load_models(family)]
    samples = tiny_run.samples()[:1]
    told = [
        predict(samples[0].parent, models, temperature=1.5).warnings,
        predict_samples(models, tiny_run, samples, TINY)[0][0].warnings,
    ]
    expected = f"t = {last:g} was measured at other temperatures than T = 1.5 only: extrapolated"
    assert [[line for line in lines if "measured" in line] for lines in told] == [[expected], [expected]]
    assert predict_samples(models, tiny_run, samples, TINY, times=[first])[0][0].warnings == []
    single = next(of for of in models if of.card.times == TINY.times)
    assert predict_samples(single, tiny_run, samples, TINY)[0][0].warnings == [expected]
    assert predict_samples(single, tiny_run, samples, TINY, times=[first])[0][0].warnings == []
    run = open_run(tiny_run.path)
    use_tau_alphas([run], [1.0])
    in_units = single.card.model_copy(update={"tau_alphas": {"1.5": 1.0, "2": 0.5}})
    (found,), _ = predict_samples(single._replace(card=in_units), run, run.samples()[:1], TINY)
    assert found.warnings == [expected.replace("was", "τ_α was")]


@needs_lammps
def test_the_command_takes_a_directory_of_models(
    tiny_run: Run, family: Path, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    snapshot = tiny_run.file("parents", "L0001-P0000")
    told = glassmd("predict", snapshot, "--model", family, "--out", tmp_path / "o.gsd", "--json")
    assert told.code == 0, told.err
    assert (told.json["times"], told.json["model"]) == (TINY.times, str(family))


@needs_lammps
def test_models_of_different_liquids_are_no_family(
    family: Path, tmp_path: Path, tiny_run: Run, glassmd: Callable[..., Outcome]
) -> None:
    shutil.copytree(family, tmp_path / "f")
    path = tmp_path / "f" / "all" / "model.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(sealed({**content, "mixture": get_mixture("kob-andersen", "truncated").identity()})))
    with pytest.raises(ModelError, match="found data with"):
        read_cards(tmp_path / "f")
    snapshot = tiny_run.file("parents", "L0001-P0000")
    assert_refused(glassmd("predict", snapshot, "--model", tmp_path / "f"), "found data with")
