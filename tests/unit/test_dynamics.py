import numpy as np
import pytest

from glassmd.analysis.dynamics import (
    allowed_wave_vectors,
    mean_squared_displacement,
    relaxation_time,
    remove_drift,
    self_intermediate_scattering,
)
from glassmd.errors import InputError


def test_allowed_wave_vectors_are_multiples_of_the_reciprocal_box_inside_the_shell():
    box = np.array([9.0, 10.0, 11.0])
    vectors = allowed_wave_vectors(box, 7.25, width=0.2)
    multiples = vectors * box / (2 * np.pi)
    assert np.abs(multiples - np.rint(multiples)).max() < 1e-12
    assert np.abs(np.linalg.norm(vectors, axis=1) - 7.25).max() <= 0.2


def test_every_allowed_wave_vector_is_there_once_for_plus_and_minus_k():
    box, q, width = np.array([8.0, 9.0]), 7.0, 0.3
    vectors = allowed_wave_vectors(box, q, width=width)
    grid = np.stack(np.meshgrid(*[np.arange(-40, 41)] * 2), -1).reshape(-1, 2) * 2 * np.pi / box
    inside = grid[np.abs(np.linalg.norm(grid, axis=1) - q) <= width]
    both = {tuple(np.round(k, 9) + 0.0) for k in np.concatenate([vectors, -vectors])}
    assert both == {tuple(np.round(k, 9) + 0.0) for k in inside}
    assert len(both) == 2 * len(vectors)


def test_a_limit_keeps_the_wave_vectors_nearest_in_modulus():
    few, many = (allowed_wave_vectors([9.4] * 3, 7.25, most=most) for most in (10, None))
    assert len(few) == 10
    np.testing.assert_array_equal(few, many[:10])


def test_an_empty_shell_falls_back_to_the_axes():
    vectors = allowed_wave_vectors([5.0, 5.0, 5.0], 0.3, width=0.01)
    np.testing.assert_allclose(vectors, np.eye(3) * 2 * np.pi / 5.0)


def test_a_wave_number_of_zero_is_refused():
    with pytest.raises(InputError, match="wave number"):
        allowed_wave_vectors([5.0, 5.0], 0.0)


def test_brownian_displacements_scatter_as_a_gaussian():
    # F_s = exp(-q² <Δr²> / 2d); 20,000 particles times 20 vectors leave a standard error below 1e-3.
    moved = np.random.default_rng(1).normal(scale=0.1, size=(20_000, 3))
    vectors = allowed_wave_vectors([9.4] * 3, 7.25, width=0.02, most=20)
    expected = np.exp(-((vectors**2).sum(axis=1).mean()) * 0.01 / 2)
    assert abs(self_intermediate_scattering(moved, vectors) - expected) < 0.005
    assert abs(mean_squared_displacement(moved) - 0.03) < 0.001


def test_leading_axes_are_kept():
    moved = np.zeros((4, 5, 7, 3))
    assert self_intermediate_scattering(moved, np.eye(3)).shape == (4, 5)
    assert mean_squared_displacement(moved).shape == (4, 5)


@pytest.mark.parametrize("tau", [0.5, 3.0, 217.0])
def test_the_relaxation_time_of_a_stretched_exponential_is_found_between_sparse_times(tau):
    times = np.geomspace(0.01, 1e4, 60)
    assert relaxation_time(times, np.exp(-((times / tau) ** 0.6))) == pytest.approx(tau, rel=0.01)


def test_a_relaxation_before_the_first_time_is_bounded_by_it():
    assert relaxation_time([0.0, 2.0, 4.0], [1.0, 0.1, 0.0]) == pytest.approx(2 * (1 - np.exp(-1)) / 0.9)


def test_a_glass_has_no_relaxation_time():
    assert relaxation_time([1.0, 10.0], [0.9, 0.8]) is None


def test_without_drift_the_centre_of_mass_rests():
    generator = np.random.default_rng(2)
    moved, masses = generator.normal(size=(6, 10, 2)), generator.uniform(0.5, 2.0, 10)
    still = remove_drift(moved + np.array([3.0, -1.0]), masses)
    assert np.abs(np.einsum("tnd,n->td", still, masses)).max() < 1e-12
    np.testing.assert_allclose(np.diff(still, axis=1), np.diff(moved, axis=1))
