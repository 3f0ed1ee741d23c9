"""A learner of an installed package is one like ours: `examples/own_learner`, as pip would install it."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glassmd.errors import ModelError
from glassmd.evaluation import evaluate
from glassmd.learners import LEARNERS, known_learners, model_class
from glassmd.settings import Settings, TrainSettings
from glassmd.stream.dataset import Run
from glassmd.training.journal import read_metrics
from glassmd.training.session import train
from tests.conftest import TINY, needs_lammps

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_learner"


def install(place: Path, project: dict[str, object], module: Path | None = None) -> None:
    """What pip leaves of a package: its module, and its entry points as metadata."""
    name = str(project["name"])
    metadata = place / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    if module is not None:
        shutil.copy(module, place)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "site"
    monkeypatch.syspath_prepend(str(place))
    yield place
    sys.modules.pop("radial_network", None)


@pytest.fixture
def installed(site: Path) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(site, project, EXAMPLE / "radial_network.py")


@needs_lammps
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("follow", [False, True], ids=["run", "stream"])
def test_it_trains_goes_on_and_predicts(tiny_run: Run, tmp_path: Path, follow: bool) -> None:
    assert len((EXAMPLE / "radial_network.py").read_text().splitlines()) <= 60
    settings = TrainSettings(model="radial-network", max_steps=150, learning_rate=3e-3, train_threads=1)
    train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=settings.model_copy(update={"max_steps": 20})))
    result = train([tiny_run.path], tmp_path / "m", Settings(run=TINY, train=settings), follow=follow)
    assert (result["model"], result["steps"]) == ("radial-network", 150)
    scores = evaluate(tmp_path / "m", [tiny_run.path])["species"]["A"]["pearson_per_configuration"]["mean"]
    assert np.isfinite(scores).all()
    losses = [line["loss"] for line in read_metrics(tmp_path / "m" / "metrics.jsonl") if line["kind"] == "train"]
    assert np.mean(losses[-20:]) < 0.97 * np.mean(losses[:20])


@pytest.mark.usefixtures("installed")
def test_commands_know_it_by_name(glassmd, tiny_run: Run, tmp_path: Path) -> None:
    assert set(known_learners()) == {*LEARNERS, "radial-network"}
    done = glassmd("train", tiny_run.path, "--model", "radial-netwrk", "--out", tmp_path / "m")
    assert done.code == 2
    assert "did you mean 'radial-network'?" in done.err
    done = glassmd("train", tiny_run.path, "--model", "radial-network", "--dry-run", "--json")
    assert done.code == 0, done.err
    json.loads(done.out)


def test_what_is_no_learner_is_refused_with_its_origin(site: Path) -> None:
    entries = {"glassmd.learners": {"gone": "no_such_module:Learner", "number": "math:pi", "ridge": "math:tau"}}
    install(site, {"name": "broken", "version": "1", "entry-points": entries})
    with pytest.raises(ModelError, match=r"could not import model 'gone' from no_such_module:Learner of broken"):
        model_class("gone")
    with pytest.raises(ModelError, match=r"found math:pi of broken registered as model 'number'"):
        model_class("number")
    assert model_class("ridge").__module__ == "glassmd.learners.linear.ridge", "a name of ours stays ours"
