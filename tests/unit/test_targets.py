"""Every target through a run: labels, training, evaluation, prediction, and what is written about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import pytest

from glassmd.analysis.dynamics import remove_drift
from glassmd.comparison import compare
from glassmd.errors import Interrupted
from glassmd.evaluation import evaluate, published_beside
from glassmd.fields import GSD_IDENTITY, label_chunk
from glassmd.interrupt import StopRequest
from glassmd.learners import LEARNERS, model_class
from glassmd.learners.labels import LabelSums
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.report.observe import Observer
from glassmd.report.screen import screen
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.reduction import reduced
from glassmd.stream.samples import Sample
from glassmd.structure import Structure
from glassmd.target import TARGETS, Target
from glassmd.training.checkpoints import latest_checkpoint, load_checkpoint
from glassmd.training.loop import Trainer
from glassmd.training.session import train, train_stream
from glassmd.trajectory import Frame, encode_identity
from tests.conftest import Outcome, needs_lammps
from tests.unit.test_every_learner import SMALL

GOLDEN = Path(__file__).parents[1] / "golden"
PLANE = get_mixture("kob-andersen-2d")
OTHERS = [target for target in TARGETS if target != "propensity"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """64 particles in the plane: four lineages of two parents, with positions of three or four replicas."""
    return Path(shutil.copytree(GOLDEN / "positions", tmp_path / "run"))


def settings_of(target: Target, model: str = "ridge", **changes: Any) -> Settings:
    told = {
        "model": model,
        "input": ["thermal"],
        "target": target,
        "train_threads": 1,
        "train_device": "cpu",
        **changes,
    }
    return Settings(train=TrainSettings(**told))


def with_labels(path: Path, source: Run, targets: list[Target], labels: Callable[[Target, Sample], np.ndarray]) -> Path:
    """The parents of a run with labels in place of positions, as published data have them; each a liquid."""
    identity = {"mixture": PLANE.identity(), "temperature": 1.0}
    run = RunDirectory.create(
        path, PLANE, temperature=1.0, times=source.times, n_particles=64, density=1.2, origin="test"
    )
    for number, sample in enumerate(source.samples()):
        log: dict[str, Any] = {GSD_IDENTITY: encode_identity(identity)}
        for target in targets:
            for time, values in zip(source.times, labels(target, sample), strict=True):
                log[label_chunk(target, time)] = values.astype(np.float32)
        frame = Frame(sample.parent, 0, log)
        facts = {"holds": "propensity", "times": source.times, "n_replicas": 3, "replicas": [0, 1, 2], "steps": 0}
        run.commit(ParentKey(number, 0), [frame], {"source": str(number)})
        run.commit(SegmentKey(number, 0, 0), [frame], {**facts, "targets": targets})
    return path


# ---- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_labels_are_mean_and_variance_over_the_replicas_that_are_kept(run: Path, target: Target) -> None:
    opened = open_run(run, target)
    sample = next(opened.stream())
    moved: dict[float, list[np.ndarray]] = {}
    for _, time, positions in opened.replicas(ParentKey(sample.key.lineage, sample.key.parent)):
        displacement = remove_drift(positions - sample.parent.unwrapped, np.ones(64))
        moved.setdefault(time, []).append(reduced(target, sample.parent, displacement, PLANE.sigma))
    values = np.array([moved[time] for time in sample.times])
    assert (sample.target, sample.n_replicas) == (target, values.shape[1])
    np.testing.assert_allclose(sample.propensity, values.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(sample.variance, values.var(axis=1, ddof=1), atol=1e-12)


def test_samples_come_with_the_propensity_unless_told(run: Path) -> None:
    plain, told = open_run(run), open_run(run)
    told.use_target("squared-displacement")
    for one, other in zip(plain.samples(), told.samples(), strict=True):
        assert (one.target, other.target) == ("propensity", "squared-displacement")
        # ⟨x²⟩ = ⟨x⟩² + the variance of R values, which is unbiased by R/(R−1)
        n = one.n_replicas
        np.testing.assert_allclose(other.propensity, one.propensity**2 + one.variance * (n - 1) / n, rtol=1e-9)


def test_labels_that_are_kept_are_read_under_their_names(run: Path, tmp_path: Path) -> None:
    source = open_run(run)
    kept: list[Target] = ["propensity", "bond-breaking"]
    path = with_labels(tmp_path / "kept", source, kept, lambda target, one: one.propensity + kept.index(target))
    assert open_run(path).targets == kept
    for target in kept:
        for one, stored in zip(source.samples(), open_run(path, target).samples(), strict=True):
            np.testing.assert_allclose(stored.propensity, one.propensity + kept.index(target), atol=1e-6)
            assert np.isnan(stored.variance).all()  # nobody has said it


def test_noise_of_fractions_does_not_follow_their_squares(run: Path) -> None:
    for target, follows in (("propensity", True), ("bond-breaking", False)):
        samples = open_run(run, target).samples()
        sums = LabelSums.none(2, 2)
        for sample in samples:
            sums = sums.added(sample)
        pooled = sums.noise(samples[0])
        predicted = sums.noise(samples[0], samples[0].propensity)
        assert np.allclose(pooled, predicted) != follows


# ---- from training to prediction ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_from_training_to_prediction(
    run: Path, tmp_path: Path, target: Target, glassmd: Callable[..., Outcome]
) -> None:
    model, out = tmp_path / "m", tmp_path / "out.gsd"
    common = ("--model", "ridge", "--input", "thermal", "--set", "train_threads=1")
    trained = glassmd("train", run, "--target", target, *common, "--out", model, "--json")
    assert trained.code == 0, trained.err
    units = {"squared-displacement": "σ_AA²", "bond-breaking": "fraction"}
    assert (trained.json["target"], trained.json["unit"]) == (target, units.get(target, "σ_AA"))
    assert load_model(model).card.target == target
    known = glassmd("info", model, "--json").json
    assert (known["target"], known["unit"]) == (target, units.get(target, "σ_AA"))
    assert glassmd("info", run, "--json").json["targets"] == list(TARGETS)
    assert (target in screen(Observer(model).look()).plain) == (target != "propensity")

    scores = glassmd("evaluate", model, run, "--subset", "all", "--json", "--plot", tmp_path / "scores.png").json
    assert scores["target"] == target
    rho, n_alike = scores["species"]["A"]["pearson_per_configuration"]["mean"], scores["species"]["A"]["n_alike"]
    if target == "bond-breaking":  # at t = 0.1 no A has lost a neighbour in any replica
        assert (rho[0], n_alike, 0.1 < rho[1] < 1) == (None, [8, 0], True)
    else:
        assert (n_alike, 0.4 < rho[0] < 1) == ([0, 0], True)
    title = glassmd("evaluate", model, run, "--subset", "all").out
    assert (f"{target} ⟨" in title) == (target != "propensity")

    snapshot = next((run / "parents").glob("L0001-P0001*.gsd"))
    told = glassmd("predict", snapshot, "--model", model, "--out", out, "--plot", tmp_path / "p.png", "--json").json
    assert (told["target"], told["times"]) == (target, [0.1, 0.5])
    field = target.replace("-", "_")
    with gsd.hoomd.open(out) as file:
        log = file[0].log
        written = {name for name in log if name.startswith("particles/")}
        assert {f"particles/{field}_t{t}{end}" for t in ("0.1", "0.5") for end in ("", "_std")} == written
        found = log[f"particles/{field}_t0.5"][file[0].particles.typeid == 0].mean()
    assert found == pytest.approx(told["propensity_mean"]["A"][1], rel=1e-5)
    labels = open_run(run, target).samples()
    mean = np.mean([one.propensity[1, one.parent.species == 0].mean() for one in labels])
    assert found == pytest.approx(mean, rel=0.15)  # one parent of eight, of 42 particles of A


def test_a_stopped_training_of_a_target_goes_on_as_if_nothing_had_happened(run: Path, tmp_path: Path) -> None:
    settings = settings_of("cage-relative", "bapst", max_steps=6, checkpoint_every=2, message_steps=1)
    train([run], tmp_path / "whole", settings)
    stop = StopRequest()

    def stop_at_three(progress: Any, simulation: object) -> None:
        if progress.step == 3:
            stop._signal = "SIGTERM"

    with pytest.raises(Interrupted):
        train([run], tmp_path / "parts", settings, stop=stop, show=stop_at_three)
    train([run], tmp_path / "parts", settings)
    whole, parts = (load_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("whole", "parts"))  # type: ignore[arg-type]
    assert whole[1]["identity"]["settings"]["target"] == "cage-relative"
    assert all(np.array_equal(whole[0][name], parts[0][name]) for name in whole[0])


def test_whoever_encodes_beside_reads_the_same_labels(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With labels of one target alone there is nothing else that it could read."""
    monkeypatch.setattr("glassmd.training.loop._SLOW", 0.0)
    path = with_labels(tmp_path / "kept", open_run(run), ["bond-breaking"], lambda target, one: one.propensity)
    began: list[bool] = []
    original = Trainer._encode_beside
    monkeypatch.setattr(
        Trainer, "_encode_beside", lambda self, key: (original(self, key), began.append(self._beside is not None))
    )
    told = settings_of("bond-breaking", "bapst", max_steps=2, message_steps=1)
    assert train([path], tmp_path / "m", told, follow=True)["target"] == "bond-breaking"
    assert any(began)
    assert open_run(path).targets == ["bond-breaking"]


