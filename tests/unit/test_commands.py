"""The command line: what scripts rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gsd.hoomd
import numpy as np
import pytest

from glassmd.demo import demo_settings, run_demo
from glassmd.prediction import predict
from glassmd.settings import Settings
from glassmd.stream.dataset import Run
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps

Command = Callable[..., Outcome]
FLAGS = [
    "--particles=200",
    "--temperature=1.5",
    "--lineages=3",
    "--parents=1",
    "--replicas=2",
    "--times=0.1,0.5",
    "--seed=5",
    "--set=held_out_replicas=2",
]


def test_simulate_prints_one_json_object_with_the_agreed_keys(glassmd: Command, tmp_path: Path) -> None:
    outcome = glassmd("simulate", "--out", tmp_path / "r", *FLAGS, "--workers=2", "--json")
    assert outcome.code == 0, outcome.err
    agreed = {
        "run", "engine", "engine_version", "device", "segments", "replicas", "parents", "lineages", "steps", "seconds",
        "replica_steps_per_second",
    }  # fmt: skip
    assert agreed <= set(outcome.json)
    assert outcome.json["replicas"] == 6
    assert outcome.json["steps"] > 600, "equilibration counts"
    assert outcome.out.count("\n") == 1
    again = glassmd("simulate", "--out", tmp_path / "r", *FLAGS)
    assert again.code == 0
    assert "replica_steps_per_second" in again.out


def test_a_dry_run_writes_nothing(glassmd: Command, tmp_path: Path) -> None:
    outcome = glassmd("simulate", "--out", tmp_path / "r", *FLAGS, "--dry-run", "--json")
    assert outcome.json["replica_steps"] == 600
    assert outcome.json["settings"]["run"]["temperature"] == 1.5
    planned = glassmd("simulate", "--lineages", 4, "--held-out-replicas", 9, "--dry-run", "--json").json
    assert planned["roles"] == {"L0000": "validation", "L0001": "test"}
    assert planned["replicas_per_parent"]["held out"] == planned["settings"]["run"]["held_out_replicas"] == 9
    assert "dry run" in glassmd("simulate", *FLAGS, "--dry-run").out
    assert "dry run" in glassmd("train", "--stream", *FLAGS, "--dry-run").out
    assert not (tmp_path / "r").exists()


def test_train_prints_the_agreed_keys(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    flags = ["--max-steps", 2, "--set", "validate_every=2", "--set", "message_steps=1"]
    outcome = glassmd("train", tiny_run.path, "--model", "bapst", "--out", tmp_path / "m", *flags, "--json")
    agreed = {"model_dir", "model", "parameters", "steps", "samples_seen", "times", "validation", "seconds"}
    assert agreed <= set(outcome.json)
    assert len(outcome.json["validation"]["A"]["pearson"]) == 2
    assert outcome.out.count("\n") == 1
    assert "best_step" in glassmd("train", tiny_run.path, "--model", "bapst", "--out", tmp_path / "m", *flags).out
    plan = glassmd("train", tiny_run.path, "--out", tmp_path / "n", *flags, "--dry-run", "--json").json
    assert plan["settings"]["max_steps"] == 2


def test_train_stream_through_the_command_line(glassmd: Command, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    lines = [flag.removeprefix("--").removeprefix("set=") for flag in FLAGS]
    lines = [line if "times" not in line else "times = '0.1,0.5'" for line in lines]
    toml.write_text(
        "\n".join(lines)
        + '\nworkers = 1\n[train]\nmodel = "bapst"\nmax_steps = 3\nvalidate_every = 3\nmessage_steps = 1\n'
    )
    outcome = glassmd("train", "--stream", toml, "--out", tmp_path / "m", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["steps"] == 3
    assert outcome.json["segments"] == 3
    assert "simulation ━" in outcome.err or "simulation ─" in outcome.err
    assert "training ─" in outcome.err


def test_predict_writes_what_ovito_colours_by(
    glassmd: Command, tiny_model: Path, tiny_run: Run, tmp_path: Path
) -> None:
    snapshot, out, plot = tiny_run.file("parents", "L0001-P0000"), tmp_path / "p.gsd", tmp_path / "p.png"
    page = tmp_path / "pages" / "p.html"
    drawn = ("--plot", plot, "--view", page)
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--out", out, *drawn, "--json")
    assert {"output", "n_particles", "times", "propensity_mean", "seconds"} <= set(outcome.json)
    assert len(outcome.json["propensity_mean"]["B"]) == 2
    with gsd.hoomd.open(str(out)) as file:
        log, positions = file[0].log, file[0].particles.position
    assert {"particles/propensity_t0.1", "particles/propensity_t0.1_std", "particles/propensity_t0.5"} <= set(log)
    assert log["particles/propensity_t0.5"].shape == (200,)
    assert np.all(log["particles/propensity_t0.5_std"] > 0)
    with gsd.hoomd.open(str(snapshot)) as file:
        np.testing.assert_array_equal(positions, file[0].particles.position)
    assert plot.stat().st_size > 10_000
    assert (outcome.json["plot"], outcome.json["view"]) == (str(plot), str(page))
    assert "<title>L0001-P0000.gsd: predicted propensity</title>" in page.read_text(encoding="utf-8")
    one = glassmd("predict", snapshot, "--model", tiny_model, "--out", out, "--times", "0.5")
    assert one.code == 0
    assert "propensity_mean" in one.out


def test_evaluate_reports_both_aggregations_with_reliability_and_ceiling(
    glassmd: Command, tiny_model: Path, tiny_run: Run, tmp_path: Path
) -> None:
    outcome = glassmd("evaluate", tiny_model, tiny_run.path, "--plot", tmp_path / "s.png", "--json")
    assert {"n_configurations", "times", "species"} <= set(outcome.json)
    found = outcome.json["species"]["A"]
    assert {"pearson_per_configuration", "pearson_pooled", "reliability", "ceiling"} <= set(found)
    assert len(found["pearson_per_configuration"]["sd"]) == 2
    assert outcome.json["n_configurations"] == 2, "the test lineage only"
    assert outcome.json["seen_in_training"] is False
    assert (tmp_path / "s.png").exists()
    everything = glassmd("evaluate", tiny_model, tiny_run.path, "--subset", "all")
    assert "ρ / ceiling" in everything.out
    assert "seen in training" in everything.out


def test_evaluate_divides_each_configuration_by_its_own_ceiling(
    glassmd: Command, tiny_model: Path, tiny_run: Run
) -> None:
    """Beside what numpy makes of the same labels and predictions: r = 1 − ⟨variance⟩ / (R Var(label))."""
    found = glassmd("evaluate", tiny_model, tiny_run.path, "--subset", "all", "--json").json["species"]["A"]
    samples = tiny_run.samples()
    for t, mean in enumerate(found["pearson_over_ceiling"]["mean"]):
        shares = []
        for sample in samples:
            a = sample.parent.of_species("A")
            label, variance = sample.propensity[t, a], sample.variance[t, a]
            r = 1 - variance.mean() / sample.n_replicas / label.var(ddof=1)
            rho = np.corrcoef(predict(sample.parent, tiny_model).propensity[t, a], label)[0, 1]
            shares += [rho / r**0.5] if r > 0 else []
        assert shares, "some configuration is reliable"
        assert mean == pytest.approx(np.mean(shares))
        assert found["pearson_over_ceiling"]["sd"][t] == pytest.approx(np.std(shares, ddof=1))
        assert found["pearson_over_ceiling"]["n_left_out"][t] == len(samples) - len(shares)


def test_info_describes_runs_models_and_files(glassmd: Command, tiny_model: Path, tiny_run: Run) -> None:
    run = glassmd("info", tiny_run.path, "--json").json
    assert (run["kind"], run["complete"], run["lineages"]) == ("run", True, 4)
    assert all(lineage["equilibrated"] for lineage in run["equilibration"])
    assert {lineage["role"] for lineage in run["equilibration"]} == {"train", "validation", "test"}
    model = glassmd("info", tiny_model, "--json").json
    assert (model["kind"], model["times"], model["truncation"]) == ("model", TINY.times, "shifted")
    segment = glassmd("info", tiny_run.file("segments", "L0000-P0000-B0000"), "--json").json
    assert (segment["frames"], segment["species"]) == (7, {"A": 160, "B": 40})
    assert "kob-andersen" in glassmd("info", tiny_run.path).out


def test_doctor_says_what_the_machine_can_do(glassmd: Command) -> None:
    facts = glassmd("doctor", "--json").json
    assert facts["cores"] == os.cpu_count()
    assert set(facts["engines"]) == set(facts["ranks"]) == {"hoomd", "lammps"}
    assert "torch" in glassmd("doctor").out


def test_init_writes_settings_that_simulate_takes(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    assert "glassmd simulate" in glassmd("init", path).out
    assert glassmd("simulate", path, "--dry-run", "--json").json["settings"] == json.loads(Settings().model_dump_json())
    again = glassmd("init", path)
    assert again.code == 2
    assert "exists already" in again.err
    assert glassmd("init", tmp_path / "two.toml", "--json").json["settings"].endswith("two.toml")


def test_version_and_help(glassmd: Command) -> None:
    assert glassmd("--version").out.startswith("glassmd 0.")
    assert glassmd("--help").code == 0
    text = glassmd("simulate", "--help").out
    for flag in ("--mixture", "--times", "--engine", "--workers", "--set", "--dry-run", "--json"):
        assert flag in text


def test_an_internal_error_shows_no_traceback(
    glassmd: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by surprise")

    monkeypatch.setattr("glassmd.doctor.diagnose", fail)
    outcome = glassmd("doctor")
    assert outcome.code == 1
    assert "by surprise" in outcome.err
    assert "Traceback" not in outcome.err
    path = Path(outcome.err.strip().rpartition(" ")[2])
    assert "ZeroDivisionError" in path.read_text()


@needs_lammps
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_with_code_75_and_the_same_command_goes_on(tmp_path: Path, workers: int) -> None:
    flags = [
        *FLAGS,
        "--set",
        "replicas=15",
        "--set",
        "held_out_replicas=15",
        "--set",
        "block=1",
        f"--workers={workers}",
        "--json",
    ]
    command = [sys.executable, "-m", "glassmd_cli.app", "simulate", "--out", str(tmp_path / "r"), *flags]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("r/segments/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert out == ""
    assert "run again to continue" in err
    before = {path: path.read_bytes() for path in (tmp_path / "r" / "segments").iterdir() if path.suffix == ".json"}
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["replicas"] == 45
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_wall_clock_limit_ends_with_code_75(glassmd: Command, tmp_path: Path) -> None:
    outcome = glassmd("simulate", "--out", tmp_path / "r", *FLAGS, "--workers=1", "--walltime=0.2")
    assert outcome.code == 75
    assert "wall-clock limit" in outcome.err


def test_the_demonstration_runs_the_whole_loop(tmp_path: Path) -> None:
    """A smaller one: the real one is `make demo`."""
    assert demo_settings().run.test_lineages == 1
    settings = Settings(
        run=TINY.model_copy(update={"parents": 1, "block": 2}), train=TINY_TRAIN.model_copy(update={"max_steps": 4})
    )
    result = run_demo(tmp_path, settings=settings)
    for name in ("predicted", "figure", "scores"):
        assert Path(result[name]).stat().st_size > 0
    assert result["evaluation"]["n_configurations"] == 1
    assert "both were at work" in result["story"][1]
