"""What the displacements of replicas are reduced to, against the definitions written out particle by particle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassmd.analysis.dynamics import remove_drift
from glassmd.configuration import Configuration, minimum_image
from glassmd.errors import InputError
from glassmd.metrics import reliability
from glassmd.mixtures import get_mixture
from glassmd.stream.reduction import KEPT, NEIGHBOUR, reduced
from glassmd.target import TARGETS, Target

SIGMA = np.array([[1.0, 0.8], [0.8, 0.88]])


def liquid(d: int, n: int = 60, seed: int = 1) -> Configuration:
    """Particles anywhere at the density of Kob and Andersen's liquid: neighbours at all distances."""
    generator = np.random.default_rng(seed)
    side = (n / 1.2) ** (1 / d)
    return Configuration(np.full(d, side), generator.integers(0, 2, n), generator.uniform(-side / 2, side / 2, (n, d)))


def by_hand(target: Target, parent: Configuration, moved: np.ndarray) -> np.ndarray:
    """(n_particles,) of one replica, from the definition and all pairs."""
    x, box, n = parent.positions, parent.box, parent.n_particles
    found = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        sigma = {j: SIGMA[parent.species[i], parent.species[j]] for j in others}
        before = {j: np.linalg.norm(minimum_image(x[j] - x[i], box)) for j in others}
        after = {j: np.linalg.norm(minimum_image(x[j] + moved[j] - x[i] - moved[i], box)) for j in others}
        near = [j for j in others if before[j] < 1.45 * sigma[j]]
        if target == "propensity":
            found[i] = np.linalg.norm(moved[i])
        elif target == "squared-displacement":
            found[i] = moved[i] @ moved[i]
        elif target == "bond-breaking":
            found[i] = np.mean([after[j] < 1.7 * sigma[j] for j in near]) if near else 1.0
        else:
            cage = np.mean([moved[j] for j in near], axis=0) if near else 0.0
            found[i] = np.linalg.norm(moved[i] - cage)
    return found


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("target", TARGETS)
def test_values_are_those_of_the_definition(target: Target, d: int) -> None:
    parent = liquid(d)
    moved = np.random.default_rng(2).normal(0, 0.5, (2, 3, *parent.positions.shape))
    found = reduced(target, parent, moved, SIGMA)
    assert found.shape == (2, 3, parent.n_particles)
    expected = [[by_hand(target, parent, one) for one in replica] for replica in moved]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    if target == "bond-breaking":
        assert 0.2 < found.mean() < 0.9  # bonds are lost, and kept


@pytest.mark.parametrize("d", [2, 3])
def test_what_moves_with_its_neighbours_has_not_moved_against_them(d: int) -> None:
    parent = liquid(d)
    together = np.full(parent.positions.shape, 3.7)
    np.testing.assert_allclose(reduced("cage-relative", parent, together, SIGMA), 0.0, atol=1e-12)
    np.testing.assert_array_equal(reduced("bond-breaking", parent, together, SIGMA), 1.0)
    np.testing.assert_allclose(reduced("propensity", parent, together, SIGMA), 3.7 * np.sqrt(d))


def test_a_long_wave_hides_in_the_cage_relative_displacement() -> None:
    parent = liquid(2, n=1000)
    wave = 2.0 * np.cos(2 * np.pi * parent.positions[:, :1] / parent.box[0]) * np.array([[0.0, 1.0]])
    against = reduced("cage-relative", parent, wave, SIGMA).mean()
    assert against < 0.2 * reduced("propensity", parent, wave, SIGMA).mean()


def test_no_vibration_breaks_a_bond() -> None:
    """Two neighbours that each move by less than half of the difference of the two lengths stay neighbours."""
    parent = liquid(3)
    way = np.random.default_rng(3).normal(size=parent.positions.shape)
    moved = way / np.linalg.norm(way, axis=1, keepdims=True) * 0.499 * (KEPT - NEIGHBOUR) * SIGMA.min()
    np.testing.assert_array_equal(reduced("bond-breaking", parent, moved, SIGMA), 1.0)


def test_an_image_of_a_neighbour_is_the_neighbour() -> None:
    parent = liquid(2)
    around = np.random.default_rng(4).integers(-2, 3, parent.positions.shape) * parent.box
    np.testing.assert_array_equal(reduced("bond-breaking", parent, around, SIGMA), 1.0)


def test_a_particle_without_neighbours_loses_none_and_has_no_cage() -> None:
    alone = Configuration(box=[20, 20], species=[0, 1], positions=[[0, 0], [5, 5]])
    moved = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert reduced("bond-breaking", alone, moved, SIGMA).tolist() == [1.0, 1.0]
    assert reduced("cage-relative", alone, moved, SIGMA).tolist() == [5.0, 1.0]


def test_a_box_in_which_a_neighbour_is_met_twice_is_no_obstacle() -> None:
    small = Configuration(box=[2.1, 2.1], species=[0, 0], positions=[[0, 0], [1.05, 0]])
    assert reduced("bond-breaking", small, np.zeros((2, 2)), SIGMA).tolist() == [1.0, 1.0]


def test_displacements_of_other_particles_are_refused() -> None:
    with pytest.raises(InputError, match=r"found displacements of shape \(3, 60, 3\); expected \(\.\.\., \(60, 2\)\)"):
        reduced("propensity", liquid(2), np.zeros((3, 60, 3)), SIGMA)


def test_a_glass_in_the_plane_vibrates_and_keeps_its_neighbours(shared: Path) -> None:
    """GlassBench's KA2D at T = 0.23 and t = 0.1: no bond is broken, and cages move less than their particles."""
    data = np.load(shared / "glassbench" / "N1290T0.23_202_tc05.npz")
    mixture, species = get_mixture("kob-andersen-2d-ternary"), data["types"] - 1
    parent = Configuration(np.full(2, float(data["box"])), species, data["initial_positions"], ("A", "B", "C"))
    moved = remove_drift(data["positions"] - data["initial_positions"], np.ones(1290))
    assert (reduced("bond-breaking", parent, moved, mixture.sigma) == 1.0).all()
    of_propensity, of_cage = (
        reduced(target, parent, moved, mixture.sigma) for target in ("propensity", "cage-relative")
    )
    told = [reliability(of.mean(axis=0), of.var(axis=0, ddof=1), len(of)) for of in (of_propensity, of_cage)]
    assert told[0] < told[1] < 1.0  # replicas differ in their waves more than in their cages


def test_neighbours_lost_are_the_least_noisy_label_at_the_relaxation_time(shared: Path) -> None:
    """BOTAN's data, T = 0.44, t ≈ τ_α, 32 replicas: squares are noisier than lengths, fractions less so."""
    for number in (2, 4):
        data = np.load(shared / "botan" / f"isoconfig_N4096T0.44_{number}_tc07.npz")
        parent = Configuration(np.full(3, 15.05658), data["types"], data["initial_positions"])
        moved = remove_drift(data["positions"] - data["initial_positions"], np.ones(4096))
        values = {target: reduced(target, parent, moved, SIGMA)[:, data["types"] == 0] for target in TARGETS}
        noise = {name: reliability(of.mean(axis=0), of.var(axis=0, ddof=1), len(of)) for name, of in values.items()}
        assert noise["squared-displacement"] < noise["propensity"] < noise["cage-relative"] < noise["bond-breaking"]
        mobile = np.corrcoef([values["propensity"].mean(axis=0), values["bond-breaking"].mean(axis=0)])[0, 1]
        assert mobile < -0.85  # who moves loses neighbours
