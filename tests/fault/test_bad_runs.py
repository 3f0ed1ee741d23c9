"""Run directories that are damaged, made otherwise, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TINY
from tests.fault.refusals import TRAIN_FLAGS, Command, assert_refused, tiny_flags


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


def test_removing_a_run_that_training_has_seen(glassmd: Command, model_copy: Path, run_copy: Path) -> None:
    for path in (run_copy / "segments").glob("L0002-P0000-B0000.*"):
        path.unlink()
    flags = [f"--set={key}={value}" for key, value in TRAIN_FLAGS.items()]
    outcome = glassmd(
        "train", run_copy, "--model", "bapst", "--out", model_copy, "--seed", TINY.seed, "--max-steps", "9", *flags
    )
    assert_refused(outcome, "found no segment L0002-P0000-B0000", "restore the run")
