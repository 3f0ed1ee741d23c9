"""The card of a model directory, read without what computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from glassmd.errors import ModelError
from glassmd.models.card import CARD_VERSION, ModelCard
from glassmd.storage import SEAL, check_seal, read_json

__all__ = ["AGAIN", "CARD_FILE", "WEIGHTS_FILE", "read_card"]

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
AGAIN = "train or import the model again, or check the path"
_LARGEST = 64 * 2**20  # bytes of a card; real ones have thousands


def read_card(directory: Path) -> tuple[ModelCard, object]:
    """The card of a model and the checksum of the weights that belong to it.

    Raises:
        ModelError: There is no model directory, or its card is missing, damaged or was written by a newer program.
    """
    if not directory.is_dir():
        raise ModelError(
            f"found no model directory {directory}",
            f"one with {CARD_FILE} and {WEIGHTS_FILE}",
            "try glassmd train … --out MODEL, or check the path",
        )
    path = directory / CARD_FILE
    content = _content(path)
    checksum = content.pop("weights_sha256", None)
    try:
        return ModelCard.model_validate(content), checksum
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelError(f"found {path} with {where}: {first['msg']}", "a model card", AGAIN) from error


def _content(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise ModelError(f"found {path} of {path.stat().st_size} bytes", "a model card", AGAIN)
    content = read_json(path, error=ModelError, todo=AGAIN)
    schema = content.get("schema_version")
    if type(schema) is not int or not 1 <= schema <= CARD_VERSION:
        raise ModelError(
            f"found schema version {schema!r:.60} in {path}", f"1 to {CARD_VERSION}", "install a newer glassmd"
        )
    if schema > 1:
        check_seal(path, content, error=ModelError, todo=AGAIN)
        del content[SEAL]
    return content
