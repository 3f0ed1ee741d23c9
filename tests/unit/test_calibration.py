"""Spreads and means that are right at every temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from glassmd.learners.glassnet.calibration import Calibration

N = 4000
COLD, HOT = -0.5, 0.5


def residuals(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Residuals of a blend that is too sure when cold, too careful and too high when hot, with noise that is known."""
    generator = torch.Generator().manual_seed(seed)
    heat = torch.where(torch.arange(N) < N // 2, COLD, HOT)
    species = torch.arange(N) % 2
    error = torch.where(heat == COLD, 1.4, 0.7)[:, None] * torch.randn(N, 2, generator=generator)
    noise = 0.5 * torch.randn(N, 2, generator=generator)
    offset = torch.where(heat == COLD, 0.0, -0.3)[:, None]
    return error + offset + noise, torch.ones(N, 2), torch.full((N, 2), 0.25), species, heat


def calibrated(*changed: Tensor) -> Calibration:
    found = Calibration(n_species=2, n_times=2)
    found.fit(*(changed or residuals()))
    return found


def at(heat: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([0, 1]), torch.full((2,), heat)


def test_means_and_spreads_are_those_of_each_temperature():
    found = calibrated()
    assert torch.allclose(found.offset(*at(COLD)), torch.zeros(2, 2), atol=0.15)
    assert torch.allclose(found.offset(*at(HOT)), torch.full((2, 2), -0.3), atol=0.1)
    assert torch.allclose(found.factor(*at(COLD)).sqrt(), torch.full((2, 2), 1.4), atol=0.1)
    assert torch.allclose(found.factor(*at(HOT)).sqrt(), torch.full((2, 2), 0.7), atol=0.1)


def test_they_are_interpolated_in_between_and_held_beyond():
    found = calibrated()
    ends = [found.factor(*at(heat)) for heat in (COLD, HOT)]
    assert torch.allclose(found.factor(*at(0.0)), (ends[0] * ends[1]).sqrt())
    assert torch.equal(found.factor(*at(-9.0)), ends[0])
    assert torch.equal(found.offset(*at(9.0)), found.offset(*at(HOT)))


def test_one_temperature_needs_none():
    residual, variance, noise, species, heat = residuals()
    found = calibrated(residual, variance, noise, species, torch.zeros_like(heat))
    assert len(found.heats) == 0
    assert torch.equal(found.factor(*at(0.0)), torch.ones(2, 1))
    assert torch.equal(found.offset(*at(0.0)), torch.zeros(2, 1))


def test_a_temperature_without_labels_at_a_time_takes_what_the_next_one_has():
    residual, variance, noise, species, heat = residuals()
    residual[heat == COLD, 0] = torch.nan
    found = calibrated(residual, variance, noise, species, heat)
    assert torch.equal(found.factor(*at(COLD))[:, 0], found.factor(*at(HOT))[:, 0])
    assert torch.allclose(found.factor(*at(COLD))[:, 1].sqrt(), torch.full((2,), 1.4), atol=0.1)


def test_it_saves_and_loads_and_earlier_weights_have_none():
    found, again = calibrated(), Calibration(n_species=2, n_times=2)
    again.load_state_dict(found.state_dict())
    assert torch.equal(again.factor(*at(0.1)), found.factor(*at(0.1)))
    again.load_state_dict({})
    assert torch.equal(again.factor(*at(0.1)), torch.ones(2, 1))
