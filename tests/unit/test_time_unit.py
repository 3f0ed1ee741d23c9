"""Output times in units of each liquid's own relaxation time: hot and cold liquids share them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gsd.hoomd
import numpy as np
import pytest
import torch

from glassmd.comparison.session import compare
from glassmd.errors import InputError, ModelError
from glassmd.evaluation import evaluate
from glassmd.models.store import load_model
from glassmd.prediction import Prediction, predict
from glassmd.prediction_files import predict_file
from glassmd.report.observe import Observer
from glassmd.report.screen import screen
from glassmd.settings import Settings, TrainSettings
from glassmd.simulation.pool import simulate
from glassmd.simulation.structures import inside_cages
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.tau_alphas import use_tau_alphas
from glassmd.time_unit import in_tau_alphas
from glassmd.training.checkpoints import require_same
from glassmd.training.loop import Trainer
from glassmd.training.session import train, train_stream
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps
from tests.unit.elsewhere import ELSEWHERE, elsewhere

pytestmark = needs_lammps

COLD = TINY.model_copy(update={"times": [0.2, 1.0], "seed": 9, "temperature": 1.3})
IN_TAU = TINY_TRAIN.model_copy(update={"time_unit": "tau_alpha", "tau_alpha": [1.0, 2.0]})


@pytest.fixture(scope="module")
def cold_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Twice as slow as the tiny run, as the tests have it, and measured twice as late."""
    path = tmp_path_factory.mktemp("cold") / "run"
    simulate(COLD, path)
    return open_run(path)


