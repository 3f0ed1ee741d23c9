"""An entry on its way to a machine that does not see the run directory: sidecar and data, as they are on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from glassmd.errors import SegmentError
from glassmd.ledger.entry import Entry, require_sidecar_of
from glassmd.ledger.keys import Key, key_of

__all__ = ["Parcel", "parcel_of"]


class Parcel(NamedTuple):
    """A committed entry.

    Attributes:
        name: Of its key.
        sidecar: Bytes of its sidecar.
        data: Bytes of its data.
    """

    name: str
    sidecar: bytes
    data: bytes

    @property
    def key(self) -> Key:
        """Which entry it is."""
        return key_of(self.name)

    def checked(self, run: str, *, protected: bool = True) -> dict[str, Any]:
        """What the sidecar says, after it and the data have been found whole.

        Args:
            run: Id of the run that it should be of.
            protected: Whether the sidecar must carry its own checksum.

        Raises:
            SegmentError: It was damaged on its way, or is of another run.
        """
        place = Path(f"{self.name}.json, which came from another machine,")
        try:
            content = json.loads(self.sidecar)
        except (ValueError, RecursionError) as error:
            raise SegmentError(f"found {place} damaged: {error}", "it as it was sent", "simulate again") from error
        found = require_sidecar_of(content, place, self.key, run, protected=protected)
        if found["size"] != len(self.data) or found["sha256"] != hashlib.sha256(self.data).hexdigest():
            raise SegmentError(f"found data of {self.name} that were damaged on their way", "them as committed")
        return found


def parcel_of(entry: Entry) -> Parcel:
    """An entry to be sent.

    Raises:
        SegmentError: It is damaged or gone.
    """
    place = entry.root / entry.key.kind / f"{entry.key.name}.json"
    entry.verify()
    return Parcel(entry.key.name, place.read_bytes(), entry.path.read_bytes())
