"""The published network of Bapst et al. predicts liquids simulated here, which it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassmd.importers.deepmind_weights import import_deepmind_weights
from glassmd.metrics import pearson
from glassmd.models.store import load_model
from glassmd.prediction import predict
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.stream.dataset import open_run
from tests.conftest import needs_lammps


@needs_lammps
@pytest.mark.physics
def test_short_time_propensity_is_what_the_published_network_says(shared: Path, tmp_path: Path) -> None:
    """Trained at T = 0.44 and t = 0.132 on other people's simulations; ours are at T = 0.8 and t = 0.13.

    Short times see the forces of the snapshot, which the network has learned, whatever the temperature. Positions,
    species, boxes, replicas and labels must all be right for this to come out: ρ is 0.87 … 0.92 per configuration
    of N = 400 at t = 0.1 with 32 replicas, where the ceiling is 0.96.
    """
    settings = RunSettings(
        particles=400, temperature=0.8, lineages=1, validation_lineages=0, test_lineages=0, parents=2, replicas=32,
        times=[0.13], parent_spacing=3.0, seed=11, engine="lammps", workers=1,
    )  # fmt: skip
    simulate(settings, tmp_path / "run")
    import_deepmind_weights(shared / "deepmind" / "t044_s09_weights.npz", tmp_path / "model")
    model = load_model(tmp_path / "model")
    found = []
    for sample in open_run(tmp_path / "run").samples():
        of_a = sample.parent.of_species("A")
        found.append(pearson(predict(sample.parent, model).propensity[0, of_a], sample.propensity[0, of_a]))
    print("ρ_A of the published network on fresh configurations:", np.round(found, 3))
    assert min(found) > 0.8
