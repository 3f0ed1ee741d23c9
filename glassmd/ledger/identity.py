"""What a run is: `run.json`, checked, and how it may grow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassmd.errors import RunError
from glassmd.fields import RUN_SCHEMA_VERSION
from glassmd.mixtures import differences, get_mixture, mixture_setting
from glassmd.settings import RunSettings
from glassmd.storage import check_seal, read_json

__all__ = ["GROWABLE", "RUNTIME", "check_same", "grown_settings", "read_identity"]

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

GROWABLE = ("lineages", "parents", "budget")
"""Settings that a later call may raise: a run grows by lineages, parents and what it may cost, and never changes
otherwise."""

RUNTIME = (
    "engine", "device", "packed", "neighbor_buffer", "workers", "ranks", "cluster", "worker_cpus", "worker_gpus",
    "walltime", "accept_unequilibrated",
)  # fmt: skip
"""Settings that say how to run and not what: they may differ between calls."""


def read_identity(path: Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        RunError: It is missing, damaged, or of a newer program.
    """
    identity = read_json(path)
    version = identity.get("schema_version")
    if version not in (1, RUN_SCHEMA_VERSION):
        raise RunError(f"{path} has schema version {version}", f"at most {RUN_SCHEMA_VERSION}", "update glassmd")
    if version == RUN_SCHEMA_VERSION or "checksum" in identity:
        check_seal(path, identity)
    missing = [key for key in ("id", "mixture", "temperature", "times") if key not in identity]
    if missing:
        raise RunError(f"{path} lacks {missing}", "a file written by glassmd", "restore it")
    if not (isinstance(identity["id"], str) and _ID.fullmatch(identity["id"])):  # it names folders
        expected = "lowercase letters, digits and dashes, 64 at most"
        raise RunError(f"{path} has id {str(identity['id'])[:80]!r}", expected, "restore it")
    return identity


def check_same(path: Path, identity: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a run that is not the one that is wanted, whatever its settings.

    Raises:
        RunError: Its liquid, output times or origin are others.
    """
    _require_same_mixture(path, identity["mixture"], wanted["mixture"])
    for key in ("temperature", "times", "n_particles", "density", "origin"):
        if identity[key] != wanted[key]:
            found, now = identity[key], wanted[key]
            raise RunError(
                f"{path} was made with {key} {found}",
                f"{now} as asked for now",
                "choose another --out",
            )


def _require_same_mixture(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse another mixture, saying what is different: its file may have changed since."""
    if found != wanted:
        was, now = differences(found, wanted)
        own = "leave --mixture out, which the run knows, or " if "composition" in found else ""
        raise RunError(
            f"{path} was made with mixture or truncation {was}", f"{now} as asked for now", f"{own}choose another --out"
        )


def _liquid(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the mixture of stored settings."""
    setting, _ = mixture_setting(settings["mixture"])
    return get_mixture(setting, settings["truncation"]).identity()


def grown_settings(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run after it has grown to those asked for.

    Args:
        path: Of the run, for errors.
        stored: Its settings.
        asked: Other ones.

    Raises:
        RunError: They differ in more than a run can grow by.
    """
    # Runs of earlier releases lack settings that came later.
    stored = {key: field.get_default() for key, field in RunSettings.model_fields.items()} | dict(stored)
    after = dict(stored)
    if not all(isinstance(settings["mixture"], str) for settings in (stored, asked)):
        _require_same_mixture(path, _liquid(stored), _liquid(asked))
        asked = {**asked, "mixture": stored["mixture"]}  # they may differ in where the numbers come from
    for key, value in asked.items():
        if key in RUNTIME or stored.get(key) == value or (key == "block" and value is None):
            continue
        if key in GROWABLE and stored[key] is not None and (value is None or value > stored[key]):
            after[key] = value
            continue
        raise RunError(
            f"{path} was made with {key} = {stored.get(key)}",
            f"{value} as asked for now",
            f"give {key} = {stored.get(key)} or choose another --out",
        )
    return after
