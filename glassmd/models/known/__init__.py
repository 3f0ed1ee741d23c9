"""The models that come with glassmd, by name: folders beside this file, each of models that belong together.

`about.json` in each says what its cards do not: version, licence, what it was trained on and how well it predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from glassmd.errors import InputError, ModelError
from glassmd.models.card import ModelCard
from glassmd.models.family import read_cards
from glassmd.storage import read_json

__all__ = ["ABOUT_FILE", "About", "Score", "State", "about", "fitting", "known_models", "model_directory"]

ABOUT_FILE = "about.json"
_HERE = Path(__file__).parent
_AGAIN = "install glassmd again"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class State(_Strict):
    """A liquid that a model was trained on.

    Attributes:
        temperature: ε_AA.
        truncation: Of the mixture.
        tau_alpha: √(mσ²/ε), F_s of A at its own wave number falling to 1/e.
        particles: Of a configuration.
        lineages: Independently equilibrated liquids.
        parents: Configurations of all of them.
        replicas: Short simulations from all of them.
        source: Where they come from.
    """

    temperature: float
    truncation: str
    tau_alpha: float
    particles: int
    lineages: int
    parents: int
    replicas: int
    source: str = "glassmd simulate"


class Score(_Strict):
    """How well it predicts liquids that it has not seen, of species A.

    Attributes:
        temperature: ε_AA.
        truncation: Of the mixture.
        time: τ_α.
        pearson: ρ, the mean over configurations.
        ceiling: What the noise of the labels leaves of 1.
        share: ρ / ceiling, the mean over configurations.
        share_error: Standard error of the same, between lineages.
        within_std: Share of the labels within ±1 and ±2 `_std` and the noise of the label.
    """

    temperature: float
    truncation: str
    time: float
    pearson: float
    ceiling: float
    share: float
    share_error: float
    within_std: tuple[float, float]


class About(_Strict):
    """What the cards of a model do not say.

    Attributes:
        version: Of the model.
        licence: Of its weights, an SPDX identifier.
        summary: In a sentence.
        states: What it was trained on.
        scores: On lineages that it had not seen.
    """

    version: str
    licence: str
    summary: str
    states: list[State]
    scores: list[Score]


def known_models() -> dict[str, Path]:
    """Directories by name."""
    return {path.parent.name: path.parent for path in sorted(_HERE.glob(f"*/{ABOUT_FILE}"))}


def about(directory: Path) -> About | None:
    """What is told of a model beside its cards; None of one that did not come with glassmd.

    Raises:
        ModelError: It cannot be read.
    """
    path = directory / ABOUT_FILE
    if not path.exists():
        return None
    try:
        return About.model_validate(read_json(path, error=ModelError, todo=_AGAIN))
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"found {path} with {first['loc']}: {first['msg']}", "what a model is", _AGAIN) from error


def model_directory(asked: Path | str) -> Path:
    """A directory, or that of a model that comes with glassmd by name; directories go first.

    Raises:
        ModelError: There is neither.
    """
    path, known = Path(asked), known_models()
    if path.exists() or str(asked) not in known:
        if not path.exists() and (close := get_close_matches(str(asked), list(known), n=1)):
            raise ModelError(f"found no model {asked}", "a model directory, or a name", f"did you mean {close[0]!r}?")
        return path
    return known[str(asked)]


def fitting(fits: Callable[[ModelCard], None]) -> Path:
    """The directory of the model that fits somebody's liquid.

    Args:
        fits: Raises an InputError for a card that a liquid does not fit.

    Raises:
        ModelError: None of them fits, or several do.
    """
    found, refused = list[Path](), list[InputError]()
    for directory in known_models().values():
        try:
            fits(read_cards(directory)[0])
        except InputError as error:
            refused.append(error)
        else:
            found.append(directory)
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"found several models that fit: {names}", "one", f"try --model {found[0].name}")
    if len(refused) == 1:  # what is wrong with the file, or the liquid
        raise refused[0]
    raise ModelError(
        f"found no model of this liquid among those that come with glassmd: {', '.join(known_models())}",
        "one",
        "train a model, and give its directory: --model MODEL",
    )
