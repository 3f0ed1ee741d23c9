"""Settings: strict, from a file, from flags, and the same both ways."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from glassmd.errors import SettingsError
from glassmd.settings import RunSettings, Settings, load_settings, parse_times, steps_of_times, template


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("temperature = 0.5\nparticles = 500\n[train]\nlearning_rate = 0.01\n")
    settings = load_settings(path, {"temperature": 0.7, "train.max_steps": 3})
    assert (settings.run.temperature, settings.run.particles) == (0.7, 500)
    assert (settings.train.learning_rate, settings.train.max_steps) == (0.01, 3)


def test_the_template_holds_every_key_at_its_default(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(template())
    assert load_settings(path) == Settings()
    text = template()
    for name in [*RunSettings.model_fields, *Settings().train.model_fields_set, "learning_rate"]:
        assert name in text
    assert tomllib.loads(text)


def test_logarithmic_times_are_moved_to_the_nearest_step() -> None:
    times = load_settings(None, {"times": "log:0.1:1000:12"}).run.times
    assert len(times) == 12
    assert steps_of_times(times, 0.005)[0] == 20
    assert times[-1] == pytest.approx(1000)
    ratios = [b / a for a, b in pairwise(times)]
    assert max(ratios) / min(ratios) < 1.1


def test_published_times_fit_the_default_step() -> None:
    assert steps_of_times([0.13, 1.3, 13.0], 0.005) == [26, 260, 2600]


@pytest.mark.parametrize("text", ["log:1:2", "log:1:2:0", "log:a:b:c", "1;2", ""])
def test_times_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_times(text)


def test_held_out_lineages_come_first_so_that_a_run_can_grow() -> None:
    small = RunSettings(lineages=4, validation_lineages=1, test_lineages=1)
    large = small.model_copy(update={"lineages": 9})
    assert [small.role(k) for k in range(4)] == ["validation", "test", "train", "train"]
    assert [large.role(k) for k in range(4)] == [small.role(k) for k in range(4)]


def test_replicas_are_set_per_split() -> None:
    settings = RunSettings(replicas=1, held_out_replicas=32)
    assert [settings.n_replicas(k) for k in range(3)] == [32, 32, 1]


def test_a_value_of_the_wrong_kind_names_its_key() -> None:
    with pytest.raises(SettingsError, match="found particles = 'many'"):
        load_settings(None, {"particles": "many"})
    with pytest.raises(SettingsError, match=r"found train\.learning_rate = -1"):
        load_settings(None, {"learning_rate": -1})
