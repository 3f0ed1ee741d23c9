"""One system in several MPI ranks: what comes out is what one process finds, and nothing is left of the ranks."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from glassmd_cli.app import main

from glassmd.configuration import Configuration
from glassmd.engines import Thermostat, cutting, get_engine
from glassmd.engines.base import Engine, InRanks
from glassmd.engines.cutting import cut, domain_grid, most_ranks, require_cut
from glassmd.engines.mpi import VARIABLE, mpiexec, rank_environment
from glassmd.engines.ranks import Ranks
from glassmd.errors import EngineError, Interrupted
from glassmd.ledger.run import RunDirectory
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.simulation.structures import CageProtocol, Request, structure_of_configuration
from glassmd.stream.structures import Structures
from glassmd.trajectory import Frame
from glassmd.trajectory.writing import FrameWriter
from tests.unit.conftest import import_into

MIXTURE = get_mixture("kob-andersen")
PARTICLES = {"lammps": 600, "hoomd": 2200}  # HOOMD-blue wants thicker domains

try:
    mpiexec()
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)


def engine_of(name: str) -> Engine:
    try:
        engine = get_engine(name, "cpu")
        engine.in_ranks(MIXTURE)
    except EngineError as error:
        pytest.skip(str(error))
    return engine


@pytest.fixture(scope="module", params=["lammps", "hoomd"])
def engine(request):
    return engine_of(request.param)


@cache
def liquid_of(n, mixture=MIXTURE):
    """A liquid at T = 0.8 whose particles have left the box here and there."""
    generator, engine = np.random.default_rng(3), get_engine("lammps")
    start = random_start(mixture, n, mixture.density, generator)
    start = start.with_velocities(draw_velocities(start, mixture, 2.0, generator))
    for temperature, step in ((2.0, 0.001), (0.8, 0.004)):
        bath = Thermostat(temperature, 0.1, (3,))
        (end,) = engine.evolve([start], mixture, steps=[400], time_step=step, thermostat=bath)
        start = replace(start, positions=end.positions, velocities=end.velocities, images=None)
    return start


@pytest.fixture(scope="module")
def liquid(engine):
    return liquid_of(PARTICLES[engine.name])


@cache
def disturbed_of(n):
    """A minimum whose particles were moved a little: the way down is short."""
    liquid = liquid_of(n)
    positions = get_engine("lammps").minimise(liquid, MIXTURE).positions
    moved = positions + np.random.default_rng(6).normal(scale=0.03, size=positions.shape)
    return Configuration(liquid.box, liquid.species, moved)


@pytest.fixture(scope="module")
def disturbed(engine):
    return disturbed_of(PARTICLES[engine.name])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the ranks of this test have their folders, by which others' are told from them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def processes(place):
    """Ranks that are there."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if words[1:3] == [b"-m", b"glassmd.engines.rank"] and str(place) in words[3].decode():
            found.append(int(status.parent.name))
    return found


def begun(place):
    """Ranks that are at work, none before all of them are connected."""
    return processes(place) if list(place.glob("*/begun.json")) else []


def is_empty(place, seconds=2.0):
    """Whether nothing is left of ranks, soon."""
    deadline = time.monotonic() + seconds
    while place_has_ranks(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not place_has_ranks(place)


def place_has_ranks(place):
    return [*place.glob("glassmd-ranks-*"), *processes(place)]


def test_two_ranks_go_down_to_the_same_minimum(engine, disturbed, place):
    alone, together = engine.minimise(disturbed, MIXTURE), Ranks(engine, 2).minimise(disturbed, MIXTURE)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)  # which ranks of HOOMD-blue would delete
    assert np.abs(alone.positions - disturbed.unwrapped).max() > 0.02
    # A force that may be left, 1e-5 or 1e-4, moves a particle by that over the stiffness of the softest mode, about 1.
    assert np.abs(together.positions - alone.positions).max() < 1e-3
    assert together.potential_energy == pytest.approx(alone.potential_energy, abs=1e-9)
    assert together.residual_force <= 1e-4
    assert together.evaluations > 0
    assert is_empty(place)


