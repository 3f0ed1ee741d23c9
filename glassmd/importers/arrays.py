"""Arrays of npz files: numbers only, never pickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ImportDataError
from glassmd.storage import is_special

__all__ = ["read_arrays"]

Arrays = dict[str, NDArray[Any]]


def read_arrays(path: Path, needed: Sequence[str], what: str) -> Arrays:
    """All arrays of an npz file.

    Args:
        path: The file.
        needed: Arrays that must be there.
        what: What the file is said to be, for errors.

    Raises:
        ImportDataError: It is no such file, or lacks one of them.
    """
    if is_special(path):
        raise ImportDataError(f"{path} is no regular file", "an npz file", "write it to a file first")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a damaged archive can raise almost anything
        raise ImportDataError(f"{path} is not {what} ({error})", f"arrays {', '.join(needed)}") from error
    if missing := [name for name in needed if name not in found]:
        raise ImportDataError(f"{path} has no {', '.join(missing)}", f"{what}: arrays {', '.join(needed)}")
    return found
