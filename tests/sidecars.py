"""Sidecars that say something else, as if they had been written so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glassmd.storage import sealed

__all__ = ["rename_run", "rewrite"]


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a sidecar or run.json, checksum included."""
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def rename_run(run: Path, name: str, **changes: Any) -> None:
    """Give a run another id, and change keys of its run.json."""
    rewrite(run / "run.json", id=name, **changes)
    for path in run.glob("*/L*.json"):
        rewrite(path, run=name)
