"""Configurations that somebody else made as parents, and runs that keep propensities instead of positions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassmd.fields import GSD_IDENTITY
from glassmd.settings import RunSettings
from glassmd.simulation.given import settings_of_given
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import Run, open_run
from glassmd.trajectory import Frame, encode_identity, write_frames
from tests.conftest import TINY, Outcome, needs_lammps

pytestmark = needs_lammps


def parents_of(run: Run) -> list[np.ndarray]:
    return [entry.read([0])[0].configuration.positions for entry in run.entries("parents")]


def test_the_parents_of_a_run_are_those_that_were_given(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    found = glassmd(
        "simulate", "--start", tiny_run.path, "--replicas", 2, "--set", "held_out_replicas=3", "--times", "0.1,0.2",
        "--engine", "lammps", "--workers", 1, "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    made = open_run(tmp_path / "run")
    assert made.identity["temperature"] == TINY.temperature
    for given, taken in zip(parents_of(tiny_run), parents_of(made), strict=True):
        np.testing.assert_array_equal(given, taken)
    assert found.json["lineages"] == found.json["parents"] == 8
    assert found.json["replicas"] == 2 * 3 + 6 * 2  # one validation and one test lineage
    source = made.entries("parents")[3].sidecar["equilibration"]["given"]
    assert source == f"{tiny_run.path.name}/L0001-P0001"


def test_frames_of_a_gsd_file_are_given_one_by_one(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    identity = encode_identity({"mixture": tiny_run.identity["mixture"], "temperature": 1.5})
    liquids = [entry.read([0])[0].configuration for entry in tiny_run.entries("parents")]
    write_frames(tmp_path / "three.gsd", [Frame(liquid, 0, {GSD_IDENTITY: identity}) for liquid in liquids[:3]])
    command = ("simulate", "--start", tmp_path / "three.gsd", "--engine", "lammps", "--times", "0.05")
    command = (*command, "--replicas", 1, "--set", "held_out_replicas=1", "--workers", 1, "--out", tmp_path / "run")
    assert glassmd(*command, "--json").json["parents"] == 3
    assert glassmd(*command, "--json").json["steps"] == 0, "the same command finds everything done"


def test_what_is_given_says_what_the_run_is(tiny_run: Run) -> None:
    facts = settings_of_given([tiny_run.path])
    assert facts == {
        "particles": 200,
        "density": pytest.approx(1.2),
        "lineages": 8,
        "parents": 1,
        "mixture": "kob-andersen",
        "truncation": "shifted",
        "temperature": 1.5,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--truncation", "force-shifted"), r"kob-andersen \(shifted\)"),
        (("--temperature", "1.4"), "temperature 1.5"),
        (("--particles", "300"), "number of particles 200"),
        (("--lineages", "9"), "try --lineages 8"),
    ],
)
def test_settings_that_contradict_what_is_given_are_refused(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    found = glassmd("simulate", "--start", tiny_run.path, "--engine", "lammps", *options, "--out", tmp_path / "run")
    assert found.code == 2
    assert re.search(message, found.err), found.err


def test_a_start_that_is_not_there_is_refused(glassmd: Callable[..., Outcome], tmp_path: Path) -> None:
    found = glassmd("simulate", "--start", tmp_path / "nothing.gsd", "--out", tmp_path / "run")
    assert found.code == 2
    assert "nothing.gsd" in found.err


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same run twice, with positions and with propensities."""
    folder = tmp_path_factory.mktemp("keep")
    settings = TINY.model_copy(update={"parents": 2, "replicas": 3, "held_out_replicas": 5, "block": 2})
    for keep in ("positions", "propensities"):
        simulate(RunSettings(**settings.model_dump() | {"keep": keep}), folder / keep)
    return open_run(folder / "positions"), open_run(folder / "propensities")


def test_propensities_that_were_reduced_are_those_of_the_positions(both: tuple[Run, Run]) -> None:
    full, reduced = both
    for one, other in zip(full.samples(), reduced.samples(), strict=True):
        assert (one.key.lineage, one.key.parent, one.n_replicas) == (
            other.key.lineage,
            other.key.parent,
            other.n_replicas,
        )
        # Positions and labels are kept in single precision: 1e-7 of a box of 5.5.
        np.testing.assert_allclose(one.parent.positions, other.parent.positions, atol=2e-6)
        if one.key.parent == 0:  # later parents start from rounded positions in both runs, which chaos spreads
            np.testing.assert_allclose(one.propensity, other.propensity, atol=5e-6)
            np.testing.assert_allclose(one.variance, other.variance, atol=1e-5)


def test_the_next_parent_is_the_end_of_replica_0_in_both(both: tuple[Run, Run]) -> None:
    for one, other in zip(*map(parents_of, both), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_reduced_segments_are_smaller_and_say_as_much_of_the_dynamics(both: tuple[Run, Run]) -> None:
    full, reduced = both
    for one, other in zip(full.entries("segments"), reduced.entries("segments"), strict=True):
        assert other.sidecar["size"] < one.sidecar["size"]
        if one.key.parent == 0:
            for key, values in one.sidecar["dynamics"].items():
                np.testing.assert_allclose(values, other.sidecar["dynamics"][key], atol=1e-9)


def test_a_run_says_what_its_liquids_did(both: tuple[Run, Run]) -> None:
    from glassmd.simulation.summary import dynamics_of

    found = dynamics_of(both[0])
    samples = both[0].samples()
    of_a = np.array([sample.propensity[:, sample.parent.of_species("A")].mean(axis=1) for sample in samples])
    moved = found["species"]["A"]["mean_displacement"]
    assert found["n_parents"] == len(samples) == 8
    np.testing.assert_allclose(moved["mean"], of_a.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(moved["error"], of_a.std(axis=0, ddof=1) / np.sqrt(8), atol=1e-5)
    fs = np.array(found["species"]["A"]["scattering"]["mean"])
    assert np.all(fs[:-1] > fs[1:])
    # Ballistic and Gaussian at first: F_s = exp(-q²⟨Δr²⟩/6), ⟨Δr²⟩ = 3T t² (1 − …); caged a little at t = 0.1.
    assert np.exp(-(7.25**2) * 3 * 1.5 * 0.1**2 / 6) < fs[0] < 0.9
    assert json.loads(json.dumps(found)) == found


def test_a_truncated_identity_is_no_obstacle(tiny_run: Run, tmp_path: Path) -> None:
    """Files of other programs have no identity: what they are is then for the user to say."""
    liquid = tiny_run.entries("parents")[0].read([0])[0].configuration
    write_frames(tmp_path / "foreign.gsd", [Frame(replace(liquid), 0)])
    assert "temperature" not in settings_of_given([tmp_path / "foreign.gsd"])
    assert settings_of_given([tmp_path / "foreign.gsd"])["validation_lineages"] == 0
