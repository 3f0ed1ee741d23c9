"""The leaderboard: who is left out, what is done once, and the arithmetic of its errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.comparison import compare
from glassmd.comparison.candidates import Accuracy, Candidate, accuracy_of, calibration_of
from glassmd.comparison.entries import entries_of
from glassmd.comparison.folds import folds_of
from glassmd.comparison.leaderboard import leaderboard
from glassmd.comparison.paired import paired_differences
from glassmd.configuration import Configuration
from glassmd.errors import InputError, Interrupted, ModelError, RunError, SettingsError
from glassmd.interrupt import StopRequest
from glassmd.learners.linear.scalar import DensityModel
from glassmd.metrics import pearson
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.storage import sealed
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.samples import Sample, SampleKey
from glassmd.training.source import SampleSource
from tests.conftest import Outcome
from tests.sidecars import rename_run, rewrite

ENTRIES = ["density:thermal", "bapst"]
SETTINGS = {"train_threads": 1, "bapst.max_steps": 2, "bapst.validate_every": 2, "bapst.message_steps": 1}
CHOICES: dict[str, Any] = {"seeds": 2, "folds": 2, "settings": SETTINGS}


@pytest.fixture(scope="module")
def compared(tiny_run: Run, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A comparison in two folds with a finished model beside it, and its directory; not to be changed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    return out, compare([tiny_run.path, tiny_model], ENTRIES, out=out, **CHOICES)


def entry(result: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (row for row in result["entries"] if row["name"] == name)
    return dict(found)


# ---- who is left out ------------------------------------------------------------------------------------------


def test_test_lineages_are_the_fold_where_the_data_name_them(tiny_run: Run) -> None:
    (fold,) = folds_of([tiny_run], tiny_run.samples())
    assert fold.told
    assert {lineage for _, lineage in fold.held_out} == {1}


def test_every_lineage_is_left_out_exactly_once(tiny_run: Run) -> None:
    folds = folds_of([tiny_run], tiny_run.samples(), 3)
    left_out = [lineage for fold in folds for _, lineage in fold.held_out]
    assert sorted(left_out) == [0, 1, 2, 3]
    assert [len(fold.held_out) for fold in folds] == [2, 1, 1]
    assert folds == folds_of([tiny_run], tiny_run.samples(), 3)


def test_data_that_say_nothing_are_left_out_one_by_one_if_there_are_few(run_copy: Path) -> None:
    rewrite(run_copy / "run.json", settings=None, origin="botan")
    run = open_run(run_copy)
    assert len(folds_of([run], run.samples())) == 4


def test_a_liquid_in_two_runs_is_left_out_of_both(tiny_run: Run, run_copy: Path) -> None:
    rename_run(run_copy, "another")
    runs = [tiny_run, open_run(run_copy)]
    folds = folds_of(runs, [sample for run in runs for sample in run.samples()], 4)
    assert [sorted(lineage for _, lineage in fold.held_out) for fold in folds] == [[k, k] for k in range(4)]


def test_fewer_liquids_than_folds_are_refused(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 independent liquids for 5 folds"):
        compare([tiny_run.path], ["density:thermal"], folds=5, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_that_is_told_whom_to_leave_out_ignores_the_roles(tiny_run: Run) -> None:
    name = tiny_run.identity["id"]
    source = SampleSource([tiny_run], held_out=[(name, 2)])
    splits = {sample.key.lineage: source.split(sample.key) for sample in source.poll()}
    assert splits == {0: "train", 1: "train", 2: "test", 3: "validation"}


def test_no_training_sees_what_it_is_scored_on(compared: tuple[Path, dict[str, Any]], tiny_run: Run) -> None:
    out, result = compared
    every = {tiny_run.fingerprint(lineage) for lineage in range(4)}
    trainings = sorted((out / "trainings").glob("*/fold-*/seed-*"))
    assert len(trainings) == 2 + 4  # one seed for what is solved, two for the network
    for training in trainings:
        seen = set(load_model(training).card.provenance["liquids"])
        fold = int(training.parent.name.removeprefix("fold-"))
        left_out = {tiny_run.fingerprint(lineage) for _, lineage in result["folds"][fold]}
        assert seen
        assert seen == every - left_out


# ---- the numbers ----------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_models_in_the_directories(
    compared: tuple[Path, dict[str, Any]], tiny_run: Run
) -> None:
    out, result = compared
    assert result["n_configurations"] == 8
    for name, seeds in (("density:thermal", 1), ("bapst", 2)):
        found = entry(result, name)["species"]["A"]
        for sample in tiny_run.samples():
            fold = next(
                k for k, held in enumerate(result["folds"]) if [tiny_run.identity["id"], sample.key.lineage] in held
            )
            folders = [out / "trainings" / name.replace(":", "-") / f"fold-{fold}" / f"seed-{s}" for s in range(seeds)]
            mask = sample.parent.of_species("A")
            rho = [
                [
                    pearson(values[mask], label[mask])
                    for values, label in zip(predict(sample.parent, folder).propensity, sample.propensity, strict=True)
                ]
                for folder in folders
            ]
            assert found["per_configuration"][str(sample.key)] == pytest.approx(np.mean(rho, axis=0), abs=1e-9)


def test_a_finished_model_is_scored_on_liquids_that_it_has_not_seen(compared: tuple[Path, dict[str, Any]]) -> None:
    _, result = compared
    finished = entry(result, "model")
    assert finished["n_configurations"] == 2  # of the test lineage of its own training
    assert finished["training_seconds"] is None
    differences = result["differences"]
    place = differences["entries"].index("model")
    assert sorted(differences["n_configurations"][place]) == [2, 2, 2]


def test_a_model_that_has_seen_everything_is_refused(tiny_run: Run, model_copy: Path, tmp_path: Path) -> None:
    card = json.loads((model_copy / "model.json").read_text())
    card["provenance"]["liquids"] = [tiny_run.fingerprint(lineage) for lineage in range(4)]
    (model_copy / "model.json").write_text(json.dumps(sealed(card)))
    with pytest.raises(ModelError, match="has seen every liquid"):
        compare([tiny_run.path, model_copy], ["density:thermal"], out=tmp_path / "out")
    assert not (tmp_path / "out" / "trainings").exists()


def synthetic(
    n_samples: int, predictions: dict[str, Sequence[float]], seed: int = 0
) -> tuple[list[Sample], list[Candidate]]:
    """Labels with known noise, and predictions that are the truth plus noise of given sizes, one per seed."""
    generator, n, n_replicas = np.random.default_rng(seed), 300, 16
    samples, truths = [], {}
    for number in range(n_samples):
        parent = Configuration(
            box=[7.0] * 3, species=[0] * 240 + [1] * 60, positions=generator.uniform(-3.5, 3.5, (n, 3))
        )
        truth = 1.0 + generator.normal(size=(2, n))
        label = truth + 0.5 * generator.normal(size=(2, n))
        key = SampleKey("synthetic", number, 0)
        truths[str(key)] = truth
        variance = np.full((2, n), 0.25 * n_replicas)
        samples.append(Sample(key, parent, np.array([1.0, 10.0]), label, variance, n_replicas, None, 1.0))
    facts = {
        "model": "synthetic", "inputs": ["thermal"], "input_cost": {}, "parameters": 1, "steps": 1,
        "training_seconds": 1.0, "seconds_per_configuration": 0.1, "trained_species": ["A", "B"],
    }  # fmt: skip
    candidates = [
        Candidate(
            name,
            [
                {key: truth + size * generator.normal(size=truth.shape) for key, truth in truths.items()}
                for size in sizes
            ],
            [{key: np.full(truth.shape, size) for key, truth in truths.items()} for size in sizes],
            list(range(len(sizes))),
            [facts] * len(sizes),
        )
        for name, sizes in predictions.items()
    ]
    return samples, candidates


def test_paired_differences_are_means_and_errors_over_common_configurations() -> None:
    samples, (good, bad) = synthetic(6, {"good": [0.3], "bad": [1.0, 1.0]})
    fewer = Candidate("fewer", [{key: v for key, v in bad.propensity[0].items() if "L0003" not in key}], bad.std[:1])
    rows = {}
    for candidate in (good, bad, fewer):
        rho = [
            [[pearson(of[str(s.key)][t][:240], s.propensity[t][:240]) for t in range(2)] for s in candidate.of(samples)]
            for of in candidate.propensity
        ]
        rows[candidate.name] = np.mean(rho, axis=0)
    found = paired_differences([accuracy_of(c.propensity, c.of(samples), "A") for c in (good, bad, fewer)])
    whole = rows["good"] - rows["bad"]
    part = np.delete(rows["good"], 3, axis=0) - rows["fewer"]
    assert found.count.tolist() == [[6, 6, 5], [6, 6, 5], [5, 5, 5]]
    assert found.mean[0, 1] == pytest.approx(whole.mean(axis=0))
    assert found.error[0, 1] == pytest.approx(whole.std(axis=0, ddof=1) / np.sqrt(6))
    assert found.mean[0, 2] == pytest.approx(part.mean(axis=0))
    assert found.error[0, 2] == pytest.approx(part.std(axis=0, ddof=1) / np.sqrt(5))
    assert found.mean[1, 0] == pytest.approx(-found.mean[0, 1])


def test_what_is_hard_for_all_leaves_the_difference() -> None:
    shared, own = np.linspace(0.2, 0.9, 8)[:, None], 0.01 * np.cos(np.arange(8))[:, None]
    keys = [str(k) for k in range(8)]
    first, second = (
        Accuracy(keys, values[None], np.zeros((1, 1)), np.ones_like(values)) for values in (shared + own, shared - 0.05)
    )
    found = paired_differences([first, second])
    assert found.mean[0, 1] == pytest.approx(0.05 + own.mean(axis=0))
    assert found.error[0, 1, 0] < 0.05 * first.summary()["error"][0]


def test_seeds_and_their_ensemble() -> None:
    samples, (network,) = synthetic(4, {"network": [0.8, 0.8, 0.8]})
    (row,) = leaderboard([network], samples, ["A", "B"], 1)["entries"]
    found = row["species"]["A"]
    each = np.array(found["over_seeds"]["mean"])
    assert each.shape == (3, 2)
    assert found["over_seeds"]["sd"] == pytest.approx(each.std(axis=0, ddof=1))
    assert found["pearson"]["mean"] == pytest.approx(each.mean(axis=0))
    together = network.ensemble()
    rho = [[pearson(together[str(s.key)][t][:240], s.propensity[t][:240]) for t in range(2)] for s in samples]
    assert found["ensemble"]["mean"] == pytest.approx(np.mean(rho, axis=0))
    assert min(found["ensemble"]["mean"]) > max(each.ravel())  # noise that differs between seeds averages out


def test_honest_errors_are_found_honest() -> None:
    samples, (honest,) = synthetic(10, {"honest": [0.7]})
    shy = Candidate("shy", honest.propensity, [{key: 2 * v for key, v in honest.std[0].items()}])
    silent = Candidate("silent", honest.propensity, [{key: np.nan * v for key, v in honest.std[0].items()}])
    found = calibration_of(honest, samples, "A")
    assert found is not None
    n = 10 * 240
    assert found["mean_square"] == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))  # z² has a variance of 2
    assert found["within_one_std"] == pytest.approx(0.6827, abs=4 * np.sqrt(0.6827 * 0.3173 / n))
    doubled = calibration_of(shy, samples, "A")
    assert doubled is not None
    assert doubled["mean_square"] == pytest.approx(found["mean_square"] * (0.49 + 0.25) / (1.96 + 0.25))
    assert calibration_of(silent, samples, "A") is None


def test_the_best_comes_first_and_the_ceiling_bounds_the_truth_itself() -> None:
    samples, candidates = synthetic(5, {"bad": [2.0], "perfect": [0.0], "good": [0.5]})
    result = leaderboard(candidates, samples, ["A", "B"], 0)
    assert [row["name"] for row in result["entries"]] == ["perfect", "good", "bad"]
    shares = result["entries"][0]["species"]["A"]["pearson"]["over_ceiling"]
    assert shares == pytest.approx([1.0, 1.0], abs=0.03)  # 4 √((1 − ρ²)² / 1200) = 0.023, and the ceiling's own
    assert result["labels"]["A"]["ceiling"] == pytest.approx([np.sqrt(0.8)] * 2, abs=0.03)


def test_the_share_of_the_ceiling_is_the_mean_of_every_configurations_own() -> None:
    ceilings = np.array([[0.8, np.nan], [0.5, np.nan], [np.nan, 0.9]])
    found = Accuracy(["a", "b", "c"], np.array([[[0.4, 0.1], [0.4, 0.2], [0.3, 0.45]]]), np.zeros((1, 2)), ceilings)
    summary = found.summary()
    assert summary["over_ceiling"] == pytest.approx([(0.5 + 0.8) / 2, 0.5])
    assert summary["over_ceiling_error"] == pytest.approx([0.15, np.nan], nan_ok=True)
    unknown = Accuracy(["a"], np.array([[[0.4]]]), np.zeros((1, 1)), np.array([[np.nan]])).summary()
    assert np.isnan(unknown["over_ceiling"]).all()
    assert unknown["mean"] == pytest.approx([0.4])


# ---- done once ------------------------------------------------------------------------------------------------


def test_a_comparison_that_was_stopped_goes_on_and_ends_the_same(
    compared: tuple[Path, dict[str, Any]], tiny_run: Run, tmp_path: Path
) -> None:
    _, whole = compared
    stop, lines = StopRequest(), []

    def stop_in_the_third(line: str) -> None:
        if line.startswith("training 3 of 6"):
            stop._signal = "SIGTERM"

    with pytest.raises(Interrupted):
        compare([tiny_run.path], ENTRIES, out=tmp_path / "out", stop=stop, announce=stop_in_the_third, **CHOICES)
    done = sorted((tmp_path / "out").rglob("predictions.safetensors"))
    assert len(done) == 2
    before = [path.stat().st_mtime_ns for path in done]
    result = compare([tiny_run.path], ENTRIES, out=tmp_path / "out", announce=lines.append, **CHOICES)
    assert "training 1 of 4: bapst, fold 1, seed 0" in lines
    assert [path.stat().st_mtime_ns for path in done] == before
    for name in ENTRIES:
        assert entry(result, name)["species"] == entry(whole, name)["species"]


def test_what_is_done_is_not_done_again(compared: tuple[Path, dict[str, Any]], tiny_run: Run) -> None:
    out, whole = compared
    lines: list[str] = []
    irrelevant = {**SETTINGS, "cage_replicas": 3}  # none of them sees cages
    again = compare(
        [tiny_run.path], ENTRIES[::-1], out=out, announce=lines.append, **{**CHOICES, "settings": irrelevant}
    )
    assert lines == ["scoring"]
    assert [row["name"] for row in again["entries"]] == [r["name"] for r in whole["entries"] if r["name"] in ENTRIES]


def test_trainings_of_an_entry_encode_every_sample_once(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    encode = DensityModel.encode
    monkeypatch.setattr(DensityModel, "encode", lambda self, of: encoded.append(of) or encode(self, of))
    compare([tiny_run.path], ["density:thermal"], out=tmp_path / "out", folds=4)
    assert len(encoded) == 8 + 8  # four trainings with six of the eight samples each, and the predictions


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"folds": 4}, RunError, "another division of the data"),
        ({"settings": {**SETTINGS, "bapst.max_steps": 3}}, ModelError, "with max_steps = 2"),
        ({"entries": ["bapst", "nosuch"]}, ModelError, "found model 'nosuch'"),
        ({"entries": ["bapst", "debye-waller:thermal"]}, ModelError, "found inputs thermal for model debye-waller"),
        ({"entries": ["bapst:sound"]}, SettingsError, "found input 'sound'"),
        ({"entries": ["bapst", "bapst:thermal"]}, InputError, "found bapst and bapst:thermal"),
        ({"entries": ["density:thermal"]}, SettingsError, "no learner bapst"),
        ({"seeds": 0}, InputError, "found 0 seeds"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    compared: tuple[Path, dict[str, Any]],
    tiny_run: Run,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    out, _ = compared
    asked = {"entries": ENTRIES, **CHOICES, **changes}
    with pytest.raises(error, match=message):
        compare([tiny_run.path], out=out, announce=lambda line: pytest.fail(line), **asked)


def test_a_directory_with_something_else_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds no comparison"):
        compare([tiny_run.path], ENTRIES, out=tmp_path, **CHOICES)


def test_learners_that_nobody_named_and_that_do_not_fit_are_left_out_with_a_reason(tiny_run: Run) -> None:
    mixture = {**tiny_run.identity["mixture"], "dimensions": 4}
    found, left_out = entries_of(None, {}, mixture, 1)
    assert not found
    assert "dimensions=4" in left_out["bapst"]


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_command_prints_a_leaderboard_and_leaves_files(
    compared: tuple[Path, dict[str, Any]],
    tiny_run: Run,
    tmp_path: Path,
    glassmd: Callable[..., Outcome],
) -> None:
    out, _ = compared
    arguments = ["evaluate", "--compare", tiny_run.path, "--models", ",".join(ENTRIES), "--out", out]
    arguments += ["--seeds", 2, "--folds", 2, "--plot", tmp_path / "leaderboard.svg"]
    for key, value in SETTINGS.items():
        arguments += ["--set", f"{key}={value}"]
    outcome = glassmd(*arguments)
    assert outcome.code == 0, outcome.err
    assert "species A, 8 configurations of 4 lineages, 2 folds of lineages" in outcome.out
    assert "training 1" not in outcome.err
    with (out / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    result = json.loads((out / "leaderboard.json").read_text())
    assert len(rows) == 2 * 2 * 2  # entries, species, times
    assert float(rows[0]["pearson_mean"]) == result["entries"][0]["species"]["A"]["pearson"]["mean"][0]
    with (out / "differences.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert [row["first"] for row in pairs] == [row["second"] for row in pairs[::-1]]
    assert float(pairs[0]["difference"]) == result["differences"]["mean"][0][1][0]
    assert (tmp_path / "leaderboard.svg").stat().st_size > 1000
    again = glassmd(*arguments, "--json")
    assert again.json["entries"] == result["entries"]


def test_options_of_a_comparison_need_a_comparison(
    tiny_run: Run, tiny_model: Path, glassmd: Callable[..., Outcome]
) -> None:
    outcome = glassmd("evaluate", tiny_model, tiny_run.path, "--folds", 3)
    assert outcome.code == 2
    assert "--folds without --compare" in outcome.err
    outcome = glassmd("evaluate", tiny_model)
    assert outcome.code == 2
    assert "found one path" in outcome.err