def test_two_ranks_rattle_alike_as_long_as_rounding_has_not_grown(engine, liquid):
    """Each replica with a thermostat of its own, whose kinetic energy is a sum over ranks."""
    both = [liquid, liquid.with_velocities(-liquid.velocities)]
    how = {"steps": [20, 40, 60], "left_out": 1, "time_step": 0.005, "thermostat": Thermostat(0.8, 0.2, (1, 2))}
    alone = sorted(engine.rattling(both, MIXTURE, **how), key=lambda one: one.system)
    counted = engine.replica_steps
    together = list(Ranks(engine, 2).rattling(both, MIXTURE, **how))
    assert [one.system for one in together] == [0, 1]
    assert engine.replica_steps == counted + 120
    for one, other in zip(alone, together, strict=True):
        # Two trajectories part by a factor of e in about 0.1: 1e-15 in 0.3 makes 1e-13 or so.
        np.testing.assert_allclose(other.mean, one.mean, atol=1e-10)
        np.testing.assert_allclose(other.covariance, one.covariance, atol=1e-10)
    assert np.abs(together[0].mean - together[1].mean).max() > 0.01


@pytest.mark.parametrize(
    "key", [("kob-andersen", "force-shifted"), ("wahnstrom", "shifted"), ("kob-andersen-2d-ternary", "xplor")]
)
def test_every_liquid_is_reported_as_by_one_process(engine, key):
    """Unwrapped positions and velocities in their order, U/N, temperature and pressure after a rescaling."""
    mixture = get_mixture(*key)
    start = random_start(mixture, PARTICLES[engine.name], mixture.density, np.random.default_rng(4))
    start = start.with_velocities(draw_velocities(start, mixture, 1.0, np.random.default_rng(5)))
    start = replace(start, images=np.random.default_rng(2).integers(-3, 4, start.positions.shape))
    how = {"steps": [0, 8, 30], "time_step": 0.003, "thermostat": Thermostat(0.8, 0.12, (7,))}  # every 8 steps
    alone = list(engine.evolve([start], mixture, **how))
    together = list(Ranks(engine, 2).evolve([start], mixture, **how))
    assert [seen.step for seen in together] == [0, 8, 30]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-10)
        np.testing.assert_allclose(other.velocities, one.velocities, atol=1e-9)
        for name in ("potential_energy", "temperature", "pressure"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-10, abs=1e-10)


def test_a_cage_and_a_minimum_say_how_many_ranks_they_took(disturbed, engine):
    chosen, alone = get_engine(engine.name, "cpu", ranks=2), get_engine(engine.name, "cpu")
    requests = Request("inherent"), Request("cage", CageProtocol(replicas=2, time=0.3, after=0.1))
    found = [structure_of_configuration(one, requests, disturbed, MIXTURE, 0.8) for one in (chosen, alone)]
    (two, made), (one, made_alone) = found
    assert {name: of.facts["ranks"] for name, of in made.items()} == {"inherent": 2, "cage": 2}
    assert {name: of.facts["ranks"] for name, of in made_alone.items()} == {"inherent": 1, "cage": 1}
    np.testing.assert_allclose(two.inherent, one.inherent, atol=1e-3)
    np.testing.assert_allclose(two.cage, one.cage, atol=1e-6)  # they are kept in single precision
    np.testing.assert_allclose(two.debye_waller, one.debye_waller, atol=1e-6)