@pytest.fixture(scope="module")
def model(tiny_run: Run, cold_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("both") / "model"
    train([tiny_run.path, cold_run.path], path, Settings(run=TINY, train=IN_TAU))
    return path


def test_times_are_off_by_half_a_tenth_of_a_decade_at_most_and_keep_their_order() -> None:
    times = list(np.geomspace(0.013, 4.1e4, 40))
    found = in_tau_alphas(times, 16.3)
    assert np.abs(np.log10(np.array(found) * 16.3 / times)).max() < 0.05 + 0.01  # and two digits
    assert found == sorted(found)


def test_times_that_lie_too_close_are_refused() -> None:
    with pytest.raises(InputError, match=r"times 1 and 1.1, which are both 1 τ_α; expected times that lie further"):
        in_tau_alphas([1.0, 1.1], 1.0)


def test_tau_alpha_is_the_mean_of_what_its_lineages_were_equilibrated_with(cold_run: Run) -> None:
    reports = [
        entry.sidecar["equilibration"]["tau_alpha"] for entry in cold_run.entries("parents") if not entry.key.parent
    ]
    assert len(reports) == COLD.lineages
    assert cold_run.measured_tau_alpha() == pytest.approx(np.mean(reports))
    run = open_run(cold_run.path)
    use_tau_alphas([run])
    assert run.sample_times == in_tau_alphas([0.2, 1.0], float(np.mean(reports)))
    assert run.times == [0.2, 1.0]


def test_liquids_share_their_times(tiny_run: Run, cold_run: Run) -> None:
    runs = [open_run(tiny_run.path), open_run(cold_run.path)]
    use_tau_alphas(runs, [1.0, 2.0])
    source = SampleSource(runs)
    assert source.times == [0.1, 0.5]
    assert source.tau_alpha_by_temperature == {"1.5": 1.0, "1.3": 2.0}
    for sample in source.poll():
        assert np.isfinite(sample.propensity).all()


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ([1.0, 2.0, 3.0], r"found 3 values of τ_α for 2 runs; expected one of each run in their order"),
        ([1.0, -2.0], r"found τ_α = 1, -2; expected numbers above 0"),
        ([float("nan")], r"expected numbers above 0"),
        ([], r"found 0 values"),
    ],
)
def test_what_is_no_tau_alpha_is_refused(tiny_run: Run, cold_run: Run, told: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        use_tau_alphas([open_run(tiny_run.path), open_run(cold_run.path)], told)


def test_a_model_of_both_says_what_its_times_are(model: Path, glassmd: Callable[..., Outcome]) -> None:
    card = load_model(model).card
    assert (card.times, card.time_unit, card.tau_alphas) == ([0.1, 0.5], "tau_alpha", {"1.3": 2.0, "1.5": 1.0})
    facts = glassmd("info", model, "--json").json
    assert facts["time_unit"] == "tau_alpha"
    assert facts["tau_alphas"] == {"1.3": 2.0, "1.5": 1.0}
    status = json.loads((model / "status.json").read_text())
    assert status["time_unit"] == "tau_alpha"
    assert "t/τ_α" in screen(Observer(model).look()).plain


def test_it_is_scored_at_its_own_times(
    model: Path, cold_run: Run, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    found = evaluate(model, [cold_run.path], tau_alpha=[2.0])
    assert (found["times"], found["time_unit"], found["times_left_out"]) == ([0.1, 0.5], "tau_alpha", [])
    told = glassmd("evaluate", model, cold_run.path, "--tau-alpha", "2", "--plot", tmp_path / "s.png")
    assert told.code == 0, told.err
    assert "t / τ_α" in told.out
    wrong = glassmd("evaluate", model, cold_run.path, "--tau-alpha", "two")
    assert (wrong.code, "found --tau-alpha two" in wrong.err) == (2, True)


def test_its_predictions_are_at_the_times_of_the_liquid_that_is_met(model: Path, cold_run: Run, tmp_path: Path) -> None:
    snapshot = cold_run.file("parents", "L0001-P0000")
    facts, configuration, prediction = predict_file(snapshot, model, tmp_path / "out.gsd", times=[1.0])
    assert (facts["times"], facts["time_unit"], facts["tau_alpha"]) == ([1.0], "reduced", pytest.approx(2.0))
    with gsd.hoomd.open(tmp_path / "out.gsd") as file:
        log = file[0].log
    assert "particles/propensity_t1_std" in log
    np.testing.assert_allclose(log["particles/propensity_t1"], prediction.propensity[0], rtol=1e-6)
    every = predict(configuration, model, temperature=1.3)
    assert every.times == [0.2, 1.0]
    assert np.array_equal(every.propensity[1], prediction.propensity[0])
    between = predict(configuration, model, temperature=1.4)
    assert between.tau_alpha == pytest.approx(2.0 ** ((1 / 1.4 - 1 / 1.5) / (1 / 1.3 - 1 / 1.5)))
    assert between.times == [float(f"{t * between.tau_alpha:.3g}") for t in (0.1, 0.5)]


def test_tau_alpha_is_refused_for_a_model_without(tiny_model: Path, cold_run: Run) -> None:
    with pytest.raises(InputError, match=r"found τ_α for a model that is asked for times in √\(mσ²/ε\)"):
        evaluate(tiny_model, [cold_run.path], tau_alpha=[2.0])


def test_the_setting_belongs_to_its_unit() -> None:
    with pytest.raises(InputError, match=r"found tau_alpha with time_unit = reduced; .*add --set time_unit=tau_alpha"):
        TrainSettings(tau_alpha=[2.0])


def test_numbers_of_the_command_line_are_taken() -> None:
    assert TrainSettings(time_unit="tau_alpha", tau_alpha="4120,16").tau_alpha == [4120.0, 16.0]
    assert TrainSettings(time_unit="tau_alpha", tau_alpha=16).tau_alpha == [16.0]


def test_a_training_goes_on_with_the_unit_that_it_began_with(
    cold_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(run=TINY, train=IN_TAU.model_copy(update={"tau_alpha": None}))
    train([cold_run.path], tmp_path / "m", settings)
    before = load_model(tmp_path / "m").card
    # another lineage is there now, and the mean is another one
    monkeypatch.setattr(Run, "measured_tau_alpha", lambda run: 7.0)
    longer = settings.model_copy(update={"train": settings.train.model_copy(update={"max_steps": 8})})
    assert train([cold_run.path], tmp_path / "m", longer)["steps"] == 8
    assert load_model(tmp_path / "m").card.tau_alphas == before.tau_alphas != {"1.3": 7.0}


def test_trainings_from_before_there_was_a_unit_go_on(tmp_path: Path) -> None:
    now = {"settings": TINY_TRAIN.model_dump(), "seed": 7, "mixture": {}, "times": [0.1]}
    before = {**now, "settings": {key: value for key, value in now["settings"].items() if "tau" not in key}}
    del before["settings"]["time_unit"]
    require_same(tmp_path, before, now)
    in_tau = {**now, "settings": IN_TAU.model_dump()}
    with pytest.raises(ModelError, match=r"was trained with time_unit = reduced; expected tau_alpha as asked for now"):
        require_same(tmp_path, before, in_tau)


def test_a_stream_that_has_not_begun_is_told_its_tau_alpha(tmp_path: Path) -> None:
    settings = Settings(run=COLD, train=IN_TAU.model_copy(update={"tau_alpha": None}))
    with pytest.raises(InputError, match=r"has not been simulated yet; expected to be told its τ_α; try --set tau_al"):
        train_stream(settings, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    told = settings.model_copy(update={"train": IN_TAU.model_copy(update={"tau_alpha": [2.0]})})
    assert train_stream(told, tmp_path / "m")["times"] == [0.1, 0.5]


def test_whoever_encodes_beside_has_the_same_times(
    tiny_run: Run, cold_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassmd.training.loop._SLOW", 0.0)
    pairs = IN_TAU.model_copy(update={"model": "botan", "max_steps": 4, "hyperparameters": {"width": 8, "n_steps": 1}})
    seen: list[bool] = []
    original = Trainer._encode_beside
    monkeypatch.setattr(
        Trainer, "_encode_beside", lambda self, key: (original(self, key), seen.append(self._beside is not None))
    )
    result = train([tiny_run.path, cold_run.path], tmp_path / "m", Settings(run=TINY, train=pairs), follow=True)
    assert any(seen)
    assert result["times"] == [0.1, 0.5]
    assert np.isfinite(result["validation"]["A"]["pearson"]).all()


def test_learners_are_compared_at_shared_times(
    tiny_run: Run, cold_run: Run, model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    told = {"time_unit": "tau_alpha", "tau_alpha": [2.0, 1.0], "max_steps": 3}
    found = compare([cold_run.path, tiny_run.path], ["density", "bapst"], out=tmp_path / "out", seeds=1, settings=told)
    assert (found["times"], found["time_unit"], found["summary_time"]) == ([0.1, 0.5], "tau_alpha", 0.5)
    with pytest.raises(InputError, match=r"found a setting density.time_unit; expected one unit of time for all"):
        compare([cold_run.path], ["density"], out=tmp_path / "two", settings={"density.time_unit": "tau_alpha"})
    with pytest.raises(ModelError, match=r"found times in the unit tau_alpha; expected reduced, the model's"):
        compare([cold_run.path, tiny_run.path, tiny_model], ["density"], out=tmp_path / "three", settings=told)


def test_cages_are_short_or_long_beside_a_time_in_its_unit() -> None:
    protocol = {"0.44": {"replicas": 32, "time": 5.0, "after": 1.0, "spacing": 0.1, "time_step": 0.01}}
    assert inside_cages(protocol, [0.001, 0.1], {"0.44": 4100.0}) == [True, False]
    assert inside_cages(protocol, [0.001, 0.1]) == [True, True]


@pytest.fixture(scope="module")
def of_both(tiny_run: Run, cold_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default learner, which has seen two temperatures."""
    path = tmp_path_factory.mktemp("glassnet") / "model"
    told = {"model": "glassnet", "input": ["thermal"], "max_steps": 20, "hyperparameters": {"width": 8}}
    settings = Settings(run=TINY, train=IN_TAU.model_copy(update=told))
    train([tiny_run.path, cold_run.path], path, settings)
    return path


@pytest.mark.parametrize("temperature", [1.3, 1.4, 1.5])
def test_a_learner_of_two_temperatures_predicts_those_in_between(
    of_both: Path, tiny_run: Run, temperature: float
) -> None:
    (sample, *_) = tiny_run.samples()
    found = predict(sample.parent, of_both, temperature=temperature, force=True)
    assert found.propensity.shape == (len(found.times), TINY.particles)
    assert np.isfinite(found.propensity).all()
    assert (found.propensity > 0).mean() > 0.99
    assert load_model(of_both).model.linear.heats.tolist() == pytest.approx(np.log([2.6, 3.0]), abs=1e-4)


def test_a_training_on_two_temperatures_that_was_stopped_ends_as_one_that_was_not(
    of_both: Path, tiny_run: Run, cold_run: Run, tmp_path: Path
) -> None:
    told = load_model(of_both).card.provenance["settings"]
    runs = [tiny_run.path, cold_run.path]
    for steps in (6, 20):
        settings = TrainSettings(**{**told, "max_steps": steps, "schedule": "constant"})
        train(runs, tmp_path / "m", Settings(run=TINY, train=settings))
    whole = TrainSettings(**{**told, "schedule": "constant"})
    train(runs, tmp_path / "whole", Settings(run=TINY, train=whole))
    stopped, at_once = (load_model(tmp_path / name).model.state_dict() for name in ("m", "whole"))
    for name, tensor in at_once.items():
        assert torch.equal(stopped[name].nan_to_num(), tensor.nan_to_num()), name


def test_a_training_on_two_temperatures_elsewhere_is_that_on_the_cpu(
    of_both: Path, tiny_run: Run, cold_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {**load_model(of_both).card.provenance["settings"], "schedule": "constant"}
    (sample, *_) = tiny_run.samples()

    def trained(out: Path) -> Prediction:
        for steps in (2, 6):  # taken up from a checkpoint
            settings = Settings(run=TINY, train=TrainSettings(**{**told, "max_steps": steps}))
            train([tiny_run.path, cold_run.path], out, settings)
        return predict(sample.parent, load_model(out), temperature=1.4, force=True)

    here = trained(tmp_path / "here")
    for where in ("glassmd.training.loop.training_device", "glassmd.prediction.torch_device"):
        monkeypatch.setattr(where, lambda *_: ELSEWHERE)
    with elsewhere():
        there = trained(tmp_path / "there")
    np.testing.assert_allclose(there.propensity, here.propensity, rtol=1e-4)
    np.testing.assert_allclose(there.std, here.std, rtol=1e-3)
