"""Times that are not learned are left out, and cages may last a tenth of the first that is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glassmd.errors import InputError
from glassmd.models.store import load_model
from glassmd.settings import Settings
from glassmd.simulation.structures import Request, requests_of
from glassmd.simulation.structures.protocol import CageProtocol, protocol_of
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.structures import Structures
from glassmd.training.session import train, train_stream
from glassmd.training.source import SampleSource
from tests.conftest import TINY, TINY_TRAIN, needs_lammps

pytestmark = needs_lammps

LATE = TINY.times[-1]
CAGED = TINY_TRAIN.model_copy(update={"model": "cage", "first_time": LATE, "max_steps": None})


def test_shorter_times_are_no_times_of_its_samples(tiny_run: Run) -> None:
    run = open_run(tiny_run.path)
    run.use_times_from(LATE)
    source = SampleSource([run])
    assert (run.sample_times, source.times, source.first_time) == ([LATE], [LATE], LATE)
    sample = next(source.poll())
    whole = next(tiny_run.stream())
    assert sample.propensity.tolist() == whole.propensity[-1:].tolist()
    assert tiny_run.sample_times == tiny_run.times


def test_in_units_of_tau_alpha_the_first_time_is_one_of_them(tiny_run: Run) -> None:
    run = open_run(tiny_run.path)
    run.tau_alpha = 2.0
    run.use_times_from(run.sample_times[-1])
    assert run.shortest == pytest.approx(LATE, rel=0.13)  # times are rounded to ten a decade


def test_a_first_time_behind_the_last_is_refused(tiny_run: Run) -> None:
    with pytest.raises(InputError, match=r"no time from 9 on .*times up to .*first_time"):
        open_run(tiny_run.path).use_times_from(9.0)


def test_cages_of_each_first_time_are_settled_once(run_copy: Path) -> None:
    run = open_run(run_copy)
    usual = protocol_of(run)
    longer = protocol_of(run, 1000.0)
    assert usual is not None
    assert longer is not None
    (tau_alpha, *_) = [e.sidecar["equilibration"]["tau_alpha"] for e in run.entries("parents") if not e.key.parent]
    assert longer == CageProtocol.for_state(tau_alpha, TINY.time_step, 1000.0)
    assert (protocol_of(open_run(run_copy)), protocol_of(open_run(run_copy), 1000.0)) == (usual, longer)
    assert Request("cage").settled(run) == Request("cage", usual)
    assert Request("cage", shortest=1000.0).settled(run) == Request("cage", longer)
    run.shortest = 1000.0
    assert Request("cage").settled(run) == Request("cage", longer)


def test_whoever_simulates_is_told(run_copy: Path) -> None:
    run = open_run(run_copy)
    run.use_times_from(LATE)
    structures = Structures([run], ("cage",))
    structures.ask()
    (asked,) = (one for one in requests_of(open_run(run_copy)) if one.shortest is not None)
    assert asked == Request("cage", shortest=LATE)
    assert asked.settled(open_run(run_copy)) == structures.requests[0].settled(run)
    assert Request.from_dict(asked.to_dict()) == asked


def test_a_model_has_the_times_that_it_learned_and_cages_that_do_not_measure_them(
    run_copy: Path, tmp_path: Path
) -> None:
    train([run_copy], tmp_path / "m", Settings(run=TINY, train=CAGED))
    card = load_model(tmp_path / "m").card
    assert card.times == [LATE]
    (protocol,) = (CageProtocol.from_dict(one) for one in card.cage_protocols.values())
    expected = protocol_of(open_run(run_copy), LATE)
    assert protocol == expected


def test_a_stream_learns_the_same(tmp_path: Path) -> None:
    settings = Settings(run=TINY.model_copy(update={"lineages": 3, "parents": 1}), train=CAGED)
    train_stream(settings, tmp_path / "m", show=False)
    train([tmp_path / "m" / "run"], tmp_path / "offline", settings)
    stream, offline = (load_model(tmp_path / name) for name in ("m", "offline"))
    assert stream.card.times == offline.card.times == [LATE]
    assert stream.card.cage_protocols == offline.card.cage_protocols
    for name, tensor in stream.model.state_dict().items():
        torch.testing.assert_close(tensor, offline.model.state_dict()[name], equal_nan=True)