def test_predict_cuts_a_snapshot_among_the_ranks_that_are_asked_for(tmp_path, capsys):
    engine_of("lammps")
    snapshot = tmp_path / "liquid.gsd"
    with FrameWriter(snapshot) as writer:
        writer.append(Frame(disturbed_of(600), 0, {}))
    command = ["predict", str(snapshot), "--temperature", "0.8", "--engine", "lammps", "--times", "0.13", "--force"]
    assert main([*command, "--out", str(tmp_path / "p.gsd"), "--ranks", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["input_cost"], "the model sees no structure: the test shows nothing"
    assert {cost["ranks"] for cost in told["input_cost"].values()} == {2}


def test_workers_tell_an_entry_how_many_ranks_it_took(tmp_path):
    engine_of("lammps")
    run = import_into(tmp_path / "run", [disturbed_of(600)], MIXTURE)
    structures = Structures([run], ("thermal", "inherent"))
    structures.make([sample.key for sample in run.samples()], RunSettings(engine="lammps", workers=1, ranks=2))
    (entry,) = RunDirectory.open(tmp_path / "run").entries("structures")
    assert (entry.sidecar["ranks"], entry.sidecar["engine"]) == (2, "lammps")
    structures.of(run.samples()[0])
    assert structures.cost["inherent"]["ranks"] == 2


def test_a_stop_ends_the_ranks_within_two_seconds(engine, liquid, place):
    stopped = []

    def check():
        if begun(place):
            stopped.append(time.monotonic())
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        list(Ranks(engine, 2).evolve([liquid], MIXTURE, steps=[10**8], time_step=1e-4, check=check))
    assert time.monotonic() - stopped[0] < 2
    assert is_empty(place)


def test_a_rank_that_is_killed_is_an_error_and_no_rank_waits_for_it(engine, liquid, place):
    def check():
        if found := begun(place):
            memory = [line for number in found for line in Path(f"/proc/{number}/maps").read_text().splitlines()]
            assert all(line.endswith("(deleted)") for line in memory if "/dev/shm/mpich" in line)
            os.kill(found[1], signal.SIGKILL)

    with pytest.raises(EngineError, match=r"2 ranks of .* before they were done"):
        list(Ranks(engine, 2).evolve([liquid], MIXTURE, steps=[10**8], time_step=1e-4, check=check))
    assert is_empty(place)


def test_whoever_is_killed_leaves_no_ranks(engine, place):
    """They hear of it when their standard input ends."""
    n = PARTICLES[engine.name]
    code = (
        "import numpy as np; from glassmd.engines import get_engine; from glassmd.engines.ranks import Ranks\n"
        "from glassmd.mixtures import get_mixture; from glassmd.simulation.start import *\n"
        f"m, g = get_mixture('kob-andersen'), np.random.default_rng(1); s = random_start(m, {n}, 1.2, g)\n"
        "s = s.with_velocities(draw_velocities(s, m, 0.5, g))\n"
        f"for seen in Ranks(get_engine({engine.name!r}, 'cpu'), 2).evolve([s], m, steps=[0, 10**8], time_step=1e-4):\n"
        "    print('begun', flush=True)\n"
    )
    inside = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=inside) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"begun\n"
        assert place_has_ranks(place)
        asking.kill()
    assert is_empty(place)


def test_what_a_rank_raises_is_raised(engine, liquid):
    positions = liquid.positions.copy()
    positions[1] = positions[0]
    broken = Configuration(liquid.box, liquid.species, positions, velocities=liquid.velocities)
    with pytest.raises(EngineError) as caught:
        list(Ranks(engine, 2).evolve([broken], MIXTURE, steps=[2000], time_step=0.005))
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError):
        Ranks(engine, 2).minimise(broken, MIXTURE)


def test_more_ranks_than_the_box_can_be_cut_into_are_refused_with_how_many_it_can(engine, liquid):
    chosen = get_engine(engine.name, "cpu", ranks=999)
    with pytest.raises(EngineError, match="--ranks") as caught:
        cut(chosen, liquid, MIXTURE)
    advised = int(str(caught.value).split("--ranks ")[1])
    assert advised > 1
    require_cut(advised, liquid.box, engine.in_ranks(MIXTURE).thinnest)


@pytest.mark.parametrize(
    ("ranks", "box", "grid"),
    [
        (2, [9.0, 9.0, 9.0], None),
        (8, [9.0, 9.0, 9.0], (2, 2, 2)),
        (6, [9.0, 18.0], (2, 3)),
        (4, [40.0, 9.0, 9.0], (4, 1, 1)),
    ],
)
def test_a_box_is_cut_into_domains_of_little_surface(ranks, box, grid):
    found = domain_grid(ranks, np.array(box))
    assert np.prod(found) == ranks
    assert grid is None or found == grid


def test_a_number_that_cannot_be_cut_gives_way_to_a_smaller_one():
    # Seven slabs of 10 are thinner than 2.8; six domains of 3.3 × 5 are not.
    assert most_ranks(7, np.array([10.0] * 3), 2.8) == 6
    assert most_ranks(7, np.array([4.0] * 3), 2.8) == 1


class _Cuttable(Engine):
    """Says what a machine with so many cores would say."""

    name, version, device = "lammps", "1", "cpu"
    ranks = None

    def __init__(self, cores: int, workers: int = 1) -> None:
        self._cores, self.workers = cores, workers

    def evolve(self, *systems, **how):
        raise NotImplementedError

    def in_ranks(self, mixture):
        return InRanks({"engine": "lammps"}, 2.8, self._cores)


@pytest.mark.parametrize(
    ("cores", "workers", "ranks", "why"),
    [(8, 1, 8, None), (8, 3, 2, None), (8, 8, 1, "one core"), (1, 1, 1, "one core"), (2, 1, 2, None)],
)
def test_a_big_system_gets_the_cores_that_its_worker_has_for_itself(monkeypatch, cores, workers, ranks, why):
    monkeypatch.setattr(cutting, "RANKS_FROM", 500)
    monkeypatch.setattr(cutting, "start_problem", lambda described, ranks: "")
    system = random_start(MIXTURE, 500, 1.2, np.random.default_rng(1))
    suited, cost = cut(_Cuttable(cores, workers), system, MIXTURE)
    assert cost["ranks"] == ranks
    assert isinstance(suited, Ranks) == (ranks > 1)
    assert (why is None) == ("one_rank_because" not in cost)
    assert why is None or why in cost["one_rank_because"]


