"""Runs whose samples have times in units of their own liquid's relaxation time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from glassmd.errors import InputError
from glassmd.stream.dataset import Run

__all__ = ["use_tau_alphas"]


def use_tau_alphas(
    runs: Sequence[Run],
    told: Sequence[float] | None = None,
    known: Mapping[str, float] | None = None,
    *,
    option: str = "--set tau_alpha",
) -> None:
    """Have the samples of some runs come with times in units of τ_α.

    Args:
        runs: The runs.
        told: τ_α of each, or one of all, √(mσ²/ε); None: as measured when their lineages were equilibrated, the mean
            over those that are there.
        known: By run, instead of what is measured: what a training that goes on began with.
        option: How τ_α is told, for the error.

    Raises:
        InputError: Nobody knows τ_α of a run, as many were told as there are neither runs nor one, or two times of a
            run are the same in its unit.
    """
    if told is not None and len(told) not in (1, len(runs)):
        raise InputError(
            f"found {len(told)} values of τ_α for {len(runs)} runs",
            "one of each run in their order, or one of all",
            f"for example {option}={','.join([f'{told[0]:g}'] * len(runs)) if told else '16'}",
        )
    if told is not None and not all(0 < value < inf for value in told):
        raise InputError(f"found τ_α = {', '.join(f'{value:g}' for value in told)}", "numbers above 0", "in √(mσ²/ε)")
    for number, run in enumerate(runs):
        value = (known or {}).get(str(run.identity["id"])) if told is None else told[min(number, len(told) - 1)]
        run.tau_alpha = run.measured_tau_alpha() if value is None else value
        if run.tau_alpha is None:
            raise InputError(
                f"found no τ_α of {run.path}",
                "lineages that have been equilibrated in it, or to be told",
                f"try {option}={','.join(['…'] * len(runs))}, in √(mσ²/ε)",
            )
        _ = run.sample_times  # refused now rather than later
