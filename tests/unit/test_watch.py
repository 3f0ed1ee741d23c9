"""What is going on is visible: from outside, on a screen of 80 × 24, and in a notebook."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import glassmd.status
from glassmd.engines import get_engine
from glassmd.errors import Interrupted, RunError, StorageError
from glassmd.interrupt import StopRequest
from glassmd.ledger.run import RunDirectory
from glassmd.processes import Processes
from glassmd.report.observe import Seen, observe
from glassmd.report.progress import Display
from glassmd.report.screen import line, screen
from glassmd.settings import RunSettings, Settings
from glassmd.show import shown
from glassmd.simulation.activity import Activity, WorkerStatus
from glassmd.simulation.pool import simulate
from glassmd.simulation.protocol import LineageProgress
from glassmd.simulation.summary import Lineages, Progress
from glassmd.status import RecentRate, StatusFile, at_work
from glassmd.stream.dataset import Run
from glassmd.training.progress import TrainingProgress
from glassmd.training.session import train
from glassmd.training.status import Status
from glassmd.training.validation import Validation
from tests.conftest import TINY, TINY_TRAIN, Outcome, needs_lammps

Command = Callable[..., Outcome]

ENGINE: Any = SimpleNamespace(name="lammps", device="cpu", replica_steps=0)


def a_run(path: Path, settings: RunSettings = TINY) -> RunDirectory:
    """A run of which nothing is simulated yet."""
    return RunDirectory.create(
        path,
        settings.liquid(),
        temperature=settings.temperature,
        times=settings.times,
        n_particles=settings.particles,
        density=settings.number_density(),
        settings=settings,
    )


def a_worker(number: int, **changes: Any) -> WorkerStatus:
    now = time.time()
    status = WorkerStatus(
        "L0003-P0001-B0002", "replicas", now - 5, 10_000, 10.0, 1000.0 + number, "lammps on cpu", os.getpid(),
        os.uname().nodename, now, now, name=f"a-host-with-quite-a-long-name-4711-{number}",
    )  # fmt: skip
    return replace(status, **changes)


def a_crowd(species: str = "ABC", n_times: int = 10) -> Seen:
    """More than a terminal has lines for."""
    going = {
        number: LineageProgress(False, 12.5, 20.0, 3.25, float(number), ("U/N of the two halves differ by 0.1",))
        for number in range(17)
    } | {17: LineageProgress(True, 1.0, 20.0), 18: LineageProgress(False, 9.0, 20.0), 19: LineageProgress(True, 0, 20)}
    run = Progress(
        (1234, 5678), 4936, 10**9, 60.0, "RUN",
        {"mixture": "kob-andersen-2d-ternary", "dimensions": 2, "temperature": 0.41, "n_particles": 1000},
        {"parents": (50, 100), "inherent": (49, 100), "cage": (12, 100), "segments": (1234, 5678), "replicas": (1, 9)},
        Lineages(25, 3, 1, 0, (3.0, 4.5), going), tuple(a_worker(number) for number in range(16)), ("a-1-0", "a-1-1"),
        7200.0,
    )  # fmt: skip
    training = TrainingProgress(
        120, 200, 0.5, 12.0, 12, 24, {name: [0.25, None] * (n_times // 2) for name in species}, "the simulation",
        {"encoding": 12.0, "samples": 3.0}, {name: [0.75] * n_times for name in species}, 100, 0.5, 0.3, 80, 20,
        "glassnet", ["thermal", "inherent", "cage"], "cpu", 4, np.geomspace(0.1, 4000, n_times).tolist(), ["RUN"], 60.0,
    )  # fmt: skip
    return Seen("MODEL", "model", "working", training, (run,), ("one problem" * 20, "another", "a third"))


@pytest.mark.parametrize("height", [24, 30])
def test_the_screen_sums_up_what_does_not_fit(height: int) -> None:
    console = Console(width=80, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(screen(a_crowd(), 80, height))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == height, "every line is used"
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "1234/5678 segments", "49/100 inherent", "about 2.0 h left", "ended without a word: a-1-0", "one problem",
        "3/25 in equilibrium, τ_α 3 to 4.5, 1 refused, 20 under way, 1 to come", "120/200 steps", "12/20 samples",
        "16 with lammps on cpu, 16,120 replica-steps/s together", "best ρ 0.300 at step 80", "ρ A", "ρ C", "at most",
        "glassnet:thermal+inherent+cage, cpu, loss 0.5, 12 steps/s of 4",
        "for the simulation; so far 25% of 60 s: encoding 20%, samples 5%",
    ):  # fmt: skip
        assert part in text, part
    assert "more" in text
    assert "and 2 more problems" in text
    assert text.count("…") <= 3, "few lines are too long"


def test_counts_of_a_long_run_take_two_lines() -> None:
    run = replace(a_crowd().runs[0], entries=dict.fromkeys(("parents", "inherent", "cage"), (12_345, 100_000)))
    lines = screen(replace(a_crowd(), runs=(run,)), 60, 40).plain.splitlines()
    assert [one.strip() for one in lines[2:4]] == ["12345/100000 parents, 12345/100000 inherent,", "12345/100000 cage"]


def test_a_high_terminal_lists_every_lineage_and_worker() -> None:
    text = screen(replace(a_crowd("AB"), problems=()), 200, 70).plain
    assert [f"L{number:04d}" in text for number in range(20)] == [True] * 20
    assert "0.0/20 τ_α of 3.25; U/N of the two halves differ" in text
    assert "melting, t = 1" in text
    assert "τ_α unknown yet" in text
    assert text.count("replicas L0003-P0001-B0002, for 5 s") == 16
    assert " more" not in text


def test_more_times_than_columns_are_thinned_out() -> None:
    lines = screen(a_crowd("A", 40), 80, 40).plain.splitlines()
    (times,) = [one for one in lines if one.startswith("  t ")]
    assert len(times) <= 80
    assert times.split()[1] == "0.1"
    assert times.split()[-1] == "4000"


def test_the_display_draws_the_same_screen_and_writes_lines_into_a_log() -> None:
    seen = a_crowd()
    terminal, log = (
        Console(width=80, height=24, force_terminal=live, file=io.StringIO(), highlight=False) for live in (True, False)
    )
    for console in (terminal, log):
        with Display(console) as display:
            display.simulation(seen.runs[0])
            display.training(seen.training, seen.runs[0])  # type: ignore[arg-type]
    assert "12/20 samples" in terminal.file.getvalue()  # type: ignore[attr-defined]
    written = log.file.getvalue()  # type: ignore[attr-defined]
    assert written.count("\n") == 1, "at most one in ten seconds"
    assert "1234/5678 segments, 3/25 lineages equilibrated, 16,120 replica-steps/s, about 2.0 h left" in written
    assert "120/200 steps, loss 0.500, ρ A [0.25 – 0.25 – 0.25 – 0.25 – 0.25 –], waiting for the simulation" in line(
        seen
    )


def test_steps_on_samples_drawn_again_bring_the_end_no_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glassmd.status.time.monotonic", lambda: now[0])
    monkeypatch.setattr("glassmd.training.status.time.monotonic", lambda: now[0])
    training = TrainingProgress(max_steps=100)
    status = Status(tmp_path, training)
    for second in range(0, 3001, 10):  # a new sample every 100 s, thirty steps a second on those that are there
        now[0] = float(second)
        asked = second // 100
        training.step, training.redrawn = 30 * second, 30 * second - asked
        status.tell()
    assert training.count == "30/100 steps"
    assert training.bar(10) == "━━━───────"
    assert training.seconds_left == pytest.approx(7000, rel=0.11)
    assert "30/100 steps and 89970 on samples drawn again" in str(training)
    text = screen(replace(a_crowd(), training=training), 80, 24).plain
    assert "30/100 steps, about 1.9 h left" in text
    assert "and 89970 steps on samples drawn again" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_run_is_seen_with_its_workers_and_lineages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "r")
    found = observe(run.path)
    assert (found["kind"], found["state"]) == ("run", "idle")
    engine: Any = SimpleNamespace(name="lammps", device="cpu", replica_steps=500)
    activity = Activity(run, "here-1-0", engine)
    monkeypatch.setattr(activity, "_rate", SimpleNamespace(of=lambda steps: 200.0))
    activity.begin("L0000-P0000 and 1 more", "equilibration")
    activity.lineage(0, LineageProgress(True, 3.0, 20.0))
    engine.replica_steps = 1100
    monkeypatch.setattr(glassmd.status, "EVERY", 0.0)
    activity.tell()
    found = observe(run.path)
    assert found["state"] == "working"
    (seen,) = found["runs"]
    (worker,) = seen["workers"]
    assert (worker["task"], worker["activity"], worker["steps"]) == ("L0000-P0000 and 1 more", "equilibration", 600)
    assert (seen["speed"], seen["seconds_left"]) == (200.0, None), "nobody knows τ_α"
    assert seen["lineages"]["going"]["0"]["melting"] is True
    assert seen["entries"] == {"parents": [0, 8], "segments": [0, 12], "replicas": [0, 36]}
    activity.lineage(0, LineageProgress(False, 10.0, 20.0, 2.0, 4.0))
    activity._file.offer(activity._content, at_once=True)
    left = observe(run.path)["runs"][0]["seconds_left"]
    # One lineage has done 10 of the 50 that 20 analysed τ_α take, three melt first; then come the replicas.
    equilibrations = 3 * (TINY.melt_time + 50.0) + 40.0
    replicas = 2 * (2 * 3 + 2 * 6) * TINY.times[-1]
    assert left == pytest.approx((equilibrations + replicas) / TINY.time_step / 200.0)
    activity.end()
    assert observe(run.path)["state"] == "idle"


def test_a_budget_ends_a_run_before_everything_is_there(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", TINY.model_copy(update={"budget": 1000}))
    Activity(run, "one", ENGINE).begin("L0000-P0000", "equilibration")
    path = run.home / "workers" / "one.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rate": 200.0}))
    assert observe(run.path)["runs"][0]["seconds_left"] == pytest.approx(5.0), "though nobody knows τ_α"


def test_looking_changes_nothing_and_works_where_nothing_may_be_written(tiny_run: Run, tiny_model: Path) -> None:
    def tree(path: Path) -> dict[Path, tuple[int, int]]:
        return {one: (one.stat().st_mtime_ns, one.stat().st_mode) for one in [path, *path.rglob("*")]}

    for path in (tiny_run.path, tiny_model):
        folders = [path, *(one for one in path.rglob("*") if one.is_dir())]
        modes = {folder: folder.stat().st_mode for folder in folders}
        for folder in folders:
            folder.chmod(0o555)
        try:
            before = tree(path)
            assert observe(path)["state"] == "done"
            assert tree(path) == before
        finally:
            for folder, mode in modes.items():
                folder.chmod(mode)


def test_a_training_tells_how_far_it_is_while_it_runs_and_how_it_ended(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glassmd.status, "EVERY", 0.0)
    seen: list[dict[str, Any]] = []
    stop = StopRequest()

    def look(training: TrainingProgress, simulation: Progress | None) -> None:
        seen.append(observe(tmp_path / "m"))
        if training.step == 4 and stop._signal is None:
            stop._signal = "SIGTERM"

    settings = Settings(run=TINY, train=TINY_TRAIN.model_copy(update={"message_steps": 1}))
    with pytest.raises(Interrupted):
        train([tiny_run.path], tmp_path / "m", settings, stop=stop, show=look)
    assert {one["state"] for one in seen} == {"working"}
    stopped = observe(tmp_path / "m")
    assert stopped["state"].startswith("stopped: stopped by SIGTERM")
    told = stopped["training"]
    assert (told["step"], told["max_steps"], told["learner"], told["inputs"]) == (4, 6, "bapst", ["thermal"])
    assert (told["samples"], told["samples_expected"], told["batch"], told["times"]) == (4, 4, 1, TINY.times)
    assert (told["validated"], set(told["pearson"]), told["data"]) == (3, {"A", "B"}, [str(tiny_run.path)])
    assert all(0 < value <= 1 for values in told["ceiling"].values() for value in values if value is not None)
    result = train([tiny_run.path], tmp_path / "m", settings, show=look)
    done = observe(tmp_path / "m")
    assert (done["state"], done["training"]["step"], done["training"]["seconds_left"]) == ("done", 6, 0.0)
    lines = [json.loads(text) for text in (tmp_path / "m" / "metrics.jsonl").read_text().splitlines()]
    validations = [one for one in lines if one["kind"] == "validation"]
    assert all(one["validation_loss"] > 0 for one in validations)
    assert validations[-1]["ceiling"] == done["training"]["ceiling"]
    told = result["validation"]["A"]["pearson"]
    assert done["training"]["pearson"]["A"] == pytest.approx(told), "those of the learner that is saved"


def test_a_status_that_cannot_be_written_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("glassmd.status.write_json", full)
    StatusFile(tmp_path / "s.json").offer(dict, at_once=True)
    assert not list(tmp_path.iterdir())


def test_a_status_is_written_about_once_a_second(tmp_path: Path) -> None:
    file, asked = StatusFile(tmp_path / "s.json"), []
    for number in range(20):
        file.offer(lambda number=number: asked.append(number) or {"n": number})  # type: ignore[misc, func-returns-value]
    assert asked == [0]
    file.offer(lambda: {"n": float("nan")}, at_once=True)
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["n"] is None
    assert at_work(written)


def test_a_rate_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glassmd.status.time.monotonic", lambda: now[0])
    rate, found = RecentRate(), []
    for second in range(200):
        now[0] = float(second)
        found.append(rate.of(10 * second if second < 100 else 1000))
    assert found[1] is None
    assert found[50] == pytest.approx(10)
    assert found[-1] == 0


def test_a_rate_may_ask_for_some_growth_however_long_that_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glassmd.status.time.monotonic", lambda: now[0])
    rate = RecentRate(least=10)
    for second in range(0, 10_000, 2):
        now[0] = float(second)
        found = rate.of(second // 50)
    assert found == pytest.approx(1 / 50, rel=0.1)
    assert len(rate._seen) <= 12, "and keeps no more than that takes"
    rate = RecentRate(least=10)
    for second in range(10_000, 10_630):
        now[0] = float(second)
        found = rate.of(max(0, 30 * (second - 10_600)))
    assert found == pytest.approx(30, rel=0.1), "ten minutes of waiting for the first do not count"


def test_the_loss_of_a_validation_is_one_for_who_predicts_the_mean(tiny_run: Run, tmp_path: Path) -> None:
    class Heard:
        processes = Processes()

        def __init__(self) -> None:
            self.samples = {sample.key: sample for sample in tiny_run.samples()}
            self.heard = {key: sample.blocks for key, sample in self.samples.items()}

        def sample(self, key: Any) -> Any:
            return self.samples[key]

        def noise(self, sample: Any) -> Any:
            return np.zeros_like(sample.propensity)

    heard: Any = Heard()
    validation = Validation(["A", "B"], heard)
    assert validation.loss(["A"]) is None
    a = {key: sample.parent.of_species("A") for key, sample in heard.samples.items()}
    mean = [
        np.mean(np.concatenate([sample.propensity[t, a[key]] for key, sample in heard.samples.items()]))
        for t in range(len(TINY.times))
    ]
    validation.score(lambda sample: np.repeat(np.array(mean)[:, None], sample.parent.n_particles, axis=1))
    assert validation.loss(["A"]) == pytest.approx(1)
    validation.score(lambda sample: sample.propensity)
    assert validation.loss(["A", "B"]) == 0


@needs_lammps
def test_an_engine_counts_the_steps_that_it_has_done(tiny_run: Run) -> None:
    engine = get_engine("lammps", "cpu")
    sample = tiny_run.samples()[0]
    still = sample.parent.with_velocities(np.zeros_like(sample.parent.positions))
    list(engine.evolve([still, still], TINY.liquid(), steps=[10, 30], time_step=0.005))
    assert engine.replica_steps == 60


@needs_lammps
def test_a_simulation_shows_its_equilibrations_with_tau_alpha_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glassmd.status, "EVERY", 0.0)
    seen: list[Progress] = []
    settings = TINY.model_copy(
        update={"lineages": 3, "parents": 1, "replicas": 1, "held_out_replicas": 2, "tau_alphas": 100.0}
    )
    simulate(settings, tmp_path / "r", show=seen.append)
    going = [one for progress in seen if progress.lineages for one in progress.lineages.going.values()]
    assert any(one.tau_alpha is not None and 0 < (one.run_tau_alphas or 0) < 100 for one in going)
    assert {one.required for one in going} == {100.0}
    assert any(worker.activity == "equilibration" for progress in seen for worker in progress.workers)
    assert seen[-1].complete
    assert seen[-1].lineages is not None
    assert seen[-1].lineages.equilibrated == 3
    assert not list((tmp_path / "r" / "workers").glob("*.json"))


def test_watch_ends_with_what_it_watches(glassmd: Command, tiny_run: Run, tiny_model: Path) -> None:
    model = glassmd("watch", tiny_model, "--interval", 0.1)
    assert (model.code, model.out.count("\n")) == (0, 1)
    assert "6/6 steps" in model.out
    assert "| done" in model.out
    run = glassmd("watch", tiny_run.path)
    assert "simulation ━━━━━━━━━━━━━━━━━━━━ 12/12 segments" in run.out
    assert glassmd("watch", tiny_run.path, "--json").json["runs"][0]["complete"] is True


def test_ctrl_c_ends_watching_and_nothing_else(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    command = [sys.executable, "-m", "glassmd_cli.app", "watch", str(run.path), "--interval", "0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "0/12 segments" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_watching_never_loads_torch(tiny_model: Path, tmp_path: Path) -> None:
    code = "import sys; from glassmd_cli.app import main; sys.exit(main(sys.argv[1:]) + 90 * ('torch' in sys.modules))"
    for path, expected in ((tiny_model, 0), (tmp_path / "nothing", 2)):
        outcome = subprocess.run(
            [sys.executable, "-c", code, "watch", str(path), "--json"], capture_output=True, text=True, check=False
        )
        assert outcome.returncode == expected, outcome.stderr
    assert "found nothing at" in outcome.stderr


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty folder"])
def test_what_is_no_run_and_no_model_is_refused(glassmd: Command, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "a file":
        path.write_text("x")
    elif kind == "an empty folder":
        path.mkdir()
    outcome = glassmd("watch", path)
    assert outcome.code == 2
    assert "expected a run or model directory" in outcome.err
    with pytest.raises(RunError):
        observe(path)


def test_a_folder_of_runs_and_models_says_which_to_look_at(
    glassmd: Command, model_copy: Path, run_copy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    model_copy.rename(folder / "model")
    run_copy.rename(folder / "liquid")
    outcome = glassmd("watch", folder)
    assert outcome.code == 2
    said = "".join(outcome.err.split())  # lines are broken where the terminal ends
    assert str(folder / "liquid") in said
    assert str(folder / "model") in said


def test_info_on_a_model_that_is_being_made_says_how_far_it_is(
    glassmd: Command, model_copy: Path, run_copy: Path
) -> None:
    for name in ("model.json", "weights.safetensors"):
        (model_copy / name).unlink()
    status = json.loads((model_copy / "status.json").read_text())
    status |= {"state": "working", "step": 5, "data": [str(run_copy)], "pid": os.getpid(), "updated": time.time()}
    (model_copy / "status.json").write_text(json.dumps(status))
    facts = glassmd("info", model_copy, "--json").json
    assert (facts["kind"], facts["progress"]["state"]) == ("model", "working")
    assert facts["progress"]["training"]["step"] == 5
    text = glassmd("info", model_copy).out
    assert "5/6 steps" in text
    (model_copy / "status.json").unlink()
    facts = glassmd("info", model_copy, "--json").json
    assert (facts["progress"]["state"], facts["progress"]["training"]["step"]) == ("idle", 6), "from its checkpoint"


def test_info_on_a_run_that_is_being_made_keeps_what_it_said_before(glassmd: Command, run_copy: Path) -> None:
    whole = glassmd("info", run_copy, "--json").json
    assert "progress" not in whole
    next(iter(sorted((run_copy / "segments").glob("*.json")))).unlink()
    part = glassmd("info", run_copy, "--json").json
    assert set(part) == {*whole, "progress"}
    assert part["progress"]["runs"][0]["segments"] == [11, 12]
    assert "11/12 segments" in glassmd("info", run_copy).out


class Notebook:
    """Stands for IPython where it has a kernel."""

    def __init__(self, kernel: object | None) -> None:
        self.shown: list[str] = []
        self.updated: list[str] = []
        self.package, self.display = ModuleType("IPython"), ModuleType("IPython.display")
        self.package.get_ipython = lambda: SimpleNamespace(kernel=kernel)  # type: ignore[attr-defined]
        self.package.display = self.display  # type: ignore[attr-defined]
        self.display.display = self._show  # type: ignore[attr-defined]

    def _show(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Notebook:
        assert raw
        assert display_id
        self.shown.append(content["text/plain"])
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.updated.append(content["text/plain"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    found = Notebook(object())
    monkeypatch.setitem(sys.modules, "IPython", found.package)
    monkeypatch.setitem(sys.modules, "IPython.display", found.display)
    return found


def test_a_notebook_shows_progress_in_one_place_and_its_end(
    notebook: Notebook, tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(run=TINY, train=TINY_TRAIN.model_copy(update={"message_steps": 1}))
    train([tiny_run.path], tmp_path / "m", settings)
    assert len(notebook.shown) == 1
    assert "━━━━━━━━━━━━━━━━━━━━ 6/6 steps" in notebook.updated[-1]
    train([tiny_run.path], tmp_path / "n", settings, show=False)
    assert len(notebook.shown) == 1
    assert capsys.readouterr() == ("", "")


def test_a_simulation_is_shown_in_a_notebook_too(notebook: Notebook, run_copy: Path) -> None:
    simulate(TINY, run_copy)
    assert "12/12 segments" in notebook.shown[-1]


def test_a_script_shows_nothing_unless_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", Notebook(None).package)
    assert shown(None) is None, "a terminal is no notebook, with IPython or without"
    monkeypatch.delitem(sys.modules, "IPython")
    assert shown(None) is None
    assert shown(print) is print
    show = shown(True)
    assert show is not None
    progress = TrainingProgress(5, 20, 0.5)
    for step in range(6, 20):
        show(progress, None)
        progress.step = step
    progress.step, progress.state = 20, "done"
    show(progress, None)
    assert capsys.readouterr() == (
        "",
        "training ━━━━━─────────────── 5/20 steps, loss 0.500, no estimate yet\n"
        "training ━━━━━━━━━━━━━━━━━━━━ 20/20 steps, loss 0.500\n",
    )


def test_in_a_terminal_one_line_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    show = shown(True)
    assert show is not None
    show(TrainingProgress(5, 20, 0.5), Progress((3, 8), 12, 6000, 2.0))
    show(TrainingProgress(20, 20, 0.5, state="done"), Progress((8, 8), 12, 6000, 2.0, complete=True))
    first, second = terminal.getvalue().split("\r")[1:]
    assert len(first) == 59
    assert second.endswith("\n")
    assert second.startswith("training ━━━━━━━━━━━━━━━━━━━━ 20/20 steps")
