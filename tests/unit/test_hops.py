"""The hop indicator, and who is soft and who is hard."""

from __future__ import annotations

import numpy as np
import pytest

from glassmd.analysis.hops import p_hop, select_soft_hard
from glassmd.errors import InputError


def _walk(n_frames: int = 40, n_particles: int = 25, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=(n_frames, n_particles, 3)).cumsum(axis=0)


def _by_definition(r: np.ndarray, t: int, h: int) -> np.ndarray:
    r = r - r.mean(axis=1, keepdims=True)  # the centre of mass stays where it is
    a, b = r[t - h : t], r[t : t + h]
    from_b = ((a - b.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0)
    from_a = ((b - a.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0)
    return np.sqrt(from_b * from_a)


@pytest.mark.parametrize("h", [1, 2, 5])
def test_p_hop_is_the_published_definition(h):
    walk = _walk()
    found = p_hop(walk, h)
    for t in range(h, len(walk) - h + 1):
        np.testing.assert_allclose(found[t], _by_definition(walk, t, h), rtol=1e-10)
    assert np.isnan(found[:h]).all()
    assert np.isnan(found[len(walk) - h + 1 :]).all()
    assert np.isfinite(found[h : len(walk) - h + 1]).all()


def test_a_jump_of_the_cage_has_a_peak_of_its_square_plus_the_cage():
    generator = np.random.default_rng(1)
    n, deviation, jump, h = 2000, 0.08, 1.4, 5
    frames = generator.normal(scale=deviation, size=(40, n, 3))
    frames[20:, : n // 2, 0] += jump / 2
    frames[20:, n // 2 :, 0] -= jump / 2  # no drift
    found = p_hop(frames, h)
    assert (found[h : 40 - h + 1].argmax(axis=0) + h == 20).mean() > 0.99
    # ⟨(v_A + Δ²)⟩ with v = 3σ²(1 − 1/h) and Δ² = (jump/2)² + 6σ²/h, up to the spread of the square root
    inside, squared = 3 * deviation**2 * (1 - 1 / h), jump**2 / 4 + 6 * deviation**2 / h
    assert found[20].mean() == pytest.approx(inside + squared, rel=0.02)
    assert found[10].mean() == pytest.approx(inside + 6 * deviation**2 / h, rel=0.05)


def test_p_hop_sees_neither_drift_nor_where_the_liquid_is_nor_how_it_is_turned():
    walk = _walk()
    turned = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    moved = walk @ turned.T + 0.3 * np.arange(len(walk))[:, None, None] + [10.0, -4.0, 2.0]
    np.testing.assert_allclose(p_hop(moved, 4), p_hop(walk, 4), rtol=1e-8)


def test_the_drift_is_that_of_the_centre_of_mass():
    frames = np.zeros((8, 2, 2))
    frames[4:, 0, 0], frames[4:, 1, 0] = 3.0, -1.0
    heavy = p_hop(frames, 2, masses=[1.0, 3.0])  # the centre of mass rests
    np.testing.assert_allclose(heavy[4], [9.0, 1.0])


def test_p_hop_refuses_what_is_no_trajectory():
    with pytest.raises(InputError, match="half window of 0"):
        p_hop(_walk(), 0)
    with pytest.raises(InputError, match="n_frames, n_particles, d"):
        p_hop(np.zeros((5, 3)), 1)


def _series(n_frames: int = 20, n_particles: int = 4) -> np.ndarray:
    series = np.full((n_frames, n_particles), 0.02)
    series[:3] = series[-2:] = np.nan
    return series


def test_a_particle_is_soft_before_each_peak_above_the_threshold():
    series = _series()
    series[6:9, 1] = [0.21, 0.4, 0.3]
    series[12, 1] = 0.25
    series[6, 2] = 0.19  # neither
    found = select_soft_hard(series, quiet_frames=99, lead=2)
    assert sorted(found.soft.tolist()) == [[5, 1], [10, 1]]
    assert found.hard.shape == (0, 2)


def test_an_excursion_without_a_known_peak_does_not_count():
    series = _series()
    series[3:5, 0] = 0.5  # begins before p_hop is known
    series[16:18, 1] = 0.5  # ends after
    series[4, 2] = 0.5
    assert select_soft_hard(series, quiet_frames=1).soft.tolist() == [[4, 2]]


def test_a_particle_is_hard_at_the_end_of_every_quiet_stretch():
    series = _series()  # 15 frames are known, 3 to 17
    series[7, 1] = 0.06  # not quiet, no hop
    found = select_soft_hard(series, quiet_frames=7)
    assert found.hard.tolist() == [[9, 0], [16, 0], [14, 1], [9, 2], [16, 2], [9, 3], [16, 3]]
    assert select_soft_hard(series, quiet_frames=15).hard.tolist() == [[17, 0], [17, 2], [17, 3]]


def test_a_lead_before_the_first_frame_is_no_row():
    series = np.full((9, 1), 0.02)
    series[2, 0] = 0.5
    assert select_soft_hard(series, quiet_frames=1, lead=3).soft.shape == (0, 2)


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="p_l <= p_c"):
        select_soft_hard(_series(), quiet_frames=5, p_c=0.01)
    with pytest.raises(InputError, match="no frame with p_hop"):
        select_soft_hard(np.full((5, 2), np.nan), quiet_frames=5)
