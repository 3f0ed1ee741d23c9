"""The wall time of work that is done together."""

import pytest

from glassmd.simulation import batch
from glassmd.simulation.batch import SharedTime


def test_shares_of_the_wall_time_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(batch.time, "monotonic", lambda: now)
    shared = SharedTime(4)
    now = 108.0
    assert shared.take(1) == 2.0
    now = 114.0
    assert shared.take(2) == 8.0, "two thirds of the six seconds left over and the six since"
    now = 115.0
    assert shared.take(1) == 5.0