def test_a_big_system_is_cut_where_nobody_asked(monkeypatch):
    engine = engine_of("lammps")
    engine.ranks = None
    monkeypatch.setattr(cutting, "RANKS_FROM", 500)
    monkeypatch.setattr("glassmd.engines.lammps.available_cores", lambda: 2)
    suited, cost = cut(engine, random_start(MIXTURE, 600, 1.2, np.random.default_rng(1)), MIXTURE)
    assert isinstance(suited, Ranks)
    assert cost == {"ranks": 2}


def test_a_small_system_has_one_rank_without_a_word():
    system = random_start(MIXTURE, 500, 1.2, np.random.default_rng(1))
    engine = _Cuttable(8)
    assert cut(engine, system, MIXTURE) == (engine, {"ranks": 1})


@pytest.mark.parametrize("command", ["/no/such/mpiexec", "env no_such_program", f"{sys.executable} -c pass"])
def test_ranks_that_do_not_start_are_a_word_in_the_cost_unless_they_were_asked_for(monkeypatch, command):
    engine = engine_of("lammps")
    engine.ranks, liquid = None, random_start(MIXTURE, 600, 1.2, np.random.default_rng(1))
    monkeypatch.setattr(cutting, "RANKS_FROM", 500)
    monkeypatch.setattr("glassmd.engines.lammps.available_cores", lambda: 2)
    monkeypatch.setenv(VARIABLE, command)
    suited, cost = cut(engine, liquid, MIXTURE)
    assert suited is engine
    assert cost["ranks"] == 1
    assert cost["one_rank_because"]
    engine.ranks = 2
    with pytest.raises(EngineError, match="--ranks 1"):
        cut(engine, liquid, MIXTURE)[0].minimise(liquid, MIXTURE)


def test_ranks_that_do_not_see_each_other_are_refused(monkeypatch, tmp_path):
    """What the mpiexec of another MPI starts are so many programs of one rank."""
    engine = engine_of("lammps")
    stranger = tmp_path / "mpiexec"
    stranger.write_text('#!/bin/sh\nshift 2\n"$@" & "$@"\nwait\n')
    stranger.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(stranger))
    liquid = random_start(MIXTURE, 600, 1.2, np.random.default_rng(1))
    with pytest.raises(EngineError, match=f"do not see each other.*{VARIABLE}"):
        Ranks(engine, 2).minimise(liquid, MIXTURE)


def test_an_mpiexec_of_ones_own_takes_options(monkeypatch):
    monkeypatch.setenv(VARIABLE, f"{sys.executable} -l 'a b'")
    assert mpiexec() == [sys.executable, "-l", "a b"]


def test_ranks_asked_for_without_mpiexec_end_predict_with_what_to_type(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert main(["predict", str(tmp_path / "none.gsd"), "--ranks", "2"]) == 2
    said = capsys.readouterr().err
    assert "no mpiexec was found" in said
    assert "pip install mpich" in said
    with pytest.raises(EngineError, match="mpiexec"):
        get_engine("lammps", ranks=2)
    assert get_engine("lammps", ranks=1).ranks == 1
    assert main(["predict", str(tmp_path / "none.gsd"), "--ranks", "0"]) == 2


@pytest.mark.parametrize("inside", [{"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, {"PMI_SIZE": "4", "PMI_RANK": "3"}])
def test_ranks_start_from_within_a_job_and_from_within_ranks(monkeypatch, inside):
    """The job's other machines and the other ranks are not theirs."""
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    assert not set(inside) & set(rank_environment())
    lattice = random_start(MIXTURE, 600, 1.2, np.random.default_rng(1))
    resting = lattice.with_velocities(np.zeros_like(lattice.positions))
    (seen,) = Ranks(engine_of("lammps"), 2).evolve([resting], MIXTURE, steps=[0], time_step=0.005)
    np.testing.assert_array_equal(seen.positions, lattice.unwrapped)


def test_processes_that_mpiexec_starts_work_each_for_itself():
    """`srun glassmd simulate` starts many workers, not one of many ranks; nothing of them stays in memory."""
    code = (
        "from glassmd.engines.lammps import LammpsEngine; engine = LammpsEngine(); print(engine.place())\n"
        "print([line for line in open('/proc/self/maps') if 'mpich_shm' in line and '(deleted)' not in line])\n"
    )
    engine_of("lammps")
    done = subprocess.run(
        [*mpiexec(), "-n", "2", sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert sorted(done.stdout.split("\n")) == ["", "(0, 1)", "(0, 1)", "[]", "[]"], done.stderr
