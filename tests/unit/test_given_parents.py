"""Configurations that somebody else made as parents, and runs that keep propensities instead of positions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.fields import GSD_IDENTITY
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.given import settled
from glassmd.simulation.pool import simulate
from glassmd.simulation.start import random_start
from glassmd.stream.dataset import Run, open_run
from glassmd.trajectory import Frame, encode_identity, write_frames
from tests.conftest import TINY, Outcome, needs_lammps

pytestmark = needs_lammps


def parents_of(run: Run) -> list[np.ndarray]:
    return [entry.read([0])[0].configuration.positions for entry in run.entries("parents")]


def given_run(glassmd: Callable[..., Outcome], out: Path, *options: object) -> Outcome:
    return glassmd(
        "simulate", "--engine", "lammps", "--workers", 1, "--times", "0.1,0.2", *options, "--out", out, "--json"
    )


def test_lineages_and_parents_are_those_that_were_given(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    found = given_run(
        glassmd, tmp_path / "run", "--start", tiny_run.path, "--replicas", 2, "--set", "held_out_replicas=3"
    )
    assert found.code == 0, found.err
    made = open_run(tmp_path / "run")
    assert made.identity["temperature"] == TINY.temperature
    for given, taken in zip(parents_of(tiny_run), parents_of(made), strict=True):
        np.testing.assert_array_equal(given, taken)
    assert (found.json["lineages"], found.json["parents"]) == (4, 8)
    assert found.json["replicas"] == 2 * 2 * 3 + 2 * 2 * 2  # one validation, one test and two training lineages
    assert made.entries("parents")[3].sidecar["given"] == f"{tiny_run.path.name}/L0001-P0001"


def test_a_liquid_is_recognised_in_the_run_that_was_started_from_it(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    """So that no split can leak between the two; and its replicas are no copies of those that are there."""
    given_run(glassmd, tmp_path / "run", "--start", tiny_run.path, "--replicas", 1, "--set", "held_out_replicas=1")
    made = open_run(tmp_path / "run")
    assert [made.fingerprint(lineage) for lineage in range(4)] == [
        tiny_run.fingerprint(lineage) for lineage in range(4)
    ]
    seeds = [set(run.entries("segments")[0].sidecar["seeds"]["momenta"]) for run in (made, tiny_run)]
    assert not seeds[0] & seeds[1]


def test_the_evidence_of_a_lineage_goes_with_it(
    run_copy: Path, glassmd: Callable[..., Outcome], tmp_path: Path
) -> None:
    sidecar = run_copy / "parents" / "L0001-P0000.json"
    content = json.loads(sidecar.read_text())
    content["equilibration"] |= {"equilibrated": False, "reasons": ["it was too short"]}
    sidecar.write_text(json.dumps(content))
    refused = given_run(glassmd, tmp_path / "other", "--start", run_copy, "--replicas", 1)
    assert refused.code == 2
    assert "it was too short" in refused.err


def gsd_of(run: Run, path: Path, count: int) -> Path:
    """Parents of a run as frames of one GSD file that says what they are."""
    identity = encode_identity({"mixture": run.identity["mixture"], "temperature": 1.5})
    liquids = [entry.read([0])[0].configuration for entry in run.entries("parents")]
    write_frames(path, [Frame(liquid, 0, {GSD_IDENTITY: identity}) for liquid in liquids[:count]])
    return path


def test_the_frames_of_one_file_are_parents_of_one_lineage(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    files = [gsd_of(tiny_run, tmp_path / f"{count}.gsd", count) for count in (3, 2)]
    options = ("--start", files[0], "--start", files[1], "--replicas", 1)
    found = given_run(glassmd, tmp_path / "run", *options)
    assert (found.json["lineages"], found.json["parents"]) == (2, 4), "as many parents as every lineage has"
    for path in files:
        path.unlink()
    again = given_run(glassmd, tmp_path / "run", *options)
    assert again.json["steps"] == 0, "the same command finds everything done, and needs the files no more"


def test_a_lineage_goes_on_after_its_given_parents(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    one = gsd_of(tiny_run, tmp_path / "one.gsd", 1)
    assert given_run(glassmd, tmp_path / "run", "--start", one, "--replicas", 1, "--parents", 2).json["parents"] == 2


def test_given_configurations_are_enough_for_the_programming_interface(tiny_run: Run, tmp_path: Path) -> None:
    settings = RunSettings(
        start=[str(tiny_run.path)], replicas=1, held_out_replicas=1, times=[0.05], engine="lammps", workers=1
    )
    assert simulate(settings, tmp_path / "run")["parents"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--truncation", "force-shifted"), r"kob-andersen \(shifted\)"),
        (("--temperature", "1.4"), "temperature 1.5"),
        (("--particles", "300"), "number of particles 200"),
        (("--lineages", "5"), "try --lineages 4"),
        (("--mixture", "wahnstrom"), "mixture"),
    ],
)
def test_settings_that_contradict_what_is_given_are_refused_and_leave_nothing(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    found = given_run(glassmd, tmp_path / "run", "--start", tiny_run.path, *options)
    assert found.code == 2
    assert re.search(message, found.err), found.err
    assert not (tmp_path / "run").exists()


def test_another_composition_is_refused(glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path) -> None:
    liquid = tiny_run.entries("parents")[0].read([0])[0].configuration
    half = replace(liquid, species=np.arange(200) % 2)
    write_frames(tmp_path / "half.gsd", [Frame(half, 0)])
    found = given_run(glassmd, tmp_path / "run", "--start", tmp_path / "half.gsd", "--temperature", 1.5)
    assert found.code == 2
    assert "composition" in found.err


def test_a_start_that_is_not_there_is_refused(glassmd: Callable[..., Outcome], tmp_path: Path) -> None:
    found = given_run(glassmd, tmp_path / "run", "--start", tmp_path / "nothing.gsd")
    assert found.code == 2
    assert "nothing.gsd" in found.err
    (tmp_path / "wrong.toml").write_text("start = [1]")
    assert glassmd("simulate", tmp_path / "wrong.toml", "--out", tmp_path / "run").code == 2


def test_files_of_other_programs_need_to_be_told_what_they_are(tiny_run: Run, tmp_path: Path) -> None:
    liquid = tiny_run.entries("parents")[0].read([0])[0].configuration
    write_frames(tmp_path / "foreign.gsd", [Frame(liquid, 0)])
    made, (lineage,) = settled(RunSettings(start=[str(tmp_path / "foreign.gsd")], temperature=1.3))
    assert (made.temperature, made.particles, made.lineages, made.validation_lineages) == (1.3, 200, 1, 0)
    np.testing.assert_array_equal(lineage[0].configuration.positions, liquid.positions)


def foreign(path: Path, liquid: Configuration) -> Path:
    """A snapshot of another program: nothing but particles in a box."""
    write_frames(path, [Frame(liquid, 0)])
    return path


def test_a_foreign_file_without_a_temperature_is_refused_at_once(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    """Not taken for a liquid at the default 0.64."""
    path = foreign(tmp_path / "foreign.gsd", tiny_run.entries("parents")[0].read([0])[0].configuration)
    for dry in ((), ("--dry-run",)):
        found = given_run(glassmd, tmp_path / "run", "--start", path, *dry)
        assert found.code == 2
        assert "found no temperature in foreign.gsd" in found.err
        assert "try --temperature" in found.err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mixture", ["kob-andersen-2d", "kob-andersen-2d-ternary", "wahnstrom"])
def test_a_foreign_file_that_is_no_kob_andersen_liquid_needs_a_mixture(
    glassmd: Callable[..., Outcome], tmp_path: Path, mixture: str
) -> None:
    chosen = get_mixture(mixture)
    path = foreign(tmp_path / "x.gsd", random_start(chosen, 400, chosen.density, np.random.default_rng(1)))
    found = given_run(glassmd, tmp_path / "run", "--start", path, "--temperature", 1.0)
    assert found.code == 2
    assert "found no mixture in x.gsd" in found.err
    assert f"try --mixture {mixture}" in found.err
    assert not (tmp_path / "run").exists()


def test_a_foreign_file_of_unknown_species_lists_the_mixtures(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    liquid = tiny_run.entries("parents")[0].read([0])[0].configuration
    path = foreign(tmp_path / "x.gsd", replace(liquid, species_names=("Ni", "P")))
    found = given_run(glassmd, tmp_path / "run", "--start", path, "--temperature", 1.5)
    assert found.code == 2
    assert "Ni" in found.err
    assert "found no mixture in x.gsd" in found.err
    assert "wahnstrom" in found.err


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
