"""Configurations that somebody else made as parents, and runs that keep propensities instead of positions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassmd.configuration import Configuration, minimum_image
from glassmd.engines.lammps import LammpsEngine
from glassmd.engines.reduced import Displacements
from glassmd.errors import EngineError, SettingsError
from glassmd.fields import GSD_IDENTITY
from glassmd.ledger.run import RunDirectory, SegmentKey
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.block import Block
from glassmd.simulation.given import settled
from glassmd.simulation.inspection import inspect
from glassmd.simulation.pool import simulate
from glassmd.simulation.preparation import typical_liquid
from glassmd.simulation.start import random_start
from glassmd.storage import sealed
from glassmd.stream.dataset import Run, open_run
from glassmd.training.source import SampleSource
from glassmd.trajectory import Frame, encode_identity, write_frames
from glassmd.trajectory.text_writing import write_dump_frame
from tests.conftest import TINY, Outcome, needs_lammps
from tests.sidecars import rewrite

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
    source = SampleSource([made, open_run(tiny_run.path)])
    folds: dict[int, set[int]] = {}
    for sample in source.poll():
        folds.setdefault(sample.key.lineage, set()).add(source.fold(sample.key))
    assert all(len(of) == 1 for of in folds.values())
    assert len(set.union(*folds.values())) == 4


def test_the_evidence_of_a_lineage_goes_with_it(
    run_copy: Path, glassmd: Callable[..., Outcome], tmp_path: Path
) -> None:
    sidecar = run_copy / "parents" / "L0001-P0000.json"
    content = json.loads(sidecar.read_text())
    content["equilibration"] |= {"equilibrated": False, "reasons": ["it was too short"]}
    rewrite(sidecar, equilibration=content["equilibration"])
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


def dump_of(run: Run, path: Path, species: Callable[[int], int] = lambda number: number) -> Path:
    """A parent of a run as LAMMPS dumps it: numbers for types, and nothing that says what they are."""
    liquid = run.entries("parents")[0].read([0])[0].configuration
    changed = replace(liquid, species=np.array([species(int(k)) for k in liquid.species], np.int32))
    with path.open("w") as file:
        write_dump_frame(file, Frame(replace(changed, species_names=("1", "2")), 0))
    return path


def test_a_file_of_any_format_is_a_start(glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path) -> None:
    dump = dump_of(tiny_run, tmp_path / "x.dump")
    options = ("--start", dump, "--replicas", 1, "--temperature", 1.5)
    assert "try --mixture" in given_run(glassmd, tmp_path / "run", *options).err
    found = given_run(glassmd, tmp_path / "run", *options, "--mixture", "kob-andersen")
    assert found.code == 0, found.err
    given, taken = (
        run.entries("parents")[0].read([0])[0].configuration for run in (tiny_run, open_run(tmp_path / "run"))
    )
    np.testing.assert_array_equal(taken.species, given.species)
    assert np.abs(minimum_image(taken.positions - given.positions, given.box)).max() < 1e-5


def test_types_that_nothing_tells_apart_are_to_be_named(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    dump = dump_of(tiny_run, tmp_path / "x.dump", lambda number: 0)
    options = ("--start", dump, "--replicas", 1, "--temperature", 1.5, "--mixture", "wahnstrom")
    found = given_run(glassmd, tmp_path / "run", *options)
    assert found.code == 2
    assert "200 of type 1" in found.err
    assert "name the types of the file A, B" in found.err


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


def as_imported(run: Path, **equilibration: object) -> Path:
    """Turn a run into one whose parents come without evidence, as imported ones do."""
    stored = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(sealed({**stored, "settings": None, "origin": "botan"})))
    for sidecar in (run / "parents").glob("*.json"):
        content = json.loads(sidecar.read_text())
        content.pop("equilibration", None)
        sidecar.write_text(
            json.dumps(sealed({**content, **({"equilibration": equilibration} if equilibration else {})}))
        )
    return run


@pytest.mark.parametrize("kind", ["file", "imported"])
def test_what_is_given_without_evidence_is_unchecked_until_the_engine_has_looked(
    glassmd: Callable[..., Outcome], tiny_run: Run, run_copy: Path, tmp_path: Path, kind: str
) -> None:
    start = gsd_of(tiny_run, tmp_path / "two.gsd", 2) if kind == "file" else as_imported(run_copy)
    made = given_run(glassmd, tmp_path / "run2", "--start", start, "--replicas", 1, "--set", "held_out_replicas=1")
    assert made.code == 0, made.err
    first, second = (entry.sidecar for entry in open_run(tmp_path / "run2").entries("parents")[:2])
    report = first["equilibration"]
    assert report["equilibrated"] is None
    assert report["reasons"] == ["given, not checked by glassmd"]
    segments = open_run(tmp_path / "run2").entries("segments")
    for checked, segment in zip((report["checked"], second["checked"]), segments, strict=False):
        assert checked.keys() == {"energy_per_particle", "pressure", "neighbours", "crystalline_fraction", "density"}
        # -5.287 is the mean at T = 1.5; one liquid of 200 scatters by 0.12, and relaxes a little until t = 0.1.
        assert checked["energy_per_particle"] == pytest.approx(-5.287, abs=0.65)
        assert checked["energy_per_particle"] == pytest.approx(segment.sidecar["potential_energy"][0][0], abs=0.5)
        assert checked["pressure"] == pytest.approx(segment.sidecar["pressure"][0][0], abs=3.0)
        assert checked["density"] == pytest.approx(1.2)
        assert checked["crystalline_fraction"] < 0.05
    facts = glassmd("info", tmp_path / "run2", "--json").json["equilibration"]
    assert facts[0]["equilibrated"] is None
    shown = glassmd("info", tmp_path / "run2").out
    assert "equilibrated unchecked" in shown
    assert "equilibrated yes" not in shown


def test_given_configurations_of_earlier_releases_are_unchecked_too(run_copy: Path) -> None:
    """They were committed as equilibrated without any evidence."""
    old = as_imported(run_copy, equilibrated=True, reasons=[], given="x.gsd frame 0", given_parents=2)
    _, lineages = settled(RunSettings(start=[str(old)]))
    assert lineages[0][0].unchecked


def test_a_lineage_with_evidence_keeps_it(glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path) -> None:
    given_run(glassmd, tmp_path / "run", "--start", tiny_run.path, "--replicas", 1, "--set", "held_out_replicas=1")
    for before, after in zip(tiny_run.entries("parents"), open_run(tmp_path / "run").entries("parents"), strict=True):
        if before.key.parent == 0:
            found = after.sidecar["equilibration"]
            assert {key: found[key] for key in before.sidecar["equilibration"]} == before.sidecar["equilibration"]
    assert "equilibrated yes" in glassmd("info", tmp_path / "run").out


def scaled(liquid: Configuration, factor: float) -> Configuration:
    """The same liquid in another unit of length."""
    return replace(liquid, box=liquid.box * factor, positions=liquid.positions * factor)


def test_a_snapshot_in_angstrom_is_refused(glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path) -> None:
    liquid = tiny_run.entries("parents")[0].read([0])[0].configuration
    path = foreign(tmp_path / "argon.gsd", scaled(liquid, 3.405))
    found = given_run(glassmd, tmp_path / "run", "--start", path, "--temperature", 1.5)
    assert found.code == 2
    assert re.search(r"argon.gsd has 0.03\d* particles per unit of volume", found.err)
    assert "reduced units" in found.err
    assert not (tmp_path / "run").exists()


def disordered(mixture: Mixture, n_particles: int, density: float, closest: float) -> Configuration:
    """Particles at random, but not closer than `closest`: neither a crystal, nor do any overlap."""
    generator = np.random.default_rng(1)
    lattice = random_start(mixture, n_particles, density, generator)
    points = np.empty((0, mixture.dimensions))
    while len(points) < n_particles:
        point = generator.uniform(-lattice.box / 2, lattice.box / 2)
        if (np.linalg.norm(minimum_image(points - point, lattice.box), axis=1) > closest).all():
            points = np.vstack([points, point])
    return replace(lattice, positions=points)


@pytest.mark.parametrize("mixture", ["kob-andersen", "kob-andersen-2d", "wca", "wahnstrom"])
@pytest.mark.parametrize("thinner", [True, False])
def test_what_is_no_dense_liquid_is_refused(mixture: str, thinner: bool) -> None:
    """Some percent of the density, where particles hardly meet, or particles that are pressed into each other."""
    density, closest = (0.04, 1.1) if thinner else (1.6, 0.4)
    settings = RunSettings(mixture=mixture, particles=300, temperature=1, density=density)
    snapshot = disordered(get_mixture(mixture), 300, density, closest)
    with pytest.raises(SettingsError, match=r"it has U/N = .* neighbours .* reduced units"):
        list(inspect([snapshot], ["it"], settings, LammpsEngine()))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_liquid_of_any_mixture_and_truncation_is_taken_for_one(mixture: str) -> None:
    engine = LammpsEngine()
    for truncation in get_mixture(mixture).truncations:
        for temperature in (0.5, 1.9, 4.0):
            settings = RunSettings(
                mixture=mixture, truncation=truncation, particles=400, temperature=temperature,
                accept_unequilibrated=True,
            )  # fmt: skip
            (found,) = inspect([typical_liquid(engine, settings)], ["it"], settings, engine)
            assert found.facts["neighbours"] > 2
            if temperature == 4.0:  # beyond the curve
                assert not found.against


def test_a_liquid_of_another_temperature_is_not_taken_for_equilibrated(
    glassmd: Callable[..., Outcome], tiny_run: Run, tmp_path: Path
) -> None:
    """At T = 0.64 and N = 200, U/N = -6.63 ± 0.06; this is a liquid at T = 1.5."""
    path = foreign(tmp_path / "hot.gsd", tiny_run.entries("parents")[0].read([0])[0].configuration)
    options = ("--start", path, "--temperature", 0.64, "--replicas", 1)
    found = given_run(glassmd, tmp_path / "run", *options)
    assert found.code == 2
    assert "U/N = -5." in found.err
    assert "-6.63" in found.err
    assert "--accept-unequilibrated" in found.err
    assert not (tmp_path / "run").exists()
    assert given_run(glassmd, tmp_path / "run", *options, "--accept-unequilibrated").code == 0
    report = open_run(tmp_path / "run").entries("parents")[0].sidecar["equilibration"]
    assert report["equilibrated"] is False
    assert "-6.63" in report["reasons"][0]


@pytest.mark.parametrize(("equilibrated", "off"), [(None, True), (False, True), (True, None)])
def test_replicas_of_unchecked_parents_may_leave_their_temperature_but_not_unnoticed(
    run_copy: Path, equilibrated: bool | None, off: bool | None
) -> None:
    """Proven equilibrium keeps it, so that there the time step is at fault and it is an error."""
    run = RunDirectory.open(run_copy)
    parent = run_copy / "parents" / "L0002-P0000.json"
    content = json.loads(parent.read_text())
    content["equilibration"] |= {"equilibrated": equilibrated, "given": "x.gsd frame 0"}
    parent.write_text(json.dumps(sealed(content)))
    for path in (run_copy / "segments").glob("L0002-P0000-B0000.*"):
        path.unlink()
    run.identity["settings"]["accept_unequilibrated"] = True
    block = Block(SegmentKey(2, 0, 0), run)
    block.add([0, 1, 2], moved_by(block, 20))
    block.add([0, 1, 2], moved_by(block, 100))
    block._measured[0] = 1.5 * 0.8
    if off is None:
        with pytest.raises(EngineError, match="is off by -20"):
            block.commit({})
        return
    block.commit({})
    found = json.loads((run_copy / "segments" / "L0002-P0000-B0000.json").read_text())["kinetic_temperature_off"]
    assert found["off"] == pytest.approx(-0.2)
    assert found["time"] in TINY.times
    assert found["allowed"] < 0.2


def moved_by(block: Block, step: int) -> Displacements:
    """Of replicas that all stayed where they were."""
    still = np.zeros(200)
    return Displacements(
        group=0, systems=(0, 1, 2), step=step, mean=still, deviation=still, scattering=np.ones(2),
        potential_energy=np.full(3, -5.0), temperature=np.full(3, 1.5), pressure=np.full(3, 10.0),
    )  # fmt: skip


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
