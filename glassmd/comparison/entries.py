"""What stands in a leaderboard: a learner with its inputs and its training settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from glassmd.errors import GlassmdError, InputError, SettingsError
from glassmd.learners import known_learners, model_class
from glassmd.settings import TrainSettings, build_settings
from glassmd.training.choices import resolved, started

__all__ = ["Entry", "entries_of"]


@dataclass(frozen=True)
class Entry:
    """One learner to compare.

    Attributes:
        name: As it was asked for: `ridge`, or `ridge:inherent+cage`.
        settings: Of its trainings.
    """

    name: str
    settings: TrainSettings

    @property
    def folder(self) -> str:
        """Name of the directory of its trainings."""
        return self.name.replace(":", "-")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The positions that it sees."""
        return tuple(self.settings.input or model_class(self.settings.model).default_inputs)

    @property
    def stepped(self) -> bool:
        """Whether seeds matter to it; what is solved is the same every time."""
        return model_class(self.settings.model).stepped


def entries_of(
    names: Sequence[str] | None, settings: Mapping[str, Any], mixture: dict[str, Any], n_times: int
) -> tuple[list[Entry], dict[str, str]]:
    """Entries by name, each tried on the data's species, dimension and times.

    Args:
        names: `MODEL` or `MODEL:INPUT+INPUT`; None: every learner with its own inputs.
        settings: Training settings of all of them, and as `MODEL.KEY` of one learner.
        mixture: :meth:`glassmd.mixtures.Mixture.identity` of the data.
        n_times: Output times.

    Returns:
        The entries, and why learners that nobody named were left out.

    Raises:
        ModelError: An unknown learner, or inputs or hyperparameters that it does not take.
        SettingsError: An unknown setting, or one of a learner that is not compared.
        InputError: The same entry twice, or none.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture = get_mixture("kob-andersen").identity()
        >>> found, _ = entries_of(["bapst", "density:thermal"], {"bapst.max_steps": 9}, mixture, 1)
        >>> [(entry.name, entry.inputs, entry.settings.max_steps) for entry in found]
        [('bapst', ('thermal',), 9), ('density:thermal', ('thermal',), None)]
    """
    wanted = list(known_learners()) if names is None else [name.strip() for name in names if name.strip()]
    if not wanted:
        raise InputError("found no learner to compare", "at least one", "for example --models ridge")
    _refuse_settings_of_others(settings, {name.partition(":")[0] for name in wanted})
    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        try:
            entry = _entry(name, settings)
            started(resolved(entry.settings), mixture, n_times)
        except InputError as error:
            if names is not None or isinstance(error, SettingsError):
                raise
            left_out[name] = _reason(error)
            continue
        for other in entries:
            if (other.settings.model, set(other.inputs)) == (entry.settings.model, set(entry.inputs)):
                raise InputError(f"found {other.name} and {name}", "every learner with the same inputs once")
        entries.append(entry)
    return entries, left_out


def _entry(name: str, settings: Mapping[str, Any]) -> Entry:
    model, colon, inputs = name.partition(":")
    own = {key.partition(".")[2]: value for key, value in settings.items() if key.partition(".")[0] == model}
    shared = {
        key.removeprefix("train."): value
        for key, value in settings.items()
        if "." not in key or key.startswith("train.")
    }
    values = {**shared, **own, "model": model}
    if colon:
        values["input"] = [word.strip() for word in inputs.split("+")]
    model_class(model)  # an unknown learner is a better complaint than one about its settings
    return Entry(name, build_settings(TrainSettings, values, f"{model}."))


def _refuse_settings_of_others(settings: Mapping[str, Any], models: set[str]) -> None:
    for key in settings:
        owner, dot, rest = key.partition(".")
        if dot and owner != "train" and owner not in models:
            close = get_close_matches(owner, sorted(models), n=1)
            raise SettingsError(
                f"found a setting {key} and no learner {owner}",
                f"one of {', '.join(sorted(models))}",
                f"did you mean {close[0]}.{rest}?" if close else f"try --models …,{owner}",
            )


def _reason(error: GlassmdError) -> str:
    return f"{error.found}; expected {error.expected}"
