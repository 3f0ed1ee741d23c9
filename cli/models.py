"""glassmd models."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from glassmd_cli.options import JsonFlag, console, emit

from glassmd.models.known import model_directory
from glassmd.report.models import every_known_model, facts_of_models
from glassmd.report.tables import key_value_table, state_points_table

__all__ = ["models"]

_TABLES = ("states", "scores")


def models(
    name: Annotated[str | None, typer.Argument(help="Everything about one of them.", show_default=False)] = None,
    json_mode: JsonFlag = False,
) -> None:
    """Say which models come with glassmd and what they know; predict takes the one that knows a snapshot's liquid."""
    if name is not None:
        facts = facts_of_models(model_directory(name))
        if json_mode:
            emit(facts)
            return
        console().print(key_value_table(name, {key: of for key, of in facts.items() if key not in _TABLES}))
        for state in facts.get("states", []):
            console().print("trained on " + _state(state), soft_wrap=True)
        if facts.get("scores"):
            title = "ρ / ceiling of A on lineages that it had not seen"
            console().print(state_points_table(facts["scores"], title))
        return
    every = every_known_model()
    if json_mode:
        emit({"models": every})
        return
    for of in every:
        console().print(key_value_table(f"{of['name']} {of['version']}", _short(of)))
    console().print("predict takes the one that fits a snapshot; glassmd models NAME says more", soft_wrap=True)


def _short(facts: dict[str, Any]) -> dict[str, Any]:
    """What decides whether a model is the right one."""
    return {
        "mixture": f"{facts['mixture']}, {facts['dimensions']}D, density {facts['density']:g}",
        "truncations": facts["truncations"],
        "T": "{:g} to {:g}".format(*facts["temperatures"]),
        "predicts": f"{facts['target']}, {facts['unit']}",
        **{name: f"{', '.join(of['inputs'])}; t from {of['times']}" for name, of in facts["members"].items()},
        "licence": facts["licence"],
    }


def _state(state: dict[str, Any]) -> str:
    counts = ", ".join(f"{state[name]} {name}" for name in ("lineages", "parents", "replicas"))
    return (
        f"T = {state['temperature']:g}, {state['truncation']}: {counts}, N = {state['particles']}, "
        f"τ_α = {state['tau_alpha']:g} ({state['source']})"
    )
