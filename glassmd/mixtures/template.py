"""The file of a mixture to begin one's own with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from glassmd.mixtures.mixture import Mixture
from glassmd.mixtures.tables import MixtureTables

__all__ = ["mixture_template"]


def mixture_template(mixture: Mixture) -> str:
    """A commented TOML file that describes a mixture under a name of its own.

    Args:
        mixture: Whose numbers it holds.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture_template(get_mixture("kob-andersen")).splitlines()[2]
        'name = "my-kob-andersen"  # letters, digits, dots, dashes and underscores'
    """
    lines = ["# A mixture: glassmd simulate --mixture FILE, and wherever a mixture is named. See docs/mixtures.md.",
             "# Units are those of the first species: sigma, epsilon and mass 1."]  # fmt: skip
    for key, field in MixtureTables.model_fields.items():
        value = _values(mixture)[key]
        lines += _lines(key, value, str(field.description))
    return "\n".join(lines) + "\n"


def _values(mixture: Mixture) -> dict[str, Any]:
    own = {key: getattr(mixture, key) for key in MixtureTables.model_fields if key != "cutoff"}
    name = mixture.name if mixture.own else f"my-{mixture.name}"
    return {**own, "name": name, "cutoff": mixture.cutoffs or mixture.cutoff_factor}


def _lines(key: str, value: Any, comment: str) -> list[str]:
    if isinstance(value, Sequence) and value and isinstance(value[0], Sequence) and not isinstance(value[0], str):
        return [f"{key} = [  # {comment}", *(f"    {_toml(row)}," for row in value), "]"]
    return [f"{key} = {_toml(value)}  # {comment}"]


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # of numbers, words and lists of them TOML is JSON
