"""What `glassmd evaluate` prints of ρ divided by the ceiling."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from glassmd.report.tables import score_table


def printed(counts: list[int], alike: Sequence[int] = (0, 0), target: str = "propensity") -> list[str]:
    """The lines of a table of two times on a terminal of 80 columns."""
    numbers: dict[str, Any] = {
        "pearson_per_configuration": {"mean": [0.5, 0.4], "sd": [0.02, None]},
        "pearson_over_ceiling": {"mean": [0.625, None], "sd": [0.025, None], "n_left_out": counts},
        "pearson_pooled": [0.5, 0.4],
        "reliability": [0.64, None],
        "ceiling": [0.8, None],
        "n_alike": list(alike),
    }
    result = {
        "species": {"A": numbers}, "n_configurations": 3, "times": [0.1, 1.0], "time_unit": "reduced", "target": target,
    }  # fmt: skip
    screen = Console(file=io.StringIO(), width=80)
    screen.print(score_table(result))
    return screen.file.getvalue().splitlines()


def test_the_share_of_the_ceiling_stands_with_its_spread_on_a_line_of_the_time() -> None:
    lines = printed([0, 0])
    (first,) = [line for line in lines if "│ 0.1 │" in line]
    (second,) = [line for line in lines if "│   1 │" in line]
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        "0.1", "0.500 ± 0.020", "0.500", "0.640", "0.800", "0.625 ± 0.025",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.split("│")[1:-1]] == ["1", "0.400", "0.400", "–", "–", "–"]
    assert not any("without" in line for line in lines)


def test_configurations_that_are_left_out_are_told_by_time() -> None:
    assert "without those of unknown or no reliability: 3 at t = 1" in " ".join(" ".join(printed([0, 3])).split())
    assert "2 at t = 0.1, 1" in " ".join(" ".join(printed([2, 2])).split())


def test_configurations_whose_labels_are_all_the_same_are_told_by_time() -> None:
    told = " ".join(" ".join(printed([0, 0], [2, 0])).split())
    assert "no ρ of those whose particles all have the same label: 2 at t = 0.1" in told
    assert "same label" not in " ".join(printed([0, 0]))


def test_the_title_names_another_target_with_its_unit() -> None:
    assert printed([0, 0])[0].startswith("species A, 3 configurations")
    squared = printed([0, 0], target="squared-displacement")[0]
    assert squared.startswith("squared-displacement ⟨|Δr|²⟩ (σ_AA²), species A, 3 configurations")
