"""What the tests of a GPU share. With GLASSMD_GPU_STAND_IN=1 the CPU stands in for it, to see that the tests work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.engines import Thermostat
from glassmd.engines.hoomd_device import gpu_problem
from glassmd.errors import EngineError
from glassmd.mixtures import get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.stream.dataset import Run, open_run

STAND_IN = os.environ.get("GLASSMD_GPU_STAND_IN") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def gpu() -> str:
    """What HOOMD-blue calls the device under test."""
    try:
        problem = gpu_problem()
    except EngineError as error:
        problem = str(error)
    if STAND_IN:
        pytest.importorskip("hoomd", reason="HOOMD-blue does not import")
        return "cpu"
    if problem:
        pytest.skip(f"HOOMD-blue can use no GPU: {problem}")
    return "gpu"


@pytest.fixture(scope="session")
def cuda() -> str:
    """What torch calls the device under test."""
    if STAND_IN:
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return "cuda"


@pytest.fixture(scope="session")
def liquids(gpu: str) -> list[Configuration]:
    """Six liquids that have nothing in common but box and number: 256 particles, melted on the CPU, T about 1."""
    from glassmd.engines.hoomd import HoomdEngine

    mixture, made = get_mixture("kob-andersen"), []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        start = random_start(mixture, 256, 1.2, generator)
        made.append(start.with_velocities(draw_velocities(start, mixture, 1.0, generator)))
    bath = Thermostat(1.0, 0.1, tuple(range(1, 7)))
    melting = HoomdEngine("cpu", packed=6)
    ends = list(melting.evolve(made, mixture, steps=[1500], time_step=0.002, thermostat=bath))
    return [
        Configuration(liquid.box, liquid.species, end.positions, velocities=end.velocities).with_images_zero()
        for liquid, end in zip(made, ends, strict=True)
    ]


@pytest.fixture(scope="session")
def gpu_run(gpu: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A tiny run that the device simulated: the whole protocol, packed, with structures to come."""
    settings = RunSettings(
        particles=256, temperature=1.5, lineages=4, parents=2, replicas=3, held_out_replicas=6, block=3,
        times=[0.1, 0.5], engine="hoomd", device=gpu, packed=8, neighbor_buffer=0.3, workers=1, seed=7,  # type: ignore[arg-type]
    )  # fmt: skip
    path = tmp_path_factory.mktemp("gpu") / "run"
    result = simulate(settings, path)
    assert result["engine"] == "hoomd"
    return open_run(path)
