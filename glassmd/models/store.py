"""A model directory: `model.json` (the card) and `weights.safetensors`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from glassmd.errors import ModelError, storage_errors
from glassmd.learners import make_model
from glassmd.learners.base import PropensityModel
from glassmd.models.card import CARD_VERSION, ModelCard
from glassmd.models.family import member_directories, require_alike
from glassmd.models.reading import AGAIN, CARD_FILE, WEIGHTS_FILE, read_card
from glassmd.storage import remove_leftovers, sealed, write_bytes, write_json

__all__ = ["LoadedModel", "load_model", "load_models", "save_model"]


class LoadedModel(NamedTuple):
    """A network, in evaluation mode, and what it was trained on."""

    model: PropensityModel
    card: ModelCard


def save_model(
    directory: str | Path, model: PropensityModel, card: ModelCard, weights: Mapping[str, Tensor] | None = None
) -> Path:
    """Write a model directory and return it; an older model in it is replaced file by file, each whole or not at all.

    The card gets the weights' checksum, so that a card and weights of two models are never taken for one, and its own.

    Args:
        directory: Made when missing.
        model: The network.
        card: What it was trained on; `model`, `hyperparameters` and `glassmd_version` are filled in.
        weights: In place of those that the network has.

    Raises:
        ModelError: The card's times or species are not the network's.
        StorageError: The disk is full or not writable.
    """
    directory = Path(directory)
    _check_card(model, card)
    chosen = model.state_dict() if weights is None else weights
    stored = save({key: value.detach().cpu().contiguous() for key, value in chosen.items()})
    content = card.model_dump() | {
        "schema_version": CARD_VERSION,
        "model": model.name,
        "hyperparameters": model.hyperparameters(),
        "glassmd_version": version("glassmd"),
        "weights_sha256": hashlib.sha256(stored).hexdigest(),
    }
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory, below=False)
    write_bytes(directory / WEIGHTS_FILE, stored)
    write_json(directory / CARD_FILE, sealed(content))
    return directory


def load_model(directory: str | Path) -> LoadedModel:
    """Read a model directory.

    Raises:
        ModelError: It is missing, incomplete, damaged or was written by a newer program.
    """
    directory = Path(directory)
    card, checksum = read_card(directory)
    tensors = _read_weights(directory / WEIGHTS_FILE, checksum)
    try:
        model = make_model(card.model, **card.hyperparameters)
        model.load_state_dict(tensors)
        _check_card(model, card)
    except ModelError:
        raise
    except Exception as error:  # what hyperparameters of a wrong kind raise, each learner in its own way
        reason = (str(error).splitlines() or [repr(error)])[-1].strip()
        raise ModelError(
            f"found weights in {directory} that do not fit its {CARD_FILE}: {reason}", f"a {card.model} model", AGAIN
        ) from error
    return LoadedModel(model.eval(), card)


def load_models(directory: str | Path) -> list[LoadedModel]:
    """The model of a model directory, or all models in a directory of several.

    Raises:
        ModelError: One is missing, incomplete, damaged or was written by a newer program, or they are of different
            liquids or targets.
    """
    found = [load_model(path) for path in member_directories(Path(directory))]
    require_alike([loaded.card for loaded in found])
    return found


def _check_card(model: PropensityModel, card: ModelCard) -> None:
    if len(card.times) != model.n_times:
        raise ModelError(f"found {len(card.times)} times in the card", f"the model's {model.n_times}")
    found = len(card.mixture.get("species", [])), card.mixture.get("dimensions")
    if found != (model.n_species, model.dimensions):
        raise ModelError(
            f"found {found[0]} species in {found[1]} dimensions in the card",
            f"the model's {model.n_species} in {model.dimensions}",
        )


def _read_weights(path: Path, checksum: object) -> dict[str, Tensor]:
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"could not read {path}: {error.strerror}", f"{WEIGHTS_FILE} beside {CARD_FILE}", AGAIN
        ) from error
    if hashlib.sha256(weights).hexdigest() != checksum:
        raise ModelError(
            f"found {path} with another checksum than {CARD_FILE} says", "the weights it was written with", AGAIN
        )
    try:
        return load(weights)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"could not read {path}: {error}", "a safetensors file", AGAIN) from error
