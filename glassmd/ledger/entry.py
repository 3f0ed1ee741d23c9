"""A committed entry: its sidecar and its data, checked before anybody uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from glassmd.errors import RunError, SegmentError
from glassmd.fields import RUN_SCHEMA_VERSION
from glassmd.ledger.keys import Key
from glassmd.storage import check_seal, read_json, sha256_of
from glassmd.trajectory import Frame, read_frames

__all__ = ["Entry", "require_sidecar_of", "sidecar_of"]


@dataclass(frozen=True)
class Entry:
    """A committed entry.

    Attributes:
        root: Of the run.
        key: Which entry.
        run: Id of the run.
        protected: Whether sidecars of this run carry their own checksum, as all but the oldest do.
    """

    root: Path
    key: Key
    run: str
    protected: bool = True

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        """What was written down with the data.

        Raises:
            SegmentError: It is damaged, or of another entry or run.
        """
        return sidecar_of(self.root, self.key, self.run, protected=self.protected)

    @property
    def path(self) -> Path:
        """The file with the data."""
        return self.root / self.key.kind / str(self.sidecar["file"])

    def read(self, frames: Sequence[int] | None = None) -> list[Frame]:
        """Verify the checksum and read frames.

        Raises:
            SegmentError: The file is missing or is not the one that was committed.
        """
        self.verify()
        return read_frames(self.path, self.sidecar["mixture"]["species"], frames)

    def verify(self) -> None:
        """Raise :class:`SegmentError` unless size and checksum are the committed ones."""
        path, sidecar = self.path, self.root / self.key.kind / f"{self.key.name}.json"
        todo = f"delete {path} and {sidecar.name}, then simulate again to make it anew"
        if not path.exists():
            raise SegmentError(f"found no {path}", "the file its sidecar describes", todo)
        size = path.stat().st_size
        if size != self.sidecar["size"]:
            raise SegmentError(f"{path} has {size} bytes", f"{self.sidecar['size']}", todo)
        digest = sha256_of(path)
        if digest != self.sidecar["sha256"]:
            raise SegmentError(
                f"{path} has checksum {digest[:12]}…", f"{self.sidecar['sha256'][:12]}… as committed", todo
            )


def sidecar_of(root: Path, key: Key, run: str, *, protected: bool = True) -> dict[str, Any]:
    """Read and check the sidecar of an entry.

    Args:
        root: Of the run.
        key: Which entry.
        run: Id of the run.
        protected: Whether it must carry its own checksum.

    Raises:
        SegmentError: It is missing, damaged, or of another entry or run.
    """
    path = root / key.kind / f"{key.name}.json"
    try:
        content = read_json(path)
    except RunError as error:
        raise SegmentError(error.found, error.expected, _todo(path)) from error
    return require_sidecar_of(content, path, key, run, protected=protected)


def _todo(path: Path) -> str:
    return f"restore it, or delete {path} and its data and simulate again"


def require_sidecar_of(
    content: Mapping[str, Any], path: Path, key: Key, run: str, *, protected: bool = True
) -> dict[str, Any]:
    """Check the content of a sidecar.

    Args:
        content: JSON types.
        path: Where it was read, for errors.
        key: Of which entry it should be.
        run: Id of the run.
        protected: Whether it must carry its own checksum.

    Raises:
        SegmentError: It is damaged, or of another entry or run.
    """
    todo = _todo(path)
    version = content.get("schema_version")
    if protected or version == RUN_SCHEMA_VERSION or "checksum" in content:
        try:
            check_seal(path, content)
        except RunError as error:
            raise SegmentError(error.found, error.expected, todo) from error
    if version not in (1, RUN_SCHEMA_VERSION):
        raise SegmentError(f"{path} has schema version {version}", f"at most {RUN_SCHEMA_VERSION}", "update glassmd")
    content = {"run": run, "kind": key.kind, "file": f"{key.name}.gsd", **content}
    missing = [name for name in ("sha256", "size", "mixture") if name not in content]
    if missing:
        raise SegmentError(f"{path} lacks {missing}", "a sidecar written by glassmd", todo)
    says = {name: content.get(name) for name in (*key._fields, "run", "kind")}
    expected = {**key._asdict(), "run": run, "kind": key.kind}
    for name, value in expected.items():
        if says[name] != value:
            raise SegmentError(f"{path} describes {name} {says[name]}", f"{value}, as its name and place say", todo)
    if "/" in str(content["file"]) or not isinstance(content["mixture"], dict):
        raise SegmentError(f"{path} names the file {content['file']!r}", "one beside it", todo)
    return content