@needs_lammps
def test_a_target_is_learned_while_it_is_simulated_and_after_a_stop(tmp_path: Path) -> None:
    simulated = RunSettings(
        mixture="kob-andersen-2d", particles=64, temperature=1.5, lineages=3, parents=2, replicas=2, times=[0.1, 1.0],
        held_out_replicas=2, engine="lammps", workers=1, seed=3, accept_unequilibrated=True, tau_alphas=1.0,
        max_equilibration_time=20.0,
    )  # fmt: skip
    told = settings_of("bond-breaking", "bapst", max_steps=8, checkpoint_every=1, message_steps=1, redraw=0)
    settings = told.model_copy(update={"run": simulated})
    stop = StopRequest()

    def stop_at_two(progress: Any, simulation: object) -> None:
        if progress.step >= 2:
            stop._signal = "SIGTERM"

    with pytest.raises(Interrupted):
        train_stream(settings, tmp_path / "m", stop=stop, show=stop_at_two)
    result = train_stream(settings, tmp_path / "m")
    assert (result["target"], result["steps"]) == ("bond-breaking", 8)
    card = load_model(tmp_path / "m").card
    assert card.target == "bond-breaking"
    scores = evaluate(tmp_path / "m", [tmp_path / "m" / "run"], subset="all")
    assert scores["target"] == "bond-breaking"


