"""A mixture of one's own is a mixture like any other, and stays what it was when its run was made."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.engines import get_engine
from glassmd.errors import EngineError, SettingsError
from glassmd.mixtures import MIXTURES, Mixture, differences, get_mixture, mixture_of, mixture_setting, mixture_template
from glassmd.mixtures.tables import MixtureTables, mixture_tables
from glassmd.models.store import load_model
from glassmd.pair_potential import pair_potential
from glassmd.settings import RunSettings, load_settings
from glassmd.simulation.given import settled
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import open_run
from tests.conftest import Outcome, needs_lammps

Command = Callable[..., Outcome]

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = [EXAMPLES / "own_mixture.toml", EXAMPLES / "own_mixture_2d.toml"]
by_dimension = pytest.mark.parametrize("example", OWN, ids=["3D", "2D"])

SHORT = {"particles": 180, "temperature": 1.5, "lineages": 2, "parents": 1, "replicas": 2, "held_out_replicas": 2,
         "test_lineages": 0, "times": [0.1, 0.2], "engine": "lammps", "workers": 1, "seed": 3, "tau_alphas": 4,
         "max_equilibration_time": 40, "accept_unequilibrated": True}  # fmt: skip


def values(**changes: Any) -> dict[str, Any]:
    """A mixture of two species, with changes."""
    return {
        "name": "two", "dimensions": 3, "species": ["A", "B"], "composition": [3, 1], "masses": [1.0, 0.5],
        "epsilon": [[1, 1.5], [1.5, 0.5]], "sigma": [[1, 0.8], [0.8, 0.9]], "cutoff": 2.5,
        "truncation": "force-shifted", "density": 1.2, **changes,
    }  # fmt: skip


def own(**changes: Any) -> Mixture:
    return get_mixture(mixture_tables(values(**changes), "here"))


TABLE = [[2.5, 2.0], [2.0, 2.0]]  # not in proportion to sigma
VARIANTS = [
    {}, {"cutoff": TABLE}, {"cutoff": TABLE, "truncation": "truncated"}, {"truncation": "truncated"},
    {"cutoff": TABLE, "truncation": "xplor"}, {"wave_numbers": [7.0, 5.0]},
]  # fmt: skip


# ---- what a file says ------------------------------------------------------------------------------------------


@by_dimension
def test_a_file_is_named_wherever_a_mixture_is(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liquid = get_mixture(example)
    assert liquid == get_mixture(str(example))
    assert liquid == RunSettings(mixture=str(example)).liquid() == RunSettings(mixture=liquid).liquid()
    (tmp_path / "run.toml").write_text('mixture = "liquid.toml"\n')
    shutil.copy(example, tmp_path / "liquid.toml")
    assert load_settings(tmp_path / "run.toml").run.liquid() == liquid, "beside the file that names it"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").rename(tmp_path / "elsewhere" / "run.toml")
    assert load_settings(Path("elsewhere/run.toml")).run.liquid() == liquid, "else in the current directory"
    assert load_settings(None, {"mixture": "liquid.toml"}).run.liquid() == liquid


def test_the_truncation_is_the_files_unless_somebody_says_another_one(tmp_path: Path) -> None:
    tables = mixture_tables(values(), "here")
    assert RunSettings(mixture=tables).truncation == "force-shifted"
    assert RunSettings(mixture=tables, truncation="xplor").liquid().truncation == "xplor"
    assert get_mixture(tables, "shifted").truncation == "shifted"


def test_settings_of_a_file_need_it_no_more() -> None:
    settings = RunSettings(mixture=str(OWN[0]))
    stored = json.loads(json.dumps(settings.model_dump()))
    assert RunSettings(**stored) == settings
    assert RunSettings.model_validate_json(settings.model_dump_json(exclude_unset=True)) == settings
    assert str(OWN[0]) not in json.dumps(stored)


def test_settings_of_known_mixtures_are_what_they_were() -> None:
    stored = RunSettings(mixture="wahnstrom", truncation="xplor").model_dump()
    assert (stored["mixture"], stored["truncation"]) == ("wahnstrom", "xplor")
    assert RunSettings().model_fields_set == set()


@pytest.mark.parametrize("name", MIXTURES)
def test_a_template_describes_the_mixture_that_it_was_made_of(name: str, tmp_path: Path) -> None:
    path, known = tmp_path / "liquid.toml", MIXTURES[name]
    path.write_text(mixture_template(known))
    found = get_mixture(path, known.truncation)
    assert found.own
    assert replace(found, name=name, own=False, truncations=known.truncations) == known
    path.write_text(path.read_text().replace(f'"my-{name}"', f'"{name}"'))
    assert get_mixture(path) == known, "under its own name it is that mixture"
    assert RunSettings(mixture=str(path)).mixture == name


@pytest.mark.parametrize("changes", VARIANTS)
def test_an_own_mixture_comes_back_from_its_identity_and_from_its_setting(changes: dict[str, Any]) -> None:
    mixture = own(**changes)
    identity = json.loads(json.dumps(mixture.identity()))
    assert mixture_of(identity) == mixture
    assert get_mixture(*mixture_setting(mixture)) == mixture
    assert identity["r_cut"] == mixture.r_cut.tolist()


def test_a_truncation_that_nobody_says_is_shifted() -> None:
    silent = {key: value for key, value in values().items() if key != "truncation"}
    assert get_mixture(mixture_tables(silent, "here")) == own(truncation="shifted")
    assert RunSettings(mixture=silent).truncation == "shifted"


def test_where_the_numbers_come_from_makes_no_other_liquid() -> None:
    assert own(source="a paper") == own(source="another one")
    assert own(source="a paper").identity() == own().identity()


def test_a_table_of_cutoffs_in_proportion_is_a_factor() -> None:
    assert own(cutoff=[[2.5, 2.0], [2.0, 2.25]]) == own(cutoff=2.5)
    assert own(cutoff=[[2.5, 2.5], [2.5, 2.5]], truncation="truncated") == own(truncation="truncated")
    assert own(cutoff=TABLE).r_cut.tolist() == TABLE


def test_no_two_own_mixtures_have_one_identity() -> None:
    others = [
        {"density": 1.1}, {"composition": [1, 1]}, {"masses": [1, 1]}, {"sigma": [[1, 0.8], [0.8, 0.8]]},
        {"epsilon": [[1, 1], [1, 0.5]]}, {"species": ["A", "C"]}, {"name": "three"},
    ]  # fmt: skip
    assert len({json.dumps(own(**changes).identity()) for changes in [*VARIANTS, *others]}) == len(VARIANTS + others)


@pytest.mark.parametrize("name", MIXTURES)
def test_the_estimated_wave_number_is_near_the_peak_of_the_first_species(name: str) -> None:
    known = MIXTURES[name]
    text = mixture_template(known)
    without = "\n".join(line for line in text.splitlines() if not line.startswith("wave_numbers"))
    estimated = get_mixture(mixture_tables(tomllib.loads(without), "here"), known.truncation).wave_numbers
    # docs/mixtures.md: within 0.5% in space, 4% in the plane.
    assert estimated[0] == pytest.approx(known.wave_numbers[0], rel=0.01 if known.dimensions == 3 else 0.04)
    assert len(set(estimated)) == 1


@pytest.mark.parametrize("key", list(own().identity()))
@pytest.mark.parametrize("value", [None, 99, "a b", [], [[1.0]], {}, float("nan"), -1.0])
def test_a_damaged_identity_is_refused_and_no_internal_error(key: str, value: Any) -> None:
    identity = own().identity()
    with pytest.raises(SettingsError):
        mixture_of({**identity, key: value})
    with pytest.raises(SettingsError):
        mixture_of({other: kept for other, kept in identity.items() if other != key} | {"more": 1})


def test_differences_name_the_entries() -> None:
    was, now = differences(own().identity(), own(masses=[1, 0.6], sigma=[[1, 0.8], [0.8, 0.8]]).identity())
    assert (was, now) == ("two with sigma[1][1] = 0.9, masses[1] = 0.5", "sigma[1][1] = 0.8, masses[1] = 0.6")


# ---- what engines make of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", ["shifted", "force-shifted", "truncated", "xplor"])
@pytest.mark.parametrize("engine", ["lammps", "hoomd"])
def test_each_pair_is_cut_at_a_length_of_its_own(engine: str, truncation: str) -> None:
    try:
        machine = get_engine(engine, "cpu", packed=1)  # type: ignore[arg-type]
    except EngineError as error:
        pytest.skip(str(error))
    mixture = own(cutoff=TABLE, truncation=truncation)
    for a, b in ((0, 0), (0, 1), (1, 1)):
        cut = TABLE[a][b]
        for r in (0.95 * mixture.sigma[a][b], 0.7 * cut, 0.99 * cut, 1.001 * cut):
            pair = Configuration([8.0] * 3, [a, b], [[-r / 2, 0, 0], [r / 2, 0, 0]], ("A", "B"))
            pair = pair.with_velocities(np.zeros((2, 3)))
            (seen,) = machine.evolve([pair], mixture, steps=[0], time_step=0.005)
            expected = pair_potential([r], [a], [b], mixture)
            # HOOMD keeps positions to 1e-7 of the box and its offset in a Gaussian: 1e-6 of what is largest here, 10 ε.
            assert 2 * seen.potential_energy == pytest.approx(float(expected.energy[0]), rel=1e-5, abs=1e-5)
            assert -seen.pressure * 3 * 8.0**3 / r == pytest.approx(float(expected.slope[0]), rel=1e-5, abs=1e-4)


# ---- all through -----------------------------------------------------------------------------------------------


@needs_lammps
@by_dimension
def test_an_example_is_simulated_resumed_trained_on_and_predicted_without_its_file(
    glassmd: Command, tmp_path: Path, example: Path
) -> None:
    file, run, model, out = (tmp_path / name for name in ("liquid.toml", "run", "model", "predicted.gsd"))
    shutil.copy(example, file)
    liquid = get_mixture(file)
    toml = tmp_path / "run.toml"
    toml.write_text('mixture = "liquid.toml"\n' + "".join(f"{k} = {json.dumps(v)}\n" for k, v in SHORT.items()))
    made = glassmd("simulate", toml, "--out", run, "--json")
    assert made.code == 0, made.err
    assert "q of F_s is estimated from the density" in made.err
    file.unlink()
    segment = run / "segments" / "L0001-P0000-B0000.json"
    before = open_run(run).entries("segments")[-1].sidecar["sha256"]
    segment.unlink()
    again = glassmd("simulate", "--out", run, "--json")
    assert again.code == 0, again.err
    assert open_run(run).entries("segments")[-1].sidecar["sha256"] == before, "the same trajectory"
    grown = glassmd("simulate", "--out", run, "--parents", 2, "--workers", 2, "--json")  # in processes of their own
    assert grown.code == 0, grown.err
    assert grown.json["parents"] == 4
    assert glassmd("simulate", "--mixture", liquid.name, "--out", run).code == 0, "its name is enough"

    flags = ["--model", "ridge", "--input", "thermal,inherent", "--set", "train_threads=1"]
    trained = glassmd("train", run, "--out", model, *flags, "--json")
    assert trained.code == 0, trained.err
    card = load_model(model).card
    assert mixture_of(card.mixture) == liquid
    predicted = glassmd("predict", run / "parents" / "L0001-P0001.gsd", "--model", model, "--out", out, "--json")
    assert predicted.code == 0, predicted.err
    assert set(predicted.json["propensity_mean"]) == set(liquid.species)
    assert predicted.json["mixture_checked"]

    facts = glassmd("info", run, "--json").json
    assert facts["wave_numbers_estimated"]
    assert facts["masses"] == dict(zip(liquid.species, liquid.masses, strict=True))
    last = liquid.species[-1]
    assert facts["sigma"][f"{last}-{last}"] == liquid.sigma[-1][-1]
    assert facts["r_cut"][f"{last}-{last}"] == liquid.r_cut[-1, -1]
    assert glassmd("info", model, "--json").json["epsilon"] == facts["epsilon"]


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "run"
    simulate(RunSettings(mixture=str(OWN[0]), **SHORT), path)
    return path


@needs_lammps
def test_parents_in_a_run_or_a_file_say_what_they_are_made_of(own_run: Path) -> None:
    settings = RunSettings(mixture=str(OWN[0]))
    for start in (own_run, own_run / "parents" / "L0000-P0000.gsd"):
        found, _ = settled(RunSettings(start=[str(start)]))
        assert found.liquid() == settings.liquid()
        assert isinstance(found.mixture, MixtureTables)
        assert found.temperature == SHORT["temperature"]


@needs_lammps
def test_a_foreign_file_of_an_own_mixture_is_predicted_and_analysed(
    glassmd: Command, own_run: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    assert glassmd("train", own_run, "--out", model, "--model", "ridge", "--input", "thermal").code == 0
    assert glassmd("export", own_run, "--format", "extxyz", "--out", tmp_path / "xyz").code == 0
    file = sorted((tmp_path / "xyz").rglob("*.xyz"))[0]
    shown = tmp_path / "predicted.gsd"
    found = glassmd("predict", file, "--model", model, "--mixture", OWN[0], "--out", shown, "--json")
    assert found.code == 0, found.err
    assert found.json["mixture_checked"]
    analysed = glassmd("analyze", file, "--mixture", OWN[0], "--temperature", 1.5, "--json")
    assert analysed.code == 0, analysed.err
    known = glassmd("analyze", own_run, "--json").json
    # One configuration of 180 against some: U/N scatters by T √(c/N) with c about 2 in three dimensions.
    assert analysed.json["energy_per_particle"] == pytest.approx(known["energy_per_particle"], abs=5 * 0.16)


@needs_lammps
def test_training_beside_a_simulation_of_an_own_mixture_goes_on_without_its_file(
    glassmd: Command, tmp_path: Path
) -> None:
    file, model = tmp_path / "liquid.toml", tmp_path / "model"
    shutil.copy(OWN[1], file)
    flags = [f"--set={key}={json.dumps(value)}" for key, value in SHORT.items()]
    train = ["train", "--stream", "--out", model, "--model", "bapst", "--set", "message_steps=1", "--set", "redraw=0"]
    first = glassmd(*train, "--max-steps", 2, "--mixture", file, *flags, "--json")
    assert first.code == 0, first.err
    file.unlink()
    again = glassmd(*train, "--max-steps", 4, "--lineages", 3, "--json")
    assert again.code == 0, again.err
    assert again.json["steps"] == 4
    assert mixture_of(load_model(model).card.mixture) == get_mixture(OWN[1])


@needs_lammps
def test_the_energy_is_looked_at_once_for_a_run(own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glassmd.simulation import conservation

    seen: list[float] = []
    really = conservation.measure_conservation
    monkeypatch.setattr(conservation, "measure_conservation", lambda *a: (seen.append(a[2]), really(*a))[1])
    run = Path(shutil.copytree(own_run, tmp_path / "run"))
    simulate(RunSettings(lineages=3, workers=1), run)
    assert seen == [], "a run that is there was looked at when it was made"
    simulate(RunSettings(mixture=str(OWN[0]), **{**SHORT, "lineages": 2}), tmp_path / "new")
    assert seen == [0.005]
