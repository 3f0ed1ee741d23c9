"""Parents that structures are computed of."""

from __future__ import annotations

import numpy as np
import pytest

from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported
from glassmd.mixtures import get_mixture
from glassmd.simulation.structures import CageProtocol
from glassmd.stream.dataset import open_run
from tests.unit.test_minimise import liquid_of

MIXTURE = get_mixture("kob-andersen")
SHORT = CageProtocol(replicas=3, time=0.2, after=0.04, spacing=0.02)


@pytest.fixture(scope="session")
def four_liquids():
    return [liquid_of(MIXTURE, seed) for seed in (1, 2, 3, 4)]


@pytest.fixture
def imported(four_liquids, tmp_path):
    """A run of four parents of 200 particles whose labels are of no interest."""
    return import_into(tmp_path / "imported", four_liquids, MIXTURE)


def import_into(path, liquids, mixture):
    """A run of these parents, whose labels are of no interest."""
    items = [
        Imported(liquid, [1.0], f"{number}.npz", 1, propensity=np.ones((1, liquid.n_particles)))
        for number, liquid in enumerate(liquids)
    ]
    commit_imported(items, path, mixture, 0.8, "test")
    return open_run(path)


def no_engine(*arguments, **options):
    """Stands where inputs must come from what is kept."""
    raise AssertionError("an engine was opened")