def test_a_card_that_does_not_say_is_of_the_propensity(run: Path, tmp_path: Path) -> None:
    train([run], tmp_path / "m", settings_of("propensity"))
    card = load_model(tmp_path / "m").card
    assert type(card)(**card.model_dump(exclude={"target"})).target == "propensity"
    assert "target" in json.loads((tmp_path / "m" / "model.json").read_text())


# ---- labels that do not vary ----------------------------------------------------------------------------------


def kept_neighbours(target: Target, sample: Sample) -> np.ndarray:
    """Fractions as at a short time, at which nobody has lost a neighbour, and at a long one."""
    lost = np.abs(sample.parent.positions[:, 0]) / sample.parent.box[0]
    return np.stack([np.ones(64), 1.0 - lost])


@pytest.fixture
def alike(run: Path, tmp_path: Path) -> Path:
    """Liquids in which no particle has lost a neighbour at the first time."""
    return with_labels(tmp_path / "alike", open_run(run), ["propensity", "bond-breaking"], kept_neighbours)


@pytest.mark.parametrize("name", [name for name in LEARNERS if "thermal" in model_class(name).accepts])
def test_every_learner_takes_labels_that_are_all_the_same(alike: Path, tmp_path: Path, name: str) -> None:
    needs = {"thermal", *model_class(name).needs}
    if needs != {"thermal"}:
        pytest.skip(f"needs {', '.join(needs)}: an engine")
    told = settings_of("bond-breaking", name, max_steps=4, validate_every=2, hyperparameters=SMALL.get(name, {}))
    result = train([alike], tmp_path / "m", told)
    if validated := result["validation"]:  # not by a learner that keeps everything to learn from
        assert np.isnan(validated["A"]["pearson"][0])
    loaded = load_model(tmp_path / "m")
    scores = evaluate(tmp_path / "m", [alike])["species"]["A"]
    assert (scores["n_alike"], scores["pearson_per_configuration"]["mean"][0]) == ([8, 0], None)
    assert (scores["reliability"][0], scores["ceiling"][0], scores["pearson_pooled"][0]) == (None, None, None)
    assert np.isfinite(scores["pearson_per_configuration"]["mean"][1])
    (sample, *_) = open_run(alike, "bond-breaking").samples()
    predicted = predict(sample.parent, loaded, structure=Structure(sample.parent, PLANE, 1.0))
    assert np.isfinite(predicted.propensity).all()
    solved = not model_class(name).stepped
    np.testing.assert_allclose(predicted.propensity[0], 1.0, atol=1e-6 if solved else 0.05)


