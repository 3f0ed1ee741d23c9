"""Runs of the format before are read, trained on and scored as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glassmd.evaluation import evaluate
from glassmd.ledger.run import RunDirectory
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import open_run
from glassmd.training.session import train
from tests.conftest import needs_lammps

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=["positions", "propensities"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run that release 0.1.0 wrote with LAMMPS; see tests/golden/README.md."""
    return Path(shutil.copytree(GOLDEN / str(request.param), tmp_path / str(request.param)))


def test_a_run_of_the_format_before_trains_and_evaluates_to_the_same_numbers(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / f"{golden.name}-evaluate.json").read_text())
    train([golden], tmp_path / "m", Settings(train=TrainSettings(model="ridge", input=["thermal"], train_threads=1)))
    found = evaluate(tmp_path / "m", [golden], subset="all")
    for name, scores in expected["species"].items():
        for key in ("pearson_per_configuration", "pearson_over_ceiling"):
            assert found["species"][name][key]["mean"] == pytest.approx(scores[key]["mean"], abs=1e-6, nan_ok=True)
        assert found["species"][name]["reliability"] == pytest.approx(scores["reliability"], abs=1e-9)


def test_every_file_of_a_run_of_the_format_before_is_verified(golden: Path) -> None:
    assert RunDirectory.open(golden).verify() == len(list(golden.glob("*/*.gsd")))


@needs_lammps
def test_a_run_of_the_format_before_is_continued(golden: Path) -> None:
    before = {path: path.read_bytes() for path in golden.glob("*/L*")}
    run = open_run(golden)
    stored = RunSettings(**{**run.identity["settings"], "accept_unequilibrated": True})
    result = simulate(stored.model_copy(update={"parents": stored.parents + 1}), golden)
    assert result["parents"] == stored.lineages * (stored.parents + 1)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(open_run(golden).samples()) == result["parents"]
