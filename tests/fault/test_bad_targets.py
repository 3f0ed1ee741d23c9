"""Targets that nobody knows, that the data do not hold, or that are another's: refused before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glassmd.errors import ModelError, SegmentError, SettingsError
from glassmd.fields import GSD_IDENTITY, label_chunk
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.models.store import load_model
from glassmd.prediction import predict_samples
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.storage import sealed
from glassmd.stream.dataset import open_run
from glassmd.training.session import train, train_stream
from glassmd.trajectory import Frame, encode_identity
from tests.fault.refusals import Command, assert_refused

GOLDEN = Path(__file__).parents[1] / "golden"
RIDGE = ("--model", "ridge", "--input", "thermal", "--set", "train_threads=1")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the positions of its replicas."""
    return Path(shutil.copytree(GOLDEN / "positions", tmp_path / "run"))


@pytest.fixture
def reduced_run(tmp_path: Path) -> Path:
    """A run that was simulated with keep = propensities."""
    return Path(shutil.copytree(GOLDEN / "propensities", tmp_path / "reduced"))


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A model of the bonds of the run."""
    told = TrainSettings(model="ridge", input=["thermal"], target="bond-breaking", train_threads=1)
    train([run], tmp_path / "model", Settings(train=told))
    return tmp_path / "model"


def published(path: Path, source: Path, told: list[str], kept: list[str]) -> Path:
    """The labels of a run as published data have them: the sidecars tell of some targets, the files hold some."""
    opened, mixture = open_run(source), get_mixture("kob-andersen-2d")
    run = RunDirectory.create(
        path, mixture, temperature=1.0, times=opened.times, n_particles=64, density=1.2, origin="test"
    )
    for number, sample in enumerate(opened.samples()):
        log = {GSD_IDENTITY: encode_identity({"mixture": mixture.identity(), "temperature": 1.0})}
        log |= {label_chunk(of, t): sample.propensity[0].astype("f4") for of in kept for t in opened.times}  # type: ignore[arg-type]
        frame = Frame(sample.parent, 0, log)
        facts = {"holds": "propensity", "times": opened.times, "n_replicas": 3, "replicas": [0, 1, 2], "targets": told}
        run.commit(ParentKey(number, 0), [frame], {"source": str(number)})
        run.commit(SegmentKey(number, 0, 0), [frame], {**facts, "steps": 0})
    return path


def test_an_unknown_target_is_refused(glassmd: Command, run: Path, tmp_path: Path) -> None:
    assert glassmd("train", run, "--target", "mobility", "--out", tmp_path / "m").code == 2
    outcome = glassmd("train", run, "--set", "target=mobility", "--out", tmp_path / "m")
    assert_refused(outcome, "found train.target = 'mobility'", "'bond-breaking'")
    (tmp_path / "run.toml").write_text('[train]\ntarget = "bonds"\n')
    assert_refused(
        glassmd("train", run, tmp_path / "run.toml", "--out", tmp_path / "m"), "found train.target = 'bonds'"
    )
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_run_of_propensities_has_no_other_labels(
    glassmd: Command, reduced_run: Path, tmp_path: Path, dry: tuple[str, ...]
) -> None:
    outcome = glassmd("train", reduced_run, "--target", "cage-relative", *RIDGE, "--out", tmp_path / "m", *dry)
    assert_refused(
        outcome, "L0000-P0000-B0000", "holds labels of propensity and no positions", "expected labels of cage-relative",
        "try --target propensity, or simulate with --set keep=positions",
    )  # fmt: skip
    assert not (tmp_path / "m").exists()
    compared = glassmd("evaluate", "--compare", reduced_run, "--target", "bond-breaking", "--out", tmp_path / "c")
    assert_refused(compared, "holds labels of propensity and no positions")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_simulation_that_keeps_propensities_is_not_begun_for_another_target(
    glassmd: Command, tmp_path: Path, dry: tuple[str, ...]
) -> None:
    flags = ("--stream", "--target", "bond-breaking", "--set", "keep=propensities", "--out", tmp_path / "m", *dry)
    outcome = glassmd("train", *flags)
    assert_refused(outcome, "found target = bond-breaking for a simulation with keep = propensities", "keep=positions")
    assert not (tmp_path / "m").exists()


def test_neither_is_one_that_goes_on(reduced_run: Path, tmp_path: Path) -> None:
    settings = Settings(run=RunSettings(), train=TrainSettings(target="bond-breaking"))
    with pytest.raises(SettingsError, match="found target = bond-breaking for a simulation with keep = propensities"):
        train_stream(settings, tmp_path / "m", run_directory=reduced_run)


def test_published_labels_are_of_what_they_are_of(glassmd: Command, run: Path, tmp_path: Path) -> None:
    path = published(tmp_path / "p", run, ["propensity", "bond-breaking"], ["propensity", "bond-breaking"])
    assert glassmd("train", path, "--target", "bond-breaking", *RIDGE, "--out", tmp_path / "m").code == 0
    outcome = glassmd("train", path, "--target", "cage-relative", *RIDGE, "--out", tmp_path / "other")
    assert_refused(
        outcome, "L0000-P0000-B0000", "holds labels of propensity, bond-breaking and no positions",
        "or import positions of replicas",
    )  # fmt: skip


def test_labels_that_a_sidecar_tells_of_are_missed(run: Path, tmp_path: Path) -> None:
    path = published(tmp_path / "p", run, ["propensity", "bond-breaking"], ["propensity"])
    with pytest.raises(SegmentError, match=r"has no particles/bond_breaking_t0\.1; expected what its sidecar says"):
        open_run(path, "bond-breaking").samples()


def test_a_training_goes_on_with_the_target_that_it_began_with(glassmd: Command, run: Path, model: Path) -> None:
    outcome = glassmd("train", run, *RIDGE, "--out", model)
    assert_refused(outcome, "was trained with target = bond-breaking", "expected propensity as asked for now")
    assert load_model(model).card.target == "bond-breaking"


def test_a_model_is_scored_on_its_own_target(
    glassmd: Command, run: Path, reduced_run: Path, model: Path, tmp_path: Path
) -> None:
    assert_refused(glassmd("evaluate", model, reduced_run), "holds labels of propensity", "expected labels of bond-bre")
    assert_refused(glassmd("evaluate", model, run, "--target", "propensity"), "found --target without --compare")
    loaded, opened = load_model(model), open_run(run)
    with pytest.raises(
        ModelError, match=r"found labels of propensity; expected bond-breaking, which the model predict"
    ):
        predict_samples(loaded, opened, opened.samples(), RunSettings())


def test_a_comparison_is_of_one_target(glassmd: Command, run: Path, model: Path, tmp_path: Path) -> None:
    flags = ("--models", "density:thermal", "--set", "train_threads=1", "--out", tmp_path / "c")
    assert glassmd("evaluate", "--compare", run, *flags).code == 0
    kept = sorted(path.read_bytes() for path in (tmp_path / "c").rglob("*.safetensors"))
    outcome = glassmd("evaluate", "--compare", run, *flags, "--target", "cage-relative")
    assert_refused(outcome, "holds a comparison with another target", "choose another --out")
    assert sorted(path.read_bytes() for path in (tmp_path / "c").rglob("*.safetensors")) == kept
    outcome = glassmd("evaluate", "--compare", run, model, *flags[:-1], tmp_path / "d")
    assert_refused(outcome, "found labels of propensity", "expected bond-breaking, which the model predicts")
    outcome = glassmd("evaluate", "--compare", run, *flags, "--set", "density.target=bond-breaking")
    assert_refused(outcome, "found a setting density.target", "one target for all learners", "try target=")


def test_a_comparison_of_before_is_one_of_propensities(glassmd: Command, run: Path, tmp_path: Path) -> None:
    flags = ("--models", "density:thermal", "--set", "train_threads=1", "--out", tmp_path / "c")
    assert glassmd("evaluate", "--compare", run, *flags).code == 0
    identity = json.loads((tmp_path / "c" / "comparison.json").read_text())
    del identity["target"]
    (tmp_path / "c" / "comparison.json").write_text(json.dumps(identity))
    assert glassmd("evaluate", "--compare", run, *flags).code == 0
    assert_refused(glassmd("evaluate", "--compare", run, *flags, "--target", "cage-relative"), "another target")


def test_a_card_of_an_unknown_target_is_no_card(model: Path) -> None:
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(sealed({**card, "target": "mobility"})))
    with pytest.raises(ModelError, match=r"model.json with target: Input should be 'propensity'"):
        load_model(model)