def test_scores_say_where_there_is_nothing_to_predict(
    alike: Path, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    train([alike], tmp_path / "m", settings_of("bond-breaking"))
    told = glassmd("evaluate", tmp_path / "m", alike, "--plot", tmp_path / "s.png")
    assert told.code == 0, told.err
    assert "no ρ of those whose particles all have the same label: 8 at t = 0.1" in told.out


# ---- beside others --------------------------------------------------------------------------------------------


def test_learners_are_compared_on_a_target(
    alike: Path, run: Path, tmp_path: Path, glassmd: Callable[..., Outcome]
) -> None:
    flags = ("--models", "density:thermal,ridge:thermal", "--set", "train_threads=1", "--folds", 2, "--json")
    for data, out in ((run, "out"), (alike, "alike-out")):
        told = glassmd("evaluate", "--compare", data, "--target", "bond-breaking", *flags, "--out", tmp_path / out)
        assert told.code == 0, told.err
        assert told.json["target"] == "bond-breaking"
        assert told.json["published"] == {}
        assert (tmp_path / out / "leaderboard.csv").read_text().count(",bond-breaking,") == 2 * 2 * 2
    shown = glassmd("evaluate", "--compare", run, *flags[:-1], "--target", "bond-breaking", "--out", tmp_path / "out",
                    "--plot", tmp_path / "c.png")  # fmt: skip
    assert shown.code == 0, shown.err
    assert "bond-breaking ⟨n(t)/n(0)⟩ (fraction), species A" in shown.out


def test_a_finished_model_is_compared_on_its_own_target(run: Path, tmp_path: Path) -> None:
    train([run], tmp_path / "m", settings_of("cage-relative"))
    settings = {"target": "cage-relative", "train_threads": 1}
    found = compare([run, tmp_path / "m"], ["density:thermal"], out=tmp_path / "out", settings=settings)
    assert {row["name"] for row in found["entries"]} == {"density:thermal", "m"}


def test_published_figures_are_of_propensities_alone(run: Path) -> None:
    from dataclasses import replace

    (sample, *_) = open_run(run).samples()
    known = replace(sample, temperature=0.44, times=np.array([4120.0, 13000.0]))
    mixture = get_mixture("kob-andersen").identity()
    assert known.parent.density == pytest.approx(1.2, rel=0.01)
    assert published_beside(mixture, [known])
    assert published_beside(mixture, [replace(known, target="bond-breaking")]) == {}
