"""Pickles that hold numbers, and nothing that could run.

A pickle is a program; this reader knows only the words that rebuild numpy arrays and refuses all others before
anything is called.
"""

from __future__ import annotations

import codecs
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.errors import ImportDataError
from glassmd.storage import is_special

__all__ = ["load_numpy_pickle"]

_multiarray: Any = import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")

_frombuffer: Any = import_module(_multiarray.__name__.replace("multiarray", "numeric"))._frombuffer

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 2 wrote bytes
    **{
        (f"numpy.{core}.multiarray", name): getattr(_multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},  # protocol 5
}


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The object that a pickle asks for by name, if it is one of the few that build arrays."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ImportDataError(
                f"found {module}.{name} in the pickle", "numpy arrays, numbers, text, lists and dictionaries only",
                "do not open this file with anything else unless you trust its author",
            ) from None  # fmt: skip


def load_numpy_pickle(path: Path) -> Any:
    """Read a pickle that holds numpy arrays and Python's plain types.

    Raises:
        ImportDataError: The file is missing, damaged, or holds anything else; nothing of it is run.
    """
    if is_special(path):
        raise ImportDataError(f"{path} is no regular file", "a pickle file", "write it to a file first")
    try:
        with path.open("rb") as file:
            return _NumpyUnpickler(file, encoding="latin1").load()
    except ImportDataError as error:
        raise ImportDataError(f"{path}: {error.found}", error.expected, error.todo) from None
    except OSError as error:
        raise ImportDataError(f"could not read {path}: {error.strerror}", "a pickle file", "check the path") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ImportDataError(f"{path} is not a readable pickle ({error})", "a pickle of numpy arrays") from error
